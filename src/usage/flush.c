/*
 * flush.c
 *		Carrying the use of keys, as it has gathered, into the table.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "usage/usage_internal.h"

/* Adds what was collected of a key to the row of its use. */
static void
add_use(ApikeyRow *row, const ApikeyUse *use, int64 flush)
{
	int64		uses = DatumGetInt64(row->values[APIKEY_USE_USE_COUNT]);
	int64		denials = DatumGetInt64(row->values[APIKEY_USE_DENIED_COUNT]);

	apikey_row_set(row, APIKEY_USE_USE_COUNT,
				   Int64GetDatum(uses + (int64) use->uses));
	apikey_row_set(row, APIKEY_USE_DENIED_COUNT,
				   Int64GetDatum(denials + (int64) use->denials));
	if (use->last_used_at != 0 &&
		(row->nulls[APIKEY_USE_LAST_USED_AT] ||
		 DatumGetTimestampTz(row->values[APIKEY_USE_LAST_USED_AT]) <
		 use->last_used_at))
		apikey_row_set(row, APIKEY_USE_LAST_USED_AT,
					   TimestampTzGetDatum(use->last_used_at));
	if (use->has_addr)
		apikey_row_set(row, APIKEY_USE_LAST_USED_ADDR,
					   InetPGetDatum(apikey_use_inet(&use->addr)));
	apikey_row_set(row, APIKEY_USE_FLUSH, Int64GetDatum(flush));
}

/*
 * The same of a key whose row is not there, or was not to be had.  One that
 * somebody has locked, who is deleting the key perhaps, is not waited for, nor
 * is who has the key whose first row it is: false, it comes the next time.  Of a
 * key that is not there any more nothing is left to be written.
 */
static bool
take_use(ApikeyWriter *writer, const ApikeyUse *use, int64 flush, bool *gone)
{
	ApikeyRow	row;
	bool		is_new;

	*gone = !apikey_key_fetch_latest(&use->id, &row);
	if (*gone)
		return true;
	if (!apikey_use_take(writer, &use->id, &row, &is_new))
		return false;
	add_use(&row, use, flush);
	apikey_use_put(writer, &row, is_new);
	return true;
}

/*
 * Writes what was collected of a key; false where somebody has a row of its use or
 * history.
 */
static bool
write_use(ApikeyWriter *writer, ApikeyWriter *history,
		  const ApikeyCollectedUse *collected, int64 flush)
{
	const ApikeyUse *use = &collected->use;
	ScanKeyData key;
	ApikeyRow	row;
	bool		gone = false;
	bool		written = false;

	/* Asked before, as the one is not written without the other. */
	if (!apikey_history_free(history, &use->id, collected->whose, use->uses))
		return false;
	apikey_table_key(&key, &use->id);
	if (apikey_table_see(writer, &apikey_use_table, &key, &row))
	{
		add_use(&row, use, flush);
		written = apikey_table_change(writer, &apikey_use_table, &row);
	}
	if (!written && !take_use(writer, use, flush, &gone))
		return false;
	if (!gone)
		apikey_history_add(history, &use->id, collected->whose, use->uses);
	return true;
}

/* What is being written. */
typedef struct Flush
{
	int64		number;
	List	   *left;			/* what could not be */
} Flush;

static void
write_some(List *uses, void *state)
{
	Flush	   *flush = state;
	int			path = apikey_owner_fix_path();	/* once for all */
	ApikeyWriter *writer = apikey_table_open(&apikey_use_table);
	ApikeyWriter *history = apikey_history_open();
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey use",
												  ALLOCSET_DEFAULT_SIZES);
	ListCell   *cell;

	foreach(cell, uses)
	{
		MemoryContext context = MemoryContextSwitchTo(scratch);
		bool		written;

		CHECK_FOR_INTERRUPTS();
		written = write_use(writer, history, lfirst(cell), flush->number);
		MemoryContextSwitchTo(context);
		MemoryContextReset(scratch);
		/* It may have been left before, in what has failed. */
		flush->left = list_delete_ptr(flush->left, lfirst(cell));
		if (!written)
			flush->left = lappend(flush->left, lfirst(cell));
	}
	MemoryContextDelete(scratch);
	apikey_history_close(history);
	apikey_table_close(writer);
	apikey_owner_restore_path(path);
}

/* Writes what was collected; returns what is written, or needs no writing. */
List *
apikey_flush_write(List *uses, int64 number)
{
	Flush		flush = {.number = number};
	List	   *failed = apikey_attempt_each(write_some, uses, &flush);
	ListCell   *cell;

	foreach(cell, uses)
	{
		if (list_member_ptr(flush.left, lfirst(cell)) ||
			list_member_ptr(failed, lfirst(cell)))
			uses = foreach_delete_current(uses, cell);
	}
	return uses;
}
