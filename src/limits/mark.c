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
 * A charge keeps a place until its transaction ends.  Of the places each has a
 * share whom the keys are charged to that they are for, or who has made a charge:
 * what a role's transactions hold open, or have marked faster than it can be told,
 * leaves room for others: see share.h.
 *
 * On a member marks go to the primary, with its reports: see batch.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "events/events.h"
#include "keys/keys.h"
#include "credits/credits.h"
#include "limits/limits_internal.h"
#include "limits/mark.h"

#define MARKS_MAX		8192
#define TOLD_AT_ONCE	50		/* in a transaction */

/* A place on the list. */
typedef struct Place
{
	ApikeyMark	mark;
	Oid			role;			/* the key is charged to it; invalid: unknown */
	uint64		kept;			/* for a charge that has not been committed */
} Place;

typedef struct Shared
{
	LWLock	   *lock;			/* guards the rest */
	int			count;
	uint64		kept;			/* the last number of those */
	Place		places[MARKS_MAX];	/* the oldest first */
} Shared;

static Shared *shared = NULL;

static void
make_memory(void)
{
	shared->lock = apikey_memory_lock(APIKEY_MEMORY_MARKS);
}

const ApikeyMemoryPart apikey_mark_memory = {
	APIKEY_MEMORY_STRUCT("apikey marks", shared),
	.make = make_memory,
	.forget = apikey_mark_drop
};

/* Is there room for another one of a role's keys?  The lock is held. */
static bool
has_room(Oid database, Oid role)
{
	int			of_database = 0;
	int			of_role = 0;

	for (int i = 0; i < shared->count; i++)
	{
		const Place *place = &shared->places[i];

		if (place->mark.database != database)
			continue;
		of_database++;
		of_role += place->role == role;
	}
	return apikey_share_leaves_room(MARKS_MAX, shared->count, of_database,
									of_role);
}

/* Takes a place at the end; NULL where there is none.  The lock is held. */
static Place *
take_place(const ApikeyMark *mark, Oid role, bool bounded)
{
	Place	   *place;

	if (shared->count == MARKS_MAX ||
		(bounded && !has_room(mark->database, role)))
		return NULL;
	place = &shared->places[shared->count++];
	place->mark = *mark;
	place->role = role;
	place->kept = 0;
	return place;
}

/* Puts a mark on the list; false where it finds no room. */
static bool
put(const ApikeyMark *mark, Oid role, bool bounded)
{
	bool		room;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	room = take_place(mark, role, bounded) != NULL;
	LWLockRelease(shared->lock);
	return room;
}

/*
 * Keeps a place for a mark that is put with the commit, of what a role has
 * charged; returns its number, 0 where there is no room.
 */
uint64
apikey_mark_keep(Oid role)
{
	ApikeyMark	none = {.database = MyDatabaseId, .kind = APIKEY_MARK_OVERDRAWN};
	uint64		number = 0;
	Place	   *place;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	place = take_place(&none, role, true);
	if (place != NULL)
		number = place->kept = ++shared->kept;
	LWLockRelease(shared->lock);
	return number;
}

/* The place that is kept under a number; NULL for none.  The lock is held. */
static Place *
find_kept(uint64 number)
{
	/* The last ones are settled first, or soon. */
	for (int i = shared->count - 1; i >= 0; i--)
	{
		if (shared->places[i].kept == number)
			return &shared->places[i];
	}
	return NULL;
}

/* Moves a place behind all others; the lock is held. */
static Place *
to_the_end(Place *place)
{
	Place		moved = *place;
	Place	   *last = &shared->places[shared->count - 1];

	memmove(place, place + 1, (last - place) * sizeof(Place));
	*last = moved;
	return last;
}

/* It is not needed. */
void
apikey_mark_release(uint64 number)
{
	Place	   *place;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	place = find_kept(number);
	if (place != NULL)
	{
		(void) to_the_end(place);
		shared->count--;
	}
	LWLockRelease(shared->lock);
}

/* What a charge has dropped, for which a place is kept; never fails. */
void
apikey_mark_overdrawn(uint64 number, const pg_uuid_t *limit,
					  const pg_uuid_t *key, int64 dropped)
{
	Place	   *place;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	place = find_kept(number);
	if (place != NULL)
	{
		/* The worker may be writing what stands before it: see remove_first. */
		place = to_the_end(place);
		place->mark.limit = *limit;
		place->mark.key = *key;
		place->mark.amount = dropped;
		place->kept = 0;
	}
	LWLockRelease(shared->lock);
}

/* Marks an account, if this has not been told in its period. */
static void
mark_account(ApikeyBound *bound, const pg_uuid_t *key, ApikeyMarkKind kind,
			 const ApikeyBoundState *state)
{
	bool		exhausted = kind == APIKEY_MARK_EXHAUSTED;
	ApikeyMark	mark = {
		.database = MyDatabaseId,
		.kind = kind,
		.limit = bound->id,
		.key = *key,
		.amount = state->remaining
	};

	/* Who has found no room tries again; who comes in between marks it twice. */
	if (!apikey_lease_told(&bound->id, &bound->hint, exhausted) &&
		put(&mark, bound->charged, true))
		apikey_lease_tell(&bound->id, &bound->hint, exhausted, true);
}

/* Is a limit of an amount what a mark of a kind tells? */
static bool
is_so(ApikeyMarkKind kind, int64 remaining, int64 amount)
{
	return kind == APIKEY_MARK_EXHAUSTED ? remaining <= 0 :
		remaining <= amount / 5;
}

/* Marks what a limit has come to. */
static void
mark_bound(ApikeyBound *bound, const pg_uuid_t *key,
		   const ApikeyBoundState *state)
{
	static const ApikeyMarkKind kinds[] = {APIKEY_MARK_LOW, APIKEY_MARK_EXHAUSTED};

	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		if (is_so(kinds[i], state->remaining, bound->amount))
			mark_account(bound, key, kinds[i], state);
	}
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
			mark_bound(bound, verdict->id, state);
	}
}

/* The databases with something to tell. */
List *
apikey_mark_databases(void)
{
	List	   *databases = NIL;
	Oid		   *found = palloc(MARKS_MAX * sizeof(Oid));
	int			count = 0;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->count; i++)
	{
		if (shared->places[i].kept == 0)
			found[count++] = shared->places[i].mark.database;
	}
	LWLockRelease(shared->lock);
	for (int i = 0; i < count; i++)
		databases = list_append_unique_oid(databases, found[i]);
	pfree(found);
	return databases;
}

/* Takes so many marks of a database, the first, off the list. */
static void
remove_first(Oid database, int count)
{
	int			kept = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->count; i++)
	{
		if (shared->places[i].mark.database == database &&
			shared->places[i].kept == 0 && count > 0)
			count--;
		else
			shared->places[kept++] = shared->places[i];
	}
	shared->count = kept;
	LWLockRelease(shared->lock);
}

/* A database is gone: nothing is to be told there. */
void
apikey_mark_drop(Oid database)
{
	if (shared != NULL)
		remove_first(database, MARKS_MAX);
}

/* Copies out the first marks of a database. */
static int
collect(Oid database, ApikeyMark *marks, int most)
{
	int			count = 0;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->count && count < most; i++)
	{
		if (shared->places[i].mark.database == database &&
			shared->places[i].kept == 0)
			marks[count++] = shared->places[i].mark;
	}
	LWLockRelease(shared->lock);
	return count;
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
	(void) put(mark, InvalidOid, false);
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

/*
 * Tells that a limit is low or exhausted, unless it was told in its period.
 * What was spent may have come back since, as with a rollback: it is told then
 * when it is so once more.
 */
static void
tell_account(const ApikeyMark *mark, const ApikeyRow *limit)
{
	bool		exhausted = mark->kind == APIKEY_MARK_EXHAUSTED;
	ApikeyRow	account;
	bool		known;
	int64		left;

	/* Who finds it so after we have looked marks it anew. */
	if (shared != NULL)
		apikey_lease_tell(&mark->limit, NULL, exhausted, false);
	left = apikey_account_left(&mark->limit, &account, &known);
	if (!known ||
		!is_so(mark->kind, left, apikey_limit_number(limit, APIKEY_LIMIT_AMOUNT)))
		return;
	if (shared != NULL)
		apikey_lease_tell(&mark->limit, NULL, exhausted, true);
	if (apikey_account_mark_told(&mark->limit, exhausted))
		apikey_limit_tell(limit, exhausted ?
						  APIKEY_EVENT_LIMIT_EXHAUSTED : APIKEY_EVENT_LIMIT_LOW,
						  apikey_limit_detail_with(limit, "remaining",
												   Max(mark->amount, left), NULL));
}

/* Writes the event of a mark. */
void
apikey_mark_write(const ApikeyMark *mark)
{
	ApikeyRow	limit;
	bool		found = apikey_table_fetch_latest(&apikey_limit_table,
												  &mark->limit, &limit);

	if (mark->kind == APIKEY_MARK_OVERDRAWN)
		tell_overdrawn(mark, found ? &limit : NULL);
	else if (found)
		tell_account(mark, &limit);
}

static void
write_some(List *marks, void *state pg_attribute_unused())
{
	ListCell   *cell;

	foreach(cell, marks)
		apikey_mark_write(lfirst(cell));
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
	List	   *to_write = NIL;

	if (count == 0)
		return false;
	for (int i = 0; i < count; i++)
		to_write = lappend(to_write, &marks[i]);
	if (apikey_step_begin())
	{
		(void) apikey_attempt_each(write_some, to_write, NULL);
		apikey_step_commit();
	}
	remove_first(MyDatabaseId, count);
	return count == TOLD_AT_ONCE;
}
