/*
 * orphan.c
 *		Revoking the keys of dropped roles, in their rows.
 *
 * Verification and the views take such a key for revoked as soon as the role
 * is gone.  That its row says so is for whoever reads the row elsewhere or
 * later: a dump, a new role that gets the OID.  The drop itself only tells the
 * worker, which goes through each database in small steps and leaves alone what
 * is locked: DROP ROLE writes no key, and waits for nobody who has one.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "keys/keys_internal.h"

#define SEEN_AT_ONCE	1000	/* keys that are looked at in a step */
#define LOOK_AGAIN		USECS_PER_MINUTE	/* for what was left */

static bool dropped_role = false;

static void
on_transaction_end(ApikeyEnd end)
{
	if (dropped_role && end != APIKEY_END_ROLLBACK)
		apikey_stats_role_dropped();
	dropped_role = false;
}

ApikeyTransactionPart apikey_orphan_transaction = {.end = on_transaction_end};

/* A role is being dropped in this session. */
void
apikey_orphan_role_dropped(void)
{
	dropped_role = true;
}

/* A step of the worker's way through all keys, in the order of their ids. */
typedef struct Search
{
	int			seen;
	bool		full;			/* there may be more */
	List	   *ids;
} Search;

static bool
collect_id(const ApikeyRow *key, void *state)
{
	Search	   *search = state;

	search->full = search->seen == SEEN_AT_ONCE ||
		(search->seen > 0 && apikey_step_full(list_length(search->ids)));
	if (search->full)
		return false;
	search->seen++;
	if (key->nulls[APIKEY_KEY_REVOKED_AT] && !apikey_key_owner_stands(key))
	{
		pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

		*id = *apikey_row_id(key);
		search->ids = lappend(search->ids, id);
	}
	return true;
}

/* The ids of the next keys of roles that do not exist; pass->begun: there may be more. */
static List *
find_next(ApikeyPass *pass)
{
	Search		search = {0};
	ApikeyWalk	walk = {
		.table = &apikey_key_table,
		.index = APIKEY_REL_KEY_PKEY,
		.order = {APIKEY_KEY_ID},
		.columns = 1,
		.snapshot = apikey_latest_snapshot(),
		.visit = collect_id,
		.state = &search
	};

	pass->begun = apikey_walk_step(&walk, &pass->place) || search.full;
	UnregisterSnapshot(walk.snapshot);
	return search.ids;
}

/* Says whether it could not be locked. */
static void
revoke_one(void *id, void *left)
{
	ApikeyRow	key;

	if (!apikey_key_lock(id, APIKEY_LOCK_UPDATE_SKIP, &key))
		*(bool *) left = true;
	else if (key.nulls[APIKEY_KEY_REVOKED_AT])
		apikey_key_revoke_orphan(&key);
}

static void
revoke_some(List *ids, void *left)
{
	apikey_turns_each(ids, revoke_one, left);
}

/*
 * Is a role being made, changed or dropped by a transaction that has not ended?
 * One that was prepared is told of when it is, and not when it is committed.
 */
static bool
roles_change(void)
{
	if (!ConditionalLockRelationOid(AuthIdRelationId, ShareLock))
		return true;
	UnlockRelationOid(AuthIdRelationId, ShareLock);
	return false;
}

/*
 * For the worker, in a transaction: a step through all keys for those of dropped
 * roles, and when to take the next; true where that is now.  What was locked, and
 * whose role is not yet gone, is left for another way through, later: anybody can
 * leave a change of a role open, and the way is as long as there are keys.
 */
bool
apikey_orphan_revoke_found(ApikeyPass *pass, TimestampTz *again)
{
	List	   *ids;

	if (!pass->begun)
	{
		apikey_pass_begin(pass);
		pass->asked = apikey_stats_roles_dropped();
		pass->left = roles_change();
	}
	ids = find_next(pass);
	if (apikey_attempt_each(revoke_some, ids, &pass->left) != NIL)
		pass->left = true;
	if (!pass->begun)
		apikey_stats_orphans_revoked(pass->asked);
	*again = pass->begun ? 0 :
		pass->left ? GetCurrentTimestamp() + LOOK_AGAIN : DT_NOEND;
	return pass->begun;
}
