/*
 * rehash.c
 *		Giving imported keys the digest that native ones have, and native ones
 *		that of the current pepper.
 *
 * Whoever verifies such a key has its text, or the digest of it, and leaves the
 * digest in shared memory for the worker to write: verification itself writes
 * nothing.  What does not find room, or is lost with a crash, comes again with
 * the key's next use. Without the library preloaded it is written at once,
 * where the transaction may write and nobody has the row.
 *
 * A member writes nothing: it leaves proofs, see proof.c, which its worker tells
 * the primary, where they come to this list as what they prove.
 *
 * The list is short, so that one lock guards it all; it is held for no longer
 * than looking it through.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys_internal.h"

#define REHASH_MAX		1024
#define LAST_FOUR		4
#define WRITTEN_AT_ONCE	50		/* in a transaction */
#define SHOWN_FROM		16		/* of a shorter text nothing is shown */

/* What is known of a key now that its text has been seen. */
typedef struct Rehash
{
	Oid			database;
	pg_uuid_t	id;
	bool		proof;			/* for the primary */
	uint8		digest[APIKEY_DIGEST_BYTES];	/* as it is to be stored, or a proof */
	int32		pepper;
	bool		native;
	bool		of_text;		/* the last characters are known */
	char		last_four[LAST_FOUR + 1];	/* of an imported one */
} Rehash;

typedef struct RehashList
{
	int			count;
	Rehash		items[REHASH_MAX];
} RehashList;

static RehashList *list = NULL;
static LWLock *list_lock = NULL;

static Size
memory_size(void)
{
	return sizeof(RehashList);
}

static void
start_memory(void)
{
	bool		found;

	list = ShmemInitStruct("apikey rehash", sizeof(RehashList), &found);
	if (!found)
		list->count = 0;
	list_lock = &GetNamedLWLockTranche("apikey")[APIKEY_MEMORY_REHASH].lock;
}

const ApikeyMemoryPart apikey_rehash_memory = {
	.size = memory_size,
	.start = start_memory,
	.forget = apikey_rehash_forget_database
};

/* The last characters of a text, if they may be shown; else none. */
static void
set_last_four(const ApikeyCredential *credential, char *out)
{
	const char *end = credential->prefix + credential->text_len - LAST_FOUR;

	out[0] = '\0';
	if (credential->text_len < SHOWN_FROM)
		return;
	for (int i = 0; i < LAST_FOUR; i++)
	{
		if (end[i] <= ' ' || end[i] >= 0x7F)
			return;
	}
	memcpy(out, end, LAST_FOUR);
	out[LAST_FOUR] = '\0';
}

/* Is what is stored of a key worth replacing: hangs it on another pepper? */
static bool
outdated(const Rehash *rehash, const ApikeyRow *row, int pepper)
{
	return row->nulls[pepper] ||
		DatumGetInt32(row->values[pepper]) != rehash->pepper;
}

/*
 * Updates the row of a digest, if nobody has it.  The key's own row is left
 * alone: whoever revokes it must not wait for a transaction that has used it.
 */
static bool
update_digest(const Rehash *rehash, const ApikeyTable *table, int digest,
			  int pepper, int last_four)
{
	ApikeyWriter *writer = apikey_table_open(table);
	ScanKeyData key;
	ApikeyRow	row;
	bool		updated;

	apikey_table_key(&key, &rehash->id);
	updated = apikey_table_take(writer, table, &key, APIKEY_LOCK_UPDATE_SKIP,
								&row) && outdated(rehash, &row, pepper);
	if (updated)
	{
		apikey_row_set_pointer(&row, digest, apikey_digest_bytea(rehash->digest));
		apikey_row_set(&row, pepper, Int32GetDatum(rehash->pepper));
		if (last_four >= 0)
			apikey_row_set_pointer(&row, last_four,
								   cstring_to_text(rehash->last_four));
		apikey_table_put(writer, table, &row);
	}
	apikey_table_close(writer);
	return updated;
}

/* Writes a digest, as a work of apikey_attempt; never of a key that has it. */
static void
write_rehash(void *work)
{
	Rehash	   *rehash = work;
	ApikeyRow	key;
	bool		updated = false;

	if (!apikey_key_fetch_latest(&rehash->id, &key))
		return;
	if (rehash->native)
		updated = update_digest(rehash, &apikey_digest_table,
								APIKEY_DIGEST_DIGEST, APIKEY_DIGEST_PEPPER, -1);
	else if (!apikey_import_has_digest(rehash->digest))
		updated = update_digest(rehash, &apikey_import_table,
								APIKEY_IMPORT_DIGEST, APIKEY_IMPORT_PEPPER,
								rehash->of_text ? APIKEY_IMPORT_LAST_FOUR : -1);
	if (!updated)
		return;
	apikey_event_key(&key, APIKEY_EVENT_REHASHED, NULL);
	if (rehash->native && apikey_key_project(&key) != NULL)
		(void) apikey_attempt(apikey_reveal_move, &key);
}

/* The same where the caller must wait for nobody who has a table. */
static void
write_rehash_now(void *work)
{
	if (apikey_table_free(&apikey_import_table) &&
		apikey_event_writable())
		write_rehash(work);
}

/* Leaves it to the worker, unless it is there already or there is no room. */
static void
enqueue(const Rehash *rehash)
{
	bool		known = false;

	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	for (int i = 0; i < list->count && !known; i++)
		known = list->items[i].database == rehash->database &&
			memcmp(&list->items[i].id, &rehash->id, sizeof(pg_uuid_t)) == 0;
	if (!known && list->count < REHASH_MAX)
		list->items[list->count++] = *rehash;
	LWLockRelease(list_lock);
}

/* Computes the digest that a key is to have, by that of its text. */
static void
set_digest(Rehash *item, const uint8 *digest)
{
	const ApikeyPepper *pepper = apikey_pepper_current();

	item->database = MyDatabaseId;
	item->pepper = pepper->fingerprint;
	apikey_digest_stored(pepper, digest, item->digest);
}

/* Leaves to be written, or to be told, what a key is to have. */
static void
rehash(const ApikeyCredential *credential, Rehash *item)
{
	set_digest(item, credential->digest);
	if (list != NULL && apikey_fleet_member())
	{
		item->proof = true;
		if (apikey_proof_make(&item->id, credential->digest, item->digest))
			enqueue(item);
	}
	else if (list != NULL)
		enqueue(item);
	else if (!XactReadOnly && !IsInParallelMode())
		(void) apikey_attempt(write_rehash_now, item);
}

/* An imported key has been verified by an old digest: it gets the new one. */
void
apikey_rehash_imported(const ApikeyCredential *credential,
					   const ApikeyImported *imported)
{
	Rehash		item = {.id = imported->id, .of_text = true};

	set_last_four(credential, item.last_four);
	rehash(credential, &item);
}

/*
 * A native key has been verified by a pepper that is not the current one.  It
 * is accepted as it is, so that is the worker's alone.
 */
void
apikey_rehash_native(const ApikeyCredential *credential)
{
	Rehash		item = {.id = credential->id, .native = true};

	if (list != NULL)
		rehash(credential, &item);
}

/* A member has proved a key to have been verified: it gets its digest. */
bool
apikey_rehash_proved(const pg_uuid_t *id, const uint8 *proof)
{
	Rehash		item = {.id = *id};
	uint8		digest[APIKEY_DIGEST_BYTES];
	bool		proved = list != NULL && apikey_pepper_usable() &&
		apikey_proof_read(id, proof, digest, &item.native);

	if (proved)
	{
		set_digest(&item, digest);
		enqueue(&item);
	}
	explicit_bzero(digest, sizeof(digest));
	return proved;
}

/* The databases that something is left for. */
List *
apikey_rehash_databases(void)
{
	List	   *databases = NIL;

	LWLockAcquire(list_lock, LW_SHARED);
	for (int i = 0; i < list->count; i++)
		databases = list_append_unique_oid(databases, list->items[i].database);
	LWLockRelease(list_lock);
	return databases;
}

/* Takes some of what is left for a database off the list: proofs, or digests. */
static int
take(Oid database, bool proofs, Rehash *taken, int most)
{
	int			count = 0;
	int			kept = 0;

	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	for (int i = 0; i < list->count; i++)
	{
		if (list->items[i].database != database ||
			list->items[i].proof != proofs || count == most)
			list->items[kept++] = list->items[i];
		else
			taken[count++] = list->items[i];
	}
	list->count = kept;
	LWLockRelease(list_lock);
	return count;
}

/*
 * Writes some of what is left for the worker's database, in a transaction;
 * true while there may be more.  Should it fail, these come with the next use.
 */
bool
apikey_rehash_flush(void)
{
	Rehash		taken[WRITTEN_AT_ONCE];
	int			count;

	/* Of a member that was promoted: they come again, as digests. */
	if (!apikey_fleet_member())
		(void) take(MyDatabaseId, true, taken, WRITTEN_AT_ONCE);
	count = take(MyDatabaseId, false, taken, WRITTEN_AT_ONCE);
	if (count > 0 && apikey_step_begin())
	{
		for (int i = 0; i < count; i++)
			write_rehash(&taken[i]);
		apikey_step_commit();
	}
	return count == WRITTEN_AT_ONCE;
}

/* For the worker that speaks to the primary: some of what it is to be told. */
int
apikey_rehash_take_proofs(Oid database, ApikeyProof *proofs, int most)
{
	Rehash	   *taken = palloc(most * sizeof(Rehash));
	int			count = take(database, true, taken, most);

	for (int i = 0; i < count; i++)
	{
		proofs[i].key = taken[i].id;
		memcpy(proofs[i].proof, taken[i].digest, APIKEY_DIGEST_BYTES);
	}
	pfree(taken);
	return count;
}

/* A database is dropped. */
void
apikey_rehash_forget_database(Oid database)
{
	int			kept = 0;

	if (list == NULL)
		return;
	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	for (int i = 0; i < list->count; i++)
	{
		if (list->items[i].database != database)
			list->items[kept++] = list->items[i];
	}
	list->count = kept;
	LWLockRelease(list_lock);
}
