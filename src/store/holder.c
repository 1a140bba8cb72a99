/*
 * holder.c
 *		Who has a row: whom a change has waited for, to be told where it has
 *		waited too long, and whether it would have to wait.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/multixact.h"
#include "access/subtrans.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"

#include "compat.h"
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

/* How whoever alone has a row has it, by the row's bits. */
static MultiXactStatus
status_of(uint16 infomask, uint16 infomask2)
{
	bool		keys = (infomask2 & HEAP_KEYS_UPDATED) != 0;

	if (!HEAP_XMAX_IS_LOCKED_ONLY(infomask))
		return keys ? MultiXactStatusUpdate : MultiXactStatusNoKeyUpdate;
	if (HEAP_XMAX_IS_KEYSHR_LOCKED(infomask))
		return MultiXactStatusForKeyShare;
	if (HEAP_XMAX_IS_SHR_LOCKED(infomask))
		return MultiXactStatusForShare;
	return keys ? MultiXactStatusForUpdate : MultiXactStatusForNoKeyUpdate;
}

/* Does one who has a row keep it from who wants it? */
static bool
in_the_way(const MultiXactMember *member, LockTupleMode mode)
{
	/* As heapam.c has it. */
	static const LOCKMODE wanted[] = {
		[LockTupleKeyShare] = AccessShareLock,
		[LockTupleShare] = RowShareLock,
		[LockTupleNoKeyExclusive] = ExclusiveLock,
		[LockTupleExclusive] = AccessExclusiveLock
	};
	static const LOCKMODE held[] = {
		[MultiXactStatusForKeyShare] = AccessShareLock,
		[MultiXactStatusForShare] = RowShareLock,
		[MultiXactStatusForNoKeyUpdate] = ExclusiveLock,
		[MultiXactStatusForUpdate] = AccessExclusiveLock,
		[MultiXactStatusNoKeyUpdate] = ExclusiveLock,
		[MultiXactStatusUpdate] = AccessExclusiveLock
	};

	/* Whoever has updated a later version is waited for, whatever the mode. */
	return (ISUPDATE_from_mxstatus(member->status) ||
			DoLockModesConflict(held[member->status], wanted[mode])) &&
		!TransactionIdIsCurrentTransactionId(member->xid) &&
		TransactionIdIsInProgress(member->xid);
}

/*
 * The first of those who have the row that stands there and keep it from us;
 * invalid for none.
 */
TransactionId
apikey_row_holder(Relation rel, const ItemPointerData *where,
				  LockTupleMode mode)
{
	Buffer		buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(where));
	Page		page;
	ItemId		item;
	MultiXactMember alone = {.xid = InvalidTransactionId};
	MultiXactMember *members = &alone;
	int			count = 1;
	uint16		infomask = 0;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, ItemPointerGetOffsetNumber(where));
	if (ItemIdIsNormal(item))
	{
		HeapTupleHeader row = (HeapTupleHeader) PageGetItem(page, item);

		alone.xid = HeapTupleHeaderGetRawXmax(row);
		infomask = row->t_infomask;
		alone.status = status_of(infomask, row->t_infomask2);
	}
	UnlockReleaseBuffer(buffer);
	if ((infomask & HEAP_XMAX_IS_MULTI) != 0)
		count = GetMultiXactIdMembers(alone.xid, &members, false,
									  HEAP_XMAX_IS_LOCKED_ONLY(infomask));
	for (int i = 0; i < count; i++)
	{
		if (in_the_way(&members[i], mode))
			return members[i].xid;
	}
	return InvalidTransactionId;
}

/* Notes who has a lock that one of a mode would conflict with; false for nobody. */
static bool
note_conflict(const LOCKTAG *tag, LOCKMODE mode)
{
	VirtualTransactionId *first = GetLockConflicts(tag, mode, NULL);
	bool		found = VirtualTransactionIdIsValid(*first);
	PGPROC	   *proc = found ? apikey_vxid_proc(*first) : NULL;

	/* One that is prepared has none, and goes on by the same name. */
	holder = proc != NULL && apikey_proc_lxid(proc) == first->localTransactionId ?
		proc->pid : 0;
	pfree(first);
	return found;
}

/*
 * Notes who has a lock that is waited for or, where nobody is in the way but who
 * waits himself, one whom that one waits for.
 */
void
apikey_holder_note_lock(const LOCKTAG *tag, LOCKMODE mode)
{
	if (!note_conflict(tag, mode))
		(void) note_conflict(tag, AccessExclusiveLock);
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
