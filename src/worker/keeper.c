/*
 * keeper.c
 *		The keeper: on a standby, what the launcher's workers do elsewhere.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"

#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "worker/worker_internal.h"

/*
 * On a standby: writes the file each flush interval, and looks at the peppers
 * after each reload.  Elsewhere, or once it has been promoted, this process has
 * nothing to do and ends for good.
 */
void
apikey_keeper_main(Datum arg pg_attribute_unused())
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	while (RecoveryInProgress() && !ShutdownRequestPending)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 apikey_flush_interval, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			apikey_pepper_look();
		}
		if (!ShutdownRequestPending)
			apikey_slot_file_write_standby();
	}
	if (!RecoveryInProgress())
		apikey_slot_file_remove();
	proc_exit(RecoveryInProgress() ? 1 : 0);
}

/* Once, while the library is being preloaded. */
void
apikey_keeper_init(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "apikey", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "apikey_keeper_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikey keeper", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikey keeper", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
