/*
 * settle.c
 *		Settling what stands beside keys' rows: revocations, and removals.
 *
 * See revocation.c.  This is the worker's, and a superuser's who purges.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_subscription.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/access.h"
#include "keys/keys_internal.h"

#define SETTLED_AT_ONCE	500		/* a step */

/* The ids of rows, and of their keys, collected in the current context. */
typedef struct Found
{
	List	   *ids;
	List	   *keys;
} Found;

static pg_uuid_t *
copy_id(const ApikeyRow *row, int column)
{
	pg_uuid_t  *copy = palloc(sizeof(pg_uuid_t));

	*copy = *DatumGetUUIDP(row->values[column]);
	return copy;
}

static bool
found_visit(const ApikeyRow *row, void *state)
{
	Found	   *found = state;

	found->ids = lappend(found->ids, copy_id(row, APIKEY_REVOCATION_ID));
	found->keys = lappend(found->keys, copy_id(row, APIKEY_REVOCATION_KEY));
	return list_length(found->ids) < SETTLED_AT_ONCE;
}

/*
 * Does this database take changes of another?  Then what settles a revocation
 * comes from there: done here, it could be undone by what was written there
 * before.
 */
static bool
subscribed(void)
{
	Relation	rel = table_open(SubscriptionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&key, Anum_pg_subscription_subdbid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(MyDatabaseId));
	scan = systable_beginscan(rel, SubscriptionNameIndexId, true, NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Settles what stands beside a key's row, or a member's, and removes it where
 * there is none, unless somebody has it.
 */
static void
settle(const pg_uuid_t *id, const pg_uuid_t *key_id)
{
	ApikeyRow	row;

	if (apikey_key_lock(key_id, APIKEY_LOCK_UPDATE_SKIP, &row) ||
		apikey_key_finish(key_id, APIKEY_LOCK_UPDATE_SKIP) ||
		apikey_member_finish(key_id, APIKEY_LOCK_UPDATE_SKIP))
		return;
	if (!apikey_table_fetch_latest(&apikey_key_table, key_id, &row) &&
		!apikey_table_fetch_latest(&apikey_member_table, key_id, &row))
		apikey_table_delete(&apikey_revocation_table, id, false);
}

/* Finds the next ones, in the order of their ids. */
static void
find_next(const pg_uuid_t *after, Found *found)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData key;

	ScanKeyInit(&key, APIKEY_REVOCATION_ID + 1, BTGreaterStrategyNumber,
				F_UUID_GT, UUIDPGetDatum(after));
	apikey_table_scan(&apikey_revocation_table, APIKEY_REL_REVOCATION_PKEY, &key,
					  1, snapshot, found_visit, found);
	UnregisterSnapshot(snapshot);
}

/*
 * For the worker, in a transaction: a step through what stands beside keys'
 * rows, that settles it where nobody has them; false for the last.  What
 * somebody has is passed by, and holds up nothing that comes after it.
 */
bool
apikey_revocation_settle_found(void)
{
	static pg_uuid_t after;
	Found		found = {0};
	ListCell   *id;
	ListCell   *key_id;
	bool		more;

	if (!apikey_revocation_any() || subscribed())
		return false;
	find_next(&after, &found);
	more = list_length(found.ids) == SETTLED_AT_ONCE;
	if (more)
		after = *(pg_uuid_t *) llast(found.ids);
	else
		memset(&after, 0, sizeof(after));
	forboth(id, found.ids, key_id, found.keys)
	{
		CHECK_FOR_INTERRUPTS();
		settle(lfirst(id), lfirst(key_id));
	}
	return more;
}
