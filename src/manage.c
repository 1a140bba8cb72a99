/*
 * manage.c
 *		Changing keys that exist: who is let through, and in what state.
 *
 * Every change goes through apikey_manage_open, which decides before it locks
 * (a stranger must not make the owner wait) and again on the row it locked.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "apikey.h"

static char *
id_string(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* Raises where there is no such key for the caller, or he may not do this. */
static void
authorize(const pg_uuid_t *id, bool found, ApikeyRight right,
		  const ApikeyRow *key)
{
	/* Every right is also one to see the key. */
	if (found && apikey_authority_may(right, key))
		return;
	if (!found || !apikey_authority_may(APIKEY_RIGHT_SEE, key))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("API key \"%s\" does not exist", id_string(id))));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for API key \"%s\"", id_string(id))));
}

/* Locks a key that was there; 40001 where it is gone since. */
void
apikey_manage_lock(const pg_uuid_t *id, ApikeyRow *key)
{
	if (!apikey_table_lock(&apikey_key_table, id, APIKEY_LOCK_UPDATE, key))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change API key \"%s\" due to a concurrent change",
						id_string(id))));
}

/* Reads and locks a key with which the caller may do this; raises otherwise. */
void
apikey_manage_open(const pg_uuid_t *id, ApikeyRight right, ApikeyRow *key)
{
	bool		found = apikey_table_fetch_latest(&apikey_key_table, id, key);

	authorize(id, found, right, key);
	apikey_manage_lock(id, key);
	authorize(id, true, right, key);
}

/* Raises 55000 where a key has been revoked. */
void
apikey_manage_require_unrevoked(const ApikeyRow *key)
{
	if (apikey_key_status(key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("API key \"%s\" has been revoked",
						id_string(apikey_row_id(key)))));
}

/* Revokes a locked key; false where it already was. */
bool
apikey_manage_revoke(ApikeyRow *key, text *reason)
{
	if (!key->nulls[APIKEY_KEY_REVOKED_AT])
		return false;
	apikey_row_set(key, APIKEY_KEY_REVOKED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_row_set_pointer(key, APIKEY_KEY_REVOKE_REASON, reason);
	apikey_key_update(key, APIKEY_EVENT_REVOKED,
					  reason == NULL ? NULL :
					  apikey_json_text("reason", reason));
	return true;
}

/* The row of a key's project, read into place; NULL for a personal key. */
const ApikeyRow *
apikey_manage_project(const ApikeyRow *key, ApikeyPlace *place)
{
	if (apikey_key_project(key) == NULL)
		return NULL;
	if (!apikey_place_fetch_project(apikey_key_project(key), place))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change API key \"%s\" due to a concurrent change",
						id_string(apikey_row_id(key)))));
	return &place->project;
}
