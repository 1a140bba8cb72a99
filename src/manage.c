/*
 * manage.c
 *		Changing keys that exist: who is let through, and in what state.
 *
 * Every change goes through apikey_manage_open, which decides before it locks
 * (a stranger must not make the owner wait) and again on the row it locked.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apikey.h"

static char *
id_string(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* Raises where there is no such key for the caller, or he may not manage it. */
static void
authorize(const pg_uuid_t *id, bool found, const ApikeyKey *key)
{
	Oid			owner = found ? apikey_key_owner(key) : InvalidOid;
	text	   *subject = found ? apikey_key_text(key, APIKEY_KEY_SUBJECT) : NULL;

	if (!found || !apikey_principal_may_see(owner, subject))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("API key \"%s\" does not exist", id_string(id))));
	if (!apikey_principal_may_manage(owner, subject))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for API key \"%s\"",
						id_string(id))));
}

/* Locks a key that was there; 40001 where it is gone since. */
void
apikey_manage_lock(const pg_uuid_t *id, ApikeyKey *key)
{
	if (!apikey_key_lock(id, key))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change API key \"%s\" due to a concurrent change",
						id_string(id))));
}

/* Reads and locks a key that the caller may manage; raises otherwise. */
void
apikey_manage_open(const pg_uuid_t *id, ApikeyKey *key)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = apikey_key_fetch(id, snapshot, key);

	UnregisterSnapshot(snapshot);
	authorize(id, found, key);
	apikey_manage_lock(id, key);
	authorize(id, true, key);
}

/* Raises 55000 where a key has been revoked. */
void
apikey_manage_require_unrevoked(const ApikeyKey *key)
{
	if (apikey_key_status(key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("API key \"%s\" has been revoked",
						id_string(apikey_key_id(key)))));
}

/* Revokes a locked key; false where it already was. */
bool
apikey_manage_revoke(ApikeyKey *key, text *reason)
{
	if (!key->nulls[APIKEY_KEY_REVOKED_AT])
		return false;
	key->values[APIKEY_KEY_REVOKED_AT] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	key->nulls[APIKEY_KEY_REVOKED_AT] = false;
	apikey_key_set(key, APIKEY_KEY_REVOKE_REASON, reason);
	apikey_key_update(key);
	return true;
}
