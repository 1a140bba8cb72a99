/*
 * worker.c
 *		The one worker of a member that speaks to the primary.
 *
 * It is there from consistency on, where apikey.fleet is on, and goes on after
 * a promotion: then it has nothing to do.  It is connected to no database, so
 * it stands in nobody's way; it reads what is shared by all.  If it ends, it is
 * started again.
 *
 * The log is told once when the primary answers, and once when it does not.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "fleet/member.h"

#define RESTARTED_AFTER	10		/* seconds */
#define LOOKS_EVERY		10000	/* milliseconds, without anything to do */

typedef enum Standing
{
	STANDING_UNKNOWN,
	STANDING_HEARD,
	STANDING_CUT
} Standing;

static Standing standing = STANDING_UNKNOWN;

/* The primary has answered. */
void
apikey_fleet_heard(void)
{
	if (standing != STANDING_HEARD)
		ereport(LOG,
				(errmsg("the primary of the API keys' fleet answers")));
	standing = STANDING_HEARD;
}

/* It has not. */
void
apikey_fleet_cut(const char *reason)
{
	if (standing != STANDING_CUT)
		ereport(LOG,
				(errmsg("the primary of the API keys' fleet cannot be reached"),
				 errdetail_internal("%s", reason),
				 apikey_primary_conninfo[0] != '\0' ? 0 :
				 errhint("\"apikey.primary_conninfo\" is not set, so \"primary_conninfo\" is used.")));
	standing = STANDING_CUT;
}

/* Sleeps until there is something to do. */
static void
rest(void)
{
	pgsocket	socket = PGINVALID_SOCKET;
	uint32		events = 0;
	long		timeout = RecoveryInProgress() ?
		apikey_pulse_wait(&socket, &events) : LOOKS_EVERY;

	events |= WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	(void) WaitLatchOrSocket(MyLatch, events, socket,
							 Min(timeout, LOOKS_EVERY), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
worker_ends(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	apikey_fleet_set_latch(NULL);
}

void
apikey_fleet_main(Datum arg pg_attribute_unused())
{
	ApikeyWireGet get;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	get = (ApikeyWireGet) load_external_function("apikey_fleet",
												 "apikey_fleet_wire", true,
												 NULL);
	apikey_pulse_begin(get());
	before_shmem_exit(worker_ends, (Datum) 0);
	apikey_fleet_set_latch(MyLatch);
	pgstat_report_activity(STATE_IDLE, NULL);

	while (!ShutdownRequestPending)
	{
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			apikey_pulse_stop();
		}
		if (RecoveryInProgress())
			apikey_target_list();
		apikey_pulse_step();
		rest();
	}
	apikey_pulse_stop();
	/* To be started again, unless the server ends. */
	proc_exit(1);
}

/* Once, while the library is being preloaded. */
void
apikey_fleet_init(void)
{
	BackgroundWorker worker = {0};

	if (!apikey_fleet || IsBinaryUpgrade)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = RESTARTED_AFTER;
	strlcpy(worker.bgw_library_name, "apikey", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "apikey_fleet_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikey fleet", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikey fleet", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
