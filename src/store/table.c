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
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/smgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "store/store_internal.h"

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

/* Opens what is called as a relation of ours, now; NULL for what is passed over. */
static Relation
open_current(ApikeyRelation relation, LOCKMODE mode)
{
	Oid			relid;

	while (OidIsValid(relid = apikey_catalog_relation(relation)))
	{
		Relation	rel;

		if (!apikey_relation_lock(apikey_catalog_name(relation), relid, mode))
			return NULL;
		/* Waiting for the lock may have been waiting for its end. */
		rel = try_table_open(relid, NoLock);
		if (rel != NULL && relid == apikey_catalog_relation(relation))
			return rel;
		if (rel != NULL)
			table_close(rel, NoLock);
		UnlockRelationOid(relid, mode);
	}
	return NULL;
}

/*
 * Opens a table.  It stays locked to the end of the transaction, as by any
 * query, and so do the indexes that are opened after it: of many rows read one
 * by one, to lock anew is an eighth.  NULL, for whoever reads leniently, where
 * it cannot be read.
 */
Relation
apikey_table_relation(const ApikeyTable *table, LOCKMODE mode)
{
	Relation	rel = open_current(table->relation, mode);

	if (rel == NULL)
		return NULL;
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
	if (apikey_intact_columns(rel, table) || !apikey_lenient_miss(table->name))
	{
		apikey_intact_require_columns(rel, table);
		return rel;
	}
	table_close(rel, NoLock);
	return NULL;
}

/* Has a relation no page? */
static bool
has_no_page(const FormData_pg_class *relation)
{
	Oid			tablespace = OidIsValid(relation->reltablespace) ?
		relation->reltablespace : MyDatabaseTableSpace;

	return OidIsValid(relation->relfilenode) &&
		smgrnblocks(apikey_smgropen(tablespace, relation->relfilenode),
					MAIN_FORKNUM) == 0;
}

/*
 * Has a table no page, and so no row?  It is not opened for that: in a process
 * that has not done so, this would read all that the catalogs have of it.  Like
 * any reading, it is remembered only where changes would be told.
 */
bool
apikey_table_blank(const ApikeyTable *table)
{
	Oid			relid = apikey_catalog_relation(table->relation);
	HeapTuple	tuple;
	bool		blank = true;

	if (!OidIsValid(relid) ||
		!apikey_relation_lock(table->name, relid, AccessShareLock))
		return true;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (HeapTupleIsValid(tuple))
	{
		blank = has_no_page((Form_pg_class) GETSTRUCT(tuple));
		ReleaseSysCache(tuple);
		if (blank && !apikey_intact_to_remember(NULL, table->relation))
			apikey_changes_not_final();
	}
	else if (!apikey_lenient_miss(table->name))
		apikey_refuse_gone();
	UnlockRelationOid(relid, AccessShareLock);
	return blank;
}

/* An index of an open table, to be read; NULL where the table itself is named. */
Relation
apikey_table_index(const ApikeyTable *table, Relation rel, ApikeyRelation index)
{
	return index == table->relation ? NULL : apikey_index_open(rel, index);
}

void
apikey_table_close_index(Relation index)
{
	if (index != NULL)
		index_close(index, NoLock);
}

/*
 * Locks a table and an index of it as reading does, whether or not that will
 * come to it: everybody sees its own locks.
 */
void
apikey_table_keep(const ApikeyTable *table, ApikeyRelation index)
{
	Relation	rel = apikey_table_relation(table, AccessShareLock);

	if (rel == NULL)
		return;
	apikey_table_close_index(apikey_table_index(table, rel, index));
	table_close(rel, NoLock);
}

/*
 * Looks up what a table's long values are stored in, as reading a row that has
 * such does, whether or not that will come to it: the server's caches keep it.
 */
void
apikey_table_keep_long(const ApikeyTable *table)
{
	Relation	rel = apikey_table_relation(table, AccessShareLock);

	if (rel == NULL)
		return;
	apikey_scan_prepare_copy(rel);
	table_close(rel, NoLock);
}

/* Is an index, which may be passed over, to be read by some keys? */
static bool
index_fits(ApikeyRelation index, Relation rel, const ScanKeyData *keys, int nkeys)
{
	return rel != NULL && (apikey_scan_fits(rel, keys, nkeys) ||
						   !apikey_lenient_miss(apikey_catalog_name(index)));
}

/*
 * Opens a table and an index of it, unless that is the table, to be read by some
 * keys; false where they are passed over.
 */
static bool
open_to_read(const ApikeyTable *table, ApikeyRelation index,
			 const ScanKeyData *keys, int nkeys, Relation *rel,
			 Relation *index_rel)
{
	*rel = apikey_table_relation(table, AccessShareLock);
	if (*rel == NULL)
		return false;
	*index_rel = apikey_table_index(table, *rel, index);
	if (index == table->relation || index_fits(index, *index_rel, keys, nkeys))
		return true;
	apikey_table_close_index(*index_rel);
	table_close(*rel, NoLock);
	return false;
}

/* What is read of a table is remembered only where changes of it are told. */
static void
see_table(const ApikeyTable *table, Relation rel)
{
	if (!apikey_intact_to_remember(rel, table->relation))
		apikey_changes_not_final();
}

static void
visit_rows(const ApikeyTable *table, ApikeyRelation index,
		   const ScanKeyData *keys, int nkeys, ScanDirection direction,
		   Snapshot snapshot, MemoryContext copies, int *entries,
		   ApikeyVisit visit, void *state)
{
	Relation	rel;
	Relation	index_rel;
	ApikeyScan	scan;
	HeapTuple	tuple;
	bool		more = true;

	if (!open_to_read(table, index, keys, nkeys, &rel, &index_rel))
		return;
	apikey_scan_begin(&scan, rel, index_rel, snapshot, keys, nkeys);
	see_table(table, rel);
	while (more &&
		   HeapTupleIsValid(tuple = entries == NULL ?
							apikey_scan_next(&scan, direction) :
							apikey_scan_next_among(&scan, entries)))
		more = apikey_table_visit_row(table, rel, tuple, copies, visit, state);
	apikey_scan_end(&scan);
	apikey_table_close_index(index_rel);
	table_close(rel, NoLock);
}

/*
 * Calls visit with each row that the scan keys find in an index, in its order,
 * detoasted and copied.  The copy is gone when visit returns: others decide how
 * many rows there are, and how long they are.  The keys have the numbers of the
 * table's columns.
 */
void
apikey_table_scan(const ApikeyTable *table, ApikeyRelation index,
				  const ScanKeyData *keys, int nkeys, Snapshot snapshot,
				  ApikeyVisit visit, void *state)
{
	MemoryContext copies = AllocSetContextCreate(CurrentMemoryContext,
												 "apikey row",
												 ALLOCSET_SMALL_SIZES);

	visit_rows(table, index, keys, nkeys, ForwardScanDirection, snapshot,
			   copies, NULL, visit, state);
	MemoryContextDelete(copies);
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
			   NULL, NULL, visit, state);
}

/*
 * The same of the first entries of an index, of rows that are gone too, which are
 * counted down: to 0 where there may be others.
 */
void
apikey_table_walk_among(const ApikeyTable *table, ApikeyRelation index,
						const ScanKeyData *keys, int nkeys, Snapshot snapshot,
						int *entries, ApikeyVisit visit, void *state)
{
	visit_rows(table, index, keys, nkeys, ForwardScanDirection, snapshot,
			   NULL, entries, visit, state);
}

/* The same from the end of an index's order. */
void
apikey_table_walk_back(const ApikeyTable *table, ApikeyRelation index,
					   const ScanKeyData *keys, int nkeys, Snapshot snapshot,
					   ApikeyVisit visit, void *state)
{
	visit_rows(table, index, keys, nkeys, BackwardScanDirection, snapshot,
			   NULL, NULL, visit, state);
}

/*
 * Is there a row in an index that a snapshot shows, or may there be one beyond
 * so many that are gone?  Those at the end of the index are looked at.
 */
bool
apikey_table_any(const ApikeyTable *table, ApikeyRelation index,
				 Snapshot snapshot, int most)
{
	Relation	rel;
	Relation	index_rel;
	bool		own;
	bool		any;

	if (!open_to_read(table, index, NULL, 0, &rel, &index_rel))
		return true;
	any = apikey_scan_any(rel, index_rel, snapshot, most, &own);
	if (own || !apikey_intact_to_remember(rel, table->relation))
		apikey_changes_not_final();
	apikey_table_close_index(index_rel);
	table_close(rel, NoLock);
	return any;
}

/*
 * Can what is committed now not be read?  So it is in a parallel query of a
 * transaction that keeps its snapshot: no other one can be taken there.
 */
bool
apikey_latest_hidden(void)
{
	return IsInParallelMode() && IsolationUsesXactSnapshot();
}

/*
 * A snapshot, registered, of what is committed now and of our own
 * transaction's changes, whatever the isolation level.  Where that is hidden it
 * is the query's: whoever decides by it asks before.
 */
Snapshot
apikey_latest_snapshot(void)
{
	if (!IsInParallelMode())
		return RegisterSnapshot(GetLatestSnapshot());
	apikey_changes_not_final();
	return RegisterSnapshot(apikey_latest_hidden() ? GetActiveSnapshot() :
							GetTransactionSnapshot());
}

/* What find_row takes the first row to. */
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
 * transaction's changes, copied into the current context; false where there is
 * none.
 */
bool
apikey_table_find(const ApikeyTable *table, ApikeyRelation index,
				  const ScanKeyData *keys, int nkeys, ApikeyRow *row)
{
	FoundRow	found = {.row = row};
	Snapshot	snapshot = apikey_latest_snapshot();

	visit_rows(table, index, keys, nkeys, ForwardScanDirection, snapshot,
			   CurrentMemoryContext, NULL, find_row, &found);
	UnregisterSnapshot(snapshot);
	return found.found;
}

/* Makes the scan key of a row's id. */
void
apikey_table_key(ScanKey key, const pg_uuid_t *id)
{
	ScanKeyInit(key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
}

/* Finds the row of an id by the index, copied, and where it is; or NULL. */
static HeapTuple
find_by_index(const ApikeyTable *table, Relation rel, const pg_uuid_t *id,
			  Snapshot snapshot, ApikeyRowHint *hint)
{
	Relation	index = apikey_table_index(table, rel, table->pkey);
	ApikeyScan	scan;
	ScanKeyData key;
	HeapTuple	tuple;

	apikey_table_key(&key, id);
	if (!index_fits(table->pkey, index, &key, 1))
	{
		apikey_table_close_index(index);
		return NULL;
	}
	apikey_scan_begin(&scan, rel, index, snapshot, &key, 1);
	tuple = apikey_scan_next(&scan, ForwardScanDirection);
	if (tuple != NULL)
	{
		apikey_scan_hint(&scan, tuple, hint);
		tuple = apikey_scan_copy(rel, tuple);
	}
	apikey_scan_end(&scan);
	apikey_table_close_index(index);
	return tuple;
}

/*
 * Reads the row of an id as a snapshot shows it, where the hint says that it
 * was, else by the index; false where there is none.  The hint says then where
 * it is.
 */
bool
apikey_table_fetch_hinted(const ApikeyTable *table, const pg_uuid_t *id,
						  Snapshot snapshot, ApikeyRowHint *hint,
						  ApikeyRow *row)
{
	Relation	rel = apikey_table_relation(table, AccessShareLock);
	HeapTuple	tuple;

	if (rel == NULL)
		return false;
	tuple = apikey_scan_hinted(rel, id, snapshot, hint);
	if (tuple == NULL)
		tuple = find_by_index(table, rel, id, snapshot, hint);
	see_table(table, rel);
	if (tuple != NULL)
	{
		apikey_table_see_row(tuple);
		apikey_table_take_apart(table, tuple, RelationGetDescr(rel), row);
	}
	table_close(rel, NoLock);
	return tuple != NULL;
}

/* Reads the row of an id as a snapshot shows it; false where there is none. */
bool
apikey_table_fetch(const ApikeyTable *table, const pg_uuid_t *id,
				   Snapshot snapshot, ApikeyRow *row)
{
	ApikeyRowHint nowhere = {0};

	return apikey_table_fetch_hinted(table, id, snapshot, &nowhere, row);
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
