/*
 * key.c
 *		The rows of a key, and what they say of it.
 *
 * A key has a row in apikey_key and its stored digest in apikey_digest, a
 * narrow table that nobody but its owner reads.  Its revocation may stand
 * beside its row (see revocation.c): whoever reads the row reads it here.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys_internal.h"

/* Who else has something of a key, in the order of apikey.c. */
static const ApikeyKeyPart *const *parts = NULL;
static int	part_count = 0;

/* Once, when the library is loaded. */
void
apikey_key_init(const ApikeyKeyPart *const *all, int count)
{
	parts = all;
	part_count = count;
}

/* What a key has goes on as its successor's. */
void
apikey_key_replaced(const ApikeyRow *key, const ApikeyRow *successor)
{
	for (int i = 0; i < part_count; i++)
	{
		if (parts[i]->replaced != NULL)
			parts[i]->replaced(key, successor);
	}
}

/*
 * What a key itself is at an instant, whoever owner and voucher are in its
 * project: for whoever changes it, and may.
 */
ApikeyStatus
apikey_key_status(const ApikeyRow *key, TimestampTz now)
{
	ApikeyKeyState state = {.revoked = apikey_key_revoked(key)};

	return apikey_status_at(key, &state, now);
}

/*
 * Reads a key's stored digest and which pepper it is keyed with; false for
 * none.
 */
bool
apikey_key_fetch_digest(const pg_uuid_t *id, Snapshot snapshot, uint8 *digest,
						int32 *fingerprint)
{
	ApikeyRow	row;
	bytea	   *stored;

	if (!apikey_table_fetch(&apikey_digest_table, id, snapshot, &row))
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
				 ApikeyRow *key)
{
	if (!apikey_table_fetch(&apikey_key_table, id, snapshot, key))
		return false;
	if (revocations)
		apikey_revocation_apply(key, snapshot);
	return true;
}

/* The same as committed now, with our own transaction's changes. */
bool
apikey_key_fetch_latest(const pg_uuid_t *id, ApikeyRow *key)
{
	bool		revocations = apikey_revocation_any();
	Snapshot	snapshot = apikey_latest_snapshot();
	bool		found = apikey_key_fetch(id, snapshot, revocations, key);

	UnregisterSnapshot(snapshot);
	return found;
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
	apikey_revocation_settle(key);
	return true;
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

/* Does a key occupy its name and its place: neither revoked nor replaced? */
bool
apikey_key_live(const ApikeyRow *key)
{
	return key->nulls[APIKEY_KEY_ROTATED_TO] &&
		apikey_key_status(key, 0) != APIKEY_STATUS_REVOKED;
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

static void
refresh_names(ApikeyRow *key)
{
	refresh_name(key, APIKEY_KEY_OWNER, APIKEY_KEY_OWNER_NAME);
	refresh_name(key, APIKEY_KEY_VOUCHED_BY, APIKEY_KEY_VOUCHED_BY_NAME);
}

/* Notes that the caller makes a key. */
static void
set_creator(ApikeyRow *key)
{
	apikey_row_set_pointer(key, APIKEY_KEY_CREATED_BY,
						   apikey_role_name_text(GetUserId(), NULL));
	apikey_row_set_pointer(key, APIKEY_KEY_CREATED_BY_SUBJECT,
						   apikey_principal_subject());
	key->nulls[APIKEY_KEY_UPDATED_AT] = true;
	key->nulls[APIKEY_KEY_ENABLED_AT] = true;
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

/* Makes a scan key for a column, which may be null. */
static void
column_key(ScanKey scan_key, const ApikeyRow *key, ApikeyKeyColumn column,
		   Oid collation, RegProcedure equal)
{
	if (key->nulls[column])
		ScanKeyEntryInitialize(scan_key, SK_ISNULL | SK_SEARCHNULL, column + 1,
							   InvalidStrategy, InvalidOid, InvalidOid,
							   InvalidOid, (Datum) 0);
	else
		ScanKeyEntryInitialize(scan_key, 0, column + 1, BTEqualStrategyNumber,
							   InvalidOid, collation, equal,
							   key->values[column]);
}

/* Finds the key whose row holds the name that another is to get. */
static bool
find_namesake(const ApikeyRow *key, ApikeyRow *namesake)
{
	ScanKeyData keys[3];

	if (apikey_key_project(key) != NULL)
	{
		column_key(&keys[0], key, APIKEY_KEY_PROJECT, InvalidOid, F_UUID_EQ);
		column_key(&keys[1], key, APIKEY_KEY_NAME, C_COLLATION_OID, F_TEXTEQ);
		return apikey_table_find(&apikey_key_table, APIKEY_REL_KEY_PROJECT_NAME,
								 keys, 2, namesake);
	}
	column_key(&keys[0], key, APIKEY_KEY_OWNER, InvalidOid, F_OIDEQ);
	column_key(&keys[1], key, APIKEY_KEY_SUBJECT, C_COLLATION_OID, F_TEXTEQ);
	column_key(&keys[2], key, APIKEY_KEY_NAME, C_COLLATION_OID, F_TEXTEQ);
	return apikey_table_find(&apikey_key_table, APIKEY_REL_KEY_NAME, keys, 3,
							 namesake);
}

/*
 * A key is about to get its name: one that has it and is revoked, but not in
 * its row yet, makes way.
 */
static void
make_way(const ApikeyRow *key)
{
	ApikeyRow	namesake;
	pg_uuid_t	id;

	/* A dropped owner's key can be in the way in a project only. */
	if ((apikey_key_project(key) == NULL && !apikey_revocation_any()) ||
		!find_namesake(key, &namesake))
		return;
	id = *apikey_row_id(&namesake);
	if (!apikey_key_fetch_latest(&id, &namesake) ||
		apikey_key_status(&namesake, 0) != APIKEY_STATUS_REVOKED)
		return;
	if (apikey_key_lock(&id, APIKEY_LOCK_UPDATE, &namesake) &&
		namesake.nulls[APIKEY_KEY_REVOKED_AT])
		apikey_manage_retire(&namesake);
}

/* Stores the SHA-256 of a key's text, as HMAC under the current pepper. */
static void
insert_digest(const ApikeyRow *key, const uint8 *digest)
{
	uint8		stored[APIKEY_DIGEST_BYTES];
	ApikeyRow	row;

	apikey_digest_stored(apikey_pepper_current(), digest, stored);
	apikey_row_set_pointer(&row, APIKEY_DIGEST_ID, apikey_row_id(key));
	apikey_row_set_pointer(&row, APIKEY_DIGEST_DIGEST,
						   apikey_digest_bytea(stored));
	apikey_row_set(&row, APIKEY_DIGEST_PEPPER, Int32GetDatum(apikey_pepper_current()->fingerprint));
	apikey_table_insert(&apikey_digest_table, &row);
}

/*
 * Stores a new key under the SHA-256 of its text, NULL for an imported one,
 * and the event that tells of it.  The caller has made it, and vouches for it.
 */
void
apikey_key_insert(ApikeyRow *key, const uint8 *digest, ApikeyEvent event,
				  const char *detail)
{
	int			path = apikey_owner_fix_path();	/* once for all */

	make_way(key);
	set_creator(key);
	apikey_status_vouch(key);
	refresh_names(key);
	for (int i = 0; i < part_count; i++)
	{
		if (parts[i]->making != NULL)
			parts[i]->making(key);
	}
	apikey_expiry_note(key);
	apikey_table_insert(&apikey_key_table, key);
	if (digest != NULL)
		insert_digest(key, digest);
	apikey_event_key(key, event, detail);
	apikey_owner_restore_path(path);
}

/* Writes back a key that was locked. */
void
apikey_key_write(ApikeyRow *key)
{
	refresh_names(key);
	apikey_table_update(&apikey_key_table, key);
}

/* The same for a change, and the event that tells of it. */
void
apikey_key_update(ApikeyRow *key, ApikeyEvent event, const char *detail)
{
	if (event == APIKEY_EVENT_RENAMED)
		make_way(key);
	apikey_row_set(key, APIKEY_KEY_UPDATED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_expiry_note(key);
	apikey_key_write(key);
	apikey_event_key(key, event, detail);
}

/* Removes a key, digest and all. */
void
apikey_key_delete(const ApikeyRow *key)
{
	apikey_event_key(key, APIKEY_EVENT_DELETED, NULL);
	apikey_reveal_forget(key);
	apikey_import_forget(key);
	apikey_table_delete(&apikey_digest_table, apikey_row_id(key), false);
	apikey_table_delete(&apikey_use_table, apikey_row_id(key), false);
	for (int i = 0; i < part_count; i++)
	{
		if (parts[i]->deleting != NULL)
			parts[i]->deleting(key);
	}
	apikey_deleted_note(key);
	apikey_revocation_forget(key);
	apikey_table_delete(&apikey_key_table, apikey_row_id(key), true);
}
