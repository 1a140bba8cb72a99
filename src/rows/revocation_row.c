/*
 * revocation_row.c
 *		The rows of what ends or disables keys and is not in their rows yet.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"

#define LOOKED_AT_MOST	64		/* rows that are gone */

static const ApikeyColumn revocation_columns[] = {
	[APIKEY_REVOCATION_ID] = {"id", UUIDOID, false, true},
	[APIKEY_REVOCATION_KEY] = {"key_id", UUIDOID, false, true},
	[APIKEY_REVOCATION_REVOKED_AT] = {"revoked_at", TIMESTAMPTZOID, false, true},
	[APIKEY_REVOCATION_REASON] = {"reason", TEXTOID, false},
	[APIKEY_REVOCATION_REVOKED_BY] = {"revoked_by", TEXTOID, false, true},
	[APIKEY_REVOCATION_REVOKED_BY_SUBJECT] = {"revoked_by_subject", TEXTOID, false},
	[APIKEY_REVOCATION_REMOVED] = {"removed", BOOLOID, false, true},
	[APIKEY_REVOCATION_DISABLED] = {"disabled", BOOLOID, false, true},
	[APIKEY_REVOCATION_RESTORED] = {"restored", BOOLOID, false, true}
};

const ApikeyTable apikey_revocation_table = {
	.name = "apikey_revocation",
	.relation = APIKEY_REL_REVOCATION,
	.pkey = APIKEY_REL_REVOCATION_PKEY,
	.columns = revocation_columns,
	.count = lengthof(revocation_columns)
};

/*
 * A table that never had one needs no reading.  The last are looked at first:
 * where many are being settled, those before them are gone, and still in the way.
 * So are those that are settled, as long as somebody's old snapshot could see
 * them: beyond so many it is said that there may be one.
 */
static bool
look_for_any(Snapshot snapshot)
{
	return !apikey_catalog_lacks(APIKEY_REL_REVOCATION) &&
		!apikey_table_blank(&apikey_revocation_table) &&
		apikey_table_any(&apikey_revocation_table, APIKEY_REL_REVOCATION_PKEY,
						 snapshot, LOOKED_AT_MOST);
}

/*
 * May a snapshot show a revocation that is not in its key's row yet?  They are
 * anybody's, so that none may be one that a serializable transaction has read:
 * whoever made it could have that transaction fail.
 */
bool
apikey_revocation_any_in(Snapshot snapshot)
{
	return look_for_any(IsolationIsSerializable() ? SnapshotAny : snapshot);
}

/* May there be one in a snapshot that is taken after this? */
bool
apikey_revocation_any(void)
{
	bool		any;
	uint64		begun;

	AcceptInvalidationMessages();
	if (apikey_fact_known(APIKEY_FACT_REVOCATIONS, &any))
		return any;
	begun = apikey_changes_begin();
	any = look_for_any(SnapshotSelf);	/* rows are made and removed, no more */
	apikey_fact_store(APIKEY_FACT_REVOCATIONS, begun, any);
	return any;
}

/* A row has been added or removed: to be told with the commit. */
void
apikey_revocation_changed(HeapTuple row, TupleDesc desc)
{
	bool		isnull;

	/* It may be a member, on whom any key may depend. */
	if (DatumGetBool(heap_getattr(row, APIKEY_REVOCATION_REMOVED + 1, desc,
								  &isnull)))
		apikey_changes_all();
	apikey_changes_key(DatumGetUUIDP(heap_getattr(row, APIKEY_REVOCATION_KEY + 1,
												  desc, &isnull)));
	apikey_changes_fact(APIKEY_FACT_REVOCATIONS);
}

/* Does a row stand beside a member's, whatever key has that id? */
bool
apikey_revocation_of_member(const ApikeyRow *row)
{
	return apikey_row_bool(row, APIKEY_REVOCATION_REMOVED) &&
		apikey_row_bool(row, APIKEY_REVOCATION_DISABLED);
}

/* A visit of what stands beside a key, or beside a member. */
typedef struct Visiting
{
	bool		of_member;
	ApikeyVisit visit;
	void	   *state;
} Visiting;

static bool
visit_meant(const ApikeyRow *row, void *state)
{
	const Visiting *visiting = state;

	return apikey_revocation_of_member(row) != visiting->of_member ||
		visiting->visit(row, visiting->state);
}

/*
 * Visits what stands beside the key, or the member, of an id.  What a row points
 * to is gone when visit returns.
 */
static void
walk(const pg_uuid_t *id, bool of_member, Snapshot snapshot, ApikeyVisit visit,
	 void *state)
{
	Visiting	visiting = {of_member, visit, state};
	ScanKeyData key;

	ScanKeyInit(&key, APIKEY_REVOCATION_KEY + 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	apikey_table_scan(&apikey_revocation_table, APIKEY_REL_REVOCATION_KEY, &key, 1,
					  snapshot, visit_meant, &visiting);
}

static bool added = false;		/* in this transaction */
static bool inserting = false;	/* a row of our own */

/* Is the row that is being inserted our own, rather than one that comes from elsewhere? */
bool
apikey_revocation_inserting(void)
{
	return inserting;
}

static void
insert(const ApikeyRow *row)
{
	inserting = true;
	PG_TRY();
	{
		apikey_table_insert(&apikey_revocation_table, row);
	}
	PG_FINALLY();
	{
		inserting = false;
	}
	PG_END_TRY();
}

static void
on_transaction_end(ApikeyEnd end)
{
	/* The worker settles it soon. */
	if (added && end == APIKEY_END_COMMIT && apikey_preloaded())
		apikey_stats_visit(APIKEY_VISIT_SETTLE, GetCurrentTimestamp());
	added = false;
}

ApikeyTransactionPart apikey_revocation_transaction = {
	.end = on_transaction_end
};

/* Adds a row that says what has become of the key, or member, of an id. */
void
apikey_revocation_insert(const pg_uuid_t *id, text *reason,
						 ApikeyBeside beside)
{
	ApikeyRow	row;
	pg_uuid_t	own;

	apikey_generate_id(&own);
	apikey_row_clear(&row);
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_ID, &own);
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_KEY, id);
	apikey_row_set(&row, APIKEY_REVOCATION_REVOKED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_REASON, reason);
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_REVOKED_BY,
						   apikey_role_name_text(GetUserId(), NULL));
	apikey_row_set_pointer(&row, APIKEY_REVOCATION_REVOKED_BY_SUBJECT,
						   apikey_principal_subject_if_known());
	apikey_row_set(&row, APIKEY_REVOCATION_REMOVED,
				   BoolGetDatum(beside == APIKEY_BESIDE_REMOVED ||
								beside == APIKEY_BESIDE_MEMBER_REMOVED));
	apikey_row_set(&row, APIKEY_REVOCATION_DISABLED,
				   BoolGetDatum(beside == APIKEY_BESIDE_DISABLED ||
								beside == APIKEY_BESIDE_MEMBER_REMOVED));
	apikey_row_set(&row, APIKEY_REVOCATION_RESTORED, BoolGetDatum(false));
	insert(&row);
	added = true;
}

/*
 * Whoever settles what stands beside a key's row claims it, for as long as that
 * takes, and so does who looks whether it is going to stay.  Everybody sees what
 * is claimed, and learns of no id by it.
 */
void
apikey_revocation_claim(const pg_uuid_t *id)
{
	uint64		hash = hash_bytes_extended(id->data, UUID_LEN, 0);

	apikey_claim(&apikey_revocation_table, (Oid) hash, (uint16) (hash >> 32));
}

void
apikey_revocation_claim_end(const pg_uuid_t *id)
{
	uint64		hash = hash_bytes_extended(id->data, UUID_LEN, 0);

	apikey_claim_end(&apikey_revocation_table, (Oid) hash,
					 (uint16) (hash >> 32));
}

/* A search that sees what others have not committed, too. */
typedef struct Staying
{
	SnapshotData dirty;
	bool		found;
} Staying;

static bool
staying_visit(const ApikeyRow *row, void *state)
{
	Staying    *staying = state;

	staying->found = apikey_row_bool(row, APIKEY_REVOCATION_DISABLED) &&
		!TransactionIdIsValid(staying->dirty.xmin) &&
		!TransactionIdIsValid(staying->dirty.xmax);
	return !staying->found;
}

/*
 * Does a row disable a claimed key that nobody is making or removing, so that
 * the key is disabled with whatever is done to its row now?
 */
bool
apikey_revocation_disables(const pg_uuid_t *id)
{
	Staying		staying = {.found = false};

	InitDirtySnapshot(staying.dirty);
	walk(id, false, &staying.dirty, staying_visit, &staying);
	return staying.found;
}

static bool
awaiting_visit(const ApikeyRow *row, void *state)
{
	bool	   *awaits = state;

	*awaits = apikey_row_bool(row, APIKEY_REVOCATION_RESTORED);
	return !*awaits;
}

/*
 * There is no key of an id: does a row that was restored, or has arrived, await
 * one?
 */
bool
apikey_revocation_awaits(const pg_uuid_t *id)
{
	bool		awaits = false;
	Snapshot	snapshot;

	if (!apikey_revocation_any())
		return false;
	snapshot = apikey_latest_snapshot();
	walk(id, false, snapshot, awaiting_visit, &awaits);
	UnregisterSnapshot(snapshot);
	return awaits;
}

static bool
coming_visit(const ApikeyRow *row pg_attribute_unused(), void *state)
{
	Staying    *coming = state;

	coming->found = TransactionIdIsValid(coming->dirty.xmin);
	return !coming->found;
}

/*
 * Is somebody else removing a member beside its row, who has not committed yet?
 */
bool
apikey_revocation_member_removing(const pg_uuid_t *id)
{
	Staying		coming = {.found = false};

	if (apikey_catalog_lacks(APIKEY_REL_REVOCATION))
		return false;
	InitDirtySnapshot(coming.dirty);
	walk(id, true, &coming.dirty, coming_visit, &coming);
	return coming.found;
}

static bool
collect_id(const ApikeyRow *row, void *state)
{
	List	  **ids = state;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	*id = *apikey_row_id(row);
	*ids = lappend(*ids, id);
	return true;
}

static List *
list(const pg_uuid_t *id, bool of_member, Snapshot snapshot)
{
	List	   *ids = NIL;

	walk(id, of_member, snapshot, collect_id, &ids);
	return ids;
}

/* What a snapshot shows beside a key's row: the ids of these rows. */
List *
apikey_revocation_list(const pg_uuid_t *id, Snapshot snapshot)
{
	return list(id, false, snapshot);
}

/*
 * Removes what stood beside a row that is locked; to skip what somebody has, that
 * stays.  40001 where it all has to go and the transaction, which sees the past,
 * cannot see some of it.
 */
void
apikey_revocation_forget_listed(const List *ids, ApikeyLock lock, bool all)
{
	ListCell   *cell;

	foreach(cell, ids)
		apikey_table_delete_by(&apikey_revocation_table, lfirst(cell), lock, all);
}

static void
forget(const pg_uuid_t *id, bool of_member, ApikeyLock lock)
{
	Snapshot	snapshot;
	List	   *ids;

	if (!apikey_revocation_any())
		return;
	snapshot = apikey_latest_snapshot();
	ids = list(id, of_member, snapshot);
	UnregisterSnapshot(snapshot);
	apikey_revocation_forget_listed(ids, lock, false);
}

/* Removes what stands beside a key's row that is locked, and will be removed. */
void
apikey_revocation_forget(const pg_uuid_t *id, ApikeyLock lock)
{
	forget(id, false, lock);
}

/* The same of a member. */
void
apikey_revocation_member_forget(const pg_uuid_t *id, ApikeyLock lock)
{
	forget(id, true, lock);
}

static bool
found_one(const ApikeyRow *row pg_attribute_unused(), void *state)
{
	*(bool *) state = true;
	return false;
}

/* Does a snapshot show that a member has been removed beside its row? */
bool
apikey_revocation_member_removed(const pg_uuid_t *id, Snapshot snapshot)
{
	bool		removed = false;

	walk(id, true, snapshot, found_one, &removed);
	return removed;
}

/* A key's row, and what stands beside it. */
typedef struct Applying
{
	ApikeyRow  *key;
	bool		removed;
	TimestampTz changed_at;
} Applying;

/* Takes the earliest of a key's revocations into its row, and that it is disabled. */
static bool
apply_visit(const ApikeyRow *row, void *state)
{
	Applying   *applying = state;
	ApikeyRow  *key = applying->key;
	TimestampTz at = DatumGetTimestampTz(row->values[APIKEY_REVOCATION_REVOKED_AT]);

	applying->removed = apikey_row_bool(row, APIKEY_REVOCATION_REMOVED);
	if (applying->removed)
		return false;
	if (apikey_row_bool(row, APIKEY_REVOCATION_DISABLED))
	{
		apikey_row_set(key, APIKEY_KEY_DISABLED, BoolGetDatum(true));
		applying->changed_at = Max(applying->changed_at, at);
		return true;
	}
	if (!key->nulls[APIKEY_KEY_REVOKED_AT] &&
		DatumGetTimestampTz(key->values[APIKEY_KEY_REVOKED_AT]) <= at)
		return true;
	apikey_row_set(key, APIKEY_KEY_REVOKED_AT, TimestampTzGetDatum(at));
	key->nulls[APIKEY_KEY_REVOKE_REASON] = row->nulls[APIKEY_REVOCATION_REASON];
	if (!row->nulls[APIKEY_REVOCATION_REASON])
		key->values[APIKEY_KEY_REVOKE_REASON] =
			PointerGetDatum(DatumGetTextPCopy(row->values[APIKEY_REVOCATION_REASON]));
	return true;
}

/*
 * Lets what stands beside a key's row count in the row, read in the same
 * snapshot: it is as it will be when that is settled.  False where the key has
 * been removed.
 */
bool
apikey_revocation_apply(ApikeyRow *key, Snapshot snapshot)
{
	ApikeyRow	row = *key;
	Applying	applying = {.key = &row, .changed_at = DT_NOBEGIN};

	walk(apikey_row_id(key), false, snapshot, apply_visit, &applying);
	if (applying.removed)
		return false;
	if (!key->nulls[APIKEY_KEY_REVOKED_AT])
		return true;
	*key = row;
	if (!key->nulls[APIKEY_KEY_REVOKED_AT])
		applying.changed_at = Max(applying.changed_at,
								  DatumGetTimestampTz(key->values[APIKEY_KEY_REVOKED_AT]));
	if (applying.changed_at != DT_NOBEGIN &&
		(key->nulls[APIKEY_KEY_UPDATED_AT] ||
		 DatumGetTimestampTz(key->values[APIKEY_KEY_UPDATED_AT]) < applying.changed_at))
		apikey_row_set(key, APIKEY_KEY_UPDATED_AT,
					   TimestampTzGetDatum(applying.changed_at));
	return true;
}

/* The same in a row that is locked, or that is read in no snapshot. */
bool
apikey_revocation_apply_latest(ApikeyRow *key)
{
	Snapshot	snapshot;
	bool		there;

	if (!apikey_revocation_any())
		return true;
	snapshot = apikey_latest_snapshot();
	there = apikey_revocation_apply(key, snapshot);
	UnregisterSnapshot(snapshot);
	return there;
}
