/*
 * key_write.c
 *		Making, changing, revoking and deleting a key: its rows and its events.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

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
 * What is left of a key that has been removed gives up its name, for who may have
 * that: it goes or, where somebody has what goes with it, its row says for as long
 * that it is revoked.
 */
static void
give_name_up(const pg_uuid_t *id)
{
	ApikeyRow	left;

	if (apikey_key_finish(id, APIKEY_LOCK_UPDATE) ||
		!apikey_table_lock(&apikey_key_table, id, APIKEY_LOCK_UPDATE, &left) ||
		apikey_revocation_apply_latest(&left))
		return;
	apikey_row_set(&left, APIKEY_KEY_REVOKED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_key_write(&left);
}

/*
 * A key is about to get its name, or another owner: one that has the name there and
 * is revoked or removed, but not in its row yet, makes way.
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
	if (memcmp(&id, apikey_row_id(key), sizeof(id)) == 0)
		return;
	if (!apikey_key_fetch_latest(&id, &namesake))
		give_name_up(&id);
	else if (apikey_key_status(&namesake, 0) == APIKEY_STATUS_REVOKED &&
			 apikey_key_lock(&id, APIKEY_LOCK_UPDATE, &namesake) &&
			 namesake.nulls[APIKEY_KEY_REVOKED_AT])
		apikey_key_revoke_orphan(&namesake);
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
	int			path = apikey_owner_fix_path(); /* once for all */

	make_way(key);
	set_creator(key);
	apikey_status_vouch(key);
	apikey_key_refresh_names(key);
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

/* Writes back a key that was locked and changed, and the event of it. */
void
apikey_key_update(ApikeyRow *key, ApikeyEvent event, const char *detail)
{
	if (event == APIKEY_EVENT_RENAMED || event == APIKEY_EVENT_TRANSFERRED)
		make_way(key);
	apikey_row_set(key, APIKEY_KEY_UPDATED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_expiry_note(key);
	apikey_key_write(key);
	apikey_event_key(key, event, detail);
}

/* Revokes a locked key. */
void
apikey_key_revoke(ApikeyRow *key, text *reason)
{
	apikey_row_set(key, APIKEY_KEY_REVOKED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_row_set_pointer(key, APIKEY_KEY_REVOKE_REASON, reason);
	apikey_key_update(key, APIKEY_EVENT_REVOKED,
					  reason == NULL ? NULL :
					  apikey_json_text("reason", reason));
	apikey_reveal_forget(key);
}

/*
 * Revokes a locked key whose role has been dropped.  That says nothing of a
 * predecessor in its grace, which is somebody else's.
 */
void
apikey_key_revoke_orphan(ApikeyRow *key)
{
	apikey_key_revoke(key, cstring_to_text("owner dropped"));
}

/*
 * Can what goes with a locked key be removed without waiting for anybody?
 * Whoever holds its text may have its digest and its use, in a verification that
 * is left open, and so may others the accounts of its limits.
 */
bool
apikey_key_free(const ApikeyRow *key)
{
	const pg_uuid_t *id = apikey_row_id(key);

	for (int i = 0; i < part_count; i++)
	{
		if (parts[i]->free != NULL && !parts[i]->free(key))
			return false;
	}
	return apikey_table_row_free(&apikey_digest_table, id) &&
		apikey_table_row_free(&apikey_use_table, id) &&
		apikey_import_free(key) && apikey_reveal_free(key);
}

/* Removes a key, digest and all, of which it has been told. */
static void
remove_key(const ApikeyRow *key, ApikeyLock lock)
{
	apikey_reveal_forget(key);
	apikey_import_forget(key);
	apikey_table_delete(&apikey_digest_table, apikey_row_id(key), false);
	apikey_table_delete(&apikey_use_table, apikey_row_id(key), false);
	for (int i = 0; i < part_count; i++)
	{
		if (parts[i]->deleting != NULL)
			parts[i]->deleting(key);
	}
	apikey_deleted_note(key, lock);
	apikey_revocation_forget(apikey_row_id(key), lock);
	apikey_table_delete(&apikey_key_table, apikey_row_id(key), true);
}

/* Removes a locked key, and tells of it. */
void
apikey_key_delete(const ApikeyRow *key)
{
	apikey_event_key(key, APIKEY_EVENT_DELETED, NULL);
	remove_key(key, APIKEY_LOCK_UPDATE);
}

/*
 * Removes the rows of a key that has been removed beside them; false where it
 * has not, or where somebody has one of them.
 */
bool
apikey_key_finish(const pg_uuid_t *id, ApikeyLock lock)
{
	ApikeyRow	key;

	if (!apikey_table_lock(&apikey_key_table, id, lock, &key) ||
		apikey_revocation_apply_latest(&key) || !apikey_key_free(&key))
		return false;
	remove_key(&key, lock);
	return true;
}
