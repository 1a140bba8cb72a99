/*
 * step.c
 *		The transactions in which a worker does its work.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store/store_internal.h"

#define STEP_TIME	(20 * INT64CONST(1000))	/* then it looks at no more */

static TimestampTz begun_at = 0;	/* 0: in none, whose time is not bounded */

/*
 * Begins a transaction in which our tables are there, as this library knows
 * them; false without them.
 */
bool
apikey_step_begin(void)
{
	/* Else all of a process's would be told to have begun with its first. */
	SetCurrentStatementStartTimestamp();
	begun_at = GetCurrentTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (apikey_extension_usable())
		return true;
	PopActiveSnapshot();
	CommitTransactionCommand();
	return false;
}

/* Is what a step has found enough, or has it looked for so long? */
bool
apikey_step_full(int changes)
{
	return changes >= APIKEY_STEP_CHANGES ||
		(begun_at != 0 && GetCurrentTimestamp() >= begun_at + STEP_TIME);
}

void
apikey_step_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	begun_at = 0;
}
