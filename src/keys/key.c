/*
 * key.c
 *		Reading keys: their rows, and what they say of them.
 *
 * A key has a row in apikey_key and its stored digest in apikey_digest, a
 * narrow table that nobody but its owner reads.  Its revocation may stand
 * beside its row (see revocation.c): whoever reads the row reads it here.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "access/access.h"
#include "keys/keys_internal.h"

/*
 * What a key itself is at an instant, whoever owner and voucher are in its
 * project: for whoever changes it, and may.
 */
ApikeyStatus
apikey_key_status(const ApikeyRow *key, TimestampTz now)
{
	ApikeyKeyState state;
	ApikeySpan	span;

	apikey_status_read_own(key, &state, &span);
	return apikey_status_at(&state, &span, now);
}

/*
 * Reads a key's stored digest and which pepper it is keyed with; false for
 * none.
 */
bool
apikey_key_fetch_digest(const pg_uuid_t *id, Snapshot snapshot,
						ApikeyRowHint *hint, uint8 *digest,
						int32 *fingerprint)
{
	ApikeyRow	row;
	bytea	   *stored;

	if (!apikey_table_fetch_hinted(&apikey_digest_table, id, snapshot, hint,
								   &row))
		return false;
	*fingerprint = DatumGetInt32(row.values[APIKEY_DIGEST_PEPPER]);
	stored = DatumGetByteaPP(row.values[APIKEY_DIGEST_DIGEST]);
	if (VARSIZE_ANY_EXHDR(stored) != APIKEY_DIGEST_BYTES)
		return false;
	memcpy(digest, VARDATA_ANY(stored), APIKEY_DIGEST_BYTES);
	return true;
}

/*
 * Reads a key's row as a snapshot shows it; false where there is none.
 * revocations: what apikey_revocation_any said before the snapshot was taken.
 */
bool
apikey_key_fetch(const pg_uuid_t *id, Snapshot snapshot, bool revocations,
				 ApikeyRowHint *hint, ApikeyRow *key)
{
	if (!apikey_table_fetch_hinted(&apikey_key_table, id, snapshot, hint, key))
		return false;
	return !revocations || apikey_revocation_apply(key, snapshot);
}

/* The same as committed now, with our own transaction's changes. */
bool
apikey_key_fetch_latest(const pg_uuid_t *id, ApikeyRow *key)
{
	bool		revocations = apikey_revocation_any();
	Snapshot	snapshot = apikey_latest_snapshot();
	ApikeyRowHint nowhere = {0};
	bool		found = apikey_key_fetch(id, snapshot, revocations, &nowhere, key);

	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * Locks and looks up what decides about a key: see apikey_member_keep.  Who looks
 * for one by its id, of which the caller may know nothing, does this first.  A
 * superuser may know of each, and revokes keys whatever is kept from others.
 */
void
apikey_key_keep(void)
{
	if (superuser())
		return;
	apikey_member_keep();
	apikey_table_keep(&apikey_key_table, APIKEY_REL_KEY_PKEY);
	apikey_table_keep_long(&apikey_key_table);
}

/*
 * Visits the keys of a project, the younger first: see manage.c.  What a row
 * points to is gone when visit returns.
 */
void
apikey_key_walk_project(const pg_uuid_t *project, ApikeyVisit visit,
						void *state)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData key;

	ScanKeyInit(&key, APIKEY_KEY_PROJECT + 1, BTEqualStrategyNumber,
				F_UUID_EQ, UUIDPGetDatum(project));
	apikey_table_walk_back(&apikey_key_table, APIKEY_REL_KEY_PROJECT, &key, 1,
						   snapshot, visit, state);
	UnregisterSnapshot(snapshot);
}

/* Does a key count and occupy its name: neither revoked nor replaced? */
bool
apikey_key_live(const ApikeyRow *key)
{
	return key->nulls[APIKEY_KEY_ROTATED_TO] &&
		apikey_key_status(key, 0) != APIKEY_STATUS_REVOKED;
}

/* Is it over with a key, whatever becomes of others? */
bool
apikey_key_ended(const ApikeyRow *key)
{
	ApikeyKeyState state;
	ApikeySpan	span;

	apikey_status_read_own(key, &state, &span);
	return apikey_status_ended(&state, &span, GetCurrentTimestamp());
}

/*
 * What is stored of a role beside its OID is its name at each write, unless it
 * is another role's that has got its number.
 */
static void
refresh_name(ApikeyRow *key, ApikeyKeyColumn role, ApikeyKeyColumn name)
{
	if (!key->nulls[role] &&
		apikey_role_stands(DatumGetObjectId(key->values[role]),
						   apikey_row_text(key, name)))
		apikey_row_set_pointer(key, name,
							   apikey_role_name_text(DatumGetObjectId(key->values[role]),
													 apikey_row_text(key, name)));
}

/* The roles of a row that is about to be written. */
void
apikey_key_refresh_names(ApikeyRow *key)
{
	refresh_name(key, APIKEY_KEY_OWNER, APIKEY_KEY_OWNER_NAME);
	refresh_name(key, APIKEY_KEY_VOUCHED_BY, APIKEY_KEY_VOUCHED_BY_NAME);
}

/* Finds the key that has been replaced by the one of an id; false for none. */
bool
apikey_key_find_predecessor(const pg_uuid_t *id, ApikeyRow *key)
{
	ScanKeyData scan_key;
	pg_uuid_t	found;

	ScanKeyInit(&scan_key, APIKEY_KEY_ROTATED_TO + 1, BTEqualStrategyNumber,
				F_UUID_EQ, UUIDPGetDatum(id));
	if (!apikey_table_find(&apikey_key_table, APIKEY_REL_KEY_ROTATED_TO,
						   &scan_key, 1, key))
		return false;
	found = *apikey_row_id(key);
	return apikey_key_fetch_latest(&found, key);
}

/* Writes back a key that was locked. */
void
apikey_key_write(ApikeyRow *key)
{
	apikey_key_refresh_names(key);
	apikey_table_update(&apikey_key_table, key);
}
