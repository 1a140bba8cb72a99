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
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys_internal.h"

#define SHOWN_FROM		16		/* of a shorter text nothing is shown */

/* The last characters of a text, if they may be shown; else none. */
static void
set_last_four(const ApikeyCredential *credential, char *out)
{
	const char *end = credential->prefix + credential->text_len - APIKEY_LAST_FOUR;

	out[0] = '\0';
	if (credential->text_len < SHOWN_FROM)
		return;
	for (int i = 0; i < APIKEY_LAST_FOUR; i++)
	{
		if (end[i] <= ' ' || end[i] >= 0x7F)
			return;
	}
	memcpy(out, end, APIKEY_LAST_FOUR);
	out[APIKEY_LAST_FOUR] = '\0';
}

/* Is what is stored of a key worth replacing: hangs it on another pepper? */
static bool
outdated(const ApikeyRehash *rehash, const ApikeyRow *row, int pepper)
{
	return row->nulls[pepper] ||
		DatumGetInt32(row->values[pepper]) != rehash->pepper;
}

/* What came of a key: if somebody has its row, it is to be put back. */
typedef enum Outcome
{
	DONE,
	NOTHING_TO_DO,
	HELD
} Outcome;

/*
 * Updates the row of a digest, if nobody has it.  The key's own row is left
 * alone: whoever revokes it must not wait for a transaction that has used it.
 */
static Outcome
update_digest(const ApikeyRehash *rehash, ApikeyWriter *writer,
			  const ApikeyTable *table, int digest, int pepper, int last_four)
{
	ScanKeyData key;
	ApikeyRow	row;

	apikey_table_key(&key, &rehash->id);
	if (!apikey_table_take(writer, table, &key, APIKEY_LOCK_UPDATE_SKIP, &row))
		return apikey_table_fetch_latest(table, &rehash->id, &row) ? HELD :
			NOTHING_TO_DO;
	if (!outdated(rehash, &row, pepper))
		return NOTHING_TO_DO;
	apikey_row_set_pointer(&row, digest, apikey_digest_bytea(rehash->digest));
	apikey_row_set(&row, pepper, Int32GetDatum(rehash->pepper));
	if (last_four >= 0)
		apikey_row_set_pointer(&row, last_four,
							   cstring_to_text(rehash->last_four));
	apikey_table_put(writer, table, &row);
	return DONE;
}

/* Writes a native digest. */
static Outcome
update_native(const ApikeyRehash *rehash, ApikeyWriter *writer)
{
	return update_digest(rehash, writer, &apikey_digest_table,
						 APIKEY_DIGEST_DIGEST, APIKEY_DIGEST_PEPPER, -1);
}

/* Writes that of an imported key; never of a key that has it. */
static Outcome
update_imported(const ApikeyRehash *rehash)
{
	ApikeyWriter *writer;
	Outcome		outcome;

	if (!apikey_table_free(&apikey_import_table))
		return HELD;
	if (apikey_import_has_digest(rehash->digest))
		return NOTHING_TO_DO;
	writer = apikey_table_open(&apikey_import_table);
	outcome = update_digest(rehash, writer, &apikey_import_table,
							APIKEY_IMPORT_DIGEST, APIKEY_IMPORT_PEPPER,
							rehash->of_text ? APIKEY_IMPORT_LAST_FOUR : -1);
	apikey_table_close(writer);
	return outcome;
}

/* Writes a digest, a native one by a writer, and the event of it. */
static Outcome
write_rehash(const ApikeyRehash *rehash, ApikeyWriter *natives)
{
	ApikeyRow	key;
	Outcome		outcome;

	/* By a pepper that has been taken out again it would verify nowhere. */
	if (apikey_pepper_find(rehash->pepper) == NULL ||
		!apikey_key_fetch_latest(&rehash->id, &key))
		return NOTHING_TO_DO;
	outcome = rehash->native ? update_native(rehash, natives) :
		update_imported(rehash);
	if (outcome != DONE)
		return outcome;
	apikey_event_key(&key, APIKEY_EVENT_REHASHED, NULL);
	if (rehash->native && apikey_reveal_outdated(&key))
		(void) apikey_attempt(apikey_reveal_move, &key);
	return DONE;
}

/*
 * Writes that of an imported key at once, as a work of apikey_attempt, unless
 * the caller would have to wait for somebody who has a table.
 */
static void
write_rehash_now(void *work)
{
	if (apikey_event_writable())
		(void) write_rehash(work, NULL);
}

/* Computes the digest that a key is to have, by that of its text. */
static void
set_digest(ApikeyRehash *item, const uint8 *digest)
{
	const ApikeyPepper *pepper = apikey_pepper_current();

	item->database = MyDatabaseId;
	item->pepper = pepper->fingerprint;
	apikey_digest_stored(pepper, digest, item->digest);
}

/*
 * Leaves to be written, or to be told, what a key is to have; false where there
 * was no room, or it is not known now which of the two.
 */
static bool
leave(const ApikeyCredential *credential, ApikeyRehash *item)
{
	ApikeyAnswer member = apikey_fleet_member_now();

	if (member == APIKEY_ANSWER_NONE)
		return false;
	set_digest(item, credential->digest);
	if (member == APIKEY_ANSWER_NO)
		return apikey_rehash_leave(item);
	item->proof = true;
	return !apikey_proof_make(&item->id, credential->digest, item->digest) ||
		apikey_rehash_leave(item);
}

/* An imported key has been verified by an old digest: it gets the new one. */
void
apikey_rehash_imported(const ApikeyCredential *credential,
					   const ApikeyImported *imported)
{
	ApikeyRehash item = {.id = imported->id, .of_text = true};

	set_last_four(credential, item.last_four);
	if (apikey_rehash_listed())
		(void) leave(credential, &item);
	else if (!XactReadOnly && !IsInParallelMode())
	{
		set_digest(&item, credential->digest);
		(void) apikey_attempt(write_rehash_now, &item);
	}
}

/*
 * A native key has been verified by a pepper that is not the current one.  It
 * is accepted as it is, so that is the worker's alone.  False where the key has
 * to come again: then it is not to be remembered.  On a standby it may come
 * again for long, so that does not matter there.
 */
bool
apikey_rehash_native(const ApikeyCredential *credential)
{
	ApikeyRehash item = {.id = credential->id, .native = true};

	return !apikey_rehash_listed() || leave(credential, &item) ||
		RecoveryInProgress();
}

/* A member has proved a key to have been verified: it gets its digest. */
bool
apikey_rehash_proved(const pg_uuid_t *id, const uint8 *proof)
{
	ApikeyRehash item = {.id = *id};
	uint8		digest[APIKEY_DIGEST_BYTES];
	bool		proved = apikey_rehash_listed() && apikey_pepper_usable() &&
		apikey_proof_read(id, proof, digest, &item.native);

	if (proved)
	{
		set_digest(&item, digest);
		proved = apikey_rehash_leave(&item);
	}
	explicit_bzero(digest, sizeof(digest));
	return proved;
}

/* Writes some; those of whom somebody has a row are added to a list. */
static void
write_some(List *taken, void *state)
{
	List	  **held = state;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey rehash",
												  ALLOCSET_DEFAULT_SIZES);
	int			path = apikey_owner_fix_path(); /* once for all */
	ApikeyWriter *natives = apikey_table_open(&apikey_digest_table);
	ListCell   *cell;

	foreach(cell, taken)
	{
		MemoryContext before = MemoryContextSwitchTo(context);
		Outcome		outcome;

		CHECK_FOR_INTERRUPTS();
		outcome = write_rehash(lfirst(cell), natives);
		MemoryContextSwitchTo(before);
		MemoryContextReset(context);
		if (outcome == HELD)
			*held = list_append_unique_ptr(*held, lfirst(cell));
	}
	apikey_table_close(natives);
	apikey_owner_restore_path(path);
	MemoryContextDelete(context);
}

/*
 * Writes what was taken off the list, waiting for nobody; returns how many could
 * not be written yet, which are the first then.  What fails comes with its next
 * use.
 */
static int
write_taken(ApikeyRehash *taken, int count)
{
	List	   *to_write = NIL;
	List	   *held = NIL;
	int			left = 0;

	if (!apikey_pepper_usable() || !apikey_table_free(&apikey_digest_table) ||
		!apikey_event_writable())
		return count;
	for (int i = 0; i < count; i++)
		to_write = lappend(to_write, &taken[i]);
	(void) apikey_attempt_each(write_some, to_write, &held);
	for (int i = 0; i < count; i++)
	{
		if (list_member_ptr(held, &taken[i]))
			taken[left++] = taken[i];
	}
	return left;
}

/*
 * Writes some of what is left for the worker's database, in a transaction;
 * true while there may be more.  Should it fail, these come with the next use.
 * Whose rows somebody has are looked at once each time, the first of many too.
 * Whether this server is a member is asked before: it takes a transaction.
 */
bool
apikey_rehash_flush(bool first, int *to_look_at, bool member)
{
	ApikeyRehash taken[APIKEY_STEP_CHANGES];
	int			count;
	int			held = 0;

	if (first)
		*to_look_at = apikey_rehash_count();

	/* Of a member that was promoted: they come again, as digests. */
	if (!member)
		(void) apikey_rehash_take(MyDatabaseId, true, taken, APIKEY_STEP_CHANGES);
	count = apikey_rehash_take(MyDatabaseId, false, taken, APIKEY_STEP_CHANGES);
	if (count > 0 && apikey_step_begin())
	{
		held = write_taken(taken, count);
		apikey_step_commit();
	}
	apikey_rehash_put_back(taken, held);
	*to_look_at -= count;
	return count == APIKEY_STEP_CHANGES && (held < count || *to_look_at > 0);
}

/* For the worker that speaks to the primary: some of what it is to be told. */
int
apikey_rehash_take_proofs(Oid database, ApikeyProof *proofs, int most)
{
	ApikeyRehash *taken = palloc(most * sizeof(ApikeyRehash));
	int			count = apikey_rehash_take(database, true, taken, most);

	for (int i = 0; i < count; i++)
	{
		proofs[i].key = taken[i].id;
		memcpy(proofs[i].proof, taken[i].digest, APIKEY_DIGEST_BYTES);
	}
	pfree(taken);
	return count;
}
