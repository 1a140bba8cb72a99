/*
 * holder.c
 *		Whom a change has waited for, to be told where it has waited too long.
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"

#include "store/store_internal.h"

static int	holder = 0;

/* The process that was waited for last, 0 where it is not known. */
int
apikey_holder(void)
{
	return holder;
}

/* Notes whose a transaction is that is about to be waited for; invalid: none. */
void
apikey_holder_note(TransactionId other)
{
	holder = TransactionIdIsNormal(other) && TransactionIdIsInProgress(other) ?
		BackendXidGetPid(SubTransGetTopmostTransaction(other)) : 0;
}

/* Waits until a transaction has ended. */
void
apikey_holder_wait(TransactionId other)
{
	apikey_holder_note(other);
	XactLockTableWait(other, NULL, NULL, XLTW_None);
}
