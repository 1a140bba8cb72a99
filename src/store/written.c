/*
 * written.c
 *		The rows that certain transactions have written.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/transam.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "store/store_internal.h"

/*
 * Has one of some transactions, or a subtransaction of it, written a row?  Older
 * than the oldest of them is no row of theirs; nor is a frozen one, of which the
 * number is that of a transaction of long ago.
 */
static bool
written_by(HeapTupleHeader row, const List *writers, TransactionId oldest)
{
	TransactionId writer = HeapTupleHeaderGetRawXmin(row);

	return !HeapTupleHeaderXminFrozen(row) && TransactionIdIsNormal(writer) &&
		TransactionIdFollowsOrEquals(writer, oldest) &&
		list_member_oid(writers, SubTransGetTopmostTransaction(writer));
}

static TransactionId
oldest_of(const List *writers)
{
	TransactionId oldest = linitial_oid(writers);
	const ListCell *cell;

	foreach(cell, writers)
	{
		if (TransactionIdPrecedes(lfirst_oid(cell), oldest))
			oldest = lfirst_oid(cell);
	}
	return oldest;
}

/*
 * Visits the rows that scan keys find in an index and that some transactions have
 * written, whether or not these have committed yet.  They, at least one, were
 * running during this statement: so it is known which subtransactions they had,
 * and none of their rows is frozen yet.  A version of a row that the same
 * transaction has followed by another may be visited, too, before that.  What a
 * row points to is gone when visit returns.
 */
void
apikey_table_walk_written(const ApikeyTable *table, ApikeyRelation index,
						  const ScanKeyData *keys, int nkeys,
						  const List *writers, ApikeyVisit visit, void *state)
{
	Relation	rel = apikey_table_relation(table, AccessShareLock);
	Relation	index_rel = apikey_table_index(table, rel, index);
	TransactionId oldest = oldest_of(writers);
	SnapshotData dirty;
	ApikeyScan	scan;
	HeapTuple	tuple;
	bool		more = true;

	InitDirtySnapshot(dirty);
	apikey_scan_begin(&scan, rel, index_rel, &dirty, keys, nkeys);
	while (more && HeapTupleIsValid(tuple = apikey_scan_next(&scan, ForwardScanDirection)))
	{
		ApikeyRow	row;

		CHECK_FOR_INTERRUPTS();
		if (!written_by(tuple->t_data, writers, oldest))
			continue;
		apikey_table_deform(table, tuple, RelationGetDescr(rel), &row);
		more = visit(&row, state);
	}
	apikey_scan_end(&scan);
	apikey_table_close_index(index_rel);
	table_close(rel, NoLock);
}
