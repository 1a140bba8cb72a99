/*
 * catalog_row.c
 *		Locking a row of the server's own catalogs, to be changed.
 *
 * The server's commands lock none that they change, or by a lock of the tuple
 * that ends with the command: of two that change one row at once the later one
 * fails ("tuple concurrently updated").  What we change is locked as rows of
 * tables are, to the end of the transaction: whoever changes it now is waited
 * for, and whoever comes later waits for us.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "store/store_internal.h"

/*
 * Locks the row that stands at a place, as GRANT does too, so that nobody
 * changes it in its place, and as a row; whoever has it is waited for first, by
 * name.  False where it is not the latest any more: *other has made it so.
 */
static bool
lock_place(Relation rel, ItemPointer where, TransactionId *other)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TM_FailureData failure;
	TM_Result	result;

	apikey_wait_again();
	LockTuple(rel, where, ExclusiveLock);
	while (apikey_wait_row(rel, where, LockTupleNoKeyExclusive))
		;
	result = table_tuple_lock(rel, where, SnapshotAny, slot,
							  GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive, LockWaitBlock, 0,
							  &failure);
	ExecDropSingleTupleTableSlot(slot);
	if (result == TM_Ok)
		return true;
	UnlockTuple(rel, where, ExclusiveLock);
	if (result != TM_Updated && result != TM_Deleted)
		elog(ERROR, "unexpected table_tuple_lock status: %u", result);
	*other = failure.xmax;
	return false;
}

/* Finds a row, as committed now, and locks it; NULL for none. */
static HeapTuple
lock_latest(Relation rel, Oid index, ScanKey key, TransactionId *other)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(rel, index, true, snapshot, 1, key);
	HeapTuple	tuple = systable_getnext(scan);

	/* What the scan has found stays where it is until it ends. */
	*other = InvalidTransactionId;
	if (HeapTupleIsValid(tuple))
	{
		tuple = heap_copytuple(tuple);
		(void) lock_place(rel, &tuple->t_self, other);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	return tuple;
}

/*
 * Locks the row of an object in a catalog, which its column of OIDs and that
 * one's index find, and copies it; NULL where there is none any more.  Within
 * apikey_wait_bounded.  Where it stands stays locked, too, until UnlockTuple.
 */
HeapTuple
apikey_catalog_row_lock(Relation rel, Oid index, AttrNumber column, Oid object)
{
	ScanKeyData key;
	TransactionId other;
	HeapTuple	tuple;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(object));
	while (HeapTupleIsValid(tuple = lock_latest(rel, index, &key, &other)) &&
		   TransactionIdIsValid(other))
		/* Its changes are seen before it has ended for those who wait. */
		apikey_wait(RelationGetRelationName(rel), other);
	return tuple;
}
