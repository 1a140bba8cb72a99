/*
 * asker.c
 *		The application's users whose verifications were refused.
 *
 * The event of a refusal names who asked: the role, which the key's slot
 * keeps, and the role's subject, which is too long for it.  Subjects stand
 * here for as long as it takes until the worker writes the event: each key has
 * a place in one set of a few, which are shared out, so that under a flood of
 * refusals an event may name the role alone, and never somebody else; and one of
 * a key that is charged to whoever has more of them gives way first.  Nothing of
 * it outlives a stop.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"

#include "memory/memory.h"
#include "usage/usage_internal.h"

#define SETS			128
#define WAYS			8
#define SUBJECT_BYTES	255		/* a longer one is not told */

typedef struct Asker
{
	uint64		number;			/* the last one noted has the greatest */
	Oid			actor;
	pg_uuid_t	key;
	uint8		len;
	char		subject[SUBJECT_BYTES];
} Asker;

typedef struct Set
{
	ApikeySetOwner owners[WAYS];	/* of the keys, by their places */
	Asker		askers[WAYS];
} Set;

typedef struct Askers
{
	uint64		noted;			/* so many */
	Set			sets[SETS];
} Askers;

static Askers *askers = NULL;
static LWLock *askers_lock = NULL;

static void
start_memory(void)
{
	askers_lock = apikey_memory_lock(APIKEY_MEMORY_ASKERS);
}

const ApikeyMemoryPart apikey_asker_memory = {
	APIKEY_MEMORY_STRUCT("apikey askers", askers),
	.start = start_memory,
	.dynamic = true
};

static Set *
set_of(const pg_uuid_t *key)
{
	ApikeySlotKey of_key = {.database = MyDatabaseId, .id = *key};

	return &askers->sets[apikey_seeded_hash(&of_key, sizeof(of_key)) % SETS];
}

/* A key's place in its set; NULL where it has none. */
static Asker *
find_asker(Set *set, const pg_uuid_t *key)
{
	for (int i = 0; i < WAYS; i++)
	{
		if (set->owners[i].database == MyDatabaseId &&
			memcmp(set->askers[i].key.data, key->data, UUID_LEN) == 0)
			return &set->askers[i];
	}
	return NULL;
}

/*
 * A place for another key that is a role's: a free one or, of who has to give way, the
 * oldest.  What was told stays, so where nobody has to that is the oldest of all.
 */
static Asker *
make_asker(Set *set, Oid role)
{
	ApikeySetOwner whose = {.database = MyDatabaseId, .role = role};
	ApikeySetOwner giver = apikey_sets_giver(set->owners, WAYS, &whose);
	int			oldest = -1;

	for (int i = 0; i < WAYS; i++)
	{
		bool		free = !OidIsValid(set->owners[i].database);

		if (!free && OidIsValid(giver.database) &&
			!apikey_sets_same(&set->owners[i], &giver))
			continue;
		if (oldest < 0 || free ||
			set->askers[i].number < set->askers[oldest].number)
			oldest = i;
		if (free)
			break;
	}
	set->owners[oldest] = whose;
	return &set->askers[oldest];
}

/*
 * A role with this subject, which may be NULL, was refused a key of this
 * database, which is charged to a role.
 */
void
apikey_asker_note(const pg_uuid_t *key, Oid charged, Oid actor,
				  const text *subject)
{
	Set		   *set = set_of(key);
	Size		len = subject == NULL ? 0 : VARSIZE_ANY_EXHDR(subject);
	Asker	   *asker;

	if (len > SUBJECT_BYTES)
		len = 0;
	LWLockAcquire(askers_lock, LW_EXCLUSIVE);
	asker = find_asker(set, key);
	if (asker == NULL && len > 0)
		asker = make_asker(set, charged);
	if (asker != NULL && (len > 0 || asker->actor == actor))
	{
		asker->number = ++askers->noted;
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
apikey_asker_subject(const pg_uuid_t *key, Oid actor)
{
	Set		   *set = set_of(key);
	const Asker *asker;
	char		subject[SUBJECT_BYTES];
	Size		len = 0;

	LWLockAcquire(askers_lock, LW_SHARED);
	asker = find_asker(set, key);
	if (asker != NULL && asker->actor == actor)
	{
		len = asker->len;
		memcpy(subject, asker->subject, len);
	}
	LWLockRelease(askers_lock);
	return len == 0 ? NULL : cstring_to_text_with_len(subject, (int) len);
}
