/*
 * retire.c
 *		Revoking the keys of dropped roles, in their rows.
 *
 * Verification and the views take such a key for revoked as soon as the role
 * is gone.  That its row says so is for whoever reads the row elsewhere or
 * later: a dump, a new role that gets the OID.  In the session's own database
 * the drop itself marks the rows; in the others the worker does.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "commands/extension.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "apikey.h"
#include "usage.h"

#define FOUND_MAX		500		/* the worker's next step finds more */

static bool dropped_role = false;

static void
on_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
	{
		if (dropped_role)
			apikey_stats_role_dropped();
		dropped_role = false;
	}
	else if (event == XACT_EVENT_ABORT)
		dropped_role = false;
}

/* Once, when the library is loaded. */
void
apikey_retire_init(void)
{
	RegisterXactCallback(on_transaction_end, NULL);
}

/* The keys that are to be looked at. */
typedef struct Search
{
	Oid			owner;			/* invalid: any that does not exist */
	bool		current;		/* only what has not been replaced */
	int			most;			/* 0: all */
	List	   *ids;
} Search;

static bool
collect_id(const ApikeyRow *key, void *state)
{
	Search	   *search = state;
	pg_uuid_t  *id;

	if (!key->nulls[APIKEY_KEY_REVOKED_AT] ||
		(search->current && !key->nulls[APIKEY_KEY_ROTATED_TO]) ||
		(OidIsValid(search->owner) ?
		 apikey_key_owner(key) != search->owner :
		 apikey_key_owner_stands(key)))
		return true;
	id = palloc(sizeof(pg_uuid_t));
	*id = *apikey_row_id(key);
	search->ids = lappend(search->ids, id);
	return list_length(search->ids) != search->most;
}

/* Looks through all keys. */
static void
search_all(Search *search)
{
	Snapshot	snapshot = apikey_latest_snapshot();

	apikey_table_walk(&apikey_key_table, APIKEY_REL_KEY, NULL, 0, snapshot,
					  collect_id, search);
	UnregisterSnapshot(snapshot);
}

/* Returns how many could not be locked, if locked ones are left alone. */
static int
retire_all(List *ids, ApikeyLock lock)
{
	int			left = 0;
	ListCell   *cell;

	foreach(cell, ids)
	{
		ApikeyRow	key;

		if (!apikey_table_lock(&apikey_key_table, lfirst(cell), lock, &key))
			left++;
		else if (key.nulls[APIKEY_KEY_REVOKED_AT])
			apikey_manage_retire(&key);
	}
	return left;
}

/* A role is being dropped in this session. */
void
apikey_retire_role(Oid role)
{
	Search		search = {.owner = role};

	dropped_role = true;
	if (!IsTransactionState() ||
		!OidIsValid(get_extension_oid("apikey", true)))
		return;
	search_all(&search);
	(void) retire_all(search.ids, APIKEY_LOCK_UPDATE);
}

/*
 * A project's key is about to get its name: keys that roles dropped since have
 * left there under it make way.
 */
void
apikey_retire_name(const ApikeyRow *key)
{
	Search		search = {.current = true};
	Snapshot	snapshot;
	ScanKeyData keys[2];

	if (apikey_key_project(key) == NULL)
		return;
	ScanKeyInit(&keys[0], APIKEY_KEY_PROJECT + 1, BTEqualStrategyNumber,
				F_UUID_EQ, key->values[APIKEY_KEY_PROJECT]);
	ScanKeyEntryInitialize(&keys[1], 0, APIKEY_KEY_NAME + 1,
						   BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, key->values[APIKEY_KEY_NAME]);
	snapshot = apikey_latest_snapshot();
	apikey_table_walk(&apikey_key_table, APIKEY_REL_KEY_PROJECT_NAME, keys, 2,
					  snapshot, collect_id, &search);
	UnregisterSnapshot(snapshot);
	(void) retire_all(search.ids, APIKEY_LOCK_UPDATE);
}

/*
 * For the worker, in a transaction: keys of roles that were dropped in other
 * databases, or where the library was not loaded; true where there may be more
 * that can be had.
 */
bool
apikey_retire_found(void)
{
	uint64		dropped = apikey_stats_roles_dropped();
	Search		search = {.most = FOUND_MAX};
	int			found;
	int			left;

	search_all(&search);
	found = list_length(search.ids);
	left = retire_all(search.ids, APIKEY_LOCK_UPDATE_SKIP);
	if (left == 0 && found < FOUND_MAX)
		apikey_stats_retired(dropped);
	return found == FOUND_MAX && left < found;
}
