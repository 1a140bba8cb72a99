/*
 * write.c
 *		Locking and writing the rows of our tables, and what is told of those that
 *		cannot be written.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"

#include "compat.h"
#include "store/store_internal.h"

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
 * Is to be called where a row could not be locked or written, with what
 * apikey_wait_begin returned: tells a name that is taken, and that somebody else
 * has the row, in the user's words, and all else as it is.
 */
pg_noreturn static void
rethrow(const ApikeyTable *table, const ApikeyRow *row, const char *argument,
		MemoryContext context, int lock_timeout)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	if (apikey_wait_failed(lock_timeout))
	{
		FlushErrorState();
		apikey_wait_refuse(table->name);
	}
	error = CopyErrorData();
	if (error->sqlerrcode == ERRCODE_INVALID_COLUMN_REFERENCE)
	{
		FlushErrorState();
		refuse_published(table, error);
	}
	/* An id is given by us or, with a key, imported: somebody has done so since. */
	if (error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION &&
		error->constraint_name != NULL &&
		strcmp(error->constraint_name, apikey_catalog_name(table->pkey)) == 0)
	{
		FlushErrorState();
		require_row(table, false);
	}
	if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION ||
		(table->noun == NULL && table->taken == NULL) || argument == NULL ||
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
	return apikey_storage_open(apikey_table_relation(table, RowExclusiveLock),
							   table->relation);
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

static bool
lock_row(const ApikeyTable *table, Relation rel, Relation index,
		 const ScanKeyData *key, ApikeyLock lock, TupleTableSlot *slot)
{
	MemoryContext context = CurrentMemoryContext;
	int			before = apikey_wait_begin();
	volatile bool found = false;

	PG_TRY();
	{
		found = apikey_storage_lock(rel, index, key, 1, lock, slot);
	}
	PG_CATCH();
	{
		rethrow(table, NULL, NULL, context, before);
	}
	PG_END_TRY();
	apikey_wait_end(before);
	return found;
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
	Relation	rel = apikey_storage_relation(writer);
	Relation	index = apikey_table_index(table, rel, table->pkey);
	bool		found = lock_row(table, rel, index, key, lock, slot);

	if (found && row != NULL)
		copy_locked(table, slot, row);
	apikey_table_close_index(index);
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
	Relation	rel = apikey_storage_relation(writer);
	Relation	index = apikey_table_index(table, rel, table->pkey);
	bool		absent = apikey_storage_absent(rel, index, key, 1);

	apikey_table_close_index(index);
	return absent;
}

/* Writes the row that was taken last. */
void
apikey_table_put(ApikeyWriter *writer, const ApikeyTable *table,
				 const ApikeyRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	int			before = apikey_wait_begin();

	PG_TRY();
	{
		require_row(table, apikey_storage_update(writer, row->values,
												 row->nulls, table->count));
	}
	PG_CATCH();
	{
		rethrow(table, row, table->relabel, context, before);
	}
	PG_END_TRY();
	apikey_wait_end(before);
}

/*
 * Reads the row that a key finds in the primary key, without a lock.  What its
 * columns point to is the writer's, until it sees or takes another.
 */
bool
apikey_table_see(ApikeyWriter *writer, const ApikeyTable *table,
				 const ScanKeyData *key, ApikeyRow *row)
{
	TupleTableSlot *slot = apikey_storage_locked(writer);
	int			known = Min(table->count, slot->tts_tupleDescriptor->natts);

	if (!apikey_storage_see(writer, table->pkey, key, 1))
		return false;
	slot_getallattrs(slot);
	apikey_row_clear(row);
	memcpy(row->values, slot->tts_values, known * sizeof(row->values[0]));
	memcpy(row->nulls, slot->tts_isnull, known * sizeof(row->nulls[0]));
	return true;
}

/*
 * Would to write the row that a key finds in the primary key wait for nobody,
 * whether it is there or is to be made?  No lock is taken.  *found: it is there, and
 * was seen.
 */
bool
apikey_table_see_free(ApikeyWriter *writer, const ApikeyTable *table,
					  const ScanKeyData *key, ApikeyRow *row, bool *found)
{
	*found = apikey_table_see(writer, table, key, row);
	return *found ? !apikey_storage_seen_held(writer) :
		apikey_table_absent(writer, table, key);
}

/*
 * Writes the row that was seen last, waiting for nobody; false where it has to
 * be taken and put.
 */
bool
apikey_table_change(ApikeyWriter *writer, const ApikeyTable *table,
					const ApikeyRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	int			before = apikey_wait_begin();
	volatile bool written = false;

	PG_TRY();
	{
		written = apikey_storage_change(writer, row->values, row->nulls,
										table->count);
	}
	PG_CATCH();
	{
		rethrow(table, row, table->relabel, context, before);
	}
	PG_END_TRY();
	apikey_wait_end(before);
	return written;
}

/* Removes the row that was taken last. */
void
apikey_table_remove(ApikeyWriter *writer, const ApikeyTable *table)
{
	MemoryContext context = CurrentMemoryContext;
	int			before = apikey_wait_begin();

	PG_TRY();
	{
		apikey_storage_delete(writer);
	}
	PG_CATCH();
	{
		rethrow(table, NULL, NULL, context, before);
	}
	PG_END_TRY();
	apikey_wait_end(before);
}

/* Inserts a row. */
void
apikey_table_add(ApikeyWriter *writer, const ApikeyTable *table,
				 const ApikeyRow *row)
{
	MemoryContext context = CurrentMemoryContext;
	int			before = apikey_wait_begin();

	PG_TRY();
	{
		apikey_storage_insert(writer, row->values, row->nulls, table->count);
	}
	PG_CATCH();
	{
		rethrow(table, row, table->argument, context, before);
	}
	PG_END_TRY();
	apikey_wait_end(before);
}

/*
 * Locks a row to the end of the transaction and reads its latest version;
 * false where it is gone.  Others may change a row that is only kept, so what it
 * says is read when it is locked, whatever the transaction's snapshot shows.
 */
bool
apikey_table_lock(const ApikeyTable *table, const pg_uuid_t *id,
				  ApikeyLock lock, ApikeyRow *row)
{
	Relation	rel = apikey_table_relation(table, RowShareLock);
	Relation	index = apikey_table_index(table, rel, table->pkey);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	bool		found;

	apikey_table_key(&key, id);
	found = lock_row(table, rel, index, &key, lock, slot);
	if (found && lock == APIKEY_LOCK_KEEP)
		found = apikey_table_fetch_latest(table, id, row);
	else if (found)
		copy_locked(table, slot, row);
	ExecDropSingleTupleTableSlot(slot);
	apikey_table_close_index(index);
	table_close(rel, NoLock);
	return found;
}

/* Is somebody changing a row, who has not committed yet? */
bool
apikey_table_changing(const ApikeyTable *table, const pg_uuid_t *id)
{
	Relation	rel = apikey_table_relation(table, RowShareLock);
	Relation	index = apikey_table_index(table, rel, table->pkey);
	ScanKeyData key;
	bool		changing;

	apikey_table_key(&key, id);
	changing = apikey_storage_changing(rel, index, &key, 1);
	apikey_table_close_index(index);
	table_close(rel, NoLock);
	return changing;
}

/* Would to remove a row, if there is one, wait for nobody?  Then it is locked. */
bool
apikey_table_row_free(const ApikeyTable *table, const pg_uuid_t *id)
{
	ApikeyRow	row;

	return apikey_table_lock(table, id, APIKEY_LOCK_UPDATE_SKIP, &row) ||
		!apikey_table_fetch_latest(table, id, &row);
}

/*
 * Would to write a row of an id wait for nobody, whether it is there or is to be
 * made?  One that is there is locked then; one that somebody is just making is
 * not there yet, and holds up who makes it too.
 */
bool
apikey_table_write_free(const ApikeyTable *table, const pg_uuid_t *id)
{
	Relation	rel;
	Relation	index;
	ApikeyRow	row;
	ScanKeyData key;
	bool		absent;

	if (apikey_table_lock(table, id, APIKEY_LOCK_UPDATE_SKIP, &row))
		return true;
	rel = apikey_table_relation(table, RowShareLock);
	index = apikey_table_index(table, rel, table->pkey);
	apikey_table_key(&key, id);
	absent = apikey_storage_absent(rel, index, &key, 1);
	apikey_table_close_index(index);
	table_close(rel, NoLock);
	return absent;
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

/*
 * A row that was found as it is committed now is not there to be locked: raises
 * where it is passed over only as this transaction reads as of before.
 */
void
apikey_table_require_seen(const ApikeyTable *table, const pg_uuid_t *id)
{
	ApikeyRow	row;

	if (IsolationUsesXactSnapshot())
		require_row(table, !apikey_table_fetch_latest(table, id, &row));
}

/* Removes a row; false where there is none or, to skip it, it is locked. */
static bool
delete_row(const ApikeyTable *table, const pg_uuid_t *id, ApikeyLock lock)
{
	ApikeyWriter *writer = apikey_table_open(table);
	ScanKeyData key;
	bool		found;

	apikey_table_key(&key, id);
	found = apikey_table_take(writer, table, &key, lock, NULL);
	if (found)
		apikey_table_remove(writer, table);
	apikey_table_close(writer);
	return found;
}

/* The same; 40001 where it must be removed and is not. */
void
apikey_table_delete_by(const ApikeyTable *table, const pg_uuid_t *id,
					   ApikeyLock lock, bool must_exist)
{
	bool		found = delete_row(table, id, lock);

	if (must_exist)
		require_row(table, found);
}

/* The same, waiting for whoever has it. */
void
apikey_table_delete(const ApikeyTable *table, const pg_uuid_t *id,
					bool must_exist)
{
	apikey_table_delete_by(table, id, APIKEY_LOCK_UPDATE, must_exist);
}

/* The same of one that was found as it is committed now, if it still is. */
void
apikey_table_delete_found(const ApikeyTable *table, const pg_uuid_t *id)
{
	if (!delete_row(table, id, APIKEY_LOCK_UPDATE))
		apikey_table_require_seen(table, id);
}
