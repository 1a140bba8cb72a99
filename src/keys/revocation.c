/*
 * revocation.c
 *		Revoking, disabling and removing keys without waiting for anybody.
 *
 * Whoever holds a key's text may revoke it, and so may its creators, who may do
 * nothing else with it, and members of its project, who may have been removed
 * before their transaction ends.  None of them may hold up those who manage the
 * key, by a transaction that is left open or prepared.  So such a revocation
 * touches no row of the key: it is a row of its own, in a table to which
 * anybody entitled adds.  A superuser, and a personal key's owner, write into
 * the key's row where that is free; where somebody has it locked, such a row is
 * added too, so that to revoke never waits.  To disable a key is the same:
 * whoever has its row, to enable it for one, cannot keep it in use.
 *
 * To remove a key waits for nobody either: where somebody has its row, or
 * another that goes with it, such a row says that the key is not there any more,
 * and the worker, or whoever needs its name, removes it later (see settle.c).
 *
 * The key is revoked, disabled, or gone, from the moment the row is there,
 * committed or our own: rows of keys are read by apikey_key_fetch and its kin in
 * key.c, or handed to apikey_revocation_apply, and by nobody in another way.  Whoever locks the
 * key's row next, or the worker, settles it: writes it there and removes it.
 * So a key and what revokes it are read in one snapshot: in a later one the row
 * may be gone that in the key's is not settled yet.  A locked key's is not
 * settled by anybody else.  Of a key that has been deleted meanwhile a row is
 * left over, which says nothing and goes with the worker.  One that comes from
 * elsewhere, restored or replicated, may be here before its key: the worker
 * leaves it, and the key is what it says once it comes.
 *
 * Most databases have none.  A process that has found none looks again only
 * after the message that the row's trigger sends with its commit; that there is
 * none holds of snapshots that are taken afterwards.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys_internal.h"

/* Revokes a key beside its row, and tells so. */
void
apikey_revocation_add(const ApikeyRow *key, text *reason)
{
	apikey_revocation_insert(apikey_row_id(key), reason, APIKEY_BESIDE_REVOKED);
	apikey_event_key(key, APIKEY_EVENT_REVOKED,
					 reason == NULL ? NULL : apikey_json_text("reason", reason));
}

/*
 * Disables a key beside its row, and tells so; false where it is disabled so
 * already, and stays, whatever becomes of what others are doing with it.
 */
bool
apikey_revocation_disable(const ApikeyRow *key)
{
	const pg_uuid_t *id = apikey_row_id(key);
	bool		stays;

	apikey_revocation_claim(id);
	stays = apikey_revocation_disables(id);
	if (!stays)
		apikey_revocation_insert(id, NULL, APIKEY_BESIDE_DISABLED);
	apikey_revocation_claim_end(id);
	if (!stays)
		apikey_event_key(key, APIKEY_EVENT_DISABLED, NULL);
	return !stays;
}

/* Removes a key beside its row, and tells so. */
void
apikey_revocation_remove(const ApikeyRow *key)
{
	apikey_revocation_insert(apikey_row_id(key), NULL, APIKEY_BESIDE_REMOVED);
	apikey_event_key(key, APIKEY_EVENT_DELETED, NULL);
}

/*
 * Writes what stands beside a locked key's row into it, if anything does.  It
 * has been told of, and what the key had replaced has rows of its own.  What
 * comes beside it meanwhile is not written, and stays: only what was read goes,
 * but for what somebody has where such are skipped.  False where the key has been
 * removed.
 */
static bool
settle(ApikeyRow *key, ApikeyLock lock)
{
	pg_uuid_t	id = *apikey_row_id(key);
	bool		was_revoked = !key->nulls[APIKEY_KEY_REVOKED_AT];
	bool		was_disabled = apikey_row_bool(key, APIKEY_KEY_DISABLED);
	Snapshot	snapshot;
	List	   *beside;
	bool		there;

	if (!apikey_revocation_any())
		return true;
	apikey_revocation_claim(&id);
	snapshot = apikey_latest_snapshot();
	there = apikey_revocation_apply(key, snapshot);
	beside = there ? apikey_revocation_list(&id, snapshot) : NIL;
	UnregisterSnapshot(snapshot);
	/* What disables it would do so still when the caller has enabled it. */
	apikey_revocation_forget_listed(beside, lock, IsolationUsesXactSnapshot() &&
									key->nulls[APIKEY_KEY_REVOKED_AT]);
	apikey_revocation_claim_end(&id);
	if (!there)
		return false;
	if (!was_revoked && !key->nulls[APIKEY_KEY_REVOKED_AT])
	{
		apikey_key_write(key);
		apikey_reveal_forget(key);
	}
	else if (!was_disabled && apikey_row_bool(key, APIKEY_KEY_DISABLED))
		apikey_key_write(key);
	return true;
}

/*
 * Locks a key's row to the end of the transaction, reads its latest version and
 * settles what revokes it; false where it is gone or, to skip it, locked.
 */
bool
apikey_key_lock(const pg_uuid_t *id, ApikeyLock lock, ApikeyRow *key)
{
	return apikey_table_lock(&apikey_key_table, id, lock, key) &&
		settle(key, lock);
}
