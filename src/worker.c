/*
 * worker.c
 *		Carrying what was gathered into the tables.
 *
 * A launcher, connected to no database, looks each apikey.flush_interval which
 * databases have something to flush, and starts for one after the other a
 * worker that connects, writes one row a key in one transaction, and is gone:
 * one that stayed would stand in the way of DROP DATABASE.  Where no worker
 * slot is free, or on a standby, counts wait.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "foreign.h"
#include "usage.h"

/* Runs the worker of a database to its end; false where none could start. */
static bool
flush_database(Oid database)
{
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "apikey", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "apikey_flush_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikey flush", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikey flush", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
	return WaitForBackgroundWorkerShutdown(handle) == BGWH_STOPPED;
}

static void
flush_all(void)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext,
												  "apikey launcher",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	ListCell   *cell;

	foreach(cell, list_concat_unique_oid(apikey_usage_databases(),
										 apikey_rehash_databases()))
	{
		if (ShutdownRequestPending || !flush_database(lfirst_oid(cell)))
			break;
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

void
apikey_launcher_main(Datum arg pg_attribute_unused())
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	/* Without a database it would be ignored, and with it a worker's end. */
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	BackgroundWorkerUnblockSignals();

	while (!ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 apikey_flush_interval, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (!ShutdownRequestPending)
			flush_all();
	}
	proc_exit(0);
}

static ArrayType *
column_array(Datum *values, bool *nulls, int count, Oid type, int typlen,
			 bool typbyval, char typalign)
{
	int			dims = count;
	int			lower = 1;

	return construct_md_array(values, nulls, 1, &dims, &lower, type, typlen,
							  typbyval, typalign);
}

/* Adds what was collected to the rows of keys that are still there. */
static void
write_uses(List *uses)
{
	static const char sql[] =
	"INSERT INTO %s.apikey_usage AS u"
	" (id, use_count, denied_count, last_used_at, last_used_addr)"
	" SELECT n.* FROM unnest($1, $2, $3, $4, $5)"
	" AS n (id, use_count, denied_count, last_used_at, last_used_addr)"
	" JOIN %s.apikey_key k ON k.id = n.id ORDER BY n.id"
	" ON CONFLICT (id) DO UPDATE SET"
	" use_count = u.use_count + excluded.use_count,"
	" denied_count = u.denied_count + excluded.denied_count,"
	" last_used_at = greatest(u.last_used_at, excluded.last_used_at),"
	" last_used_addr = coalesce(excluded.last_used_addr, u.last_used_addr)";
	int			count = list_length(uses);
	Datum	   *columns[5];
	bool	   *nulls[5];
	Oid			types[5] = {UUIDARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	TIMESTAMPTZARRAYOID, INETARRAYOID};
	Datum		values[5];
	const char *schema = apikey_catalog()->schema;

	for (int i = 0; i < 5; i++)
	{
		columns[i] = palloc(count * sizeof(Datum));
		nulls[i] = palloc0(count * sizeof(bool));
	}
	for (int i = 0; i < count; i++)
	{
		ApikeyUse  *use = list_nth(uses, i);

		columns[0][i] = UUIDPGetDatum(&use->id);
		columns[1][i] = Int64GetDatum((int64) use->uses);
		columns[2][i] = Int64GetDatum((int64) use->denials);
		columns[3][i] = TimestampTzGetDatum(use->last_used_at);
		nulls[3][i] = use->last_used_at == 0;
		columns[4][i] = use->has_addr ? apikey_usage_addr(use) : (Datum) 0;
		nulls[4][i] = !use->has_addr;
	}
	values[0] = PointerGetDatum(column_array(columns[0], nulls[0], count, UUIDOID,
											 UUID_LEN, false, TYPALIGN_CHAR));
	values[1] = PointerGetDatum(column_array(columns[1], nulls[1], count, INT8OID,
											 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[2] = PointerGetDatum(column_array(columns[2], nulls[2], count, INT8OID,
											 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[3] = PointerGetDatum(column_array(columns[3], nulls[3], count,
											 TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL,
											 TYPALIGN_DOUBLE));
	values[4] = PointerGetDatum(column_array(columns[4], nulls[4], count, INETOID,
											 -1, false, TYPALIGN_INT));
	if (SPI_execute_with_args(psprintf(sql, schema, schema), 5, types, values,
							  NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write the use of API keys");
}

void
apikey_flush_main(Datum arg)
{
	List	   *uses;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid,
											  BGWORKER_BYPASS_ALLOWCONN);
	pgstat_report_activity(STATE_RUNNING, "apikey: writing the use of keys");

	/* Collected outside the transaction, to be there after its commit. */
	uses = apikey_usage_collect(MyDatabaseId);
	StartTransactionCommand();
	if (OidIsValid(get_extension_oid("apikey", true)))
	{
		ApikeyStorage storage;

		PushActiveSnapshot(GetTransactionSnapshot());
		apikey_storage_open(&storage);
		write_uses(uses);
		apikey_storage_close(&storage);
		PopActiveSnapshot();
	}

	CommitTransactionCommand();
	apikey_usage_flushed(uses);
	apikey_rehash_flush();
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
