/*
 * cache_entry.c
 *		What an entry of cache.c keeps of a key: the columns that verification
 *		needs.
 */
#include "postgres.h"

#include "utils/datum.h"

#include "store/store.h"
#include "rows/rows.h"
#include "limits/limits.h"
#include "verify/cache_entry.h"

/* The columns of a key that verification needs, and those up to the last. */
static const ApikeyKeyColumn kept_columns[] = {
	APIKEY_KEY_PROJECT, APIKEY_KEY_OWNER, APIKEY_KEY_ROLE,
	APIKEY_KEY_DISABLED, APIKEY_KEY_STARTS_AT, APIKEY_KEY_EXPIRES_AT,
	APIKEY_KEY_REVOKED_AT, APIKEY_KEY_ROTATED_TO, APIKEY_KEY_RATE_LIMIT,
	APIKEY_KEY_RATE_WINDOW, APIKEY_KEY_CREDITS_ACCOUNT,
	APIKEY_KEY_OWNER_NAME, APIKEY_KEY_PREFIX, APIKEY_KEY_NAME,
	APIKEY_KEY_SUBJECT, APIKEY_KEY_SCOPES, APIKEY_KEY_ALLOWED_IPS,
	APIKEY_KEY_METADATA
};

/* The bytes that the columns of a key take behind its row. */
Size
apikey_cache_columns_bytes(const ApikeyRow *key, TupleDesc desc)
{
	Size		bytes = 0;

	for (size_t i = 0; i < lengthof(kept_columns); i++)
	{
		int			column = kept_columns[i];
		Form_pg_attribute attribute = TupleDescAttr(desc, column);

		if (!key->nulls[column] && !attribute->attbyval)
			bytes += MAXALIGN(datumGetSize(key->values[column], false,
										   attribute->attlen));
	}
	return bytes;
}

/* Copies what verification needs of a key into an entry; returns its end. */
char *
apikey_cache_copy_columns(const ApikeyRow *key, TupleDesc desc,
						  ApikeyCacheEntry *entry)
{
	ApikeyRow  *copy = APIKEY_CACHE_KEY(entry);
	char	   *next = (char *) copy + MAXALIGN(APIKEY_CACHE_ROW_BYTES);

	memset(copy->nulls, true, sizeof(copy->nulls));
	copy->nulls[APIKEY_KEY_ID] = false;
	copy->values[APIKEY_KEY_ID] = UUIDPGetDatum(&entry->id);
	for (size_t i = 0; i < lengthof(kept_columns); i++)
	{
		int			column = kept_columns[i];
		Form_pg_attribute attribute = TupleDescAttr(desc, column);
		Size		size;

		copy->nulls[column] = key->nulls[column];
		if (key->nulls[column])
			continue;
		copy->values[column] = key->values[column];
		if (attribute->attbyval)
			continue;
		size = datumGetSize(key->values[column], false, attribute->attlen);
		memcpy(next, DatumGetPointer(key->values[column]), size);
		copy->values[column] = PointerGetDatum(next);
		next += MAXALIGN(size);
	}
	if (entry->bounds != NULL)
	{
		Size		size = APIKEY_BOUNDS_BYTES(entry->bounds->count);

		entry->bounds = memcpy(next, entry->bounds, size);
		next += MAXALIGN(size);
	}
	if (entry->project == NULL)
		return next;
	entry->project = strcpy(next, entry->project);
	return next + strlen(next) + 1;
}

/* Arrays are read where they stand, which takes a header of full length. */
void
apikey_cache_widen_array(ApikeyRow *key, ApikeyKeyColumn column)
{
	Datum	   *value = &key->values[column];

	if (!key->nulls[column])
		*value = PointerGetDatum(DatumGetArrayTypeP(*value));
}
