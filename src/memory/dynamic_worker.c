/*
 * dynamic_worker.c
 *		Which worker carries what has gathered in the segment of dynamic.c.
 *
 * The first session of a database that gathers something starts its worker.  It
 * stays as long as there are sessions, and ends by itself when all that they
 * have gathered is in the tables.
 *
 *		NONE -- a session counts --> STARTING -- it is there --> WORKING
 *		 ^								|							|
 *		 +---- it did not come ---------+							|
 *		 +---- nobody is here, and all is written, or it was ended -+
 *
 * At a stop it waits for the sessions to end.  Where none can be started,
 * what has gathered waits for one, and is lost if the server is stopped first.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"

#include "memory/dynamic_internal.h"
#include "memory/memory.h"

#define START_MAX	(10 * USECS_PER_SEC)	/* then another one is started */

static uint32 my_number = 0;	/* of a worker */

static void
log_starved(void)
{
	ereport(LOG_SERVER_ONLY,
			(errmsg("no worker process is free to write the use of API keys"),
			 errhint("Raise \"max_worker_processes\"."),
			 errhidestmt(true),
			 errhidecontext(true)));
}

static void
start_worker(uint32 number)
{
	BackgroundWorker worker = {0};

	apikey_seat_describe_worker(&worker, "apikey_resident_main",
								ObjectIdGetDatum(MyDatabaseId), number);
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		log_starved();
}

/* This database's worker may have something to do: sees to it that it is there. */
void
apikey_dynamic_call(void)
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;
	TimestampTz now;
	uint32		number = 0;

	if (place == NULL || place->state == APIKEY_DYNAMIC_WORKING ||
		RecoveryInProgress())
		return;
	now = GetCurrentTimestamp();
	SpinLockAcquire(&apikey_dynamic->mutex);
	if (place->state != APIKEY_DYNAMIC_WORKING &&
		(now >= place->again_at || now < place->again_at - START_MAX))
	{
		place->state = APIKEY_DYNAMIC_STARTING;
		place->again_at = now + START_MAX;
		place->number = number = ++apikey_dynamic->starts;
	}
	SpinLockRelease(&apikey_dynamic->mutex);
	if (number != 0)
		start_worker(number);
}

/* Is it there? */
bool
apikey_dynamic_served(void)
{
	return apikey_dynamic_place != NULL &&
		apikey_dynamic_place->state == APIKEY_DYNAMIC_WORKING;
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
	SpinLockAcquire(&apikey_dynamic->mutex);
	number = ++place->asked;
	SpinLockRelease(&apikey_dynamic->mutex);
	while (!done)
	{
		Latch	   *worker;

		apikey_dynamic_call();
		SpinLockAcquire(&apikey_dynamic->mutex);
		done = place->done >= number;
		worker = place->worker;
		SpinLockRelease(&apikey_dynamic->mutex);
		if (done)
			break;
		if (worker != NULL)
			SetLatch(worker);
		apikey_seat_await_flush(worker != NULL, &since);
	}
}

/* For the worker */

static void
worker_ends(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;

	SpinLockAcquire(&apikey_dynamic->mutex);
	if (place->number == my_number && place->database == MyDatabaseId)
	{
		place->state = APIKEY_DYNAMIC_NONE;
		place->worker = NULL;
		apikey_dynamic_vacate(place);
	}
	SpinLockRelease(&apikey_dynamic->mutex);
}

/* It has come to its database; false where it is not the one that is waited for. */
bool
apikey_dynamic_begin(uint32 number)
{
	ApikeyDynamicPlace *place;
	bool		mine;

	if (!apikey_dynamic_map(false))
		return false;
	place = apikey_dynamic_place;
	SpinLockAcquire(&apikey_dynamic->mutex);
	mine = place->state == APIKEY_DYNAMIC_STARTING && place->number == number;
	if (mine)
	{
		place->state = APIKEY_DYNAMIC_WORKING;
		place->worker = MyLatch;
		my_number = number;
	}
	SpinLockRelease(&apikey_dynamic->mutex);
	if (mine)
		before_shmem_exit(worker_ends, (Datum) 0);
	return mine;
}

/* Is no session here?  Tells how often one came or went. */
bool
apikey_dynamic_alone(uint32 *changes)
{
	bool		alone;

	SpinLockAcquire(&apikey_dynamic->mutex);
	*changes = apikey_dynamic_place->changes;
	alone = apikey_dynamic_place->sessions == 0;
	SpinLockRelease(&apikey_dynamic->mutex);
	return alone;
}

/*
 * Leaves the database, where nobody is in it, nor came or went since it was
 * asked how often.
 */
bool
apikey_dynamic_leave(uint32 changes)
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;
	bool		left;

	SpinLockAcquire(&apikey_dynamic->mutex);
	left = place->sessions == 0 && place->changes == changes;
	if (left)
	{
		place->state = APIKEY_DYNAMIC_NONE;
		place->worker = NULL;
		place->number = 0;
		place->again_at = 0;
		apikey_dynamic_vacate(place);
	}
	SpinLockRelease(&apikey_dynamic->mutex);
	return left;
}

/* How often apikey_flush() was called here; 0 where nobody waits for it. */
uint64
apikey_dynamic_requests(void)
{
	uint64		requests;

	SpinLockAcquire(&apikey_dynamic->mutex);
	requests = apikey_dynamic_place->asked > apikey_dynamic_place->done ?
		apikey_dynamic_place->asked : 0;
	SpinLockRelease(&apikey_dynamic->mutex);
	return requests;
}

/* So many of these are done. */
void
apikey_dynamic_done(uint64 requests)
{
	SpinLockAcquire(&apikey_dynamic->mutex);
	if (apikey_dynamic_place->done < requests)
		apikey_dynamic_place->done = requests;
	SpinLockRelease(&apikey_dynamic->mutex);
}
