/*
 * worker.c
 *		Background work: carrying what was gathered into the tables, and what
 *		else waits for no session.
 *
 * A launcher, connected to no database, looks each apikey.flush_interval which
 * databases have something to be done, and starts for one after the other a
 * worker that connects, does it in short transactions, and is gone: one that
 * stayed would stand in the way of DROP DATABASE.  A call for a lease of
 * credits, or for a notification, wakes the launcher, or a worker that runs,
 * at once.  Where no worker slot is free, or on a standby, all that waits.
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
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "credit.h"
#include "foreign.h"
#include "usage.h"

#define FLUSH_BATCH		1000	/* keys */
#define CONNECT_MAX		(3 * USECS_PER_SEC)
#define CONNECT_STEP	100		/* milliseconds */
#define LINGER_STEP		50		/* milliseconds without a call for a lease */
#define LINGER_MAX		500		/* milliseconds in all */

/* What a worker is started for. */
typedef enum Task
{
	TASK_LIST,					/* to find the databases */
	TASK_PROMPT,				/* what somebody waits for: leases, notices */
	TASK_FLUSH					/* all there is to be done */
} Task;

/* What has become of a worker. */
typedef enum Outcome
{
	NOT_STARTED,
	NOT_CONNECTED,				/* in time */
	REFUSED,					/* ended before it was connected */
	DONE
} Outcome;

/*
 * Waits for a worker's end, but not for its database: a copy or a change of it
 * locks out whoever connects.
 */
static Outcome
wait_for_worker(BackgroundWorkerHandle *handle, Oid database, uint64 visits)
{
	TimestampTz until = GetCurrentTimestamp() + CONNECT_MAX;
	BgwHandleStatus status;
	pid_t		pid;

	while ((status = GetBackgroundWorkerPid(handle, &pid)) == BGWH_STARTED ||
		   status == BGWH_NOT_YET_STARTED)
	{
		if (apikey_stats_visits(database) != visits)
		{
			status = WaitForBackgroundWorkerShutdown(handle);
			break;
		}
		if (GetCurrentTimestamp() >= until)
		{
			TerminateBackgroundWorker(handle);
			(void) WaitForBackgroundWorkerShutdown(handle);
			return NOT_CONNECTED;
		}
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 CONNECT_STEP, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	if (status != BGWH_STOPPED)
		return NOT_STARTED;
	return apikey_stats_visits(database) == visits ? REFUSED : DONE;
}

/* Runs the worker of a database to its end. */
static Outcome
run_worker(Oid database, Task task)
{
	uint64		visits = apikey_stats_visits(database);
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	memcpy(worker.bgw_extra, &task, sizeof(task));
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "apikey", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "apikey_flush_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikey worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikey worker", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return NOT_STARTED;
	return wait_for_worker(handle, database, visits);
}

static List *
prompt_databases(void)
{
	return list_concat_unique_oid(apikey_lease_databases(),
								  apikey_notify_databases());
}

/*
 * Runs a worker in a database.  Where it did not get there, what is asked of
 * the database is dropped; what it left was asked for after it had looked.  A
 * database that is gone, or refuses, is forgotten.  False where none could
 * start.
 */
static bool
visit(Oid database, Task task)
{
	Outcome		outcome = run_worker(database, task);

	if (outcome == REFUSED)
		apikey_stats_forget_database(database);
	if (outcome == REFUSED || outcome == NOT_CONNECTED)
	{
		apikey_lease_drop(database);
		apikey_notify_drop(database);
	}
	return outcome != NOT_STARTED;
}

/*
 * Whoever asks for a lease is waiting: that comes first.  False where no
 * worker could start.
 */
static bool
prompt_all(void)
{
	ListCell   *cell;

	foreach(cell, prompt_databases())
	{
		if (ShutdownRequestPending)
			break;
		if (!visit(lfirst_oid(cell), TASK_PROMPT))
			return false;
	}
	return true;
}

static void
flush_all(void)
{
	static bool listed = false;
	List	   *databases;
	ListCell   *cell;

	if (!listed)
		listed = run_worker(InvalidOid, TASK_LIST) == DONE;
	databases = apikey_usage_databases();
	databases = list_concat_unique_oid(databases, apikey_denial_databases());
	databases = list_concat_unique_oid(databases, apikey_rehash_databases());
	databases = list_concat_unique_oid(databases, apikey_credit_idle_databases());
	databases = list_concat_unique_oid(databases, apikey_stats_due());
	foreach(cell, databases)
	{
		if (!prompt_all() || ShutdownRequestPending ||
			!visit(lfirst_oid(cell), TASK_FLUSH))
			break;
	}
}

/*
 * Sleeps until somebody calls, or a time; true when it has come.  What is
 * asked for already is no reason to wake where no worker could start for it.
 */
static bool
sleep_until(TimestampTz time, bool started)
{
	long		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
														  time);

	if ((!started || prompt_databases() == NIL) && timeout > 0)
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	return GetCurrentTimestamp() >= time;
}

void
apikey_launcher_main(Datum arg pg_attribute_unused())
{
	TimestampTz flushed_at = GetCurrentTimestamp();
	bool		started = true;
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "apikey launcher",
												  ALLOCSET_DEFAULT_SIZES);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	/* Without a database it would be ignored, and with it a worker's end. */
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();
	apikey_lease_serve(false);

	MemoryContextSwitchTo(context);
	while (!ShutdownRequestPending)
	{
		TimestampTz next;
		bool		due;

		/* The clock may have been set back. */
		flushed_at = Min(flushed_at, GetCurrentTimestamp());
		next = TimestampTzPlusMilliseconds(flushed_at, apikey_flush_interval);
		due = sleep_until(next, started);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			apikey_stats_visit_all();
		}
		started = prompt_all();
		if (due && !ShutdownRequestPending)
		{
			flush_all();
			flushed_at = GetCurrentTimestamp();
		}
		MemoryContextReset(context);
	}
	/* To be started again, unless the server ends. */
	proc_exit(1);
}

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

	if (!apikey_table_fetch_latest(&apikey_key_table, &use->id, &row))
		return true;
	apikey_table_key(&key, &use->id);
	if (apikey_table_take(writer, &apikey_use_table, &key,
						  APIKEY_LOCK_UPDATE_SKIP, &row))
	{
		add_use(&row, use, flush);
		apikey_table_put(writer, &apikey_use_table, &row);
		return true;
	}
	if (!apikey_table_absent(writer, &apikey_use_table, &key))
		return false;
	apikey_use_new(&row, &use->id);
	add_use(&row, use, flush);
	apikey_table_add(writer, &apikey_use_table, &row);
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

/* Does what is waited for in this database; false where nothing was. */
static bool
be_prompt(void)
{
	pg_uuid_t	account;
	bool		done = false;

	while (apikey_lease_next(&account))
	{
		CHECK_FOR_INTERRUPTS();
		apikey_credit_grant(&account);
		done = true;
	}
	while (apikey_notify_send())
		done = true;
	return done;
}

/* Begins a transaction in which our tables are there; false without them. */
bool
apikey_worker_begin(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (OidIsValid(get_extension_oid("apikey", true)))
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

/* Writes all that has gathered, a batch and transaction at a time. */
static void
flush(void)
{
	int64		flush = GetCurrentTimestamp();	/* another one each time */
	int			from = 0;
	List	   *uses;

	/* Collected outside the transaction, to be there after its commit. */
	while ((uses = apikey_usage_collect(&from, FLUSH_BATCH, flush)) != NIL)
	{
		if (apikey_worker_begin())
		{
			uses = write_uses(uses, flush);
			apikey_worker_commit();
		}
		apikey_usage_flushed(uses, flush);
		list_free_deep(uses);
		(void) be_prompt();
	}
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

/* Stays for as long as there are calls, and then a moment; not for long. */
static void
linger(void)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  LINGER_MAX);

	do
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LINGER_STEP, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	} while (be_prompt() && GetCurrentTimestamp() < end);
}

static void
tell_expiry(void)
{
	TimestampTz again = GetCurrentTimestamp() + USECS_PER_MINUTE;
	TimestampTz next = DT_NOEND;

	if (!apikey_stats_begin_visit(again))
		return;
	if (apikey_worker_begin())
	{
		next = apikey_expiry_tell();
		apikey_worker_commit();
	}
	apikey_stats_end_visit(again, next);
}

/* Is done with each flush, after it. */
static void
keep_up(void)
{
	apikey_denial_tell();
	apikey_rehash_flush();
	if (apikey_stats_unretired() && apikey_worker_begin())
	{
		apikey_retire_found();
		apikey_worker_commit();
	}
	tell_expiry();
	apikey_credit_return_idle();
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

/* What a worker does in its database. */
static void
work(Task task)
{
	set_defaults();
	apikey_stats_reached();
	apikey_lease_serve(true);
	if (!apikey_worker_begin())
	{
		apikey_ended_found();
		return;
	}
	apikey_worker_commit();
	pgstat_report_activity(STATE_RUNNING, task == TASK_PROMPT ?
						   "apikey: leasing credits, notifying" :
						   "apikey: writing the use of keys");
	if (be_prompt())
		linger();
	if (task == TASK_FLUSH)
	{
		flush();
		keep_up();
		(void) be_prompt();
	}
}

void
apikey_flush_main(Datum arg)
{
	Task		task;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	memcpy(&task, MyBgworkerEntry->bgw_extra, sizeof(task));
	if (task == TASK_LIST)
	{
		BackgroundWorkerInitializeConnection(NULL, NULL, 0);
		apikey_stats_reached();
		list_databases();
	}
	else
	{
		BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg),
												  InvalidOid,
												  BGWORKER_BYPASS_ALLOWCONN);
		work(task);
	}
	proc_exit(0);
}

/* Once, while the library is being preloaded. */
void
apikey_worker_init(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 10;
	strlcpy(worker.bgw_library_name, "apikey", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "apikey_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikey launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikey launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
