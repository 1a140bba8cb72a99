/*
 * ended.c
 *		What ends with a commit has no slot of shared memory any more.
 *
 * Keys that are deleted or revoked, databases that are dropped, and our tables
 * with the extension.  Which they are is noted as it happens, and is so once
 * the transaction, and the subtransaction it happened in, have committed.
 *
 * A key that has been rotated away is left alone: the state of its rate limit,
 * in its slot, is that of its successors.  What a prepared transaction ends is left for the
 * worker, or until it is at rest; so is, of very many keys, one that has got its
 * slot between its end and the commit.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"

#define NOTED_AT_LEAST	1000	/* keys; beyond, those that have a slot */

typedef enum EndedKind
{
	ENDED_KEY,					/* its row says so */
	GONE_KEY,					/* its row is gone */
	GONE_DATABASE,
	GONE_EXTENSION,				/* of this database */
	BEGUN_EXTENSION
} EndedKind;

typedef struct Ended
{
	ApikeyNoted noted;
	EndedKind	kind;
	Oid			database;
	pg_uuid_t	id;				/* of a key */
} Ended;

static Ended *
note(EndedKind kind, Oid database)
{
	Ended	   *new = apikey_transaction_note(&apikey_ended_transaction);

	new->kind = kind;
	new->database = database;
	return new;
}

static bool
has_slot(const pg_uuid_t *id)
{
	LWLock	   *lock;

	if (apikey_slot_find(MyDatabaseId, id, NULL, &lock) == NULL)
		return false;
	LWLockRelease(lock);
	return true;
}

/* A key is being revoked, or its row deleted. */
void
apikey_ended_key(const pg_uuid_t *id, bool gone)
{
	if (apikey_usage_shared() &&
		(apikey_ended_transaction.count < NOTED_AT_LEAST || has_slot(id)))
		note(gone ? GONE_KEY : ENDED_KEY, MyDatabaseId)->id = *id;
}

/* A database is being dropped. */
void
apikey_ended_database(Oid database)
{
	note(GONE_DATABASE, database);
}

/* The extension is being dropped here. */
void
apikey_ended_extension(void)
{
	note(GONE_EXTENSION, MyDatabaseId);
}

/* The extension is being created, or a database, which may have it. */
void
apikey_begun_extension(Oid database)
{
	note(BEGUN_EXTENSION, database);
}

/* For the worker: our tables are not in this database. */
void
apikey_ended_found(void)
{
	apikey_memory_forget_database(MyDatabaseId);
	apikey_stats_rest_database(MyDatabaseId);
}

/* It has happened.  Nothing here may fail. */
static void
carry_out(void *noted, ApikeyEnd end)
{
	const Ended *ended = noted;

	if (end != APIKEY_END_COMMIT)
		return;
	switch (ended->kind)
	{
		case ENDED_KEY:
		case GONE_KEY:
			apikey_slot_end(ended->database, &ended->id,
							ended->kind == GONE_KEY);
			break;
		case GONE_DATABASE:
			apikey_memory_forget_database(ended->database);
			apikey_stats_forget_database(ended->database);
			break;
		case GONE_EXTENSION:
			apikey_memory_forget_database(ended->database);
			apikey_stats_rest_database(ended->database);
			break;
		case BEGUN_EXTENSION:
			apikey_stats_add_database(ended->database);
			break;
	}
}

ApikeyTransactionPart apikey_ended_transaction = {
	.size = sizeof(Ended),
	.settle = carry_out
};
