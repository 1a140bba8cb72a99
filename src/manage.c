/*
 * manage.c
 *		Changing keys that exist: who is let through, and in what state.
 *
 * Every change goes through apikey_manage_open, which decides before it locks
 * (a stranger must not make the owner wait) and again on the row it locked.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "apikey.h"

/* Raises where there is no such key for the caller, or he may not do this. */
static void
authorize(const pg_uuid_t *id, bool found, ApikeyRight right,
		  const ApikeyRow *key)
{
	/* Whoever is not known is told of no key, and of none that is missing. */
	(void) apikey_principal_subject();
	/* Every right is also one to see the key. */
	if (found && apikey_authority_may(right, key))
		return;
	if (!found || !apikey_authority_may(APIKEY_RIGHT_SEE, key))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("API key \"%s\" does not exist", apikey_id_string(id))));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for API key \"%s\"",
					apikey_id_string(id))));
}

/* Locks a key that was there; 40001 where it is gone since. */
void
apikey_manage_lock(const pg_uuid_t *id, ApikeyRow *key)
{
	if (!apikey_table_lock(&apikey_key_table, id, APIKEY_LOCK_UPDATE, key))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change API key \"%s\" due to a concurrent change",
						apikey_id_string(id))));
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

/*
 * The same with its project, NULL for a personal key, held to the end of the
 * transaction; before the key, as whoever drops the project takes them.
 */
const ApikeyRow *
apikey_manage_open_in_project(const pg_uuid_t *id, ApikeyRight right,
							  ApikeyRow *key, ApikeyPlace *place)
{
	const ApikeyRow *project;

	authorize(id, apikey_table_fetch_latest(&apikey_key_table, id, key), right,
			  key);
	project = apikey_manage_project(key, place);
	if (project != NULL)
		apikey_place_hold(place);
	apikey_manage_lock(id, key);
	authorize(id, true, right, key);
	return project;
}

/* Raises 55000 where a key has been revoked, or replaced by another. */
void
apikey_manage_require_current(const ApikeyRow *key)
{
	if (!key->nulls[APIKEY_KEY_ROTATED_TO])
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("API key \"%s\" has been rotated",
						apikey_id_string(apikey_row_id(key))),
				 errhint("Its successor is \"%s\".",
						 apikey_id_string(DatumGetUUIDP(key->values[APIKEY_KEY_ROTATED_TO])))));
	if (apikey_key_status(key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("API key \"%s\" has been revoked",
						apikey_id_string(apikey_row_id(key)))));
}

/* What is done to a locked key, and to those that it has replaced. */
typedef void (*Change) (ApikeyRow *key, text *reason);

static void
revoke_key(ApikeyRow *key, text *reason)
{
	apikey_row_set(key, APIKEY_KEY_REVOKED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_row_set_pointer(key, APIKEY_KEY_REVOKE_REASON, reason);
	apikey_key_update(key, APIKEY_EVENT_REVOKED,
					  reason == NULL ? NULL :
					  apikey_json_text("reason", reason));
	apikey_reveal_forget(key);
}

static void
disable_key(ApikeyRow *key, text *reason pg_attribute_unused())
{
	if (apikey_row_bool(key, APIKEY_KEY_DISABLED))
		return;
	apikey_row_set(key, APIKEY_KEY_DISABLED, BoolGetDatum(true));
	apikey_key_update(key, APIKEY_EVENT_DISABLED, NULL);
}

/* Could a key that was replaced still be used? */
static bool
in_grace(const ApikeyRow *key)
{
	ApikeyStatus status = apikey_key_status(key, GetCurrentTimestamp());

	return status != APIKEY_STATUS_REVOKED && status != APIKEY_STATUS_EXPIRED;
}

/*
 * Does the same to what a locked key has replaced, and what that had replaced
 * before, as far as it is in its grace.  Everybody locks the younger key
 * first; one that is gone meanwhile needs nothing.
 */
static void
change_predecessors(const ApikeyRow *key, Change change, text *reason)
{
	pg_uuid_t	first = *apikey_row_id(key);
	pg_uuid_t	id = first;
	ApikeyRow	predecessor;

	while (apikey_key_find_predecessor(&id, &predecessor))
	{
		CHECK_FOR_INTERRUPTS();
		id = *apikey_row_id(&predecessor);
		/* A circle can only be made by hand. */
		if (memcmp(&id, &first, sizeof(pg_uuid_t)) == 0)
			break;
		if (in_grace(&predecessor) &&
			apikey_table_lock(&apikey_key_table, &id, APIKEY_LOCK_UPDATE,
							  &predecessor) &&
			in_grace(&predecessor))
			change(&predecessor, reason);
	}
}

/*
 * Revokes a locked key whose role has been dropped.  That says nothing of a
 * predecessor in its grace, which is somebody else's.
 */
void
apikey_manage_retire(ApikeyRow *key)
{
	revoke_key(key, cstring_to_text("owner dropped"));
}

/* Revokes a locked key; false where it already was. */
bool
apikey_manage_revoke(ApikeyRow *key, text *reason)
{
	if (!key->nulls[APIKEY_KEY_REVOKED_AT])
		return false;
	revoke_key(key, reason);
	change_predecessors(key, revoke_key, reason);
	return true;
}

/* What a locked key has replaced ends where it ends. */
void
apikey_manage_revoke_predecessors(const ApikeyRow *key, text *reason)
{
	change_predecessors(key, revoke_key, reason);
}

/* Disables a locked key; false where it already was. */
bool
apikey_manage_disable(ApikeyRow *key)
{
	if (apikey_row_bool(key, APIKEY_KEY_DISABLED))
		return false;
	disable_key(key, NULL);
	change_predecessors(key, disable_key, NULL);
	return true;
}

/* Removes a locked key. */
void
apikey_manage_delete(ApikeyRow *key)
{
	change_predecessors(key, revoke_key, cstring_to_text("successor deleted"));
	apikey_key_delete(key);
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
						apikey_id_string(apikey_row_id(key)))));
	return &place->project;
}
