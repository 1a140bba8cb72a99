/*
 * purge.c
 *		Removing keys that ended long ago.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apikey.h"

#define FOUND_MAX	10000		/* keys at once */

/* Had a key ended before a time, revoked or expired, whichever came first? */
static bool
ended_before(const ApikeyRow *key, TimestampTz before)
{
	return (!key->nulls[APIKEY_KEY_REVOKED_AT] &&
			DatumGetTimestampTz(key->values[APIKEY_KEY_REVOKED_AT]) < before) ||
		(!key->nulls[APIKEY_KEY_EXPIRES_AT] &&
		 DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]) < before);
}

/* A part of the search for keys that had ended, in the order of their ids. */
typedef struct Search
{
	TimestampTz before;
	pg_uuid_t	last;			/* looked at */
	int			count;
	pg_uuid_t	ids[FOUND_MAX];
} Search;

static bool
collect_ended(const ApikeyRow *key, void *state)
{
	Search	   *search = state;
	ApikeyRow	row = *key;

	search->last = *apikey_row_id(key);
	apikey_revocation_apply(&row);
	if (ended_before(&row, search->before))
		search->ids[search->count++] = search->last;
	return search->count < FOUND_MAX;
}

/* Looks for the next keys that had ended, whosever they are. */
static void
find_ended(Search *search)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData key;

	search->count = 0;
	ScanKeyInit(&key, APIKEY_KEY_ID + 1, BTGreaterStrategyNumber, F_UUID_GT,
				UUIDPGetDatum(&search->last));
	apikey_table_walk(&apikey_key_table, APIKEY_REL_KEY_PKEY, &key, 1,
					  snapshot, collect_ended, search);
	UnregisterSnapshot(snapshot);
}

/*
 * Removes a key, if it is there, the caller may, and it has ended still.  He
 * is asked before the row is locked, so that nobody waits for a stranger.
 */
static bool
purge_key(const pg_uuid_t *id, TimestampTz before)
{
	ApikeyRow	key;

	if (!apikey_key_fetch_latest(id, &key) ||
		!apikey_authority_may(APIKEY_RIGHT_DELETE, &key) ||
		!apikey_key_lock(id, APIKEY_LOCK_UPDATE, &key) ||
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
	Search	   *search = palloc0(sizeof(Search));
	int64		purged = 0;

	(void) apikey_principal_subject();	/* raises where it is not readable */
	search->before = before;
	do
	{
		find_ended(search);
		for (int i = 0; i < search->count; i++)
		{
			MemoryContext outer = MemoryContextSwitchTo(context);

			CHECK_FOR_INTERRUPTS();
			if (purge_key(&search->ids[i], before))
				purged++;
			MemoryContextSwitchTo(outer);
			MemoryContextReset(context);
		}
	} while (search->count == FOUND_MAX);
	MemoryContextDelete(context);
	pfree(search);
	return purged;
}
