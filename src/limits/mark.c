/*
 * mark.c
 *		What is to be told of limits: that one is low or exhausted, each once a
 *		period, and what charges were dropped.
 *
 * A verification writes nothing, and what it was may be rolled back, so what is
 * to be told stands on a list in shared memory; the worker writes the events.
 * Whether an account has been told of in its period, its row says.  What finds
 * no room on the list is marked again by the next verification; a charge that
 * finds none is refused, so that nothing is dropped without an event.
 *
 * On a member marks go to the primary, with its reports: see batch.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "events/events.h"
#include "keys/keys.h"
#include "credits/credits.h"
#include "limits/limits_internal.h"
#include "limits/mark.h"

#define MARKS_MAX		1024
#define TOLD_AT_ONCE	50		/* in a transaction */

typedef struct Shared
{
	slock_t		mutex;			/* guards the rest */
	int			count;
	int			reserved;		/* by transactions that may drop */
	ApikeyMark	marks[MARKS_MAX];
} Shared;

static Shared *shared = NULL;

static Size
memory_size(void)
{
	return sizeof(Shared);
}

static void
start_memory(void)
{
	bool		found;

	shared = ShmemInitStruct("apikey marks", sizeof(Shared), &found);
	if (found)
		return;
	SpinLockInit(&shared->mutex);
	shared->count = shared->reserved = 0;
}

const ApikeyMemoryPart apikey_mark_memory = {
	.size = memory_size,
	.start = start_memory,
	.forget = apikey_mark_drop
};

/* Puts a mark on the list; false where it finds no room. */
static bool
put(const ApikeyMark *mark)
{
	bool		room;

	SpinLockAcquire(&shared->mutex);
	room = shared->count + shared->reserved < MARKS_MAX;
	if (room)
		shared->marks[shared->count++] = *mark;
	SpinLockRelease(&shared->mutex);
	return room;
}

/* Keeps room for a mark that is put with the commit; false where there is none. */
bool
apikey_mark_reserve(void)
{
	bool		room;

	SpinLockAcquire(&shared->mutex);
	room = shared->count + shared->reserved < MARKS_MAX;
	if (room)
		shared->reserved++;
	SpinLockRelease(&shared->mutex);
	return room;
}

void
apikey_mark_release(void)
{
	SpinLockAcquire(&shared->mutex);
	shared->reserved--;
	SpinLockRelease(&shared->mutex);
}

/* What a charge has dropped, room for which was reserved; never fails. */
void
apikey_mark_overdrawn(const pg_uuid_t *limit, const pg_uuid_t *key,
					  int64 dropped)
{
	ApikeyMark *mark;

	SpinLockAcquire(&shared->mutex);
	shared->reserved--;
	mark = &shared->marks[shared->count++];
	mark->database = MyDatabaseId;
	mark->kind = APIKEY_MARK_OVERDRAWN;
	mark->limit = *limit;
	mark->key = *key;
	mark->amount = dropped;
	SpinLockRelease(&shared->mutex);
}

/* Marks an account, if this has not been told in its period. */
static void
mark_account(ApikeyBound *bound, const pg_uuid_t *key, ApikeyMarkKind kind,
			 const ApikeyBoundState *state)
{
	TimestampTz period = state->resets_at == 0 ? DT_NOEND : state->resets_at;
	TimestampTz *until = kind == APIKEY_MARK_LOW ? &bound->low_until :
		&bound->exhausted_until;
	ApikeyMark	mark = {
		.database = MyDatabaseId,
		.kind = kind,
		.limit = bound->id,
		.key = *key,
		.amount = state->remaining
	};

	if (*until == period)
		return;
	if (apikey_lease_told(&bound->id, &bound->hint, kind == APIKEY_MARK_EXHAUSTED) ||
		put(&mark))
		*until = period;
}

/* Marks what a limit has come to. */
static void
mark_bound(ApikeyBound *bound, const pg_uuid_t *key, bool refused,
		   const ApikeyBoundState *state)
{
	bool		exhausted = refused || state->remaining <= 0;
	bool		low = state->remaining <= bound->amount / 5;

	if (low)
		mark_account(bound, key, APIKEY_MARK_LOW, state);
	else
		bound->low_until = 0;
	if (exhausted)
		mark_account(bound, key, APIKEY_MARK_EXHAUSTED, state);
	else
		bound->exhausted_until = 0;
}

/* What a verification has come to may be something to tell. */
void
apikey_mark_bounds(const ApikeyVerdict *verdict, ApikeyCode code)
{
	if (shared == NULL)
		return;
	for (int i = 0; i < verdict->bounds->count; i++)
	{
		ApikeyBound *bound = &verdict->bounds->list[i];
		const ApikeyBoundState *state = &verdict->states[i];

		if (bound->kind == APIKEY_LIMIT_RATE || bound->short_form ||
			!state->known)
			continue;
		if (code == APIKEY_CODE_VALID || i == verdict->refused_by)
			mark_bound(bound, verdict->id, i == verdict->refused_by, state);
	}
}

/* The databases with something to tell. */
List *
apikey_mark_databases(void)
{
	List	   *databases = NIL;
	Oid		   *found = palloc(MARKS_MAX * sizeof(Oid));
	int			count;

	SpinLockAcquire(&shared->mutex);
	count = shared->count;
	for (int i = 0; i < count; i++)
		found[i] = shared->marks[i].database;
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < count; i++)
		databases = list_append_unique_oid(databases, found[i]);
	pfree(found);
	return databases;
}

/* A database is gone: nothing is to be told there. */
void
apikey_mark_drop(Oid database)
{
	int			kept = 0;

	if (shared == NULL)
		return;
	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count; i++)
	{
		if (shared->marks[i].database != database)
			shared->marks[kept++] = shared->marks[i];
	}
	shared->count = kept;
	SpinLockRelease(&shared->mutex);
}

/* Copies out the first marks of a database. */
static int
collect(Oid database, ApikeyMark *marks, int most)
{
	int			count = 0;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count && count < most; i++)
	{
		if (shared->marks[i].database == database)
			marks[count++] = shared->marks[i];
	}
	SpinLockRelease(&shared->mutex);
	return count;
}

/* Takes so many marks of a database, the first, off the list. */
static void
remove_first(Oid database, int count)
{
	int			kept = 0;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count; i++)
	{
		if (shared->marks[i].database == database && count > 0)
			count--;
		else
			shared->marks[kept++] = shared->marks[i];
	}
	shared->count = kept;
	SpinLockRelease(&shared->mutex);
}

/* For a member's report: the batch's lock is held, see batch.c. */
void
apikey_mark_move(ApikeyBatch *batch)
{
	batch->mark_count = collect(batch->database, batch->marks,
								APIKEY_BATCH_MARKS);
	remove_first(batch->database, batch->mark_count);
}

/* Puts one back, if there is room. */
void
apikey_mark_move_back(const ApikeyMark *mark)
{
	(void) put(mark);
}

/* Tells of what a charge of a key has dropped; of credits as of the key. */
static void
tell_overdrawn(const ApikeyMark *mark, const ApikeyRow *limit)
{
	StringInfoData json;
	ApikeyRow	key;

	if (limit != NULL)
	{
		apikey_limit_tell(limit, APIKEY_EVENT_OVERDRAWN,
						  apikey_limit_detail_with(limit, "dropped", mark->amount, &mark->key));
		return;
	}
	if (!apikey_key_fetch_latest(&mark->key, &key))
		return;
	apikey_detail_begin(&json);
	apikey_detail_string(&json, "holder", "key");
	apikey_detail_string(&json, "unit", APIKEY_REQUESTS);
	apikey_detail_json(&json, "dropped", psprintf(INT64_FORMAT, mark->amount));
	apikey_event_key(&key, APIKEY_EVENT_OVERDRAWN, apikey_detail_end(&json));
}

/* Writes the event of a mark, unless it was told in its period. */
void
apikey_mark_write(const ApikeyMark *mark)
{
	ApikeyRow	limit;
	bool		found = apikey_table_fetch_latest(&apikey_limit_table,
												  &mark->limit, &limit);

	if (mark->kind == APIKEY_MARK_OVERDRAWN)
		tell_overdrawn(mark, found ? &limit : NULL);
	else if (found &&
			 apikey_account_mark_told(&mark->limit,
									  mark->kind == APIKEY_MARK_EXHAUSTED))
		apikey_limit_tell(&limit, mark->kind == APIKEY_MARK_LOW ?
						  APIKEY_EVENT_LIMIT_LOW : APIKEY_EVENT_LIMIT_EXHAUSTED,
						  apikey_limit_detail_with(&limit, "remaining",
												   mark->amount, NULL));
}

/*
 * For the worker: writes some of the events, in a transaction; true while there
 * may be more.
 */
bool
apikey_mark_tell(void)
{
	ApikeyMark *marks = palloc(TOLD_AT_ONCE * sizeof(ApikeyMark));
	int			count = collect(MyDatabaseId, marks, TOLD_AT_ONCE);

	if (count == 0)
		return false;
	if (apikey_step_begin())
	{
		for (int i = 0; i < count; i++)
			apikey_mark_write(&marks[i]);
		apikey_step_commit();
	}
	remove_first(MyDatabaseId, count);
	return count == TOLD_AT_ONCE;
}
