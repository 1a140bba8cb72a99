/*
 * revocation.c
 *		Revocations that wait for nobody, and for which nobody waits.
 *
 * Whoever holds a key's text may revoke it, and so may its creators, who may do
 * nothing else with it, and members of its project, who may have been removed
 * before their transaction ends.  None of them may hold up those who manage the
 * key, by a transaction that is left open or prepared.  So such a revocation
 * touches no row of the key: it is a row of its own, in a table to which
 * anybody entitled adds.  A superuser, and a personal key's owner, write into
 * the key's row where that is free; where somebody has it locked, such a row is
 * added too, so that to revoke never waits.
 *
 * The key is revoked from the moment the row is there, committed or our own:
 * rows of keys are read by apikey_key_fetch and its kin in key.c, or handed to
 * apikey_revocation_apply, and by nobody in another way.  Whoever locks the
 * key's row next, or the worker, settles it: writes it there and removes it.
 * So a key and what revokes it are read in one snapshot: in a later one the row
 * may be gone that in the key's is not settled yet.  A locked key's is not
 * settled by anybody else.  Of a key that has been deleted meanwhile a row is
 * left over, which says nothing and goes with the worker.
 *
 * Most databases have none.  A process that has found none looks again only
 * after the message that the row's trigger sends with its commit; that there is
 * none holds of snapshots that are taken afterwards.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_subscription.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys_internal.h"

#define SETTLED_AT_ONCE	500		/* the worker's next step finds more */

static bool added = false;		/* in this transaction */

static void
on_transaction_end(ApikeyEnd end)
{
	/* The worker settles it soon. */
	if (added && end == APIKEY_END_COMMIT && apikey_usage_shared())
		apikey_stats_visit(APIKEY_VISIT_EXPIRY, GetCurrentTimestamp());
	added = false;
}

ApikeyTransactionPart apikey_revocation_transaction = {
	.end = on_transaction_end
};

/* Revokes a key beside its row, and tells so. */
void
apikey_revocation_add(const ApikeyRow *key, text *reason)
{
	ApikeyRow	row;
	pg_uuid_t	id;

	apikey_generate_id(&id);
	apikey_row_clear(&row);
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_ID, &id);
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_KEY, apikey_row_id(key));
	apikey_row_set(&row, APIKEY_REVOCATION_REVOKED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_REASON, reason);
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_REVOKED_BY,
						   apikey_role_name_text(GetUserId(), NULL));
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_REVOKED_BY_SUBJECT,
						   apikey_principal_subject_if_known());
	apikey_table_insert(&apikey_revocation_table, &row);
	added = true;
	apikey_event_key(key, APIKEY_EVENT_REVOKED,
					 reason == NULL ? NULL : apikey_json_text("reason", reason));
}

/* The ids of rows, and of their keys, collected in the current context. */
typedef struct Found
{
	int			limit;			/* 0: none */
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
	return found->limit == 0 || list_length(found->ids) < found->limit;
}

static void
remove_rows(List *ids)
{
	ListCell   *cell;

	foreach(cell, ids)
		apikey_table_delete(&apikey_revocation_table, lfirst(cell), false);
}

/* Removes what revokes a key that is locked. */
void
apikey_revocation_forget(const ApikeyRow *key)
{
	Found		found = {0};
	Snapshot	snapshot;

	if (!apikey_revocation_any())
		return;
	snapshot = apikey_latest_snapshot();
	apikey_revocation_walk(apikey_row_id(key), snapshot, found_visit, &found);
	UnregisterSnapshot(snapshot);
	remove_rows(found.ids);
}

/*
 * Writes the revocation of a locked key into its row, if there is one.  It has
 * been told of, and what the key had replaced has rows of its own.
 */
static void
settle(ApikeyRow *key)
{
	bool		before = key->nulls[APIKEY_KEY_REVOKED_AT];

	if (!apikey_revocation_any())
		return;
	apikey_revocation_apply_latest(key);
	if (before && !key->nulls[APIKEY_KEY_REVOKED_AT])
	{
		apikey_key_write(key);
		apikey_reveal_forget(key);
	}
	apikey_revocation_forget(key);
}

/*
 * Locks a key's row to the end of the transaction, reads its latest version and
 * settles what revokes it; false where it is gone or, to skip it, locked.
 */
bool
apikey_key_lock(const pg_uuid_t *id, ApikeyLock lock, ApikeyRow *key)
{
	if (!apikey_table_lock(&apikey_key_table, id, lock, key))
		return false;
	settle(key);
	return true;
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
 * For the worker, in a transaction: settles revocations whose keys nobody has
 * locked, and removes those whose keys are gone; true where there may be more
 * that can be had.
 */
bool
apikey_revocation_settle_found(void)
{
	Found		found = {.limit = SETTLED_AT_ONCE};
	Snapshot	snapshot;
	ListCell   *id;
	ListCell   *key_id;
	int			settled = 0;

	if (!apikey_revocation_any() || subscribed())
		return false;
	snapshot = apikey_latest_snapshot();
	apikey_table_scan(&apikey_revocation_table, APIKEY_REL_REVOCATION_PKEY, NULL, 0,
					  snapshot, found_visit, &found);
	UnregisterSnapshot(snapshot);
	forboth(id, found.ids, key_id, found.keys)
	{
		ApikeyRow	key;

		CHECK_FOR_INTERRUPTS();
		if (apikey_key_lock(lfirst(key_id), APIKEY_LOCK_UPDATE_SKIP, &key))
			settled++;
		else if (!apikey_key_fetch_latest(lfirst(key_id), &key))
		{
			apikey_table_delete(&apikey_revocation_table, lfirst(id), false);
			settled++;
		}
	}
	return list_length(found.ids) == SETTLED_AT_ONCE && settled > 0;
}
