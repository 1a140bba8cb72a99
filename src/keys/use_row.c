/*
 * use_row.c
 *		Making the row of a key's use, and taking it to be written.
 */
#include "postgres.h"

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
