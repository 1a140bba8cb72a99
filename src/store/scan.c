/*
 * scan.c
 *		Scans of our tables, of which their caller sees no count.
 *
 * Whoever calls a function with a path, an id or a text that it may know
 * nothing of is answered as for one that is not there.  What was read to decide
 * so must not tell it either: PostgreSQL counts rows and pages by table and
 * index, and shows them to everybody (pg_stat_xact_all_tables,
 * pg_stat_all_tables, pg_statio_all_tables, EXPLAIN's BUFFERS).  So what is
 * read here counts nowhere; what is written does, as vacuum goes by it.  In a
 * session that a superuser has begun, and in the worker, all of it counts: who
 * has another's role there has it from one who may see everything.
 *
 * Nothing is left uncounted for longer than one of these calls, which restore
 * what they found after an error too.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/toast_internals.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "executor/instrument.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

#include "compat.h"
#include "store/store_internal.h"

/* What counts the reading of a relation. */
typedef struct Counter
{
	Relation	rel;
	struct PgStat_TableStatus *info;
	bool		enabled;
} Counter;

/* What is not counted now, and what it is to return to. */
typedef struct Uncounted
{
	Counter		counters[2];
	int			count;
	bool		track_counts;
	BufferUsage buffers;
} Uncounted;

static void
stop_counting(Uncounted *uncounted, Relation rel)
{
	Counter    *counter = &uncounted->counters[uncounted->count++];

	counter->rel = rel;
	counter->info = rel->pgstat_info;
	counter->enabled = rel->pgstat_enabled;
	rel->pgstat_info = NULL;
	rel->pgstat_enabled = false;
}

static void
begin_uncounted(Uncounted *uncounted, Relation rel, Relation index)
{
	uncounted->count = 0;
	if (superuser_arg(GetSessionUserId()))
		return;
	uncounted->buffers = pgBufferUsage;
	/* To be opened once more would begin to count. */
	uncounted->track_counts = pgstat_track_counts;
	pgstat_track_counts = false;
	stop_counting(uncounted, rel);
	if (index != NULL)
		stop_counting(uncounted, index);
}

static void
end_uncounted(const Uncounted *uncounted)
{
	if (uncounted->count == 0)
		return;
	pgBufferUsage = uncounted->buffers;
	pgstat_track_counts = uncounted->track_counts;
	for (int i = 0; i < uncounted->count; i++)
	{
		const Counter *counter = &uncounted->counters[i];

		counter->rel->pgstat_info = counter->info;
		counter->rel->pgstat_enabled = counter->enabled;
	}
}

/*
 * Can an index be scanned by keys that have the numbers of the table's columns?
 * Whoever owns the schema may have dropped ours and made another of its name.
 */
bool
apikey_scan_fits(Relation index, const ScanKeyData *keys, int nkeys)
{
	const FormData_pg_index *about = index->rd_index;
	int			column = 0;

	/* One that REINDEX CONCURRENTLY is replacing is not valid, but whole. */
	if (index->rd_rel->relam != BTREE_AM_OID)
		return false;
	for (int i = 0; i < nkeys; i++)
	{
		while (column < about->indnkeyatts &&
			   about->indkey.values[column] != keys[i].sk_attno)
			column++;
		if (column == about->indnkeyatts || (i == 0 && column > 0))
			return false;
	}
	return true;
}

/* Raises that it cannot. */
void
apikey_scan_refuse(Relation index)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("index \"%s\" is not as extension \"apikey\" makes it",
					RelationGetRelationName(index)),
			 errhint("Drop it; a superuser can make it as the extension's script does.")));
}

/* Raises where it cannot. */
void
apikey_scan_require(Relation index, const ScanKeyData *keys, int nkeys)
{
	if (!apikey_scan_fits(index, keys, nkeys))
		apikey_scan_refuse(index);
}

/*
 * Begins a scan in an index's order, or of a whole table where that is NULL,
 * with keys that have the numbers of the table's columns.  They are copied:
 * some servers write the index's numbers into them.
 */
void
apikey_scan_begin(ApikeyScan *scan, Relation rel, Relation index,
				  Snapshot snapshot, const ScanKeyData *keys, int nkeys)
{
	ScanKeyData copy[INDEX_MAX_KEYS];
	Uncounted	uncounted;

	if (nkeys > INDEX_MAX_KEYS)
		elog(ERROR, "too many scan keys");
	if (index != NULL)
		apikey_scan_require(index, keys, nkeys);
	for (int i = 0; i < nkeys; i++)
		copy[i] = keys[i];
	scan->rel = rel;
	scan->index = index;
	begin_uncounted(&uncounted, rel, index);
	PG_TRY();
	{
		scan->scan = index != NULL ?
			systable_beginscan_ordered(rel, index, snapshot, nkeys, copy) :
			systable_beginscan(rel, InvalidOid, false, snapshot, nkeys, copy);
	}
	PG_FINALLY();
	{
		end_uncounted(&uncounted);
	}
	PG_END_TRY();
}

/*
 * The same for a worker's way through an index, which reads its entries itself,
 * with what they hold.
 */
void
apikey_scan_begin_entries(ApikeyScan *scan, Relation rel, Relation index,
						  Snapshot snapshot, const ScanKeyData *keys, int nkeys)
{
	IndexScanDesc of_index;

	apikey_scan_begin(scan, rel, index, snapshot, keys, nkeys);
	of_index = scan->scan->iscan;
	of_index->xs_want_itup = true;
	index_rescan(of_index, of_index->keyData, of_index->numberOfKeys, NULL, 0);
}

/* The next row, or NULL.  A whole table has no order. */
HeapTuple
apikey_scan_next(ApikeyScan *scan, ScanDirection direction)
{
	Uncounted	uncounted;
	volatile HeapTuple tuple = NULL;

	begin_uncounted(&uncounted, scan->rel, scan->index);
	PG_TRY();
	{
		tuple = scan->index == NULL ? systable_getnext(scan->scan) :
			systable_getnext_ordered(scan->scan, direction);
	}
	PG_FINALLY();
	{
		end_uncounted(&uncounted);
	}
	PG_END_TRY();
	return tuple;
}

/*
 * Is there a row in an index that a snapshot shows, or so many entries of rows
 * that are gone, with which the index ends, that there may be one before them?
 * *own: the row is our own transaction's.
 */
bool
apikey_scan_any(Relation rel, Relation index, Snapshot snapshot, int most,
				bool *own)
{
	Uncounted	uncounted;
	volatile bool any = false;

	*own = false;
	begin_uncounted(&uncounted, rel, index);
	PG_TRY();
	{
		TupleTableSlot *slot = table_slot_create(rel, NULL);
		IndexScanDesc scan = apikey_index_beginscan(rel, index, snapshot, 0);

		int			left = most;

		index_rescan(scan, NULL, 0, NULL, 0);
		while (!any && index_getnext_tid(scan, BackwardScanDirection) != NULL)
		{
			CHECK_FOR_INTERRUPTS();
			any = index_fetch_heap(scan, slot);
			if (any)
				*own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(ExecFetchSlotHeapTuple(slot, false, NULL)->t_data));
			else
				any = --left == 0;
		}
		index_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
	}
	PG_FINALLY();
	{
		end_uncounted(&uncounted);
	}
	PG_END_TRY();
	return any;
}

/*
 * The next row among so many entries of an index, from which those are taken off
 * that were looked at; NULL where none is found before they are used up.
 */
HeapTuple
apikey_scan_next_among(ApikeyScan *scan, int *entries)
{
	IndexScanDesc of_index = scan->scan->iscan;
	TupleTableSlot *slot = scan->scan->slot;
	Uncounted	uncounted;
	volatile HeapTuple tuple = NULL;

	begin_uncounted(&uncounted, scan->rel, scan->index);
	PG_TRY();
	{
		while (tuple == NULL && *entries > 0 &&
			   index_getnext_tid(of_index, ForwardScanDirection) != NULL)
		{
			CHECK_FOR_INTERRUPTS();
			--*entries;
			if (index_fetch_heap(of_index, slot))
				tuple = ExecFetchSlotHeapTuple(slot, false, NULL);
		}
	}
	PG_FINALLY();
	{
		end_uncounted(&uncounted);
	}
	PG_END_TRY();
	return tuple;
}

/* Begins anew, for other values of the same columns; no row is pinned until then. */
void
apikey_scan_again(ApikeyScan *scan, const ScanKeyData *keys)
{
	IndexScanDesc of_index = scan->scan->iscan;

	for (int i = 0; i < of_index->numberOfKeys; i++)
		of_index->keyData[i].sk_argument = keys[i].sk_argument;
	ExecClearTuple(scan->scan->slot);
	index_rescan(of_index, of_index->keyData, of_index->numberOfKeys, NULL, 0);
}

/* Relations are the caller's to close. */
void
apikey_scan_end(ApikeyScan *scan)
{
	if (scan->index == NULL)
		systable_endscan(scan->scan);
	else
		systable_endscan_ordered(scan->scan);
}

/* What a table's long values are stored in beside it, while it is open. */
typedef struct Toast
{
	Relation	rel;
	Relation   *indexes;
	int			count;
	int			valid;			/* of these, the one that is read */
	List	   *locked;			/* indexes, which may be others */
} Toast;

/*
 * Opens it, and locks its indexes, as they are then; false where there is none, or
 * it is passed over.
 */
static bool
begin_toast(Toast *toast, Relation rel)
{
	const char *name = RelationGetRelationName(rel);
	Oid			relid = rel->rd_rel->reltoastrelid;
	int			locked = 0;

	if (!OidIsValid(relid) || !apikey_relation_lock(name, relid, AccessShareLock))
		return false;
	toast->rel = table_open(relid, NoLock);
	toast->locked = RelationGetIndexList(toast->rel);
	while (locked < list_length(toast->locked) &&
		   apikey_relation_lock(name, list_nth_oid(toast->locked, locked),
								AccessShareLock))
		locked++;
	if (locked == list_length(toast->locked))
	{
		/* There may be another by now. */
		toast->valid = toast_open_indexes(toast->rel, AccessShareLock,
										  &toast->indexes, &toast->count);
		return true;
	}
	while (locked-- > 0)
		UnlockRelationOid(list_nth_oid(toast->locked, locked), AccessShareLock);
	table_close(toast->rel, AccessShareLock);
	return false;
}

static void
end_toast(const Toast *toast)
{
	ListCell   *cell;

	toast_close_indexes(toast->indexes, toast->count, AccessShareLock);
	foreach(cell, toast->locked)
		UnlockRelationOid(lfirst_oid(cell), AccessShareLock);
	table_close(toast->rel, AccessShareLock);
}

/* Opens what a copy of a row with long values would open. */
void
apikey_scan_prepare_copy(Relation rel)
{
	Toast		toast;

	if (begin_toast(&toast, rel))
		end_toast(&toast);
}

/*
 * Copies a row, with what its long values are stored in beside the table.  That
 * does not stay locked: it would tell of a row that has such values.  NULL, for
 * whoever reads leniently, where somebody keeps us from them.
 */
HeapTuple
apikey_scan_copy(Relation rel, HeapTuple tuple)
{
	Toast		toast;
	Uncounted	uncounted;
	volatile HeapTuple copy = NULL;

	if (!HeapTupleHasExternal(tuple))
		return heap_copytuple(tuple);
	if (!begin_toast(&toast, rel))
		return NULL;
	begin_uncounted(&uncounted, toast.rel, toast.indexes[toast.valid]);
	PG_TRY();
	{
		copy = toast_flatten_tuple(tuple, RelationGetDescr(rel));
	}
	PG_FINALLY();
	{
		end_uncounted(&uncounted);
	}
	PG_END_TRY();
	end_toast(&toast);
	return copy;
}

/* Where a row is that a scan has found and not left. */
void
apikey_scan_hint(const ApikeyScan *scan, HeapTuple tuple, ApikeyRowHint *hint)
{
	hint->block = ItemPointerGetBlockNumber(&tuple->t_self);
	hint->offset = ItemPointerGetOffsetNumber(&tuple->t_self);
	hint->buffer = ((BufferHeapTupleTableSlot *) scan->scan->slot)->buffer;
}

/*
 * Pins the block in which a row was; false where there is none such.  Who cuts
 * off a table's end, or makes it anew, waits for our lock of it.
 */
static bool
pin_block(Relation rel, ApikeyRowHint *hint)
{
	if (ReadRecentBuffer(apikey_relation_file(rel), MAIN_FORKNUM, hint->block,
						 hint->buffer))
		return true;
	if (hint->block >= RelationGetNumberOfBlocks(rel))
		return false;
	hint->buffer = ReadBuffer(rel, hint->block);
	return true;
}

/* Is the row of an id where it was, in a pinned block, for a snapshot to see? */
static bool
is_there(Relation rel, const pg_uuid_t *id, Snapshot snapshot,
		 const ApikeyRowHint *hint, HeapTuple tuple)
{
	Page		page = BufferGetPage(hint->buffer);
	bool		there = false;
	bool		isnull;
	Datum		first;

	LockBuffer(hint->buffer, BUFFER_LOCK_SHARE);
	if (hint->offset <= PageGetMaxOffsetNumber(page) &&
		ItemIdIsNormal(PageGetItemId(page, hint->offset)))
	{
		ItemId		item = PageGetItemId(page, hint->offset);

		tuple->t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple->t_len = ItemIdGetLength(item);
		tuple->t_tableOid = RelationGetRelid(rel);
		ItemPointerSet(&tuple->t_self, hint->block, hint->offset);
		first = heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull);
		there = !isnull &&
			memcmp(DatumGetUUIDP(first), id, sizeof(pg_uuid_t)) == 0 &&
			HeapTupleSatisfiesVisibility(tuple, snapshot, hint->buffer);
	}
	LockBuffer(hint->buffer, BUFFER_LOCK_UNLOCK);
	return there;
}

/*
 * The row of an id, of a table whose first column that is, copied, if a
 * snapshot shows it where it was; else NULL.  Of the versions of a row a
 * snapshot shows one, so it is the one that the index leads to.  What a
 * serializable transaction reads is found by the index, which notes that it
 * was.
 */
HeapTuple
apikey_scan_hinted(Relation rel, const pg_uuid_t *id, Snapshot snapshot,
				   ApikeyRowHint *hint)
{
	Uncounted	uncounted;
	HeapTupleData tuple;
	volatile bool pinned = false;
	volatile bool there = false;
	HeapTuple	copy;

	if (hint->offset == InvalidOffsetNumber || IsolationIsSerializable())
		return NULL;
	begin_uncounted(&uncounted, rel, NULL);
	PG_TRY();
	{
		pinned = pin_block(rel, hint);
		there = pinned && is_there(rel, id, snapshot, hint, &tuple);
	}
	PG_FINALLY();
	{
		end_uncounted(&uncounted);
	}
	PG_END_TRY();
	copy = there ? apikey_scan_copy(rel, &tuple) : NULL;
	if (pinned)
		ReleaseBuffer(hint->buffer);
	return copy;
}
