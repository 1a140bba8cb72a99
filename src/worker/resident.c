/*
 * resident.c
 *		The worker of a database where the library is not preloaded.
 *
 * It carries what its database's sessions have gathered in memory into the
 * tables, each apikey.flush_interval, and ends after the last of them: see
 * dynamic_worker.c.  Nothing that is in memory then outlives a stop.  So at a
 * stop it waits until the sessions have ended, and breaks off no step; and it
 * waits for no standby, which may be gone already.
 *
 * It would stand in the way of DROP DATABASE and of copies: it goes when
 * somebody has the database locked and nobody else is there.
 */
#include "postgres.h"

#include "access/xact.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"

#include "store/store.h"
#include "memory/memory.h"
#include "worker/worker_internal.h"

#define LOOK_AROUND		100		/* milliseconds, while nobody is here */
#define ENDING_MAX		(10 * USECS_PER_SEC)	/* for sessions to end */

/* Databases that were dropped by somebody who does not know of us. */
static void
forget_dropped(void)
{
	List	   *databases = NIL;

	for (int i = 0; i < apikey_slot_count(); i++)
	{
		const ApikeySlot *slot = apikey_slot_at(i);

		if (slot->used)
			databases = list_append_unique_oid(databases, slot->key.database);
	}
	StartTransactionCommand();
	apikey_memory_forget_gone(databases);
	CommitTransactionCommand();
	list_free(databases);
}

/* Writes all there is; false where our tables are not here any more. */
static bool
serve(bool all)
{
	uint64		requests = apikey_dynamic_requests();

	forget_dropped();
	if (!apikey_worker_extension_here())
	{
		apikey_worker_forget_this();
		apikey_dynamic_done(requests);
		return false;
	}
	apikey_stage_begin_dynamic(all || requests > 0);
	for (int i = 0; i < APIKEY_STAGES; i++)
	{
		bool		first = true;

		while (apikey_stage_runs(i) && apikey_stage_step(&apikey_stages[i], first))
			first = false;
	}
	apikey_dynamic_done(requests);
	return true;
}

/* Waits for something to do: true where the database is to be left. */
static bool
wait_for_work(void)
{
	TimestampTz began_at = GetCurrentTimestamp();
	TimestampTz ending_at = 0;
	uint32		changes;

	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		bool		alone = apikey_dynamic_alone(&changes);
		long		timeout;

		/* The clock may have been set back. */
		began_at = Min(began_at, now);
		timeout = TimestampDifferenceMilliseconds(now,
												  TimestampTzPlusMilliseconds(began_at, apikey_flush_interval));
		if (ShutdownRequestPending && ending_at == 0)
			ending_at = now + ENDING_MAX;
		if (ending_at != 0 && (alone || now >= ending_at))
			return true;
		if (alone && apikey_worker_database_wanted())
			return true;
		if (ending_at == 0 && (timeout <= 0 || apikey_dynamic_requests() > 0))
			return false;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 alone || ending_at != 0 ? Min(LOOK_AROUND, Max(timeout, 1)) : timeout,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

void
apikey_resident_main(Datum arg)
{
	uint32		number;
	uint32		changes;
	bool		leaving = false;

	memcpy(&number, MyBgworkerEntry->bgw_extra, sizeof(number));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* From the start: what has been gathered already is to be written. */
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid,
											  BGWORKER_BYPASS_ALLOWCONN);
	if (!apikey_dynamic_begin(number))
		proc_exit(0);
	apikey_worker_set_defaults();
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);

	/* Who has come while it was written has more to be written. */
	do
	{
		leaving = wait_for_work();
		(void) apikey_dynamic_alone(&changes);
	} while (serve(leaving) && !apikey_dynamic_leave(changes) &&
			 !(leaving && ShutdownRequestPending));
	proc_exit(0);
}
