/*
 * reach.c
 *		Which databases a worker can get into now: the launcher asks before it
 *		calls one.
 *
 * Where somebody has a database locked, or waits to lock it, a worker would only
 * wait as well, and with it all that it is to go to next; so it is looked after
 * such a lock first, which costs no worker.  Where one did not get there all the
 * same, as a lock came in between, the database rests: for longer each time, until
 * one has got there.
 */
#include "postgres.h"

#include "catalog/pg_database.h"
#include "storage/lock.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "worker/worker_internal.h"

#define LOOK_AGAIN	(200 * INT64CONST(1000))	/* at one that is locked */
#define REST_FIRST	(10 * USECS_PER_SEC)
#define REST_MAX	(5 * USECS_PER_MINUTE)

typedef struct Rest
{
	Oid			database;
	TimestampTz until;
	int64		missed_for;		/* how long it rested last; 0: it was locked */
} Rest;

static HTAB *rests = NULL;		/* of few databases */

static Rest *
find_rest(Oid database, HASHACTION action, bool *found)
{
	if (rests == NULL)
	{
		HASHCTL		info = {.keysize = sizeof(Oid), .entrysize = sizeof(Rest)};

		rests = hash_create("apikey databases that rest", 16, &info,
							HASH_ELEM | HASH_BLOBS);
	}
	return hash_search(rests, &database, action, found);
}

static Rest *
enter_rest(Oid database)
{
	bool		found;
	Rest	   *rest = find_rest(database, HASH_ENTER, &found);

	if (!found)
		rest->missed_for = 0;
	return rest;
}

/*
 * Has somebody a database locked, to drop, rename or copy it, or waits for that, or
 * is the server's table of locks full?
 */
bool
apikey_reach_is_locked(Oid database)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (apikey_lock_now(&tag, RowExclusiveLock) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	(void) LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

/* Is it worth while to send a worker to a database?  The clock may be set back. */
bool
apikey_reach_may(Oid database)
{
	TimestampTz now = GetCurrentTimestamp();
	Rest	   *rest;

	if (!OidIsValid(database))
		return true;
	rest = find_rest(database, HASH_FIND, NULL);
	if (rest != NULL && now < rest->until && now >= rest->until - REST_MAX)
		return false;
	if (!apikey_reach_is_locked(database))
		return true;
	enter_rest(database)->until = now + LOOK_AGAIN;
	return false;
}

/* A worker has not got there. */
void
apikey_reach_missed(Oid database)
{
	Rest	   *rest = enter_rest(database);

	rest->missed_for = Min(Max(2 * rest->missed_for, REST_FIRST), REST_MAX);
	rest->until = GetCurrentTimestamp() + rest->missed_for;
}

/* One has, or it is gone. */
void
apikey_reach_forget(Oid database)
{
	(void) find_rest(database, HASH_REMOVE, NULL);
}
