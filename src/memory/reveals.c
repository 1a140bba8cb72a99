/*
 * reveals.c
 *		Keys that have been revealed by who may undo the event of it.
 *
 * The event of a reveal is written in the caller's transaction, as any other, and
 * goes with its rollback; what has been shown does not.  So who reveals keeps a
 * place here, before anything is shown.  The commit gives it up; with a rollback
 * the worker finds it here and writes the event.  A transaction that is prepared
 * may be rolled back when nobody is there to tell: it is told of at once.
 *
 * Of the places each role has a share: see share.h.  One holds several keys, so
 * that whoever shows all keys of a project at once has room.  What is to be told
 * outlives a clean stop by the file of the slots; a crash forgets it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"

#include "memory/memory.h"

#define PLACES			512

typedef struct Shared
{
	LWLock	   *lock;			/* guards the rest */
	ApikeyRevealed places[PLACES];
} Shared;

static Shared *shared = NULL;

static void
make_memory(void)
{
	shared->lock = apikey_memory_lock(APIKEY_MEMORY_REVEALS);
}

const ApikeyMemoryPart apikey_reveals_memory = {
	APIKEY_MEMORY_STRUCT("apikey reveals", shared),
	.make = make_memory,
	.forget = apikey_reveals_drop
};

/* Is it one that the worker is to tell of? */
static bool
to_be_told(const ApikeyRevealed *place)
{
	return place->state >= APIKEY_REVEALED_UNDONE;
}

/* A place that a role may take; -1 where there is none.  The lock is held. */
static int
find_room(Oid database, Oid actor)
{
	int			free = -1;
	int			all = 0;
	int			of_database = 0;
	int			of_actor = 0;

	for (int i = 0; i < PLACES; i++)
	{
		const ApikeyRevealed *place = &shared->places[i];

		if (place->state == APIKEY_REVEALED_FREE)
		{
			free = free < 0 ? i : free;
			continue;
		}
		all++;
		of_database += place->database == database;
		of_actor += place->database == database && place->actor == actor;
	}
	return apikey_share_leaves_room(PLACES, all, of_database, of_actor) ?
		free : -1;
}

/* Keeps a place for what is about to be shown; -1 where there is no room. */
int
apikey_reveals_keep(const ApikeyRevealed *what)
{
	int			place;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	place = find_room(what->database, what->actor);
	if (place >= 0)
		shared->places[place] = *what;
	LWLockRelease(shared->lock);
	return place;
}

static bool
same_principal(const ApikeyRevealed *one, const ApikeyRevealed *other)
{
	return one->actor == other->actor &&
		one->subject_len == other->subject_len &&
		memcmp(one->subject, other->subject, one->subject_len) == 0;
}

/*
 * Adds a key to a place that its process keeps; false where that is full, or
 * another principal's.
 */
bool
apikey_reveals_add(int place, const ApikeyRevealed *what)
{
	ApikeyRevealed *kept = &shared->places[place];
	bool		room;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	room = kept->count < APIKEY_REVEALED_KEYS && same_principal(kept, what);
	if (room)
		kept->keys[kept->count++] = what->keys[0];
	LWLockRelease(shared->lock);
	return room;
}

/* What has come of what a place is kept for, or been told of; never fails. */
void
apikey_reveals_settle(int place, ApikeyRevealedState state)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->places[place].state = state;
	LWLockRelease(shared->lock);
}

/* The databases with something to tell. */
List *
apikey_reveals_databases(void)
{
	List	   *databases = NIL;
	Oid		   *found = palloc(PLACES * sizeof(Oid));
	int			count = 0;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (int i = 0; i < PLACES; i++)
	{
		if (to_be_told(&shared->places[i]))
			found[count++] = shared->places[i].database;
	}
	LWLockRelease(shared->lock);
	for (int i = 0; i < count; i++)
		databases = list_append_unique_oid(databases, found[i]);
	pfree(found);
	return databases;
}

/* Copies out what is to be told of a database, from a place on. */
bool
apikey_reveals_next(Oid database, int *place, ApikeyRevealed *what)
{
	bool		found = false;

	LWLockAcquire(shared->lock, LW_SHARED);
	for (; *place < PLACES && !found; (*place)++)
	{
		found = to_be_told(&shared->places[*place]) &&
			shared->places[*place].database == database;
		if (found)
			*what = shared->places[*place];
	}
	LWLockRelease(shared->lock);
	return found;
}

/* A database is gone: nothing is to be told there. */
void
apikey_reveals_drop(Oid database)
{
	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PLACES; i++)
	{
		if (to_be_told(&shared->places[i]) &&
			shared->places[i].database == database)
			shared->places[i].state = APIKEY_REVEALED_FREE;
	}
	LWLockRelease(shared->lock);
}

/* For the file of the slots, when nobody else is there: NULL behind the last. */
const ApikeyRevealed *
apikey_reveals_at(int place)
{
	return place < PLACES ? &shared->places[place] : NULL;
}

/* May a place that is to be told of have these values? */
bool
apikey_reveals_ok(const ApikeyRevealed *what)
{
	bool		ok = OidIsValid(what->database) &&
		(what->state == APIKEY_REVEALED_UNDONE ||
		 what->state == APIKEY_REVEALED_PREPARED) &&
		memchr(what->actor_name, '\0', NAMEDATALEN) != NULL &&
		what->subject_len >= 0 && what->subject_len <= APIKEY_REVEALED_SUBJECT &&
		what->count >= 1 && what->count <= APIKEY_REVEALED_KEYS;

	for (int i = 0; ok && i < what->count; i++)
		ok = IS_VALID_TIMESTAMP(what->keys[i].at);
	return ok;
}

/* Puts back what was to be told. */
void
apikey_reveals_restore(const ApikeyRevealed *what)
{
	for (int i = 0; i < PLACES; i++)
	{
		if (shared->places[i].state != APIKEY_REVEALED_FREE)
			continue;
		shared->places[i] = *what;
		return;
	}
}
