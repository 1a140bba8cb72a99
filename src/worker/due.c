/*
 * due.c
 *		The databases in which something is to be flushed: a queue of the launcher.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "memory/memory.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "limits/limits.h"
#include "worker/worker_internal.h"

static Oid *to_flush = NULL;	/* in TopMemoryContext, as a queue */
static int	to_flush_count = 0;
static int	to_flush_room = 0;
static bool databases_listed = false;

/* Puts a database at the end of those that are to be flushed, once. */
void
apikey_due_add(Oid database)
{
	for (int i = 0; i < to_flush_count; i++)
	{
		if (to_flush[i] == database)
			return;
	}
	if (to_flush_count == to_flush_room)
	{
		to_flush_room = Max(16, to_flush_room * 2);
		to_flush = to_flush == NULL ?
			MemoryContextAlloc(TopMemoryContext, to_flush_room * sizeof(Oid)) :
			repalloc(to_flush, to_flush_room * sizeof(Oid));
	}
	to_flush[to_flush_count++] = database;
}

void
apikey_due_remove_first(void)
{
	memmove(to_flush, to_flush + 1, --to_flush_count * sizeof(Oid));
}

int
apikey_due_count(void)
{
	return to_flush_count;
}

/*
 * The first that a worker can get into, which is first then: those before it have
 * their turn after all others.  False where there is none.
 */
bool
apikey_due_first(Oid *database)
{
	for (int i = 0; i < to_flush_count; i++)
	{
		*database = to_flush[0];
		if (apikey_reach_may(*database))
			return true;
		apikey_due_remove_first();
		to_flush[to_flush_count++] = *database;
	}
	return false;
}

/* The databases in which something is to be done by now. */
List *
apikey_due_databases(void)
{
	List	   *databases = apikey_usage_databases();

	databases = list_concat_unique_oid(databases, apikey_denial_databases());
	databases = list_concat_unique_oid(databases, apikey_batch_databases());
	databases = list_concat_unique_oid(databases, apikey_mark_databases());
	databases = list_concat_unique_oid(databases, apikey_reveals_databases());
	databases = list_concat_unique_oid(databases, apikey_history_databases());
	databases = list_concat_unique_oid(databases, apikey_rehash_databases());
	databases = list_concat_unique_oid(databases, apikey_credit_idle_databases());
	databases = list_concat_unique_oid(databases, apikey_stats_due());
	return list_concat_unique_oid(databases, apikey_pepper_count_databases());
}

/* All of them. */
void
apikey_due_find(void)
{
	ListCell   *cell;

	if (!databases_listed)
		apikey_due_add(InvalidOid);
	databases_listed = true;
	foreach(cell, apikey_due_databases())
	{
		apikey_stats_called(lfirst_oid(cell));
		apikey_due_add(lfirst_oid(cell));
	}
}

/* The databases are to be listed again. */
void
apikey_due_list_again(void)
{
	databases_listed = false;
}

/* Those where so much has gathered that it is not to wait for its time. */
void
apikey_due_add_many(void)
{
	ListCell   *cell;

	foreach(cell, apikey_rehash_many())
		apikey_due_add(lfirst_oid(cell));
}

/* Those that apikey_flush() waits for. */
void
apikey_due_add_requests(void)
{
	for (int i = 0; i < APIKEY_FLUSH_REQUESTS; i++)
	{
		ApikeyFlushRequest request;

		SpinLockAcquire(&apikey_seats->mutex);
		request = apikey_seats->requests[i];
		for (int seat = 0; seat < APIKEY_SEATS; seat++)
		{
			if (apikey_seats->seats[seat].state >= APIKEY_SEAT_CALLED &&
				apikey_seats->seats[seat].database == request.database &&
				apikey_seats->seats[seat].flush)
				request.asked = request.done;
		}
		SpinLockRelease(&apikey_seats->mutex);
		if (request.asked > request.done)
			apikey_due_add(request.database);
	}
}
