/*
 * step.c
 *		The transactions in which a worker does its work.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/snapmgr.h"

#include "store/store_internal.h"

/*
 * Begins a transaction in which our tables are there, as this library knows
 * them; false without them.
 */
bool
apikey_step_begin(void)
{
	/* Else all of a process's would be told to have begun with its first. */
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (apikey_extension_usable())
		return true;
	PopActiveSnapshot();
	CommitTransactionCommand();
	return false;
}

void
apikey_step_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}
