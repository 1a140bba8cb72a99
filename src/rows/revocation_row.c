/*
 * revocation_row.c
 *		The rows of revocations that are not in their keys' rows yet.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"

static const ApikeyColumn revocation_columns[] = {
	[APIKEY_REVOCATION_ID] = {"id", UUIDOID, false},
	[APIKEY_REVOCATION_KEY] = {"key_id", UUIDOID, false},
	[APIKEY_REVOCATION_REVOKED_AT] = {"revoked_at", TIMESTAMPTZOID, false},
	[APIKEY_REVOCATION_REASON] = {"reason", TEXTOID, false},
	[APIKEY_REVOCATION_REVOKED_BY] = {"revoked_by", TEXTOID, false},
	[APIKEY_REVOCATION_REVOKED_BY_SUBJECT] = {"revoked_by_subject", TEXTOID, false}
};

const ApikeyTable apikey_revocation_table = {
	.name = "apikey_revocation",
	.relation = APIKEY_REL_REVOCATION,
	.pkey = APIKEY_REL_REVOCATION_PKEY,
	.columns = revocation_columns,
	.count = lengthof(revocation_columns)
};

static bool
seen_one(const ApikeyRow *row pg_attribute_unused(), void *state)
{
	*(bool *) state = true;
	return false;
}

/*
 * Does a snapshot show a revocation that is not in its key's row yet?  A table
 * that never had one needs no reading.
 */
bool
apikey_revocation_any_in(Snapshot snapshot)
{
	Relation	rel;
	bool		empty;
	bool		found = false;

	if (apikey_catalog_lacks(APIKEY_REL_REVOCATION))
		return false;
	rel = table_open(apikey_catalog_relation(APIKEY_REL_REVOCATION),
					 AccessShareLock);
	empty = RelationGetNumberOfBlocks(rel) == 0;
	table_close(rel, AccessShareLock);
	if (!empty)
		apikey_table_scan(&apikey_revocation_table, APIKEY_REL_REVOCATION_PKEY, NULL,
						  0, snapshot, seen_one, &found);
	return found;
}

static bool
look_for_any(void)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	bool		any = apikey_revocation_any_in(snapshot);

	UnregisterSnapshot(snapshot);
	return any;
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
	any = look_for_any();
	apikey_fact_store(APIKEY_FACT_REVOCATIONS, begun, any);
	return any;
}

/* A row has been added or removed: to be told with the commit. */
void
apikey_revocation_changed(HeapTuple row, TupleDesc desc)
{
	bool		isnull;

	apikey_changes_key(DatumGetUUIDP(heap_getattr(row, APIKEY_REVOCATION_KEY + 1,
												  desc, &isnull)));
	apikey_changes_fact(APIKEY_FACT_REVOCATIONS);
}

/* Visits the revocations of a key. */
void
apikey_revocation_walk(const pg_uuid_t *id, Snapshot snapshot,
					   ApikeyVisit visit, void *state)
{
	ScanKeyData key;

	ScanKeyInit(&key, APIKEY_REVOCATION_KEY + 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	apikey_table_scan(&apikey_revocation_table, APIKEY_REL_REVOCATION_KEY, &key, 1,
					  snapshot, visit, state);
}

/* Takes the earliest of a key's revocations into its row. */
static bool
apply_visit(const ApikeyRow *row, void *state)
{
	ApikeyRow  *key = state;
	TimestampTz at = DatumGetTimestampTz(row->values[APIKEY_REVOCATION_REVOKED_AT]);

	if (!key->nulls[APIKEY_KEY_REVOKED_AT] &&
		DatumGetTimestampTz(key->values[APIKEY_KEY_REVOKED_AT]) <= at)
		return true;
	apikey_row_set(key, APIKEY_KEY_REVOKED_AT, TimestampTzGetDatum(at));
	apikey_row_set_pointer(key, APIKEY_KEY_REVOKE_REASON,
						   apikey_row_text(row, APIKEY_REVOCATION_REASON));
	return true;
}

/*
 * Lets a revocation count in a key's row that was read in a snapshot: the row
 * is as it will be when it is settled.
 */
void
apikey_revocation_apply(ApikeyRow *key, Snapshot snapshot)
{
	TimestampTz at;

	if (!key->nulls[APIKEY_KEY_REVOKED_AT])
		return;
	apikey_revocation_walk(apikey_row_id(key), snapshot, apply_visit, key);
	if (key->nulls[APIKEY_KEY_REVOKED_AT])
		return;
	at = DatumGetTimestampTz(key->values[APIKEY_KEY_REVOKED_AT]);
	if (key->nulls[APIKEY_KEY_UPDATED_AT] ||
		DatumGetTimestampTz(key->values[APIKEY_KEY_UPDATED_AT]) < at)
		apikey_row_set(key, APIKEY_KEY_UPDATED_AT, TimestampTzGetDatum(at));
}

/* The same in a row that is locked, or that is read in no snapshot. */
void
apikey_revocation_apply_latest(ApikeyRow *key)
{
	Snapshot	snapshot;

	if (!apikey_revocation_any())
		return;
	snapshot = apikey_latest_snapshot();
	apikey_revocation_apply(key, snapshot);
	UnregisterSnapshot(snapshot);
}
