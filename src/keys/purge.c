/*
 * purge.c
 *		Removing keys that ended long ago.
 *
 * Only what the caller may delete is looked at: the keys of the roles whose
 * privileges it has, and of the projects that it administers, each through an
 * index that begins with these.  So others' keys cost it nothing.  A superuser,
 * who looks at all, also removes what deleted keys have left of their accounts
 * and of their use, and settles what stands beside keys' rows.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "access/access.h"
#include "keys/keys_internal.h"

/* Had a key ended before a time, revoked or expired, whichever came first? */
static bool
ended_before(const ApikeyRow *key, TimestampTz before)
{
	return (!key->nulls[APIKEY_KEY_REVOKED_AT] &&
			DatumGetTimestampTz(key->values[APIKEY_KEY_REVOKED_AT]) < before) ||
		(!key->nulls[APIKEY_KEY_EXPIRES_AT] &&
		 DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]) < before);
}

/*
 * Removes a key, if it is there, the caller may, and it has ended still.  It
 * is asked before the row is locked, so that nobody waits for a stranger.  What
 * somebody has is left for the next time, and what has been removed beside its
 * row goes as well, where the caller may.
 */
static bool
purge_key(const pg_uuid_t *id, TimestampTz before)
{
	ApikeyRow	key;

	if (!apikey_key_fetch_latest(id, &key))
	{
		apikey_manage_finish(id, APIKEY_LOCK_UPDATE_SKIP);
		return false;
	}
	if (!apikey_authority_may(APIKEY_RIGHT_DELETE, &key) ||
		!apikey_manage_take(id, &key) ||
		!apikey_authority_may(APIKEY_RIGHT_DELETE, &key) ||
		!ended_before(&key, before))
		return false;
	apikey_manage_remove_taken(&key);
	return true;
}

/*
 * The search for keys that had ended, or been removed beside their rows.  Each
 * is removed where it is found: that waits for nobody, so it needs no order.
 */
typedef struct Search
{
	TimestampTz before;
	Snapshot	snapshot;
	bool		revocations;
	int64		purged;
	ApikeyTurns turns;
} Search;

static bool
purge_ended(const ApikeyRow *row, void *state)
{
	Search	   *search = state;
	ApikeyRow	key = *row;
	pg_uuid_t	id = *apikey_row_id(row);

	if ((!search->revocations ||
		 apikey_revocation_apply(&key, search->snapshot)) &&
		!ended_before(&key, search->before))
		return true;
	if (purge_key(&id, search->before))
		search->purged++;
	return true;
}

/* Looks through the keys that have a value in a column. */
static void
search_keys(Search *search, ApikeyRelation index, ApikeyKeyColumn column,
			RegProcedure equal, Datum value)
{
	ScanKeyData key;

	ScanKeyInit(&key, column + 1, BTEqualStrategyNumber, equal, value);
	apikey_table_walk(&apikey_key_table, index, &key, 1, search->snapshot,
					  apikey_turns_visit, &search->turns);
}

static void
search_project(ApikeyViewedProject *project, void *state)
{
	if (project->authority.member_role >= APIKEY_ROLE_ADMIN)
		search_keys(state, APIKEY_REL_KEY_PROJECT, APIKEY_KEY_PROJECT,
					F_UUID_EQ, UUIDPGetDatum(&project->id));
}

/* Looks through all keys that the caller may delete. */
static void
search_all(Search *search)
{
	ApikeyViewer viewer;
	ListCell   *cell;

	search->revocations = apikey_revocation_any();
	search->snapshot = apikey_latest_snapshot();
	apikey_viewer_open_own(&viewer, search->snapshot);
	/* The SQL of 0.1.0 has no index that begins with the owner. */
	if (superuser() || apikey_catalog_lacks(APIKEY_REL_KEY_OWNER))
		apikey_table_walk(&apikey_key_table, APIKEY_REL_KEY, NULL, 0,
						  search->snapshot, apikey_turns_visit, &search->turns);
	else
	{
		foreach(cell, viewer.roles)
			search_keys(search, APIKEY_REL_KEY_OWNER, APIKEY_KEY_OWNER,
						F_OIDEQ, ObjectIdGetDatum(lfirst_oid(cell)));
		apikey_viewer_projects(&viewer, NULL, search_project, search);
	}
	UnregisterSnapshot(search->snapshot);
}

/* Settles what stands beside keys' rows. */
static void
settle_all(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey settle",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	ApikeyPass	pass = {0};

	while (apikey_revocation_settle_found(&pass))
		MemoryContextReset(context);
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

/*
 * Removes the keys that had ended before a time, of those that the caller may
 * delete; returns how many.
 */
int64
apikey_purge_keys(TimestampTz before)
{
	Search		search = {.before = before};

	apikey_principal_require();
	apikey_turns_begin(&search.turns, purge_ended, &search);
	search_all(&search);
	apikey_turns_end(&search.turns);
	if (superuser())
	{
		settle_all();
		apikey_use_purge();
	}
	return search.purged;
}
