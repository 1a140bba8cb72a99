/*
 * stored.c
 *		What the tables hold of a key's text, native or imported.
 */
#include "postgres.h"

#include "text/text.h"
#include "store/store.h"
#include "secrets/secrets.h"
#include "keys/keys_internal.h"

static bool
stored_column(const ApikeyRow *row, int column, int pepper,
			  ApikeyStored *stored)
{
	bytea	   *digest;

	if (row->nulls[column] || row->nulls[pepper])
		return false;
	digest = DatumGetByteaPP(row->values[column]);
	if (VARSIZE_ANY_EXHDR(digest) != APIKEY_DIGEST_BYTES)
		return false;
	memcpy(stored->digest, VARDATA_ANY(digest), APIKEY_DIGEST_BYTES);
	stored->fingerprint = DatumGetInt32(row->values[pepper]);
	return true;
}

/*
 * Reads what is stored of a key, native or imported; false where there is none.
 * Both tables are asked, whatever is found, so that an unknown id takes as long
 * as a known one.
 */
bool
apikey_stored_fetch(const pg_uuid_t *id, Snapshot snapshot,
					ApikeyStored *stored)
{
	ApikeyRow	row;
	ApikeyRowHint nowhere = {0};
	bool		found = apikey_key_fetch_digest(id, snapshot, &nowhere,
												stored->digest,
												&stored->fingerprint);

	stored->native = found;
	if (!apikey_import_any() ||
		!apikey_table_fetch(&apikey_import_table, id, snapshot, &row))
		return found;
	stored->native = false;
	return stored_column(&row, APIKEY_IMPORT_DIGEST, APIKEY_IMPORT_PEPPER,
						 stored) ||
		stored_column(&row, APIKEY_IMPORT_FOREIGN_DIGEST,
					  APIKEY_IMPORT_FOREIGN_PEPPER, stored);
}
