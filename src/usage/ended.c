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
 * worker, or until it is at rest.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "credits/credit.h"
#include "keys/foreign.h"
#include "usage/history.h"
#include "limits/mark.h"
#include "usage/usage.h"

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
	EndedKind	kind;
	int			level;			/* of the subtransaction */
	Oid			database;
	pg_uuid_t	id;				/* of a key */
} Ended;

static Ended *noted = NULL;		/* in TopTransactionContext; levels rise */
static int	noted_count = 0;
static int	noted_room = 0;

static Ended *
note(EndedKind kind, Oid database)
{
	Ended	   *new;

	if (noted == NULL)
	{
		noted_room = 16;
		noted = MemoryContextAlloc(TopTransactionContext,
								   noted_room * sizeof(Ended));
	}
	else if (noted_count == noted_room)
	{
		noted = repalloc_huge(noted, (Size) noted_room * 2 * sizeof(Ended));
		noted_room *= 2;
	}
	new = &noted[noted_count++];
	new->kind = kind;
	new->level = GetCurrentTransactionNestLevel();
	new->database = database;
	return new;
}

/* A key is being revoked, or its row deleted. */
void
apikey_ended_key(const pg_uuid_t *id, bool gone)
{
	if (apikey_usage_shared())
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

static void
forget_database(Oid database)
{
	apikey_slot_forget_database(database);
	apikey_rehash_forget_database(database);
	apikey_notify_drop(database);
	apikey_lease_drop(database);
	apikey_mark_drop(database);
	apikey_history_drop(database);
}

/* For the worker: our tables are not in this database. */
void
apikey_ended_found(void)
{
	forget_database(MyDatabaseId);
	apikey_stats_rest_database(MyDatabaseId);
}

/* It has happened.  Nothing here may fail. */
static void
carry_out(const Ended *ended)
{
	switch (ended->kind)
	{
		case ENDED_KEY:
		case GONE_KEY:
			apikey_slot_end(ended->database, &ended->id,
							ended->kind == GONE_KEY);
			break;
		case GONE_DATABASE:
			forget_database(ended->database);
			apikey_stats_forget_database(ended->database);
			break;
		case GONE_EXTENSION:
			forget_database(ended->database);
			apikey_stats_rest_database(ended->database);
			break;
		case BEGUN_EXTENSION:
			apikey_stats_add_database(ended->database);
			break;
	}
}

static void
on_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	for (int i = 0; event == XACT_EVENT_COMMIT && i < noted_count; i++)
		carry_out(&noted[i]);
	noted = NULL;
	noted_count = 0;
}

static void
on_subtransaction_end(SubXactEvent event,
					  SubTransactionId subid pg_attribute_unused(),
					  SubTransactionId parent pg_attribute_unused(),
					  void *arg pg_attribute_unused())
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (noted_count > 0 && noted[noted_count - 1].level >= level)
			noted_count--;
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = noted_count - 1; i >= 0 && noted[i].level >= level; i--)
			noted[i].level = level - 1;
	}
}

/* Once, when the library is loaded. */
void
apikey_ended_init(void)
{
	RegisterXactCallback(on_transaction_end, NULL);
	RegisterSubXactCallback(on_subtransaction_end, NULL);
}
