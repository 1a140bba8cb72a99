/*
 * holder.c
 *		Who has a row: whom a change has waited for, to be told where it has
 *		waited too long, and whether it would have to wait.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/subtrans.h"
#include "storage/bufmgr.h"
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

/*
 * Has somebody the row that stands there, or is it not what a change may change
 * any more?  Nothing is waited for, and nobody is kept from taking it next.
 */
bool
apikey_row_held(Relation rel, const ItemPointerData *where, CommandId cid)
{
	Buffer		buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(where));
	HeapTupleData tuple = {.t_self = *where,.t_tableOid = RelationGetRelid(rel)};
	Page		page;
	ItemId		item;
	bool		held = true;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, ItemPointerGetOffsetNumber(where));
	if (ItemIdIsNormal(item))
	{
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		held = HeapTupleSatisfiesUpdate(&tuple, cid, buffer) != TM_Ok;
	}
	UnlockReleaseBuffer(buffer);
	return held;
}
