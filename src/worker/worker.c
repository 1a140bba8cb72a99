/*
 * worker.c
 *		Background work: carrying what was gathered into the tables, and what
 *		else waits for no session.
 *
 * A launcher, connected to no database, says which worker goes where.  Workers
 * sit on a few seats of shared memory: at most SEATS of them, each in another
 * database as a rule.  One more than is needed is always started before, and
 * waits for its database: so there is one where others have taken all worker
 * processes, and who waits for a lease does not wait for a process to start.
 *
 *		EMPTY -> STARTING -> WAITING -> CALLED -> WORKING -> LEAVING -> EMPTY
 *
 * The launcher starts and calls; the rest is the worker's.  All of it changes
 * under the mutex.  Each start has a number of its own: who finds another one
 * on its seat, as its launcher has ended, leaves it alone.
 *
 * What somebody waits for, leases and notifications, is prompt: it comes before
 * and between the steps of everything else, in this database and in others.
 * All other work is done in steps, each a short transaction that waits for no
 * row's lock, and each kind of it, a stage, in turn.  An error ends the step,
 * and is told in the log, but not the worker nor the other stages.  A worker
 * leaves as soon as another database waits and there is no other to go there;
 * what it leaves behind is done when the others have had their turn.
 *
 * A worker stays for a moment where calls come.  It would stand in the way of
 * DROP DATABASE and of copies: it goes when somebody has the database locked.
 * On a standby all that waits.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/procsignal.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "credits/credit.h"
#include "keys/deleted.h"
#include "keys/foreign.h"
#include "usage/history.h"
#include "limits/mark.h"
#include "keys/pepper_count.h"
#include "servers/server.h"
#include "usage/usage.h"

#define SEATS			3
#define FLUSH_BATCH		500		/* keys in a step */
#define PROMPT_BATCH	8		/* leases before another look around */
#define CONNECT_MAX		(3 * USECS_PER_SEC)
#define LINGER_STEP		50		/* milliseconds between looks around */
#define LINGER_MAX		1000	/* milliseconds without a call */
#define TURN			(USECS_PER_SEC / 2)	/* while others are to be flushed */
#define RETRY			1000	/* milliseconds, to get a worker process */
#define PATIENCE		(5 * USECS_PER_SEC)	/* of what is to be flushed */
#define REQUESTS_MAX	64		/* databases that are flushed on request */
#define REQUEST_STEP	20		/* milliseconds between looks at one */
#define REQUEST_MAX		(10 * USECS_PER_SEC)	/* without a worker process */

typedef enum SeatState
{
	SEAT_EMPTY,
	SEAT_STARTING,
	SEAT_WAITING,				/* for a call */
	SEAT_CALLED,				/* to a database */
	SEAT_WORKING,				/* there */
	SEAT_LEAVING
} SeatState;

typedef struct Seat
{
	SeatState	state;
	uint32		number;			/* of the start */
	Latch	   *latch;			/* the worker's, from WAITING on */
	Oid			database;		/* from CALLED on; none: to list them */
	bool		flush;			/* all there is to be done */
	bool		more;			/* not all of it was done */
	bool		reached;		/* the database */
} Seat;

/* apikey_flush() in a database: how often it was called, and is done. */
typedef struct Request
{
	Oid			database;
	uint64		asked;
	uint64		done;
} Request;

typedef struct Shared
{
	slock_t		mutex;			/* guards all of it */
	Latch	   *launcher;
	uint32		starts;
	bool		starved;		/* no worker process can be had */
	bool		others_wait;	/* for prompt work, and there is none to go */
	bool		others_flush;	/* when this one has had its turn */
	uint32		turns;			/* so that another stage begins each time */
	Seat		seats[SEATS];
	Request		requests[REQUESTS_MAX];
} Shared;

static Shared *shared = NULL;

/* The launcher's: what it has started, and is still to do. */
typedef struct Started
{
	BackgroundWorkerHandle *handle; /* NULL: nobody */
	TimestampTz called_at;		/* 0: not yet */
} Started;

static Started started[SEATS];
static Oid *to_flush = NULL;	/* in TopMemoryContext, as a queue */
static int	to_flush_count = 0;
static int	to_flush_room = 0;
static TimestampTz flush_sent_at = 0;	/* a worker, to the first of these */
static bool databases_listed = false;

/* The worker's seat. */
static Seat *my_seat = NULL;
static uint32 my_number = 0;

Size
apikey_worker_size(void)
{
	return sizeof(Shared);
}

void
apikey_worker_start(void)
{
	bool		found;

	shared = ShmemInitStruct("apikey workers", sizeof(Shared), &found);
	if (found)
		return;
	memset(shared, 0, sizeof(Shared));
	SpinLockInit(&shared->mutex);
}

/*
 * Something waits in a database: wakes the worker that is there, or else who
 * may send one.
 */
void
apikey_worker_call(Oid database)
{
	Latch	   *latch;

	SpinLockAcquire(&shared->mutex);
	latch = shared->launcher;
	for (int i = 0; i < SEATS; i++)
	{
		if (shared->seats[i].state == SEAT_WORKING &&
			shared->seats[i].database == database)
			latch = shared->seats[i].latch;
	}
	SpinLockRelease(&shared->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

/* May somebody who waits for a worker hope for one? */
bool
apikey_worker_at_hand(void)
{
	bool		result;

	SpinLockAcquire(&shared->mutex);
	result = shared->launcher != NULL && !shared->starved;
	SpinLockRelease(&shared->mutex);
	return result;
}

/* Is there a launcher, whether or not it can get a worker? */
bool
apikey_worker_launched(void)
{
	bool		result;

	SpinLockAcquire(&shared->mutex);
	result = shared->launcher != NULL;
	SpinLockRelease(&shared->mutex);
	return result;
}

static void
wake_launcher(void)
{
	Latch	   *latch;

	SpinLockAcquire(&shared->mutex);
	latch = shared->launcher;
	SpinLockRelease(&shared->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

/* The launcher */

static List *
prompt_databases(void)
{
	return list_concat_unique_oid(apikey_lease_databases(),
								  apikey_notify_databases());
}

/* Puts a database at the end of those that are to be flushed, once. */
static void
enqueue_flush(Oid database)
{
	for (int i = 0; i < to_flush_count; i++)
	{
		if (to_flush[i] == database)
			return;
	}
	if (to_flush_count == to_flush_room)
	{
		to_flush_room = Max(16, to_flush_room * 2);
		to_flush = to_flush == NULL ?
			MemoryContextAlloc(TopMemoryContext, to_flush_room * sizeof(Oid)) :
			repalloc(to_flush, to_flush_room * sizeof(Oid));
	}
	to_flush[to_flush_count++] = database;
}

static void
dequeue_flush(void)
{
	memmove(to_flush, to_flush + 1, --to_flush_count * sizeof(Oid));
}

/* All that has something to be done by now. */
static void
enqueue_due(void)
{
	List	   *databases = apikey_usage_databases();
	ListCell   *cell;

	if (!databases_listed)
		enqueue_flush(InvalidOid);
	databases_listed = true;
	databases = list_concat_unique_oid(databases, apikey_denial_databases());
	databases = list_concat_unique_oid(databases, apikey_mark_databases());
	databases = list_concat_unique_oid(databases, apikey_history_databases());
	databases = list_concat_unique_oid(databases, apikey_rehash_databases());
	databases = list_concat_unique_oid(databases, apikey_credit_idle_databases());
	databases = list_concat_unique_oid(databases, apikey_stats_due());
	databases = list_concat_unique_oid(databases, apikey_pepper_count_databases());
	foreach(cell, databases)
	{
		apikey_stats_called(lfirst_oid(cell));
		enqueue_flush(lfirst_oid(cell));
	}
}

/* Those that apikey_flush() waits for. */
static void
enqueue_requests(void)
{
	for (int i = 0; i < REQUESTS_MAX; i++)
	{
		Request		request;

		SpinLockAcquire(&shared->mutex);
		request = shared->requests[i];
		for (int seat = 0; seat < SEATS; seat++)
		{
			if (shared->seats[seat].state >= SEAT_CALLED &&
				shared->seats[seat].database == request.database &&
				shared->seats[seat].flush)
				request.asked = request.done;
		}
		SpinLockRelease(&shared->mutex);
		if (request.asked > request.done)
			enqueue_flush(request.database);
	}
}

/*
 * A worker has ended.  Where it did not get to its database, what is asked of
 * that is dropped; a database that is gone, or refuses, is forgotten.
 */
static void
ended(int number)
{
	Seat		seat;
	bool		in_time = GetCurrentTimestamp() <
		started[number].called_at + CONNECT_MAX;

	SpinLockAcquire(&shared->mutex);
	seat = shared->seats[number];
	shared->seats[number].state = SEAT_EMPTY;
	shared->seats[number].latch = NULL;
	SpinLockRelease(&shared->mutex);
	pfree(started[number].handle);
	started[number].handle = NULL;
	if (started[number].called_at == 0 || seat.reached)
		return;
	if (!OidIsValid(seat.database))
	{
		databases_listed = false;
		return;
	}
	if (in_time)
		apikey_stats_forget_database(seat.database);
	apikey_lease_drop(seat.database);
	apikey_notify_drop(seat.database);
}

/* Looks after the workers; returns whether one has to be looked after soon. */
static bool
look_after(void)
{
	bool		soon = false;

	for (int i = 0; i < SEATS; i++)
	{
		Oid			left_behind = InvalidOid;
		bool		overdue;
		pid_t		pid;

		if (started[i].handle == NULL)
			continue;
		SpinLockAcquire(&shared->mutex);
		if (shared->seats[i].more)
			left_behind = shared->seats[i].database;
		shared->seats[i].more = false;
		overdue = shared->seats[i].state == SEAT_CALLED;
		SpinLockRelease(&shared->mutex);
		soon |= overdue;
		/* A copy or a change of its database locks out whoever connects. */
		if (overdue && GetCurrentTimestamp() >=
			started[i].called_at + CONNECT_MAX)
			TerminateBackgroundWorker(started[i].handle);
		if (OidIsValid(left_behind))
			enqueue_flush(left_behind);
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
	Seat	   *seat = &shared->seats[number];
	MemoryContext context;
	bool		registered;
	uint32		start;

	SpinLockAcquire(&shared->mutex);
	memset(seat, 0, sizeof(Seat));
	seat->state = SEAT_STARTING;
	seat->number = start = ++shared->starts;
	SpinLockRelease(&shared->mutex);

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(number);
	memcpy(worker.bgw_extra, &start, sizeof(start));
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "apikey", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "apikey_flush_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikey worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikey worker", BGW_MAXLEN);
	started[number].called_at = 0;
	context = MemoryContextSwitchTo(TopMemoryContext);
	registered = RegisterDynamicBackgroundWorker(&worker,
												 &started[number].handle);
	MemoryContextSwitchTo(context);
	if (registered)
		return true;
	started[number].handle = NULL;
	SpinLockAcquire(&shared->mutex);
	seat->state = SEAT_EMPTY;
	SpinLockRelease(&shared->mutex);
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

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < SEATS; i++)
	{
		SeatState	state = shared->seats[i].state;

		if (state == SEAT_EMPTY && started[i].handle == NULL)
			empty = i;
		waiting |= state == SEAT_STARTING || state == SEAT_WAITING;
		working |= state == SEAT_CALLED || state == SEAT_WORKING;
	}
	SpinLockRelease(&shared->mutex);
	if (!waiting && empty >= 0)
		got = start_worker(empty);
	SpinLockAcquire(&shared->mutex);
	shared->starved = !got && !working;
	SpinLockRelease(&shared->mutex);
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
	int			found = -1;
	Latch	   *latch = NULL;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < SEATS; i++)
	{
		Seat	   *seat = &shared->seats[i];

		if ((seat->state == SEAT_CALLED || seat->state == SEAT_WORKING) &&
			seat->database == database)
		{
			found = i;
			break;
		}
		if (seat->state == SEAT_WAITING)
			found = i;
	}
	if (found >= 0)
	{
		Seat	   *seat = &shared->seats[found];

		if (seat->state == SEAT_WAITING)
		{
			seat->state = SEAT_CALLED;
			seat->database = database;
			started[found].called_at = GetCurrentTimestamp();
		}
		seat->flush |= flush;
		latch = seat->latch;
	}
	SpinLockRelease(&shared->mutex);
	if (latch != NULL)
		SetLatch(latch);
	return found >= 0;
}

/* Is a worker flushing? */
static bool
flushing(void)
{
	bool		result = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < SEATS; i++)
		result |= shared->seats[i].state >= SEAT_CALLED &&
			shared->seats[i].flush;
	SpinLockRelease(&shared->mutex);
	return result;
}

/* Sends a worker to flush, if there is one; false where there is not. */
static bool
send_to_flush(void)
{
	if (to_flush_count == 0 || flushing())
	{
		flush_sent_at = GetCurrentTimestamp();
		return true;
	}
	if (!send_worker(to_flush[0], true))
		return false;
	dequeue_flush();
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
		if (send_worker(list_nth_oid(prompt, (i + turn) % count), false))
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
	Latch	   *working[SEATS] = {NULL};
	bool		all;

	if (GetCurrentTimestamp() >= flush_sent_at + PATIENCE)
		all = send_to_flush() & send_to_prompt();
	else
		all = send_to_prompt() && send_to_flush();
	SpinLockAcquire(&shared->mutex);
	shared->others_wait = !all;
	shared->others_flush = to_flush_count > 0;
	for (int i = 0; !all && i < SEATS; i++)
	{
		if (shared->seats[i].state == SEAT_WORKING)
			working[i] = shared->seats[i].latch;
	}
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < SEATS; i++)
	{
		if (working[i] != NULL)
			SetLatch(working[i]);
	}
}

/* From here on there is a launcher, or none any more. */
static void
set_launcher(Latch *latch)
{
	Latch	   *waiting[SEATS] = {NULL};

	SpinLockAcquire(&shared->mutex);
	shared->launcher = latch;
	shared->starved = false;
	/* Who waits for the one before waits for nobody. */
	for (int i = 0; i < SEATS; i++)
	{
		Seat	   *seat = &shared->seats[i];

		if (seat->state != SEAT_STARTING && seat->state != SEAT_WAITING)
			continue;
		waiting[i] = seat->latch;
		memset(seat, 0, sizeof(Seat));
	}
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < SEATS; i++)
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

	enqueue_requests();
	send_workers();
	return soon ? LINGER_STEP : !got ? RETRY : PG_INT32_MAX;
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
			enqueue_due();
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

/* The worker */

/* Adds what was collected of a key to the row of its use. */
static void
add_use(ApikeyRow *row, const ApikeyUse *use, int64 flush)
{
	int64		uses = DatumGetInt64(row->values[APIKEY_USE_USE_COUNT]);
	int64		denials = DatumGetInt64(row->values[APIKEY_USE_DENIED_COUNT]);

	apikey_row_set(row, APIKEY_USE_USE_COUNT,
				   Int64GetDatum(uses + (int64) use->uses));
	apikey_row_set(row, APIKEY_USE_DENIED_COUNT,
				   Int64GetDatum(denials + (int64) use->denials));
	if (use->last_used_at != 0 &&
		(row->nulls[APIKEY_USE_LAST_USED_AT] ||
		 DatumGetTimestampTz(row->values[APIKEY_USE_LAST_USED_AT]) <
		 use->last_used_at))
		apikey_row_set(row, APIKEY_USE_LAST_USED_AT,
					   TimestampTzGetDatum(use->last_used_at));
	if (use->has_addr)
		apikey_row_set(row, APIKEY_USE_LAST_USED_ADDR,
					   InetPGetDatum(apikey_usage_inet(&use->addr)));
	apikey_row_set(row, APIKEY_USE_FLUSH, Int64GetDatum(flush));
}

/*
 * Writes what was collected of a key.  A row that somebody has locked, who is
 * deleting the key perhaps, is not waited for: false, it comes the next time.
 * Of a key that is not there any more nothing is left to be written.
 */
static bool
write_use(ApikeyWriter *writer, const ApikeyUse *use, int64 flush)
{
	ScanKeyData key;
	ApikeyRow	row;
	ApikeyRow	used;

	if (!apikey_key_fetch_latest(&use->id, &used))
		return true;
	apikey_table_key(&key, &use->id);
	if (apikey_table_take(writer, &apikey_use_table, &key,
						  APIKEY_LOCK_UPDATE_SKIP, &row))
	{
		add_use(&row, use, flush);
		apikey_table_put(writer, &apikey_use_table, &row);
		apikey_history_used(&used, use->uses);
		return true;
	}
	if (!apikey_table_absent(writer, &apikey_use_table, &key))
		return false;
	apikey_use_new(&row, &use->id);
	add_use(&row, use, flush);
	apikey_table_add(writer, &apikey_use_table, &row);
	apikey_history_used(&used, use->uses);
	return true;
}

/* Writes what was collected; returns what is written, or needs no writing. */
static List *
write_uses(List *uses, int64 flush)
{
	ApikeyWriter *writer = apikey_table_open(&apikey_use_table);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey use",
												  ALLOCSET_DEFAULT_SIZES);
	ListCell   *cell;

	foreach(cell, uses)
	{
		MemoryContext context = MemoryContextSwitchTo(scratch);
		bool		written;

		CHECK_FOR_INTERRUPTS();
		written = write_use(writer, lfirst(cell), flush);
		MemoryContextSwitchTo(context);
		MemoryContextReset(scratch);
		if (!written)
			uses = foreach_delete_current(uses, cell);
	}
	MemoryContextDelete(scratch);
	apikey_table_close(writer);
	return uses;
}

/*
 * Begins a transaction in which our tables are there, as this library knows
 * them; false without them.
 */
bool
apikey_worker_begin(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (apikey_extension_usable())
		return true;
	PopActiveSnapshot();
	CommitTransactionCommand();
	return false;
}

void
apikey_worker_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * What a user or database has set must not stand in the way, nor a lock that
 * somebody holds, of the databases that come after: what is not done is done
 * the next time.
 */
static void
set_defaults(void)
{
	static const char *const settings[][2] = {
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"lock_timeout", "100ms"},
		{"statement_timeout", "0"}
	};

	for (size_t i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
	/* A lease is spent as soon as it is committed: a crash must not undo it. */
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		SetConfigOption("synchronous_commit", "local", PGC_SUSET,
						PGC_S_OVERRIDE);
}

/* Each database that can be connected to is to be visited. */
static void
list_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		/* A limit of -2 marks one whose DROP was broken off. */
		if (database->datallowconn && database->datconnlimit >= -1)
			apikey_stats_add_database(database->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
}


/*
 * A stage of the work: a step of it, the first or a later one, says whether
 * there may be more.
 */
typedef struct Stage
{
	const char *doing;
	bool		(*step) (bool first);
	bool		older;			/* with the SQL of 0.1.0, too */
} Stage;

static MemoryContext step_context = NULL;
static bool script_older = false;	/* here is the SQL of 0.1.0 still */
static bool flush_all = false;	/* on request: also what would wait */

/* Has the database got us, and of which version? */
static bool
extension_here(void)
{
	if (!apikey_worker_begin())
		return false;
	script_older = apikey_catalog()->first_script;
	apikey_worker_commit();
	return true;
}

static void
add_stage(void *arg)
{
	errcontext("apikey worker: %s", (const char *) arg);
}

/* Takes a step.  An error in it is told, and ends it. */
static bool
take_step(const Stage *stage, bool first)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = add_stage,
		.arg = unconstify(char *, stage->doing)
	};
	volatile bool more = false;

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	/* A transaction leaves another one behind. */
	MemoryContextSwitchTo(step_context);
	/* Between steps we end in peace. */
	pqsignal(SIGTERM, die);
	pgstat_report_activity(STATE_RUNNING, psprintf("apikey: %s", stage->doing));
	PG_TRY();
	{
		error_context_stack = &callback;
		more = stage->step(first);
		error_context_stack = callback.previous;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		error_context_stack = callback.previous;
		AbortOutOfAnyTransaction();
		LWLockReleaseAll();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	CHECK_FOR_INTERRUPTS();
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	MemoryContextReset(step_context);
	return more;
}

/* Leases are given to those that asked first; the others wait a moment. */
static pg_uuid_t asked[PROMPT_BATCH];
static int	asked_count = 0;

static bool
lease_step(bool first pg_attribute_unused())
{
	if (asked_count == 0)
		return false;
	apikey_credit_grant(&asked[--asked_count]);
	return asked_count > 0;
}

static bool
notify_step(bool first pg_attribute_unused())
{
	(void) apikey_notify_send();
	return false;
}

/* Does what is waited for in this database: a part, where that is much. */
static void
be_prompt(void)
{
	static const Stage leasing = {"leasing credits", lease_step, false};
	static const Stage notifying = {"notifying", notify_step, false};

	asked_count = apikey_lease_take_asked(MyDatabaseId, asked, PROMPT_BATCH);
	while (asked_count > 0)
	{
		pg_uuid_t	account = asked[asked_count - 1];

		if (script_older)
			asked_count--;
		else
			(void) take_step(&leasing, true);
		/* Whatever came of it. */
		apikey_lease_answer(MyDatabaseId, &account);
	}
	if (apikey_notify_waiting(MyDatabaseId))
		(void) take_step(&notifying, true);
}

static int64
sum_of_uses(const List *uses)
{
	int64		sum = 0;
	ListCell   *cell;

	foreach(cell, uses)
		sum += (int64) ((const ApikeyUse *) lfirst(cell))->uses;
	return sum;
}

/* Writes some of what has gathered. */
static bool
flush_step(bool first)
{
	static int	from = 0;
	int64		flush = GetCurrentTimestamp();	/* another one each time */
	List	   *uses;

	if (first)
		from = 0;
	uses = apikey_usage_collect(&from, FLUSH_BATCH, flush);
	if (uses == NIL)
		return false;
	/* Collected outside the transaction, to be there after its commit. */
	if (apikey_worker_begin())
	{
		uses = write_uses(uses, flush);
		if (!script_older)
			apikey_server_count_own(sum_of_uses(uses));
		apikey_worker_commit();
	}
	apikey_usage_flushed(uses, flush);
	return true;
}

static bool
denial_step(bool first)
{
	return apikey_denial_tell(first, flush_all);
}

static bool
mark_step(bool first pg_attribute_unused())
{
	return apikey_mark_tell();
}

static bool
history_step(bool first)
{
	return apikey_history_write(first);
}

static bool
history_retain_step(bool first pg_attribute_unused())
{
	return apikey_history_retain();
}

static bool
deleted_step(bool first pg_attribute_unused())
{
	return apikey_deleted_forget();
}

static bool
rehash_step(bool first pg_attribute_unused())
{
	return apikey_rehash_flush();
}

static bool
retire_step(bool first pg_attribute_unused())
{
	bool		more;

	if (!apikey_stats_unretired() || !apikey_worker_begin())
		return false;
	more = apikey_retire_found();
	apikey_worker_commit();
	return more;
}

static bool
settle_step(bool first pg_attribute_unused())
{
	bool		more;

	if (!apikey_worker_begin())
		return false;
	more = apikey_revocation_settle_found();
	apikey_worker_commit();
	return more;
}

static bool
expiry_step(bool first)
{
	TimestampTz again = GetCurrentTimestamp() + USECS_PER_MINUTE;
	TimestampTz next = DT_NOEND;
	bool		more = false;

	if (first && flush_all)
		apikey_stats_visit(GetCurrentTimestamp());
	if (!apikey_stats_begin_visit(again))
		return false;
	if (apikey_worker_begin())
	{
		more = apikey_expiry_tell(&next);
		apikey_worker_commit();
	}
	apikey_stats_end_visit(again, next);
	return more;
}

static bool
retain_step(bool first pg_attribute_unused())
{
	bool		more;

	if (apikey_event_retention == 0 || !apikey_worker_begin())
		return false;
	more = apikey_event_retain();
	apikey_worker_commit();
	return more;
}

static bool
watch_step(bool first pg_attribute_unused())
{
	return apikey_server_watch();
}

static bool
return_step(bool first)
{
	return apikey_credit_return(first, flush_all);
}

static bool
count_step(bool first)
{
	return apikey_pepper_count_step(first, flush_all);
}

/* Does somebody want to drop, rename or copy this database? */
static bool
database_wanted(void)
{
	LOCKTAG		tag;
	bool		wanted;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	StartTransactionCommand();
	wanted = LockAcquire(&tag, RowExclusiveLock, false,
						 true) == LOCKACQUIRE_NOT_AVAIL;
	CommitTransactionCommand();
	return wanted;
}

/* Is there a reason to leave before all is done? */
static bool
must_leave(TimestampTz end_of_turn)
{
	bool		over = GetCurrentTimestamp() >= end_of_turn;
	bool		must;

	SpinLockAcquire(&shared->mutex);
	must = ShutdownRequestPending || shared->others_wait ||
		(shared->others_flush && over);
	SpinLockRelease(&shared->mutex);
	return must || database_wanted();
}

/* How often apikey_flush() was called here; 0 where nobody waits for it. */
static uint64
requests_here(void)
{
	uint64		result = 0;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < REQUESTS_MAX; i++)
	{
		if (shared->requests[i].database == MyDatabaseId &&
			shared->requests[i].asked > shared->requests[i].done)
			result = shared->requests[i].asked;
	}
	SpinLockRelease(&shared->mutex);
	return result;
}

/* The flush is over, and with it so many requests are. */
static void
end_flush(bool more, uint64 requests)
{
	SpinLockAcquire(&shared->mutex);
	my_seat->flush = false;
	my_seat->more = more;
	for (int i = 0; i < REQUESTS_MAX && !more; i++)
	{
		if (shared->requests[i].database == MyDatabaseId)
			shared->requests[i].done = Max(shared->requests[i].done, requests);
	}
	SpinLockRelease(&shared->mutex);
	wake_launcher();
}

static uint32
next_turn(void)
{
	uint32		turn;

	SpinLockAcquire(&shared->mutex);
	turn = shared->turns++;
	SpinLockRelease(&shared->mutex);
	return turn;
}

/* Does all there is, a step of each stage in turn, and what is prompt between. */
static void
do_all(void)
{
	static const Stage stages[] = {
		{"writing the use of keys", flush_step, true},
		{"writing the events of refusals", denial_step, false},
		{"writing the events of limits", mark_step, false},
		{"writing the history of use", history_step, false},
		{"summing the history of use", history_retain_step, false},
		{"forgetting deleted keys", deleted_step, false},
		{"writing digests", rehash_step, false},
		{"revoking the keys of dropped roles", retire_step, false},
		{"settling revocations", settle_step, false},
		{"telling of keys that expire", expiry_step, false},
		{"removing events that are too old", retain_step, false},
		{"giving back credits", return_step, false},
		{"watching the other servers", watch_step, false},
		{"counting the keys of peppers", count_step, false}
	};
	bool		done[lengthof(stages)] = {false};
	TimestampTz end_of_turn = GetCurrentTimestamp() + TURN;
	uint64		requests = requests_here();
	uint32		turn = next_turn();
	bool		more = true;
	bool		leave = false;

	flush_all = requests > 0;
	for (size_t i = 0; i < lengthof(stages); i++)
		done[i] = script_older && !stages[i].older;
	for (bool first = true; more && !leave; first = false)
	{
		more = false;
		for (size_t i = 0; i < lengthof(stages) && !leave; i++)
		{
			size_t		stage = (i + turn) % lengthof(stages);

			if (done[stage])
				continue;
			done[stage] = !take_step(&stages[stage], first);
			more |= !done[stage];
			be_prompt();
			leave = must_leave(end_of_turn);
		}
	}
	for (size_t i = 0; i < lengthof(stages); i++)
		more |= !done[i];
	if (!more)
		apikey_stats_served();
	end_flush(more, requests);
}

/* Leaves the database, unless there is something to be done. */
static bool
leave(bool in_any_case)
{
	bool		left;

	SpinLockAcquire(&shared->mutex);
	left = in_any_case || !my_seat->flush;
	if (left)
	{
		my_seat->state = SEAT_LEAVING;
		my_seat->more |= my_seat->flush;
		my_seat->flush = false;
	}
	SpinLockRelease(&shared->mutex);
	return left;
}

/* Is something to be done here? */
static bool
called(void)
{
	return my_seat->flush || apikey_lease_asked(MyDatabaseId) ||
		apikey_notify_waiting(MyDatabaseId);
}

/* Stays for a moment; false when it is over. */
static bool
linger(void)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  LINGER_MAX);

	pgstat_report_activity(STATE_IDLE, NULL);
	while (!must_leave(DT_NOEND))
	{
		if (called())
			return true;
		if (GetCurrentTimestamp() >= end)
			return !leave(false);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LINGER_STEP, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return !leave(true);
}

/*
 * There is nothing of ours in this database, or of a version that only another
 * library knows: it is not visited again, but what was gathered of the latter
 * is kept.
 */
static void
forget_this(void)
{
	StartTransactionCommand();
	if (OidIsValid(get_extension_oid("apikey", true)))
		apikey_stats_rest_database(MyDatabaseId);
	else
		apikey_ended_found();
	CommitTransactionCommand();
	end_flush(false, requests_here());
}

/* What a worker does in its database. */
static void
work(void)
{
	step_context = AllocSetContextCreate(TopMemoryContext, "apikey worker",
										 ALLOCSET_DEFAULT_SIZES);
	set_defaults();
	if (!extension_here())
	{
		forget_this();
		return;
	}
	do
	{
		be_prompt();
		if (my_seat->flush)
			do_all();
	} while (linger() && extension_here());
}

/* The worker ends, and its seat is free, if it still is its own. */
static void
give_up_seat(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	SpinLockAcquire(&shared->mutex);
	if (my_seat->number == my_number)
	{
		my_seat->state = SEAT_EMPTY;
		my_seat->latch = NULL;
	}
	SpinLockRelease(&shared->mutex);
}

/* Goes from one state to the next; false where the seat is another's. */
static bool
advance(SeatState from, SeatState to)
{
	bool		mine;

	SpinLockAcquire(&shared->mutex);
	mine = my_seat->number == my_number && my_seat->state == from;
	if (mine)
	{
		my_seat->state = to;
		my_seat->latch = MyLatch;
		my_seat->reached = to == SEAT_WORKING;
	}
	SpinLockRelease(&shared->mutex);
	if (mine)
		wake_launcher();
	return mine;
}

/* Waits for the launcher's call; false where there will be none. */
static bool
wait_for_call(void)
{
	SeatState	state = SEAT_WAITING;

	if (!advance(SEAT_STARTING, SEAT_WAITING))
		return false;
	while (state == SEAT_WAITING && !ShutdownRequestPending)
	{
		SpinLockAcquire(&shared->mutex);
		state = my_seat->number == my_number ? my_seat->state : SEAT_EMPTY;
		SpinLockRelease(&shared->mutex);
		if (state != SEAT_WAITING)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return state == SEAT_CALLED && !ShutdownRequestPending;
}

void
apikey_flush_main(Datum arg)
{
	my_seat = &shared->seats[DatumGetInt32(arg)];
	memcpy(&my_number, MyBgworkerEntry->bgw_extra, sizeof(my_number));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	/* A lease that did not get to a standby must not be handed out. */
	pqsignal(SIGINT, PG_SIG_IGN);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(give_up_seat, (Datum) 0);
	if (!wait_for_call())
		proc_exit(0);

	/* It may have to wait for somebody who changes the database. */
	pqsignal(SIGTERM, die);
	if (!OidIsValid(my_seat->database))
	{
		BackgroundWorkerInitializeConnection(NULL, NULL, 0);
		(void) advance(SEAT_CALLED, SEAT_WORKING);
		list_databases();
	}
	else
	{
		BackgroundWorkerInitializeConnectionByOid(my_seat->database, InvalidOid,
												  BGWORKER_BYPASS_ALLOWCONN);
		(void) advance(SEAT_CALLED, SEAT_WORKING);
		pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
		work();
	}
	proc_exit(0);
}

/* apikey_flush() */

/* Asks for a flush of this database; returns its number, 0 for no room. */
static uint64
ask_for_flush(void)
{
	Request    *free = NULL;
	uint64		number = 0;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < REQUESTS_MAX && number == 0; i++)
	{
		Request    *request = &shared->requests[i];

		if (request->database == MyDatabaseId)
			number = ++request->asked;
		else if (request->asked == request->done)
			free = request;
	}
	if (number == 0 && free != NULL)
	{
		free->database = MyDatabaseId;
		free->done = 0;
		free->asked = number = 1;
	}
	SpinLockRelease(&shared->mutex);
	return number;
}

/* Is it done?  Where another database has its place, it is. */
static bool
flush_is_done(uint64 number)
{
	bool		done = true;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < REQUESTS_MAX; i++)
	{
		if (shared->requests[i].database == MyDatabaseId)
			done = shared->requests[i].done >= number;
	}
	SpinLockRelease(&shared->mutex);
	return done;
}

/*
 * Has all that is pending of this database written, and leases given back, by
 * the worker, and waits for it.
 */
void
apikey_worker_flush(void)
{
	TimestampTz hopeless_at = GetCurrentTimestamp() + REQUEST_MAX;
	uint64		number = ask_for_flush();

	wake_launcher();
	while (number == 0 || !flush_is_done(number))
	{
		if (apikey_worker_at_hand())
			hopeless_at = GetCurrentTimestamp() + REQUEST_MAX;
		else if (GetCurrentTimestamp() >= hopeless_at)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("no worker process is free to write what is pending of API keys"),
					 errhint("Raise \"max_worker_processes\".")));
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 REQUEST_STEP, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (number == 0)
			number = ask_for_flush();
	}
}

/* Once, while the library is being preloaded. */
void
apikey_worker_init(void)
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
