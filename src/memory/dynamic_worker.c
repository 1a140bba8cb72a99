/*
 * dynamic_worker.c
 *		Which worker carries what has gathered in the segment of dynamic.c, where,
 *		and when.
 *
 * A session that gathers something marks its database's place dirty, with the
 * time at which it is due: one apikey.flush_interval on.  A worker clears the mark
 * before it looks at what there is, and sets it again where something is left.
 * So whatever is in memory is either in a place that is dirty, or being written.
 *
 *		session: gathers, then dirty  -->  worker: not dirty, then reads, writes
 *
 * A place is free, for any database, when nobody is in it and it is not dirty.
 * There are more than there may be sessions; where those that nobody is in are
 * all dirty, one that could not be written when it was tried gives way.
 *
 * Workers sit on a few seats, a quarter of max_worker_processes at most, whatever
 * the number of databases: others need those processes, too.
 *
 *		NONE --> STARTING --> CHOOSING --> SERVING --> NONE
 *		 ^		  |   ^							|
 *		 +- did	--+   +---- hands over ---------+
 *			not come
 *
 * Whoever sees a place that waits, dirty and without a worker, takes a free seat
 * and starts a worker: a session that counts, that waits in apikey_flush(), or
 * that ends; a worker between two flushes, or that ends.  Which database it
 * goes to the worker itself chooses: the one that is due first.  It goes there at
 * once, and waits there; where another one has just left, when it is due.
 *
 * In its database it writes each time that is due, or somebody waits in
 * apikey_flush().  It leaves when nobody is there and all is written, or when
 * somebody wants to drop, rename or copy the database.  When another one is due
 * and there is no seat for one more worker, it writes what there is and hands
 * over: its seat is the next worker's, which begins once this one has ended.
 * Where no process is to be had for that it stays for a second, then it ends;
 * the next session that counts, ends or waits in apikey_flush() sees to it.
 *
 * What fails is told in the log, and stays in memory.  A database that is not
 * reached, as somebody has locked it, has to wait for its next turn; one that
 * does not let anybody in is left until it is used again.
 *
 * At a stop a worker waits for the sessions to end.  No worker starts then: what
 * has gathered in a database that has none at that moment is lost.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procarray.h"

#include "store/store.h"
#include "memory/dynamic_internal.h"
#include "memory/memory.h"

#define LOOK_AGAIN		(USECS_PER_SEC / 10)	/* of a session, for a worker */
#define CONNECT_MAX		(2 * USECS_PER_SEC)	/* who was refused, was so before */
#define COME_AGAIN		(5 * USECS_PER_SEC)	/* where nobody is, or it was locked */
#define FORMER_STEP		10		/* milliseconds between looks for it */
#define FORMER_MAX		3000

/* A worker's. */
static ApikeyDynamicSeat *my_seat = NULL;
static uint32 my_number = 0;
static TimestampTz chosen_at = 0;

/*
 * Something has gathered for this database: sees to it that it is written.  It
 * is there before the mark is looked at: a worker that takes the mark away after
 * that will see it.
 */
void
apikey_dynamic_call(void)
{
	static TimestampTz looked_at = 0;
	ApikeyDynamicPlace *place = apikey_dynamic_place;
	TimestampTz now;

	if (place == NULL)
		return;
	pg_memory_barrier();
	if (place->dirty && (place->number != 0 || RecoveryInProgress()))
		return;
	now = GetCurrentTimestamp();
	if (!place->dirty)
	{
		apikey_dynamic_lock();
		apikey_dynamic_want(place, apikey_dynamic_next_time(now));
		place->dirty = true;
		apikey_dynamic_unlock();
	}
	else if (now >= looked_at && now < looked_at + LOOK_AGAIN)
		return;
	looked_at = now;
	if (place->number == 0)
		apikey_dynamic_start();
}

/* Who writes what gathers here? */
const char *
apikey_dynamic_state(void)
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;

	if (place == NULL || (place->number == 0 && !place->dirty))
		return "none needed";
	return place->number != 0 ? "running" : "waiting for its turn";
}

/* Wakes whoever may serve a place: its worker, or who could hand over to one. */
static void
wake_workers(const ApikeyDynamicPlace *place)
{
	for (int i = 0; i < APIKEY_DYNAMIC_WORKERS; i++)
	{
		ApikeyDynamicSeat *seat = &apikey_dynamic->seats[i];

		if (seat->latch != NULL &&
			(place->number == 0 || place->number == seat->number))
			SetLatch(seat->latch);
	}
}

/*
 * Is a worker here, or may one come before long, as those of others take turns?
 * Where one could not get here the next one may not, either.
 */
static bool
worker_at_hand(const ApikeyDynamicPlace *place)
{
	bool		others = false;

	if (place->number != 0 || place->refused)
		return place->reached;
	for (int i = 0; i < apikey_dynamic->used; i++)
		others |= apikey_dynamic->places[i].reached;
	return others;
}

/* apikey_flush(): has all that is pending of this database written. */
void
apikey_dynamic_flush(void)
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;
	TimestampTz since = GetCurrentTimestamp();
	uint64		number;
	bool		done = false;

	if (place == NULL)
		return;
	apikey_dynamic_lock();
	apikey_dynamic_want(place, since);
	number = ++place->asked;
	apikey_dynamic_unlock();
	for (;;)
	{
		bool		at_hand;

		apikey_dynamic_start();
		apikey_dynamic_lock();
		done = place->done >= number;
		at_hand = worker_at_hand(place);
		if (!done)
			wake_workers(place);
		apikey_dynamic_unlock();
		if (done)
			break;
		apikey_seat_await_flush(at_hand, &since);
	}
}

/* For the worker */

/*
 * Its database was not reached.  One that is gone, or lets nobody in, says so at
 * once; a lock may be waited for again.
 */
static void
not_reached(ApikeyDynamicPlace *place)
{
	place->tried = place->refused = true;
	if (GetCurrentTimestamp() < chosen_at + CONNECT_MAX && place->sessions == 0)
		place->dirty = false;
}

static void
worker_ends(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;

	apikey_dynamic_lock();
	if (place != NULL && place->number == my_number)
	{
		TimestampTz now = GetCurrentTimestamp();

		if (!place->reached)
			not_reached(place);
		if (!place->reached || place->sessions == 0)
			place->due_at = Max(place->due_at,
								Min(now + COME_AGAIN, apikey_dynamic_next_time(now)));
		place->number = 0;
		place->reached = false;
		place->later = true;
		apikey_dynamic_vacate(place);
	}
	if (my_seat->number == my_number)
	{
		my_seat->state = APIKEY_DYNAMIC_NONE;
		my_seat->number = 0;
		my_seat->latch = NULL;
	}
	apikey_dynamic_unlock();
	apikey_dynamic_start();
}

/* Takes the seat that was kept; false where it is not any more. */
static bool
take_seat(uint32 number, pid_t *former)
{
	apikey_dynamic_lock();
	for (int i = 0; i < APIKEY_DYNAMIC_WORKERS; i++)
	{
		ApikeyDynamicSeat *seat = &apikey_dynamic->seats[i];

		if (seat->state != APIKEY_DYNAMIC_STARTING || seat->number != number)
			continue;
		*former = seat->pid;
		seat->state = APIKEY_DYNAMIC_CHOOSING;
		seat->pid = MyProcPid;
		seat->latch = MyLatch;
		my_seat = seat;
		my_number = number;
	}
	apikey_dynamic_unlock();
	return my_seat != NULL;
}

/* A worker waits for its latch, or for so many milliseconds. */
void
apikey_dynamic_rest(long timeout)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Who had the seat may be ending still: never are there more than seats. */
static void
await_former(pid_t former)
{
	for (int i = 0; i < FORMER_MAX / FORMER_STEP; i++)
	{
		if (former == 0 || former == MyProcPid || BackendPidGetProc(former) == NULL)
			return;
		apikey_dynamic_rest(FORMER_STEP);
	}
}

/* Chooses the database that is due first; false where it is not due yet. */
static bool
choose(TimestampTz *due_at)
{
	TimestampTz now = GetCurrentTimestamp();
	ApikeyDynamicPlace *first;
	bool		chosen;

	apikey_dynamic_lock();
	first = apikey_dynamic_first(now);
	chosen = first == NULL || !first->later ||
		apikey_dynamic_due(first, now) || ShutdownRequestPending;
	if (!chosen)
		*due_at = apikey_dynamic_due_at(first, now);
	else if (first != NULL)
	{
		first->number = my_number;
		my_seat->state = APIKEY_DYNAMIC_SERVING;
		apikey_dynamic_place = first;
		chosen_at = now;
	}
	apikey_dynamic_unlock();
	return chosen;
}

/*
 * Before a worker is connected: says to which database, or to none.
 */
Oid
apikey_dynamic_begin(uint32 number)
{
	TimestampTz due_at;
	pid_t		former = 0;

	if (!apikey_dynamic_map(false) || !take_seat(number, &former))
		return InvalidOid;
	before_shmem_exit(worker_ends, (Datum) 0);
	await_former(former);
	while (!choose(&due_at))
		apikey_dynamic_rest(Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), due_at), 1));
	return apikey_dynamic_place == NULL ? InvalidOid :
		apikey_dynamic_place->database;
}

/* It is connected. */
void
apikey_dynamic_reached(void)
{
	apikey_dynamic_lock();
	apikey_dynamic_place->reached = true;
	apikey_dynamic_place->refused = false;
	apikey_dynamic_unlock();
}

/* What there is to do. */
void
apikey_dynamic_look(ApikeyDynamicLook *look)
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;
	TimestampTz now = GetCurrentTimestamp();
	ApikeyDynamicPlace *first;

	apikey_dynamic_lock();
	look->alone = place->sessions == 0;
	look->asked = place->asked > place->done;
	look->unwritten = place->dirty || look->asked;
	look->due = look->unwritten && apikey_dynamic_due(place, now);
	look->others_wait = apikey_dynamic_surplus(now, true) > 0;
	look->may_register = apikey_dynamic_may_register(now);
	look->next_at = look->unwritten ? apikey_dynamic_due_at(place, now) :
		apikey_dynamic_next_time(now);
	first = apikey_dynamic_first(now);
	if (first != NULL)
		look->next_at = Min(look->next_at,
							Max(apikey_dynamic_due_at(first, now),
								apikey_dynamic->again_at));
	apikey_dynamic_unlock();
}

/*
 * It is about to write all there is: what gathers from here on is for the next
 * time.  Says which round it is for those who wait in apikey_flush() here; its
 * number is 0 where nobody does.
 */
ApikeyRound
apikey_dynamic_serve(void)
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;
	ApikeyRound round = {0};

	apikey_dynamic_lock();
	place->dirty = false;
	if (place->asked > place->done)
	{
		if (place->round.number == 0)
		{
			place->round.number = place->round.requests = place->asked;
			place->round.through = 0;
		}
		round = place->round;
	}
	apikey_dynamic_unlock();
	return round;
}

/*
 * It has: all of it, or as far as it went where others waited; something may be
 * left that could not be written, or was not to be yet.
 */
void
apikey_dynamic_served(const ApikeyRound *round, bool all, bool broken_off,
					  bool left)
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;
	TimestampTz now = GetCurrentTimestamp();

	apikey_dynamic_lock();
	if (round->number != 0 && place->round.number == round->number)
	{
		place->round = *round;
		if (all)
		{
			place->done = Max(place->done, round->requests);
			place->round.number = 0;
		}
	}
	if (broken_off || left)
	{
		/* What has come meanwhile is not due before. */
		place->due_at = broken_off ? now : apikey_dynamic_next_time(now);
		place->dirty = true;
	}
	if (place->asked > place->done)
		place->due_at = now;
	place->tried = left && !broken_off;
	apikey_dynamic_unlock();
}

/* Another worker gets this one's seat; false where none is to be had. */
bool
apikey_dynamic_hand_over(void)
{
	TimestampTz now = GetCurrentTimestamp();
	uint32		number;

	apikey_dynamic_lock();
	number = apikey_dynamic_take(my_seat, now);
	apikey_dynamic_unlock();
	if (apikey_dynamic_register(number, now))
		return true;
	apikey_dynamic_lock();
	if (my_seat->number == number)
	{
		my_seat->number = my_number;
		my_seat->state = APIKEY_DYNAMIC_SERVING;
		my_seat->latch = MyLatch;
	}
	apikey_dynamic_unlock();
	return false;
}
