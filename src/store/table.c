/*
 * table.c
 *		The rows of our tables: reading, locking and writing them.
 *
 * All of it is direct work on relations that are known by their OIDs; see
 * storage.c.  A table is locked first, and then its index is looked up: from
 * there to the end of the transaction neither can be another.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apikey.h"
#include "store/scan.h"
#include "verify/verify.h"

const pg_uuid_t *
apikey_row_id(const ApikeyRow *row)
{
	return DatumGetUUIDP(row->values[0]);
}

char *
apikey_id_string(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* A column of type text; NULL where it is null. */
text *
apikey_row_text(const ApikeyRow *row, int column)
{
	return row->nulls[column] ? NULL : DatumGetTextPP(row->values[column]);
}

bool
apikey_row_bool(const ApikeyRow *row, int column)
{
	return !row->nulls[column] && DatumGetBool(row->values[column]);
}

ApikeyRole
apikey_row_role(const ApikeyRow *row, int column)
{
	return row->nulls[column] ? APIKEY_ROLE_NONE :
		apikey_role_from_datum(row->values[column]);
}

/* Makes all columns null. */
void
apikey_row_clear(ApikeyRow *row)
{
	memset(row->nulls, true, sizeof(row->nulls));
}

void
apikey_row_set(ApikeyRow *row, int column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
}

/* Sets a column to what is pointed to, or, with NULL, makes it null. */
void
apikey_row_set_pointer(ApikeyRow *row, int column, const void *value)
{
	row->values[column] = PointerGetDatum(value);
	row->nulls[column] = value == NULL;
}

/* The column of a name, or -1. */
int
apikey_table_column(const ApikeyTable *table, const char *name)
{
	for (int i = 0; i < table->count + table->derived; i++)
	{
		if (strcmp(table->columns[i].name, name) == 0)
			return i;
	}
	return -1;
}

/*
 * Opens a table.  It stays locked to the end of the transaction, as by any
 * query, and so do the indexes that are opened after it: of many rows read one
 * by one, to lock anew is an eighth.
 */
Relation
apikey_table_relation(const ApikeyTable *table, LOCKMODE mode)
{
	Oid			relid;
	Relation	rel;

	/* Waiting for the lock may be waiting for its end. */
	while ((rel = try_table_open(relid = apikey_catalog_relation(table->relation),
								 mode)) == NULL ||
		   relid != apikey_catalog_relation(table->relation))
	{
		if (rel != NULL)
			table_close(rel, mode);
	}
	if (rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not of access method \"heap\"",
						table->name)));
	/* Of what an older script lacks, nothing can be written. */
	if (mode != AccessShareLock && RelationGetDescr(rel)->natts < table->count - table->later)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is of another version of extension \"apikey\" than its library",
						table->name),
				 errhint("Run \"ALTER EXTENSION apikey UPDATE\".")));
	if (mode != AccessShareLock)
		apikey_intact_require(rel, table->relation);
	if (RelationGetDescr(rel)->natts > APIKEY_COLUMNS_MAX)
		elog(ERROR, "table \"%s\" has too many columns", table->name);
	return rel;
}

/* Opens an index of an open table; NULL where the table itself is named. */
Relation
apikey_table_index(const ApikeyTable *table, ApikeyRelation index)
{
	return index == table->relation ? NULL :
		index_open(apikey_catalog_relation(index), AccessShareLock);
}

static void
close_index(Relation index)
{
	if (index != NULL)
		index_close(index, NoLock);
}

/*
 * Takes a row apart; what its columns point to is the tuple's.  Columns that
 * an older script's table has not yet are null, and those that a newer one's
 * has beyond ours are not looked at.
 */
void
apikey_table_deform(const ApikeyTable *table, HeapTuple tuple, TupleDesc desc,
					ApikeyRow *row)
{
	int			known = Min(table->count, desc->natts);

	heap_deform_tuple(tuple, desc, row->values, row->nulls);
	memset(&row->nulls[known], true,
		   (table->count + table->derived - known) * sizeof(row->nulls[0]));
}

/* Takes apart a row that was copied, detoasted in the current context. */
void
apikey_table_take_apart(const ApikeyTable *table, HeapTuple tuple,
						TupleDesc desc, ApikeyRow *row)
{
	apikey_table_deform(table, tuple, desc, row);
	for (int i = 0; i < table->count; i++)
	{
		/* Where it is not null, the table has the column. */
		if (!row->nulls[i] && TupleDescAttr(desc, i)->attlen == -1)
			row->values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(row->values[i]));
	}
}

static void
visit_rows(const ApikeyTable *table, ApikeyRelation index,
		   const ScanKeyData *keys, int nkeys, ScanDirection direction,
		   Snapshot snapshot, bool copied, ApikeyVisit visit, void *state)
{
	Relation	rel = apikey_table_relation(table, AccessShareLock);
	Relation	index_rel = apikey_table_index(table, index);
	TupleDesc	desc = RelationGetDescr(rel);
	ApikeyScan	scan;
	HeapTuple	tuple;
	bool		more = true;

	apikey_scan_begin(&scan, rel, index_rel, snapshot, keys, nkeys);
	if (!apikey_intact_to_remember(rel, table->relation))
		apikey_changes_not_final();
	while (more &&
		   HeapTupleIsValid(tuple = apikey_scan_next(&scan, direction)))
	{
		ApikeyRow	row;

		CHECK_FOR_INTERRUPTS();
		if (TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
			apikey_changes_not_final();
		if (copied)
			apikey_table_take_apart(table, apikey_scan_copy(&scan, tuple),
									desc, &row);
		else
			apikey_table_deform(table, tuple, desc, &row);
		more = visit(&row, state);
	}
	apikey_scan_end(&scan);
	close_index(index_rel);
	table_close(rel, NoLock);
}

/*
 * Calls visit with each row that the scan keys find in an index, in its order,
 * detoasted and copied into the current context.  The keys have the numbers of
 * the table's columns.
 */
void
apikey_table_scan(const ApikeyTable *table, ApikeyRelation index,
				  const ScanKeyData *keys, int nkeys, Snapshot snapshot,
				  ApikeyVisit visit, void *state)
{
	visit_rows(table, index, keys, nkeys, ForwardScanDirection, snapshot,
			   true, visit, state);
}

/*
 * The same for looking through many, or the whole table, which is then named
 * in an index's place: what a row points to is the server's, still packed, and
 * gone when visit returns.
 */
void
apikey_table_walk(const ApikeyTable *table, ApikeyRelation index,
				  const ScanKeyData *keys, int nkeys, Snapshot snapshot,
				  ApikeyVisit visit, void *state)
{
	visit_rows(table, index, keys, nkeys, ForwardScanDirection, snapshot,
			   false, visit, state);
}

/* The same from the end of an index's order. */
void
apikey_table_walk_back(const ApikeyTable *table, ApikeyRelation index,
					   const ScanKeyData *keys, int nkeys, Snapshot snapshot,
					   ApikeyVisit visit, void *state)
{
	visit_rows(table, index, keys, nkeys, BackwardScanDirection, snapshot,
			   false, visit, state);
}

/*
 * A snapshot, registered, of what is committed now and of our own
 * transaction's changes, whatever the isolation level.  In a parallel query,
 * where none can be taken, it is the query's.
 */
Snapshot
apikey_latest_snapshot(void)
{
	if (!IsInParallelMode())
		return RegisterSnapshot(GetLatestSnapshot());
	apikey_changes_not_final();
	return RegisterSnapshot(GetActiveSnapshot());
}

/* What find_row copies the first row to. */
typedef struct FoundRow
{
	ApikeyRow  *row;
	bool		found;
} FoundRow;

static bool
find_row(const ApikeyRow *row, void *state)
{
	FoundRow   *found = state;

	*found->row = *row;
	found->found = true;
	return false;
}

/*
 * Reads the row that the scan keys find, as committed now and with our own
 * transaction's changes; false where there is none.
 */
bool
apikey_table_find(const ApikeyTable *table, ApikeyRelation index,
				  const ScanKeyData *keys, int nkeys, ApikeyRow *row)
{
	FoundRow	found = {.row = row};
	Snapshot	snapshot = apikey_latest_snapshot();

	apikey_table_scan(table, index, keys, nkeys, snapshot, find_row, &found);
	UnregisterSnapshot(snapshot);
	return found.found;
}

/* Makes the scan key of a row's id. */
void
apikey_table_key(ScanKey key, const pg_uuid_t *id)
{
	ScanKeyInit(key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
}

/* Reads the row of an id as a snapshot shows it; false where there is none. */
bool
apikey_table_fetch(const ApikeyTable *table, const pg_uuid_t *id,
				   Snapshot snapshot, ApikeyRow *row)
{
	FoundRow	found = {.row = row};
	ScanKeyData key;

	apikey_table_key(&key, id);
	apikey_table_scan(table, table->pkey, &key, 1, snapshot, find_row, &found);
	return found.found;
}

/* The same as committed now, with our own transaction's changes. */
bool
apikey_table_fetch_latest(const ApikeyTable *table, const pg_uuid_t *id,
						  ApikeyRow *row)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	bool		found = apikey_table_fetch(table, id, snapshot, row);

	UnregisterSnapshot(snapshot);
	return found;
}

static Oid
column_type(const ApikeyColumn *column)
{
	return OidIsValid(column->type) ? column->type :
		apikey_catalog()->role_type;
}

/* A descriptor of a table's columns, in the current context. */
TupleDesc
apikey_table_descriptor(const ApikeyTable *table)
{
	TupleDesc	desc = CreateTemplateTupleDesc(table->count);

	for (int i = 0; i < table->count; i++)
		TupleDescInitEntry(desc, i + 1, table->columns[i].name,
						   column_type(&table->columns[i]), -1, 0);
	return desc;
}

/*
 * A row that is not there to be written was changed meanwhile, or is not seen
 * by a snapshot that was taken before.
 */
static void
require_row(const ApikeyTable *table, bool found)
{
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change table \"%s\" due to a concurrent change",
						table->name)));
}

/* What a publication forbids, as it does not know a row by its primary key. */
pg_noreturn static void
refuse_published(const ApikeyTable *table, const ErrorData *error)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is published so that it cannot be changed",
					table->name),
			 errdetail("%s", error->detail != NULL ? error->detail :
					   error->message),
			 errhint("Take the row filter and the column list out of the publication or run, as a superuser: ALTER TABLE %s.%s REPLICA IDENTITY FULL;",
					 apikey_catalog_schema(), table->name)));
}

/*
 * Raises that a row's name is taken.  By what the caller may not know, so
 * nothing is said to exist; argument is where the name was given.
 */
void
apikey_table_refuse_taken(const ApikeyTable *table, const ApikeyRow *row,
						  const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("%s name \"%s\" is taken", table->noun,
					text_to_cstring(apikey_row_text(row, table->label))),
			 apikey_error_about(argument,
								psprintf("%s_%s_taken", table->name,
										 table->columns[table->label].name))));
}

/*
 * Is to be called where a row could not be written: tells a name that is taken
 * in the user's words, and all else as it is.
 */
pg_noreturn static void
rethrow(const ApikeyTable *table, const ApikeyRow *row, const char *argument,
		MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	if (error->sqlerrcode == ERRCODE_INVALID_COLUMN_REFERENCE)
	{
		FlushErrorState();
		refuse_published(table, error);
	}
	if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION ||
		(table->noun == NULL && table->taken == NULL) ||
		error->table_name == NULL ||
		strcmp(error->table_name, table->name) != 0)
		PG_RE_THROW();
	FlushErrorState();
	if (table->noun == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("%s", table->taken),
				 apikey_error_about(argument,
									psprintf("apikey_%s_taken", argument))));
	apikey_table_refuse_taken(table, row, argument);
}

/*
 * Locks a table for rows to be written, unless somebody has it who keeps us
 * waiting: false then.
 */
bool
apikey_table_free(const ApikeyTable *table)
{
	return ConditionalLockRelationOid(apikey_catalog_relation(table->relation),
									  RowExclusiveLock);
}

/* Opens a table for rows to be written. */
ApikeyWriter *
apikey_table_open(const ApikeyTable *table)
{
	return apikey_storage_open(apikey_table_relation(table, RowExclusiveLock));
}

void
apikey_table_close(ApikeyWriter *writer)
{
	Relation	rel = apikey_storage_relation(writer);

	apikey_storage_close(writer);
	table_close(rel, NoLock);
}

/* Copies a locked row into the current context, as it is stored. */
static void
copy_locked(const ApikeyTable *table, TupleTableSlot *slot, ApikeyRow *row)
{
	apikey_table_deform(table, ExecCopySlotHeapTuple(slot), slot->tts_tupleDescriptor,
			   row);
}

/*
 * Locks the row that a key finds in the primary key, to be written, and reads
 * its latest version, unless row is NULL; false where it is gone or, to skip
 * it, locked.
 */
bool
apikey_table_take(ApikeyWriter *writer, const ApikeyTable *table,
				  const ScanKeyData *key, ApikeyLock lock, ApikeyRow *row)
{
	TupleTableSlot *slot = apikey_storage_locked(writer);
	Relation	index = apikey_table_index(table, table->pkey);
	bool		found = apikey_storage_lock(apikey_storage_relation(writer),
											index, key, 1, lock, slot);

	if (found && row != NULL)
		copy_locked(table, slot, row);
	close_index(index);
	return found;
}

/*
 * Has nobody a row of that key, nor is making one?  Then to insert it waits
 * for nobody.
 */
bool
apikey_table_absent(ApikeyWriter *writer, const ApikeyTable *table,
					const ScanKeyData *key)
{
	Relation	index = apikey_table_index(table, table->pkey);
	bool		absent = apikey_storage_absent(apikey_storage_relation(writer),
											   index, key, 1);

	close_index(index);
	return absent;
}

/* Writes the row that was taken last. */
void
apikey_table_put(ApikeyWriter *writer, const ApikeyTable *table,
				 const ApikeyRow *row)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		require_row(table, apikey_storage_update(writer, row->values,
												 row->nulls, table->count));
	}
	PG_CATCH();
	{
		rethrow(table, row, table->relabel, context);
	}
	PG_END_TRY();
}

/* Removes the row that was taken last. */
void
apikey_table_remove(ApikeyWriter *writer, const ApikeyTable *table)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		apikey_storage_delete(writer);
	}
	PG_CATCH();
	{
		rethrow(table, NULL, NULL, context);
	}
	PG_END_TRY();
}

/* Inserts a row. */
void
apikey_table_add(ApikeyWriter *writer, const ApikeyTable *table,
				 const ApikeyRow *row)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		apikey_storage_insert(writer, row->values, row->nulls, table->count);
	}
	PG_CATCH();
	{
		rethrow(table, row, table->argument, context);
	}
	PG_END_TRY();
}

/*
 * Locks a row to the end of the transaction and reads its latest version;
 * false where it is gone.
 */
bool
apikey_table_lock(const ApikeyTable *table, const pg_uuid_t *id,
				  ApikeyLock lock, ApikeyRow *row)
{
	Relation	rel = apikey_table_relation(table, RowShareLock);
	Relation	index = apikey_table_index(table, table->pkey);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	bool		found;

	apikey_table_key(&key, id);
	found = apikey_storage_lock(rel, index, &key, 1, lock, slot);
	if (found)
		copy_locked(table, slot, row);
	ExecDropSingleTupleTableSlot(slot);
	close_index(index);
	table_close(rel, NoLock);
	return found;
}

void
apikey_table_insert(const ApikeyTable *table, const ApikeyRow *row)
{
	ApikeyWriter *writer = apikey_table_open(table);

	apikey_table_add(writer, table, row);
	apikey_table_close(writer);
}

/* Writes back a row that was locked. */
void
apikey_table_update(const ApikeyTable *table, const ApikeyRow *row)
{
	ApikeyWriter *writer = apikey_table_open(table);
	ScanKeyData key;

	apikey_table_key(&key, apikey_row_id(row));
	require_row(table, apikey_table_take(writer, table, &key,
										 APIKEY_LOCK_CHANGE, NULL));
	apikey_table_put(writer, table, row);
	apikey_table_close(writer);
}

/* Removes a row; 40001 where it must exist and does not. */
void
apikey_table_delete(const ApikeyTable *table, const pg_uuid_t *id,
					bool must_exist)
{
	ApikeyWriter *writer = apikey_table_open(table);
	ScanKeyData key;
	bool		found;

	apikey_table_key(&key, id);
	found = apikey_table_take(writer, table, &key, APIKEY_LOCK_UPDATE, NULL);
	if (must_exist)
		require_row(table, found);
	if (found)
		apikey_table_remove(writer, table);
	apikey_table_close(writer);
}
