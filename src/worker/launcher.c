/*
 * launcher.c
 *		The launcher: which worker goes where, and when.
 *
 * It is connected to no database.  One worker more than is needed is always
 * started before, and waits for its database: so there is one where others have
 * taken all worker processes, and who waits for a lease does not wait for a
 * process to start.  See worker.c for the states of a seat.
 */
#include "postgres.h"

#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "events/events.h"
#include "credits/credits.h"
#include "worker/worker_internal.h"

#define CONNECT_MAX		(3 * USECS_PER_SEC)
#define RETRY			1000	/* milliseconds, to get a worker process */
#define PASSED_BY		200		/* the same, to get into a database */
#define PATIENCE		(5 * USECS_PER_SEC)	/* of what is to be flushed */

/* The launcher's: what it has started, and is still to do. */
typedef struct Started
{
	BackgroundWorkerHandle *handle; /* NULL: nobody */
	TimestampTz called_at;		/* 0: not yet */
} Started;

static Started started[APIKEY_SEATS];
static TimestampTz flush_sent_at = 0;	/* a worker, to the first of these */
static bool passed_by = false;	/* what is asked for where no worker can go */

static List *
prompt_databases(void)
{
	return list_concat_unique_oid(apikey_lease_databases(),
								  apikey_notify_databases());
}

/*
 * A worker has ended.  Where it did not get to its database, what is asked of
 * that is dropped; a database that is gone, or refuses, is forgotten.
 */
static void
ended(int number)
{
	ApikeySeat	seat;
	bool		in_time = GetCurrentTimestamp() <
		started[number].called_at + CONNECT_MAX;

	SpinLockAcquire(&apikey_seats->mutex);
	seat = apikey_seats->seats[number];
	apikey_seats->seats[number].state = APIKEY_SEAT_EMPTY;
	apikey_seats->seats[number].latch = NULL;
	SpinLockRelease(&apikey_seats->mutex);
	pfree(started[number].handle);
	started[number].handle = NULL;
	if (started[number].called_at == 0)
		return;
	if (seat.reached || in_time)
		apikey_reach_forget(seat.database);
	else
		apikey_reach_missed(seat.database);
	if (seat.reached)
		return;
	if (!OidIsValid(seat.database))
	{
		apikey_due_list_again();
		return;
	}
	if (in_time)
		apikey_stats_forget_database(seat.database);
	apikey_lease_drop(seat.database);
	apikey_notify_drop(seat.database);
	/* Whether it is gone, who lists them sees. */
	if (in_time && list_member_oid(apikey_due_databases(), seat.database))
		apikey_due_list_again();
}

/* Looks after the workers; returns whether one has to be looked after soon. */
static bool
look_after(void)
{
	bool		soon = false;

	for (int i = 0; i < APIKEY_SEATS; i++)
	{
		Oid			left_behind = InvalidOid;
		bool		overdue;
		pid_t		pid;

		if (started[i].handle == NULL)
			continue;
		SpinLockAcquire(&apikey_seats->mutex);
		if (apikey_seats->seats[i].more)
			left_behind = apikey_seats->seats[i].database;
		apikey_seats->seats[i].more = false;
		overdue = apikey_seats->seats[i].state == APIKEY_SEAT_CALLED;
		SpinLockRelease(&apikey_seats->mutex);
		soon |= overdue;
		/* A copy or a change of its database locks out whoever connects. */
		if (overdue && GetCurrentTimestamp() >=
			started[i].called_at + CONNECT_MAX)
			TerminateBackgroundWorker(started[i].handle);
		if (OidIsValid(left_behind))
			apikey_due_add(left_behind);
		if (GetBackgroundWorkerPid(started[i].handle, &pid) == BGWH_STOPPED)
			ended(i);
	}
	return soon;
}

static void
log_starved(void)
{
	static TimestampTz logged_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (logged_at != 0 && now >= logged_at &&
		now < logged_at + USECS_PER_MINUTE)
		return;
	logged_at = now;
	ereport(LOG,
			(errmsg("no worker process is free to lease credits of API keys and to write their use"),
			 errhint("Raise \"max_worker_processes\".")));
}

/* Starts a worker on an empty seat. */
static bool
start_worker(int number)
{
	BackgroundWorker worker = {0};
	ApikeySeat *seat = &apikey_seats->seats[number];
	MemoryContext context;
	bool		registered;
	uint32		start;

	SpinLockAcquire(&apikey_seats->mutex);
	memset(seat, 0, sizeof(ApikeySeat));
	seat->state = APIKEY_SEAT_STARTING;
	seat->number = start = ++apikey_seats->starts;
	SpinLockRelease(&apikey_seats->mutex);

	apikey_seat_describe_worker(&worker, "apikey", "apikey_flush_main",
								Int32GetDatum(number), start);
	worker.bgw_notify_pid = MyProcPid;
	started[number].called_at = 0;
	context = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker,
												 &started[number].handle);
	MemoryContextSwitchTo(context);
	if (registered)
		return true;
	started[number].handle = NULL;
	SpinLockAcquire(&apikey_seats->mutex);
	seat->state = APIKEY_SEAT_EMPTY;
	SpinLockRelease(&apikey_seats->mutex);
	return false;
}

/*
 * Sees to it that a worker waits to be called; false where no process can be
 * had for it.
 */
static bool
keep_one_waiting(void)
{
	int			empty = -1;
	bool		waiting = false;
	bool		working = false;
	bool		got = true;

	SpinLockAcquire(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_SEATS; i++)
	{
		ApikeySeatState state = apikey_seats->seats[i].state;

		if (state == APIKEY_SEAT_EMPTY && started[i].handle == NULL)
			empty = i;
		waiting |= state == APIKEY_SEAT_STARTING || state == APIKEY_SEAT_WAITING;
		working |= state == APIKEY_SEAT_CALLED || state == APIKEY_SEAT_WORKING;
	}
	SpinLockRelease(&apikey_seats->mutex);
	if (!waiting && empty >= 0)
		got = start_worker(empty);
	SpinLockAcquire(&apikey_seats->mutex);
	apikey_seats->starved = !got && !working;
	SpinLockRelease(&apikey_seats->mutex);
	if (!got && !working)
		log_starved();
	return got;
}

/*
 * Sends a worker to a database, unless one is there, which is given the task
 * too; false where there is none to be sent.
 */
static bool
send_worker(Oid database, bool flush)
{
	TimestampTz now = GetCurrentTimestamp();
	int			found = -1;
	Latch	   *latch = NULL;

	SpinLockAcquire(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_SEATS; i++)
	{
		ApikeySeat *seat = &apikey_seats->seats[i];

		if ((seat->state == APIKEY_SEAT_CALLED || seat->state == APIKEY_SEAT_WORKING) &&
			seat->database == database)
		{
			found = i;
			break;
		}
		if (seat->state == APIKEY_SEAT_WAITING)
			found = i;
	}
	if (found >= 0)
	{
		ApikeySeat *seat = &apikey_seats->seats[found];

		if (seat->state == APIKEY_SEAT_WAITING)
		{
			seat->state = APIKEY_SEAT_CALLED;
			seat->database = database;
			started[found].called_at = now;
		}
		seat->flush |= flush;
		latch = seat->latch;
	}
	SpinLockRelease(&apikey_seats->mutex);
	if (latch != NULL)
		SetLatch(latch);
	return found >= 0;
}

/* Is a worker flushing? */
static bool
flushing(void)
{
	bool		result = false;

	SpinLockAcquire(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_SEATS; i++)
		result |= apikey_seats->seats[i].state >= APIKEY_SEAT_CALLED &&
			apikey_seats->seats[i].flush;
	SpinLockRelease(&apikey_seats->mutex);
	return result;
}

/* Sends a worker to flush, if there is one; false where there is not. */
static bool
send_to_flush(void)
{
	Oid			database;

	if (apikey_due_count() == 0 || flushing())
	{
		flush_sent_at = GetCurrentTimestamp();
		return true;
	}
	if (!apikey_due_first(&database))
	{
		passed_by = true;
		flush_sent_at = GetCurrentTimestamp();
		return true;
	}
	if (!send_worker(database, true))
		return false;
	apikey_due_remove_first();
	flush_sent_at = GetCurrentTimestamp();
	return true;
}

/* Sends workers where they are waited for, round and round. */
static bool
send_to_prompt(void)
{
	static uint32 turn = 0;
	List	   *prompt = prompt_databases();
	int			count = list_length(prompt);
	bool		all = true;

	turn++;
	for (int i = 0; i < count; i++)
	{
		Oid			database = list_nth_oid(prompt, (i + turn) % count);

		if (!apikey_reach_may(database))
			passed_by = true;
		else if (send_worker(database, false))
			(void) keep_one_waiting();
		else
			all = false;
	}
	return all;
}

/* What is prompt comes first, but not for ever. */
static void
send_workers(void)
{
	Latch	   *working[APIKEY_SEATS] = {NULL};
	bool		all;

	if (GetCurrentTimestamp() >= flush_sent_at + PATIENCE)
	{
		all = send_to_flush();
		all = send_to_prompt() && all;
	}
	else
		all = send_to_prompt() && send_to_flush();
	SpinLockAcquire(&apikey_seats->mutex);
	apikey_seats->others_wait = !all;
	apikey_seats->others_flush = apikey_due_count() > 0;
	for (int i = 0; !all && i < APIKEY_SEATS; i++)
	{
		if (apikey_seats->seats[i].state == APIKEY_SEAT_WORKING)
			working[i] = apikey_seats->seats[i].latch;
	}
	SpinLockRelease(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_SEATS; i++)
	{
		if (working[i] != NULL)
			SetLatch(working[i]);
	}
}

/* From here on there is a launcher, or none any more. */
static void
set_launcher(Latch *latch)
{
	Latch	   *waiting[APIKEY_SEATS] = {NULL};

	SpinLockAcquire(&apikey_seats->mutex);
	apikey_seats->launcher = latch;
	apikey_seats->starved = false;
	/* Who waits for the one before waits for nobody. */
	for (int i = 0; i < APIKEY_SEATS; i++)
	{
		ApikeySeat *seat = &apikey_seats->seats[i];

		if (seat->state != APIKEY_SEAT_STARTING && seat->state != APIKEY_SEAT_WAITING)
			continue;
		waiting[i] = seat->latch;
		memset(seat, 0, sizeof(ApikeySeat));
	}
	SpinLockRelease(&apikey_seats->mutex);
	for (int i = 0; i < APIKEY_SEATS; i++)
	{
		if (waiting[i] != NULL)
			SetLatch(waiting[i]);
	}
}

static void
launcher_ends(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	set_launcher(NULL);
}

/* Sleeps until somebody calls, or a time; true when it has come. */
static bool
sleep_until(TimestampTz time, long at_most)
{
	long		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														  time);

	if (timeout > 0)
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(timeout, at_most), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	return GetCurrentTimestamp() >= time;
}

/* One round; returns how long to sleep at most. */
static long
go_round(void)
{
	bool		soon = look_after();
	bool		got = keep_one_waiting();

	apikey_due_add_requests();
	apikey_due_add_many();
	passed_by = false;
	send_workers();
	return soon ? APIKEY_LOOK_AROUND : passed_by ? PASSED_BY :
		!got ? RETRY : PG_INT32_MAX;
}

void
apikey_launcher_main(Datum arg pg_attribute_unused())
{
	TimestampTz flushed_at = GetCurrentTimestamp();
	long		at_most = 0;
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "apikey launcher",
												  ALLOCSET_DEFAULT_SIZES);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	/* Without a database it would be ignored, and with it a worker's end. */
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(launcher_ends, (Datum) 0);
	set_launcher(MyLatch);

	MemoryContextSwitchTo(context);
	while (!ShutdownRequestPending)
	{
		/* The clock may have been set back. */
		flushed_at = Min(flushed_at, GetCurrentTimestamp());
		if (sleep_until(TimestampTzPlusMilliseconds(flushed_at,
													apikey_flush_interval),
						at_most))
		{
			apikey_due_find();
			flushed_at = GetCurrentTimestamp();
		}
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			apikey_pepper_look();
			apikey_stats_visit_all();
		}
		at_most = go_round();
		MemoryContextReset(context);
	}
	/* To be started again, unless the server ends. */
	proc_exit(1);
}

/* Once, while the library is being preloaded. */
void
apikey_launcher_init(void)
{
	BackgroundWorker worker = {0};

	/* The servers of pg_upgrade are nobody's: they are to change nothing. */
	if (IsBinaryUpgrade)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "apikey", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "apikey_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikey launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikey launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
