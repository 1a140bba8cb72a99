/*
 * purge.c
 *		Removing keys that ended long ago.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "apikey.h"

/* Had a key ended before a time, revoked or expired, whichever came first? */
static bool
ended_before(const ApikeyRow *key, TimestampTz before)
{
	return (!key->nulls[APIKEY_KEY_REVOKED_AT] &&
			DatumGetTimestampTz(key->values[APIKEY_KEY_REVOKED_AT]) < before) ||
		(!key->nulls[APIKEY_KEY_EXPIRES_AT] &&
		 DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]) < before);
}

/* The ids of the keys that had ended before a time, whosever they are. */
static pg_uuid_t *
find_ended(TimestampTz before, uint64 *count)
{
	static ApikeyStatement statement;
	ApikeyStorage storage;
	MemoryContext context = CurrentMemoryContext;
	Datum		arg = TimestampTzGetDatum(before);
	pg_uuid_t  *ids;

	apikey_storage_open(&storage);
	if (apikey_storage_stale(&statement))
	{
		Oid			type = TIMESTAMPTZOID;

		apikey_storage_prepare(&statement,
							   psprintf("SELECT id FROM %s.apikey_key"
										" WHERE revoked_at < $1 OR expires_at < $1"
										" ORDER BY id",
										apikey_catalog_schema()),
							   1, &type);
	}
	*count = apikey_storage_run(&statement, &arg, NULL);
	ids = MemoryContextAllocHuge(context, Max(*count, 1) * sizeof(pg_uuid_t));
	for (uint64 i = 0; i < *count; i++)
	{
		bool		isnull;

		ids[i] = *DatumGetUUIDP(SPI_getbinval(SPI_tuptable->vals[i],
											  SPI_tuptable->tupdesc, 1,
											  &isnull));
	}
	apikey_storage_close(&storage);
	return ids;
}

/*
 * Removes a key, if it is there, the caller may, and it has ended still.  He
 * is asked before the row is locked, so that nobody waits for a stranger.
 */
static bool
purge_key(const pg_uuid_t *id, TimestampTz before)
{
	ApikeyRow	key;

	if (!apikey_table_fetch_latest(&apikey_key_table, id, &key) ||
		!apikey_authority_may(APIKEY_RIGHT_DELETE, &key) ||
		!apikey_table_lock(&apikey_key_table, id, APIKEY_LOCK_UPDATE, &key) ||
		!apikey_authority_may(APIKEY_RIGHT_DELETE, &key) ||
		!ended_before(&key, before))
		return false;
	apikey_manage_delete(&key);
	return true;
}

/*
 * Removes the keys that had ended before a time, of those that the caller may
 * delete; returns how many.
 */
int64
apikey_purge_keys(TimestampTz before)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey purge",
												  ALLOCSET_DEFAULT_SIZES);
	uint64		count;
	pg_uuid_t  *ids;
	int64		purged = 0;

	(void) apikey_principal_subject();	/* raises where it is not readable */
	ids = find_ended(before, &count);
	for (uint64 i = 0; i < count; i++)
	{
		MemoryContext outer = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		if (purge_key(&ids[i], before))
			purged++;
		MemoryContextSwitchTo(outer);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	pfree(ids);
	return purged;
}
