/*
 * storage.c
 *		Writing to our own tables, as their owner.
 *
 * Whoever calls has decided already that the change may be made.  While a row
 * is written, and its triggers run, the user is the tables' owner and the
 * search path is fixed.  Both return to what they were when it is written or,
 * after an error, when the (sub)transaction aborts.
 *
 * Nothing in here has a text of SQL, nor a name: the owner of the tables may
 * be a superuser, and the owner of their schema, who may rename it at any
 * time, would choose what a name leads to.  Tables and indexes are those of
 * the OIDs that catalog.c has found, and rows are written as an apply worker
 * writes them: indexes, constraints and row triggers have their due, triggers
 * on a statement or on a list of columns do not fire.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "store/store_internal.h"

struct ApikeyWriter
{
	Relation	rel;
	ApikeyRelation table;
	EState	   *estate;
	ResultRelInfo *target;
	EPQState	epq;
	ApikeyIndexes *indexes;		/* NULL: not open */
	TupleTableSlot *locked;		/* the row that is locked, to be written */
	ItemPointerData seen;		/* where it stands, if it is not locked */
	Snapshot	snapshot;		/* by which rows are seen; NULL: none yet */
	ApikeyScan	seeing;			/* what finds them */
	TupleTableSlot *row;		/* what is written */
};

/*
 * What is written is found as a statement of the transaction's isolation level
 * would find it, with all that this transaction has done until now.
 */
static Snapshot
statement_snapshot(void)
{
	CommandCounterIncrement();
	return RegisterSnapshot(IsolationUsesXactSnapshot() ?
							GetTransactionSnapshot() : GetLatestSnapshot());
}

/* Finds the first row of an index that has the keys: where it stands. */
static bool
find_first(Relation rel, Relation index, const ScanKeyData *keys, int nkeys,
		   Snapshot snapshot, ItemPointer where)
{
	ApikeyScan	scan;
	HeapTuple	tuple;

	apikey_scan_begin(&scan, rel, index, snapshot, keys, nkeys);
	tuple = apikey_scan_next(&scan, ForwardScanDirection);
	if (HeapTupleIsValid(tuple))
		*where = tuple->t_self;
	apikey_scan_end(&scan);
	return HeapTupleIsValid(tuple);
}

/* Has a row, in a later version than was found, the keys still? */
static bool
keys_hold(TupleTableSlot *slot, const ScanKeyData *keys, int nkeys)
{
	for (int i = 0; i < nkeys; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, keys[i].sk_attno, &isnull);

		if (isnull ||
			!DatumGetBool(FunctionCall2Coll(unconstify(FmgrInfo *,
													   &keys[i].sk_func),
											keys[i].sk_collation,
											value, keys[i].sk_argument)))
			return false;
	}
	return true;
}

pg_noreturn static void
refuse_concurrent(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent %s", what)));
}

/*
 * Locks the row that stands at a place; those who have it are waited for one by
 * one, as table_tuple_lock would wait for each for all of lock_timeout.
 */
static TM_Result
lock_waiting(Relation rel, ItemPointer where, Snapshot snapshot,
			 LockTupleMode mode, bool skip, TupleTableSlot *slot,
			 TM_FailureData *failure)
{
	CommandId	command = GetCurrentCommandId(false);
	uint8		flags = IsolationUsesXactSnapshot() ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	LockWaitPolicy policy = LockWaitSkip;

	/* Who keeps a row keeps the versions that others have made of it, too. */
	if (mode == LockTupleKeyShare)
		flags |= TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
	apikey_holder_note(InvalidTransactionId);
	for (;;)
	{
		ItemPointerData at = *where;
		TM_Result	result = table_tuple_lock(rel, &at, snapshot, slot, command,
											  mode, policy, flags, failure);

		if (result != TM_WouldBlock || skip)
			return result;
		if (!apikey_wait_row(rel, &at, mode))
			policy = LockWaitBlock;
	}
}

/* Locks the latest version of the row that stands at a place. */
static bool
lock_at(Relation rel, ItemPointer where, Snapshot snapshot, ApikeyLock lock,
		TupleTableSlot *slot, bool *moved)
{
	static const LockTupleMode modes[] = {
		[APIKEY_LOCK_KEEP] = LockTupleKeyShare,
		[APIKEY_LOCK_CHANGE] = LockTupleNoKeyExclusive,
		[APIKEY_LOCK_CHANGE_SKIP] = LockTupleNoKeyExclusive,
		[APIKEY_LOCK_UPDATE] = LockTupleExclusive,
		[APIKEY_LOCK_UPDATE_SKIP] = LockTupleExclusive
	};
	bool		skip = lock == APIKEY_LOCK_UPDATE_SKIP || lock == APIKEY_LOCK_CHANGE_SKIP;
	TM_FailureData failure;
	TM_Result	result = lock_waiting(rel, where, snapshot, modes[lock], skip, slot, &failure);

	*moved = failure.traversed;
	switch (result)
	{
		case TM_Ok:
			return true;
		case TM_Updated:
			refuse_concurrent("update");
		case TM_Deleted:
			if (IsolationUsesXactSnapshot())
				refuse_concurrent("delete");
			return false;
		case TM_SelfModified:	/* by the statement that we are called from */
		case TM_WouldBlock:
			return false;
		default:
			elog(ERROR, "unexpected table_tuple_lock status: %u", result);
	}
}

/*
 * Locks the row that the keys, of equality, find in an index, to the end of
 * the transaction, and puts its latest version into a slot of the table's own
 * kind; false where there is none or, to skip it, somebody has it.
 */
bool
apikey_storage_lock(Relation rel, Relation index, const ScanKeyData *keys,
					int nkeys, ApikeyLock lock, TupleTableSlot *slot)
{
	Snapshot	snapshot;
	ItemPointerData where;
	bool		moved = false;
	bool		found;

	PreventCommandIfReadOnly("SELECT FOR UPDATE");
	PreventCommandIfParallelMode("SELECT FOR UPDATE");
	snapshot = statement_snapshot();
	found = find_first(rel, index, keys, nkeys, snapshot, &where) &&
		lock_at(rel, &where, snapshot, lock, slot, &moved);
	UnregisterSnapshot(snapshot);
	return found && (!moved || keys_hold(slot, keys, nkeys));
}

/*
 * Is there no row of the keys in an index, not even one that another
 * transaction has made and may yet roll back?
 */
bool
apikey_storage_absent(Relation rel, Relation index, const ScanKeyData *keys,
					  int nkeys)
{
	SnapshotData dirty;
	ItemPointerData where;

	CommandCounterIncrement();
	InitDirtySnapshot(dirty);
	return !find_first(rel, index, keys, nkeys, &dirty, &where);
}

/*
 * Has somebody changed the first row of the keys in an index, or made it, who
 * may yet roll back?
 */
bool
apikey_storage_changing(Relation rel, Relation index, const ScanKeyData *keys,
						int nkeys)
{
	SnapshotData dirty;
	ItemPointerData where;

	CommandCounterIncrement();
	InitDirtySnapshot(dirty);
	return find_first(rel, index, keys, nkeys, &dirty, &where) &&
		(TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax));
}

/*
 * Opens a table, locked by the caller in RowExclusiveLock, to be written.
 * What it takes lives in the current context.
 */
ApikeyWriter *
apikey_storage_open(Relation rel, ApikeyRelation table)
{
	ApikeyWriter *writer = palloc0(sizeof(ApikeyWriter));
	MemoryContext context;
	EState	   *estate = CreateExecutorState();

	writer->rel = rel;
	writer->table = table;
	writer->estate = estate;
	context = MemoryContextSwitchTo(estate->es_query_cxt);
	writer->target = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->target, rel, 0, NULL, 0);
	apikey_triggers_prepare(writer->target);
	estate->es_opened_result_relations = list_make1(writer->target);
	apikey_init_epq(&writer->epq, estate);
	writer->locked = ExecInitExtraTupleSlot(estate, RelationGetDescr(rel),
											table_slot_callbacks(rel));
	writer->row = ExecInitExtraTupleSlot(estate, RelationGetDescr(rel),
										 &TTSOpsVirtual);
	MemoryContextSwitchTo(context);
	return writer;
}

/* Gives up what rows were seen by. */
static void
end_seeing(ApikeyWriter *writer)
{
	apikey_scan_end(&writer->seeing);
	index_close(writer->seeing.index, NoLock);
	UnregisterSnapshot(writer->snapshot);
}

/* The table and what it takes to write are given up; locks are kept. */
void
apikey_storage_close(ApikeyWriter *writer)
{
	MemoryContext context = MemoryContextSwitchTo(writer->estate->es_query_cxt);

	if (writer->snapshot != NULL)
		end_seeing(writer);
	if (writer->indexes != NULL)
		apikey_indexes_close(writer->target, writer->table, writer->indexes);
	ExecResetTupleTable(writer->estate->es_tupleTable, false);
	MemoryContextSwitchTo(context);
	FreeExecutorState(writer->estate);
	pfree(writer);
}

Relation
apikey_storage_relation(const ApikeyWriter *writer)
{
	return writer->rel;
}

/* The slot for the row that is to be written, when it has been locked. */
TupleTableSlot *
apikey_storage_locked(const ApikeyWriter *writer)
{
	return writer->locked;
}

/* The row that is to be written; the columns beyond those given stay. */
static TupleTableSlot *
fill_row(ApikeyWriter *writer, TupleTableSlot *before, const Datum *values,
		 const bool *nulls, int count)
{
	TupleTableSlot *slot = ExecClearTuple(writer->row);
	int			natts = slot->tts_tupleDescriptor->natts;

	count = Min(count, natts);
	if (before == NULL)
		memset(slot->tts_isnull, true, natts * sizeof(bool));
	else
	{
		slot_getallattrs(before);
		memcpy(slot->tts_values, before->tts_values, natts * sizeof(Datum));
		memcpy(slot->tts_isnull, before->tts_isnull, natts * sizeof(bool));
	}
	memcpy(slot->tts_values, values, count * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, count * sizeof(bool));
	apikey_encoding_see(writer->table, before, slot, count);
	ItemPointerSetInvalid(&slot->tts_tid);
	return ExecStoreVirtualTuple(slot);
}

/* Begins what is a statement of its own to the triggers. */
static MemoryContext
begin_write(ApikeyWriter *writer, const char *command, ApikeyOwnerScope *before)
{
	EState	   *estate = writer->estate;

	PreventCommandIfReadOnly(command);
	PreventCommandIfParallelMode(command);
	apikey_holder_note(InvalidTransactionId);
	apikey_owner_begin(before);
	estate->es_output_cid = GetCurrentCommandId(true);
	estate->es_snapshot = ActiveSnapshotSet() ? GetActiveSnapshot() : InvalidSnapshot;
	AfterTriggerBeginQuery();
	return MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
}

static void
end_write(ApikeyWriter *writer, MemoryContext context,
		  const ApikeyOwnerScope *before)
{
	AfterTriggerEndQuery(writer->estate);
	MemoryContextSwitchTo(context);
	writer->estate->es_snapshot = InvalidSnapshot;
	ExecClearTuple(writer->row);
	ResetPerTupleExprContext(writer->estate);
	apikey_owner_end(before);
	/* To be seen by what is read next, in this statement too. */
	CommandCounterIncrement();
}

/* A row has a place in each index. */
static void
open_indexes(ApikeyWriter *writer)
{
	MemoryContext context;

	if (writer->indexes != NULL)
		return;
	context = MemoryContextSwitchTo(writer->estate->es_query_cxt);
	writer->indexes = apikey_indexes_open(writer->target, writer->table);
	MemoryContextSwitchTo(context);
}

/* Inserts a row, whose first columns are given; the others are null. */
void
apikey_storage_insert(ApikeyWriter *writer, const Datum *values,
					  const bool *nulls, int count)
{
	ApikeyOwnerScope before;
	MemoryContext context;

	open_indexes(writer);
	context = begin_write(writer, "INSERT", &before);
	ExecSimpleRelationInsert(writer->target, writer->estate,
							 fill_row(writer, NULL, values, nulls, count));
	end_write(writer, context, &before);
}

/* Gives the locked row these first columns; false where a trigger forbade it. */
bool
apikey_storage_update(ApikeyWriter *writer, const Datum *values,
					  const bool *nulls, int count)
{
	ApikeyOwnerScope before;
	MemoryContext context;
	bool		written;

	open_indexes(writer);
	context = begin_write(writer, "UPDATE", &before);
	ExecSimpleRelationUpdate(writer->target, writer->estate, &writer->epq,
							 writer->locked,
							 fill_row(writer, writer->locked, values, nulls,
									  count));
	written = ItemPointerIsValid(&writer->row->tts_tid);
	end_write(writer, context, &before);
	return written;
}

/*
 * Looks for the keys in an index, from the second row on by what the first was
 * found with: whoever has changed a row since is found out when it is changed.
 * What this transaction has done is seen always.
 */
static void
seek(ApikeyWriter *writer, ApikeyRelation index, const ScanKeyData *keys,
	 int nkeys)
{
	if (writer->snapshot == NULL)
	{
		Relation	rel = apikey_index_open(writer->rel, index);

		writer->snapshot = statement_snapshot();
		apikey_scan_begin(&writer->seeing, writer->rel, rel, writer->snapshot,
						  keys, nkeys);
		return;
	}
	CommandCounterIncrement();
	writer->snapshot->curcid = GetCurrentCommandId(false);
	apikey_scan_again(&writer->seeing, keys);
}

/*
 * Reads the row that the keys find in an index, the same one always, without a
 * lock, into the place of the one that is locked, to be changed if it stays as
 * it is; false for none.
 */
bool
apikey_storage_see(ApikeyWriter *writer, ApikeyRelation index,
				   const ScanKeyData *keys, int nkeys)
{
	MemoryContext context = MemoryContextSwitchTo(writer->estate->es_query_cxt);
	HeapTuple	tuple;

	seek(writer, index, keys, nkeys);
	tuple = apikey_scan_next(&writer->seeing, ForwardScanDirection);
	if (HeapTupleIsValid(tuple))
	{
		writer->seen = tuple->t_self;
		ExecForceStoreHeapTuple(tuple, writer->locked, false);
	}
	MemoryContextSwitchTo(context);
	return HeapTupleIsValid(tuple);
}

/* Has somebody the row that was seen, or is it another by now? */
bool
apikey_storage_seen_held(const ApikeyWriter *writer)
{
	return apikey_row_held(writer->rel, &writer->seen,
						   writer->estate->es_output_cid);
}

/* Is there more to an update of a table than its row and its indexes? */
static bool
update_does_more(Relation rel)
{
	const TupleConstr *constraints = RelationGetDescr(rel)->constr;

	return apikey_triggers_on_update(rel->trigdesc) ||
		(constraints != NULL && constraints->has_generated_stored);
}

/*
 * Gives the row that was seen these first columns: the same as to lock and to
 * update it, at half the price.  False where that is to be done instead, as
 * somebody has the row, or has changed it, or triggers are to fire.
 */
bool
apikey_storage_change(ApikeyWriter *writer, const Datum *values,
					  const bool *nulls, int count)
{
	EState	   *estate = writer->estate;
	ApikeyOwnerScope before;
	MemoryContext context;
	TupleTableSlot *row;
	TM_FailureData failure;
	LockTupleMode mode;
	TU_UpdateIndexes left;
	TM_Result	result;

	if (update_does_more(writer->rel) || apikey_storage_seen_held(writer))
		return false;
	open_indexes(writer);
	CheckCmdReplicaIdentity(writer->rel, CMD_UPDATE);
	context = begin_write(writer, "UPDATE", &before);
	row = fill_row(writer, writer->locked, values, nulls, count);
	if (RelationGetDescr(writer->rel)->constr != NULL)
		ExecConstraints(writer->target, row, estate);
	result = apikey_tuple_update(writer->rel, &writer->seen, row,
								 estate->es_output_cid, estate->es_snapshot,
								 &failure, &mode, &left);
	if (result == TM_Ok && left != TU_None)
		apikey_update_indexes(writer->target, row, estate, left);
	end_write(writer, context, &before);
	return result == TM_Ok;
}

/* Removes the locked row. */
void
apikey_storage_delete(ApikeyWriter *writer)
{
	ApikeyOwnerScope before;
	MemoryContext context = begin_write(writer, "DELETE", &before);

	ExecSimpleRelationDelete(writer->target, writer->estate, &writer->epq,
							 writer->locked);
	end_write(writer, context, &before);
}
