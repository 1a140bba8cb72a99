/*
 * seat.c
 *		Which worker sits where, and who asks for one to come.
 *
 * Whoever has something for a worker to do calls it from here, and knows
 * nothing of what it does: see launcher.c and worker.c.
 */
#include "postgres.h"

#include "pgstat.h"
#include "postmaster/bgworker.h"

#include "memory/memory.h"

#define REQUEST_STEP	20		/* milliseconds between looks at one */
#define REQUEST_MAX		(10 * USECS_PER_SEC)	/* without a worker process */

ApikeySeats *apikey_seats = NULL;

static void
make_memory(void)
{
	SpinLockInit(&apikey_seats->mutex);
}

/* A database is gone: nobody waits for its flush any more. */
static void
forget_database(Oid database)
{
	SpinLockAcquire(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_FLUSH_REQUESTS; i++)
	{
		if (apikey_seats->requests[i].database == database)
		{
			apikey_seats->requests[i].done = apikey_seats->requests[i].asked;
			apikey_seats->requests[i].round.number = 0;
		}
	}
	SpinLockRelease(&apikey_seats->mutex);
}

const ApikeyMemoryPart apikey_seat_memory = {
	APIKEY_MEMORY_STRUCT("apikey workers", apikey_seats),
	.make = make_memory,
	.forget = forget_database
};

/*
 * Something waits in a database: wakes the worker that is there, or else who
 * may send one.
 */
void
apikey_seat_call(Oid database)
{
	Latch	   *latch;

	SpinLockAcquire(&apikey_seats->mutex);
	latch = apikey_seats->launcher;
	for (int i = 0; i < APIKEY_SEATS; i++)
	{
		if (apikey_seats->seats[i].state == APIKEY_SEAT_WORKING &&
			apikey_seats->seats[i].database == database)
			latch = apikey_seats->seats[i].latch;
	}
	SpinLockRelease(&apikey_seats->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

/* May somebody who waits for a worker hope for one? */
bool
apikey_seat_at_hand(void)
{
	bool		result;

	SpinLockAcquire(&apikey_seats->mutex);
	result = apikey_seats->launcher != NULL && !apikey_seats->starved;
	SpinLockRelease(&apikey_seats->mutex);
	return result;
}

/* Is there a launcher, whether or not it can get a worker? */
bool
apikey_seat_launched(void)
{
	bool		result;

	SpinLockAcquire(&apikey_seats->mutex);
	result = apikey_seats->launcher != NULL;
	SpinLockRelease(&apikey_seats->mutex);
	return result;
}

void
apikey_seat_wake_launcher(void)
{
	Latch	   *latch;

	SpinLockAcquire(&apikey_seats->mutex);
	latch = apikey_seats->launcher;
	SpinLockRelease(&apikey_seats->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

/* apikey_flush() */

/* Asks for a flush of this database; returns its number, 0 for no room. */
static uint64
ask_for_flush(void)
{
	ApikeyFlushRequest *free = NULL;
	uint64		number = 0;

	SpinLockAcquire(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_FLUSH_REQUESTS && number == 0; i++)
	{
		ApikeyFlushRequest *request = &apikey_seats->requests[i];

		if (request->database == MyDatabaseId)
			number = request->asked = ++apikey_seats->flushes;
		else if (request->asked == request->done)
			free = request;
	}
	if (number == 0 && free != NULL)
	{
		memset(free, 0, sizeof(*free));
		free->database = MyDatabaseId;
		free->asked = number = ++apikey_seats->flushes;
		free->done = number - 1;	/* what was asked for here before, in whatever place */
	}
	SpinLockRelease(&apikey_seats->mutex);
	return number;
}

/* Is it done?  Where another database has its place, it is. */
static bool
flush_is_done(uint64 number)
{
	bool		done = true;

	SpinLockAcquire(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_FLUSH_REQUESTS; i++)
	{
		if (apikey_seats->requests[i].database == MyDatabaseId)
			done = apikey_seats->requests[i].done >= number;
	}
	SpinLockRelease(&apikey_seats->mutex);
	return done;
}

/*
 * What each worker of a database has in common; number tells one start from the
 * others.
 */
void
apikey_seat_describe_worker(BackgroundWorker *worker, const char *library,
							const char *function, Datum argument,
							uint32 number)
{
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	worker->bgw_main_arg = argument;
	memcpy(worker->bgw_extra, &number, sizeof(number));
	strlcpy(worker->bgw_library_name, library, BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker->bgw_name, "apikey worker", BGW_MAXLEN);
	strlcpy(worker->bgw_type, "apikey worker", BGW_MAXLEN);
}

/*
 * Waits a moment for a worker to have written what is pending, if one is there,
 * or may come before long: since says when it was asked for, or there.
 */
void
apikey_seat_await_flush(bool at_hand, TimestampTz *since)
{
	TimestampTz now = GetCurrentTimestamp();

	if (at_hand)
		*since = now;
	else if (now >= *since + REQUEST_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no worker process is free to write what is pending of API keys"),
				 errhint("Raise \"max_worker_processes\".")));
	(void) WaitLatch(MyLatch,
					 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 REQUEST_STEP, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Has all that is pending of this database written, and leases given back, by
 * the worker, and waits for it.
 */
void
apikey_seat_flush(void)
{
	TimestampTz since = GetCurrentTimestamp();
	uint64		number = ask_for_flush();

	apikey_seat_wake_launcher();
	while (number == 0 || !flush_is_done(number))
	{
		apikey_seat_await_flush(apikey_seat_at_hand(), &since);
		if (number == 0)
			number = ask_for_flush();
	}
}

/* For the worker */

/*
 * The round for those who wait in apikey_flush() here: the one that is under way,
 * or else a new one, for all of them; its number is 0 where nobody waits.
 */
ApikeyRound
apikey_seat_round(void)
{
	ApikeyRound result = {0};

	SpinLockAcquire(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_FLUSH_REQUESTS; i++)
	{
		ApikeyFlushRequest *request = &apikey_seats->requests[i];

		if (request->database != MyDatabaseId || request->asked <= request->done)
			continue;
		if (request->round.number == 0)
		{
			request->round.number = ++apikey_seats->rounds;
			request->round.requests = request->asked;
			request->round.through = 0;
		}
		result = request->round;
	}
	SpinLockRelease(&apikey_seats->mutex);
	return result;
}

/* A turn is over: so far the round is and, where that is all, its requests are. */
void
apikey_seat_end_turn(const ApikeyRound *round, bool all)
{
	SpinLockAcquire(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_FLUSH_REQUESTS && round->number != 0; i++)
	{
		ApikeyFlushRequest *request = &apikey_seats->requests[i];

		if (request->database != MyDatabaseId ||
			request->round.number != round->number)
			continue;
		request->round.through = round->through;
		if (all)
		{
			request->done = Max(request->done, round->requests);
			request->round.number = 0;
		}
	}
	SpinLockRelease(&apikey_seats->mutex);
}
