/*
 * asker.c
 *		The application's users whose verifications were refused.
 *
 * The event of a refusal names who asked: the role, which the key's slot
 * keeps, and the role's subject, which is too long for it.  Subjects stand
 * here for as long as it takes until the worker writes the event: each key has
 * one place, which it shares with others, so that under a flood of refusals an
 * event may name the role alone, and never somebody else.  Nothing of it
 * outlives a stop.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"

#include "memory/memory.h"
#include "usage/usage_internal.h"

#define PLACES			1024
#define SUBJECT_BYTES	255		/* a longer one is not told */

typedef struct Asker
{
	Oid			database;
	Oid			actor;
	pg_uuid_t	key;
	uint8		len;
	char		subject[SUBJECT_BYTES];
} Asker;

static Asker *askers = NULL;
static LWLock *askers_lock = NULL;

static Size
memory_size(void)
{
	return mul_size(PLACES, sizeof(Asker));
}

static void
start_memory(void)
{
	bool		found;

	askers = apikey_memory_struct("apikey askers", memory_size(), &found);
	if (!found)
		memset(askers, 0, memory_size());
	askers_lock = apikey_memory_lock(APIKEY_MEMORY_ASKERS);
}

const ApikeyMemoryPart apikey_asker_memory = {
	.size = memory_size,
	.start = start_memory,
	.dynamic = true
};

static Asker *
place_of(const pg_uuid_t *key)
{
	return &askers[hash_bytes(key->data, UUID_LEN) % PLACES];
}

static bool
stands_there(const Asker *asker, Oid database, const pg_uuid_t *key, Oid actor)
{
	return asker->database == database && asker->actor == actor &&
		memcmp(asker->key.data, key->data, UUID_LEN) == 0;
}

/* A role with this subject, which may be NULL, was refused a key. */
void
apikey_asker_note(Oid database, const pg_uuid_t *key, Oid actor,
				  const text *subject)
{
	Asker	   *asker = place_of(key);
	Size		len = subject == NULL ? 0 : VARSIZE_ANY_EXHDR(subject);

	if (len > SUBJECT_BYTES)
		len = 0;
	LWLockAcquire(askers_lock, LW_EXCLUSIVE);
	if (len > 0 || stands_there(asker, database, key, actor))
	{
		asker->database = database;
		asker->actor = actor;
		asker->key = *key;
		asker->len = (uint8) len;
		if (len > 0)
			memcpy(asker->subject, VARDATA_ANY(subject), len);
	}
	LWLockRelease(askers_lock);
}

/* The subject with which the role was refused the key last; or NULL. */
text *
apikey_asker_subject(Oid database, const pg_uuid_t *key, Oid actor)
{
	const Asker *asker = place_of(key);
	char		subject[SUBJECT_BYTES];
	Size		len = 0;

	LWLockAcquire(askers_lock, LW_SHARED);
	if (stands_there(asker, database, key, actor))
	{
		len = asker->len;
		memcpy(subject, asker->subject, len);
	}
	LWLockRelease(askers_lock);
	return len == 0 ? NULL : cstring_to_text_with_len(subject, (int) len);
}
