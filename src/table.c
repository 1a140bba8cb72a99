/*
 * table.c
 *		The rows of our tables: reading them without the executor, writing them.
 *
 * Reading is a direct index scan, and a new row is inserted as directly; other
 * changes go through prepared statements over all columns of a row.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "apikey.h"
#include "verify.h"

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
 * Calls visit with each row that the scan keys find in an index, detoasted
 * and copied into the current context.  The keys have the numbers of the
 * table's columns.  Table and index stay locked to the end of the transaction,
 * as by any query: of many rows read one by one, to lock anew is an eighth.
 */
void
apikey_table_scan(const ApikeyTable *table, ApikeyRelation index,
				  ScanKey keys, int nkeys, Snapshot snapshot,
				  ApikeyVisit visit, void *state)
{
	Oid			index_oid = apikey_catalog_relation(index);
	Relation	rel = table_open(apikey_catalog_relation(table->relation),
								 AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		more = true;

	LockRelationOid(index_oid, AccessShareLock);
	scan = systable_beginscan(rel, index_oid, true, snapshot, nkeys, keys);
	if (desc->natts > APIKEY_COLUMNS_MAX)
		elog(ERROR, "table \"%s\" has too many columns", table->name);
	while (more && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		ApikeyRow	row;

		CHECK_FOR_INTERRUPTS();
		if (TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
			apikey_cache_not_final();
		heap_deform_tuple(heap_copytuple(tuple), desc, row.values, row.nulls);
		memset(&row.nulls[table->count], true,
			   table->derived * sizeof(row.nulls[0]));
		for (int i = 0; i < table->count; i++)
		{
			if (!row.nulls[i] && TupleDescAttr(desc, i)->attlen == -1)
				row.values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(row.values[i]));
		}
		more = visit(&row, state);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
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
	apikey_cache_not_final();
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
				  ScanKey keys, int nkeys, ApikeyRow *row)
{
	FoundRow	found = {.row = row};
	Snapshot	snapshot = apikey_latest_snapshot();

	apikey_table_scan(table, index, keys, nkeys, snapshot, find_row, &found);
	UnregisterSnapshot(snapshot);
	return found.found;
}

/* Reads the row of an id as a snapshot shows it; false where there is none. */
bool
apikey_table_fetch(const ApikeyTable *table, const pg_uuid_t *id,
				   Snapshot snapshot, ApikeyRow *row)
{
	FoundRow	found = {.row = row};
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
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

/* Prepares a statement whose parameters are a table's columns. */
static void
prepare_with_row(ApikeyStatement *statement, const ApikeyTable *table,
				 const char *sql)
{
	Oid			types[APIKEY_COLUMNS_MAX];

	for (int i = 0; i < table->count; i++)
		types[i] = column_type(&table->columns[i]);
	apikey_storage_prepare(statement, sql, table->count, types);
}

/*
 * A row that is not there for a statement was changed meanwhile, or is not
 * seen by a snapshot that was taken before.
 */
static void
require_one_row(const ApikeyTable *table, uint64 rows)
{
	if (rows != 1)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change table \"%s\" due to a concurrent change",
						table->name)));
}

/*
 * Is to be called where a row could not be written: tells a name that is taken
 * in the user's words, and all else as it is.
 */
pg_noreturn static void
rethrow(const ApikeyTable *table, const ApikeyRow *row, MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION ||
		(table->noun == NULL && table->taken == NULL) ||
		error->table_name == NULL ||
		strcmp(error->table_name, table->name) != 0)
		PG_RE_THROW();
	FlushErrorState();
	if (table->noun == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("%s", table->taken)));
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("%s \"%s\" already exists", table->noun,
					text_to_cstring(apikey_row_text(row, table->label)))));
}

/* Runs a statement whose parameters are a row's columns. */
static void
run_with_row(const ApikeyStatement *statement, const ApikeyTable *table,
			 ApikeyRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	char		nulls[APIKEY_COLUMNS_MAX];

	for (int i = 0; i < table->count; i++)
		nulls[i] = row->nulls[i] ? 'n' : ' ';

	PG_TRY();
	{
		require_one_row(table, apikey_storage_run(statement, row->values,
												  nulls));
	}
	PG_CATCH();
	{
		rethrow(table, row, context);
	}
	PG_END_TRY();
}

/*
 * Locks a row to the end of the transaction and reads its latest version;
 * false where it is gone.
 */
bool
apikey_table_lock(ApikeyTable *table, const pg_uuid_t *id, ApikeyLock lock,
				  ApikeyRow *row)
{
	static const char *const clauses[] = {
		[APIKEY_LOCK_SHARE] = "SHARE",
		[APIKEY_LOCK_UPDATE] = "UPDATE",
		[APIKEY_LOCK_UPDATE_SKIP] = "UPDATE SKIP LOCKED"
	};
	ApikeyStatement *statement = &table->lock[lock];
	ApikeyStorage storage;
	Datum		arg = UUIDPGetDatum(id);
	bool		found;

	apikey_storage_open(&storage);
	if (apikey_storage_stale(statement))
	{
		StringInfoData sql;
		Oid			type = UUIDOID;

		initStringInfo(&sql);
		for (int i = 0; i < table->count; i++)
			appendStringInfo(&sql, "%s %s", i == 0 ? "SELECT" : ",",
							 table->columns[i].name);
		appendStringInfo(&sql, " FROM %s.%s WHERE id = $1 FOR %s",
						 apikey_catalog_schema(), table->name, clauses[lock]);
		apikey_storage_prepare(statement, sql.data, 1, &type);
	}

	found = apikey_storage_run(statement, &arg, NULL) == 1;
	memset(&row->nulls[table->count], true,
		   table->derived * sizeof(row->nulls[0]));
	for (int i = 0; found && i < table->count; i++)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		row->values[i] = SPI_getbinval(SPI_tuptable->vals[0], desc, i + 1,
									   &row->nulls[i]);
		if (!row->nulls[i])
			row->values[i] = SPI_datumTransfer(row->values[i],
											   attribute->attbyval,
											   attribute->attlen);
	}
	apikey_storage_close(&storage);
	return found;
}

void
apikey_table_insert(const ApikeyTable *table, const ApikeyRow *row)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		apikey_storage_insert(apikey_catalog_relation(table->relation),
							  row->values, row->nulls, table->count);
	}
	PG_CATCH();
	{
		rethrow(table, row, context);
	}
	PG_END_TRY();
}

/* Writes back a row that was locked. */
void
apikey_table_update(ApikeyTable *table, ApikeyRow *row)
{
	ApikeyStorage storage;

	apikey_storage_open(&storage);
	if (apikey_storage_stale(&table->update))
	{
		StringInfoData sql;

		initStringInfo(&sql);
		appendStringInfo(&sql, "UPDATE %s.%s",
						 apikey_catalog_schema(), table->name);
		for (int i = 1; i < table->count; i++)
			appendStringInfo(&sql, "%s %s = $%d", i == 1 ? " SET" : ",",
							 table->columns[i].name, i + 1);
		appendStringInfoString(&sql, " WHERE id = $1");
		prepare_with_row(&table->update, table, sql.data);
	}
	run_with_row(&table->update, table, row);
	apikey_storage_close(&storage);
}

/* Removes a row that was locked; 40001 where it must exist and does not. */
void
apikey_table_delete(ApikeyTable *table, const pg_uuid_t *id, bool must_exist)
{
	ApikeyStorage storage;
	Datum		arg = UUIDPGetDatum(id);
	uint64		rows;

	apikey_storage_open(&storage);
	if (apikey_storage_stale(&table->remove))
	{
		Oid			type = UUIDOID;

		apikey_storage_prepare(&table->remove,
							   psprintf("DELETE FROM %s.%s WHERE id = $1",
										apikey_catalog_schema(), table->name),
							   1, &type);
	}
	rows = apikey_storage_run(&table->remove, &arg, NULL);
	if (must_exist)
		require_one_row(table, rows);
	apikey_storage_close(&storage);
}
