/*
 * mark.c
 *		The list of what is to be told of limits: that one is low or exhausted,
 *		and what charges were dropped.
 *
 * It is in shared memory, and the worker tells what stands on it, once: see
 * mark_tell.c.
 * What finds no room on it is marked again by the next verification; a charge that
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

#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory.h"
#include "limits/limits_internal.h"
#include "limits/mark.h"

#define MARKS_MAX		8192

/* A place on the list. */
typedef struct Place
{
	ApikeyMark	mark;
	Oid			role;			/* the key is charged to it; invalid: unknown */
	uint64		kept;			/* for a charge that has not been committed */
	bool		telling;		/* the worker has begun to tell it, */
	bool		again;			/* and somebody has found it so since */
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
	place->telling = place->again = false;
	return place;
}

/* The place where the same stands.  What charges have dropped is never the same. */
static Place *
find_same(const ApikeyMark *mark)
{
	for (int i = 0; i < shared->count && mark->kind != APIKEY_MARK_OVERDRAWN; i++)
	{
		Place	   *place = &shared->places[i];

		if (place->kept == 0 && place->mark.database == mark->database &&
			place->mark.kind == mark->kind &&
			memcmp(&place->mark.limit, &mark->limit, sizeof(pg_uuid_t)) == 0)
			return place;
	}
	return NULL;
}

/*
 * Marks what stands on the list already; false where it does not.  What is being
 * told will be once more, as it may have been found not so: it has its place still,
 * whatever becomes of who tells it.  The lock is held.
 */
static bool
mark_again(const ApikeyMark *mark)
{
	Place	   *place = find_same(mark);

	if (place != NULL && place->telling)
	{
		place->mark = *mark;
		place->again = true;
	}
	return place != NULL;
}

/*
 * Puts a mark on the list, unless it stands there; false where it finds no room.
 */
bool
apikey_mark_put(const ApikeyMark *mark, Oid role, bool bounded)
{
	bool		room;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	room = mark_again(mark) || take_place(mark, role, bounded) != NULL;
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
		/* The worker may be writing what stands before it: see apikey_mark_remove. */
		place = to_the_end(place);
		place->mark.limit = *limit;
		place->mark.key = *key;
		place->mark.amount = dropped;
		place->kept = 0;
	}
	LWLockRelease(shared->lock);
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

/*
 * Takes so many marks of a database, the first, off the list, but for those of
 * which it is said that they are to be told later, or once more: they stand behind
 * all others then.
 */
void
apikey_mark_remove(Oid database, int count, const bool *later)
{
	Place		stays[APIKEY_MARKS_AT_ONCE];
	int			stays_count = 0;
	int			number = 0;
	int			kept = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->count; i++)
	{
		Place	   *place = &shared->places[i];

		if (place->mark.database != database || place->kept != 0 ||
			number == count)
		{
			shared->places[kept++] = *place;
			continue;
		}
		if (later != NULL && (later[number] || place->again))
			stays[stays_count++] = *place;
		number++;
	}
	shared->count = kept;
	for (int i = 0; i < stays_count; i++)
	{
		stays[i].telling = stays[i].again = false;
		shared->places[shared->count++] = stays[i];
	}
	LWLockRelease(shared->lock);
}

/* A database is gone: nothing is to be told there. */
void
apikey_mark_drop(Oid database)
{
	if (shared != NULL)
		apikey_mark_remove(database, MARKS_MAX, NULL);
}

/* How many there are of a database. */
int
apikey_mark_count(Oid database)
{
	int			count = 0;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < shared->count; i++)
		count += shared->places[i].mark.database == database &&
			shared->places[i].kept == 0;
	LWLockRelease(shared->lock);
	return count;
}

/* Copies out the first marks of a database, which are told here, or elsewhere. */
int
apikey_mark_collect(Oid database, ApikeyMark *marks, int most, bool here)
{
	int			count = 0;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < shared->count && count < most; i++)
	{
		Place	   *place = &shared->places[i];

		if (place->mark.database != database || place->kept != 0)
			continue;
		place->telling = here;
		place->again = false;
		marks[count++] = place->mark;
	}
	LWLockRelease(shared->lock);
	return count;
}

/*
 * For a member's report: the batch's lock is held, see batch.c.  True where there
 * may be more.
 */
bool
apikey_mark_move(ApikeyBatch *batch)
{
	batch->mark_count = apikey_mark_collect(batch->database, batch->marks,
											APIKEY_BATCH_MARKS, false);
	apikey_mark_remove(batch->database, batch->mark_count, NULL);
	return batch->mark_count == APIKEY_BATCH_MARKS;
}

/*
 * For who has been told by a member what is to be told later.  Where there is no
 * room the next lease of the account tells of it.
 */
void
apikey_mark_later(const ApikeyMark *mark)
{
	ApikeyMark	here = *mark;

	if (shared == NULL)
		return;
	here.database = MyDatabaseId;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (!mark_again(&here))
		(void) take_place(&here, GetUserId(), true);
	LWLockRelease(shared->lock);
}
