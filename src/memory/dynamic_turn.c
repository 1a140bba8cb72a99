/*
 * dynamic_turn.c
 *		Whose turn it is of the databases in the segment of dynamic.c, and starting
 *		workers for them: see dynamic_worker.c.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"

#include "store/store.h"
#include "memory/dynamic_internal.h"
#include "memory/memory.h"

#define START_MAX	(10 * USECS_PER_SEC)	/* then it is given up */
#define RETRY		USECS_PER_SEC	/* to get a worker process */
#define TOLD_EVERY	USECS_PER_MINUTE

ApikeyDynamic *apikey_dynamic = NULL;
ApikeyDynamicPlace *apikey_dynamic_place = NULL;

void
apikey_dynamic_lock(void)
{
	LWLockAcquire(&apikey_dynamic->lock.lock, LW_EXCLUSIVE);
}

void
apikey_dynamic_unlock(void)
{
	LWLockRelease(&apikey_dynamic->lock.lock);
}

/*
 * Most workers at a time.  Parallel queries and subscriptions have to do with
 * the same processes.
 */
int
apikey_dynamic_bound(void)
{
	return Min(Max(max_worker_processes / 4, 1), APIKEY_DYNAMIC_WORKERS);
}

/* Not before a time?  It is over where the clock has been set back. */
static bool
is_over(TimestampTz until, int64 length, TimestampTz now)
{
	return now >= until || now < until - length;
}

/* The lock is held for all that follows, but where a worker is registered. */

/* Is it to be served, and by no worker yet? */
static bool
waits(const ApikeyDynamicPlace *place)
{
	return OidIsValid(place->database) && place->number == 0 &&
		(place->dirty || place->asked > place->done);
}

static int64
interval(void)
{
	return (int64) apikey_flush_interval * 1000;
}

/*
 * When it is to be served, if at all.  A time that lies further ahead than one
 * interval is one of a longer interval, or of another clock: it has come.
 */
TimestampTz
apikey_dynamic_due_at(const ApikeyDynamicPlace *place, TimestampTz now)
{
	return place->due_at > now + interval() ? 0 : place->due_at;
}

bool
apikey_dynamic_due(const ApikeyDynamicPlace *place, TimestampTz now)
{
	return now >= apikey_dynamic_due_at(place, now);
}

/* When what has gathered just now is to be written. */
TimestampTz
apikey_dynamic_next_time(TimestampTz now)
{
	return now + interval();
}

/* It is to be served at that time, or before: who calls says why. */
void
apikey_dynamic_want(ApikeyDynamicPlace *place, TimestampTz at)
{
	place->due_at = place->dirty || place->asked > place->done ?
		Min(place->due_at, at) : at;
}

/* Of those that wait, the one that is due first; NULL for none. */
ApikeyDynamicPlace *
apikey_dynamic_first(TimestampTz now)
{
	ApikeyDynamicPlace *first = NULL;

	for (int i = 0; i < apikey_dynamic->used; i++)
	{
		ApikeyDynamicPlace *place = &apikey_dynamic->places[i];

		if (waits(place) &&
			(first == NULL || apikey_dynamic_due_at(place, now) <
			 apikey_dynamic_due_at(first, now)))
			first = place;
	}
	return first;
}

/* How many more wait, or are due, than there are workers on their way. */
int
apikey_dynamic_surplus(TimestampTz now, bool due)
{
	int			surplus = 0;

	for (int i = 0; i < apikey_dynamic->used; i++)
	{
		const ApikeyDynamicPlace *place = &apikey_dynamic->places[i];

		surplus += waits(place) &&
			(!due || apikey_dynamic_due(place, now));
	}
	for (int i = 0; i < apikey_dynamic_bound(); i++)
	{
		ApikeyDynamicState state = apikey_dynamic->seats[i].state;

		surplus -= state == APIKEY_DYNAMIC_STARTING ||
			state == APIKEY_DYNAMIC_CHOOSING;
	}
	return surplus;
}

/* Another database may have a place where nobody is, and all is written. */
void
apikey_dynamic_vacate(ApikeyDynamicPlace *place)
{
	if (place->sessions == 0 && place->number == 0 && !place->dirty)
		place->database = InvalidOid;
}

/* May a worker process be had, as far as it is known? */
bool
apikey_dynamic_may_register(TimestampTz now)
{
	return is_over(apikey_dynamic->again_at, RETRY, now);
}

/* A seat is taken for a worker that is to be registered: the start's number. */
uint32
apikey_dynamic_take(ApikeyDynamicSeat *seat, TimestampTz now)
{
	if (++apikey_dynamic->starts == 0)
		apikey_dynamic->starts++;
	seat->state = APIKEY_DYNAMIC_STARTING;
	seat->number = apikey_dynamic->starts;
	seat->again_at = now + START_MAX;
	seat->latch = NULL;
	return seat->number;
}

/* A seat that nobody has, or that was kept for who did not come. */
static ApikeyDynamicSeat *
find_seat(TimestampTz now)
{
	ApikeyDynamicSeat *found = NULL;

	for (int i = 0; i < apikey_dynamic_bound(); i++)
	{
		ApikeyDynamicSeat *seat = &apikey_dynamic->seats[i];

		if (seat->state == APIKEY_DYNAMIC_STARTING &&
			is_over(seat->again_at, START_MAX, now))
		{
			seat->state = APIKEY_DYNAMIC_NONE;
			seat->number = 0;
		}
		if (seat->state == APIKEY_DYNAMIC_NONE && found == NULL)
			found = seat;
	}
	return found;
}

/* No process was to be had: the log is told, by one process a minute. */
static void
starved(TimestampTz now)
{
	bool		tell;

	apikey_dynamic_lock();
	apikey_dynamic->again_at = now + RETRY;
	tell = is_over(apikey_dynamic->told_at + TOLD_EVERY, TOLD_EVERY, now);
	if (tell)
		apikey_dynamic->told_at = now;
	apikey_dynamic_unlock();
	if (tell)
		ereport(LOG_SERVER_ONLY,
				(errmsg("no worker process is free to write the use of API keys"),
				 errhint("Raise \"max_worker_processes\"."),
				 errhidestmt(true),
				 errhidecontext(true)));
}

/*
 * Registers a worker that has its seat; false where no process is to be had.
 * The lock is not held.
 */
bool
apikey_dynamic_register(uint32 number, TimestampTz now)
{
	BackgroundWorker worker = {0};

	/* By the name that SQL has it by: it is to be the session's library. */
	apikey_seat_describe_worker(&worker, "$libdir/apikey",
								"apikey_resident_main", (Datum) 0, number);
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return true;
	starved(now);
	return false;
}

/* Starts as many workers as there is something for, and may be. */
void
apikey_dynamic_start(void)
{
	TimestampTz now = GetCurrentTimestamp();
	ApikeyDynamicSeat *seat = NULL;
	uint32		number;

	if (RecoveryInProgress())
		return;
	do
	{
		apikey_dynamic_lock();
		seat = apikey_dynamic_may_register(now) ? find_seat(now) : NULL;
		if (seat != NULL && apikey_dynamic_surplus(now, false) <= 0)
			seat = NULL;
		number = seat == NULL ? 0 : apikey_dynamic_take(seat, now);
		apikey_dynamic_unlock();
	} while (number != 0 && apikey_dynamic_register(number, now));
	if (number == 0)
		return;
	apikey_dynamic_lock();
	if (seat->number == number)
	{
		seat->state = APIKEY_DYNAMIC_NONE;
		seat->number = 0;
	}
	apikey_dynamic_unlock();
}
