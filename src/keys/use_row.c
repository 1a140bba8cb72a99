/*
 * use_row.c
 *		Making the row of a key's use, taking it to be written, and removing what
 *		is left of it.
 */
#include "postgres.h"

#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "keys/keys_internal.h"

/*
 * Two who make a key's first row would wait for one another, and one that
 * whoever deletes the key does not see would be left behind.  So this is for
 * whoever gets the row of what proves the key; false where somebody else has it,
 * or it is gone.
 */
bool
apikey_use_hold(const pg_uuid_t *key)
{
	ApikeyRow	row;

	return apikey_table_lock(&apikey_digest_table, key, APIKEY_LOCK_UPDATE_SKIP,
							 &row) ||
		apikey_table_lock(&apikey_import_table, key, APIKEY_LOCK_UPDATE_SKIP,
						  &row);
}

/*
 * Takes the row of a key's use to be written, or makes one; false where that
 * would be waiting for somebody, or the key is gone.
 */
bool
apikey_use_take(ApikeyWriter *writer, const pg_uuid_t *key, ApikeyRow *use,
				bool *is_new)
{
	ScanKeyData id;

	apikey_table_key(&id, key);
	*is_new = !apikey_table_take(writer, &apikey_use_table, &id,
								 APIKEY_LOCK_UPDATE_SKIP, use);
	if (!*is_new)
		return true;
	if (!apikey_use_hold(key) ||
		!apikey_table_absent(writer, &apikey_use_table, &id))
		return false;
	apikey_use_new(use, key);
	return true;
}

/* Writes that row. */
void
apikey_use_put(ApikeyWriter *writer, const ApikeyRow *use, bool is_new)
{
	if (is_new)
		apikey_table_add(writer, &apikey_use_table, use);
	else
		apikey_table_put(writer, &apikey_use_table, use);
}

/* The search for rows of keys that are gone. */
typedef struct Search
{
	ApikeyWriter *writer;
	Snapshot	snapshot;
} Search;

static bool
remove_left(const ApikeyRow *use, void *state)
{
	Search	   *search = state;
	ApikeyRow	key;
	ScanKeyData id;

	if (apikey_table_fetch(&apikey_key_table, apikey_row_id(use),
						   search->snapshot, &key))
		return true;
	apikey_table_key(&id, apikey_row_id(use));
	if (apikey_table_take(search->writer, &apikey_use_table, &id,
						  APIKEY_LOCK_UPDATE_SKIP, NULL))
		apikey_table_remove(search->writer, &apikey_use_table);
	return true;
}

/*
 * Removes the rows that deleted keys have left: flushes did so once.  A row that
 * a snapshot shows without its key is of one that is gone for good.
 */
void
apikey_use_purge(void)
{
	Search		search = {.snapshot = apikey_latest_snapshot()};
	ApikeyTurns turns;

	search.writer = apikey_table_open(&apikey_use_table);
	apikey_turns_begin(&turns, remove_left, &search);
	apikey_table_walk(&apikey_use_table, APIKEY_REL_USAGE, NULL, 0,
					  search.snapshot, apikey_turns_visit, &turns);
	apikey_turns_end(&turns);
	apikey_table_close(search.writer);
	UnregisterSnapshot(search.snapshot);
}
