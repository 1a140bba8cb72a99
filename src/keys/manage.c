/*
 * manage.c
 *		Changing keys that exist: who is let through, and in what state.
 *
 * A change that a caller asks for goes through apikey_manage_open, which
 * decides before it locks (a stranger must not make the owner wait) and again
 * on the row it locked.  To revoke or disable is no such change: it waits for
 * nobody, and whoever may do nothing else with a key never has its row; nor does
 * to remove a key wait (see revocation.c).
 * What the worker does, to the keys of dropped roles for instance, is not asked
 * for and goes through apikey_key_lock alone.
 *
 * Whoever locks the rows of more than one key, and waits for them, locks a key
 * before the one that it has replaced; where the keys are many, the one with
 * the greater id first, which was made later.  A project's row is locked before
 * those of its keys, and a key's before that of its account.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys_internal.h"

/* Whoever is not known is told of no key, and of none that is missing. */
static bool
find_key(const pg_uuid_t *id, ApikeyRow *key)
{
	apikey_principal_require();
	apikey_key_keep();
	return apikey_key_fetch_latest(id, key);
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
				 errmsg("API key \"%s\" does not exist", apikey_id_string(id))));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for API key \"%s\"",
					apikey_id_string(id))));
}

/* Raises that a key is not there to be changed any more, or not yet. */
void
apikey_manage_refuse_concurrent(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not change API key \"%s\" due to a concurrent change",
					apikey_id_string(id))));
}

/* Locks a key that was there; 40001 where it is gone since. */
void
apikey_manage_lock(const pg_uuid_t *id, ApikeyRow *key)
{
	if (!apikey_key_lock(id, APIKEY_LOCK_UPDATE, key))
		apikey_manage_refuse_concurrent(id);
}

/* Reads and locks a key with which the caller may do this; raises otherwise. */
void
apikey_manage_open(const pg_uuid_t *id, ApikeyRight right, ApikeyRow *key)
{
	bool		found = find_key(id, key);

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
							  ApikeyRow *key, ApikeyTenant *tenant)
{
	const ApikeyRow *project;

	authorize(id, find_key(id, key), right, key);
	project = apikey_manage_project(key, tenant);
	if (project != NULL)
		apikey_tenant_keep(tenant);
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

/*
 * Locks a key where that waits for nobody.  A transaction that sees the past
 * cannot lock what has been changed since.
 */
static bool
lock_free(const pg_uuid_t *id, ApikeyRow *key)
{
	return !IsolationUsesXactSnapshot() &&
		apikey_key_lock(id, APIKEY_LOCK_UPDATE_SKIP, key);
}

/*
 * Revokes a key that has been read: in its row, where the caller may have that
 * and nobody has it locked, and else beside it.
 */
static void
revoke_key(ApikeyRow *key, bool in_row, text *reason)
{
	pg_uuid_t	id = *apikey_row_id(key);

	if (!in_row || !lock_free(&id, key))
		apikey_revocation_add(key, reason);
	else if (key->nulls[APIKEY_KEY_REVOKED_AT])
		apikey_key_revoke(key, reason);
}

/* How what a key has replaced ends with it. */
typedef struct Ending
{
	bool		in_row;
	text	   *reason;
} Ending;

static void
revoke_replaced(ApikeyRow *key, int times pg_attribute_unused(), void *state)
{
	const Ending *ending = state;

	revoke_key(key, ending->in_row, ending->reason);
}

/* Revokes, in the same way, what a key has replaced and is in its grace. */
static void
revoke_predecessors(const ApikeyRow *key, bool in_row, text *reason)
{
	Ending		ending = {.in_row = in_row, .reason = reason};

	apikey_chain_visit_replaced(key, revoke_replaced, &ending);
}

/* What a locked key has replaced ends where it ends. */
void
apikey_manage_revoke_predecessors(const ApikeyRow *key, text *reason)
{
	revoke_predecessors(key, true, reason);
}

/* Revokes a locked key, and what it has replaced, as nobody uses them. */
void
apikey_manage_end(ApikeyRow *key, const char *reason)
{
	apikey_key_revoke(key, cstring_to_text(reason));
	revoke_predecessors(key, true, cstring_to_text(reason));
}

/*
 * May the caller have a key's row while it revokes or disables the key?  Only
 * where nobody greater could wait for it: who manages a project's keys today may
 * have been removed before its transaction ends.
 */
static bool
above_all(const ApikeyRow *key)
{
	return superuser() || (apikey_key_project(key) == NULL &&
						   apikey_key_owner(key) == GetUserId());
}

/*
 * Revokes a key, for whoever may; false where it already was.  It waits for
 * nobody, and in a project nobody waits for it.
 */
bool
apikey_manage_revoke(const pg_uuid_t *id, text *reason)
{
	ApikeyRow	key;
	bool		found = find_key(id, &key);

	authorize(id, found, APIKEY_RIGHT_REVOKE, &key);
	if (!key.nulls[APIKEY_KEY_REVOKED_AT])
		return false;
	apikey_manage_revoke_read(&key, above_all(&key), reason);
	return true;
}

/*
 * Revokes a key that has been read, and was not revoked, for one who may; in
 * its row only where the caller may have that.
 */
void
apikey_manage_revoke_read(ApikeyRow *key, bool in_row, text *reason)
{
	const ApikeyRow as_read = *key;

	revoke_key(key, in_row, reason);
	revoke_predecessors(&as_read, in_row, reason);
}

/* Is there nothing to disable? */
static bool
is_off(const ApikeyRow *key)
{
	return apikey_row_bool(key, APIKEY_KEY_DISABLED) ||
		apikey_key_status(key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED;
}

/*
 * Disables a key that has been read, as revoke_key does; false where it already
 * was, or is revoked.  One that somebody may be about to enable is disabled
 * again, once.
 */
static bool
disable_key(ApikeyRow *key, bool in_row)
{
	pg_uuid_t	id = *apikey_row_id(key);

	if (is_off(key) && !apikey_table_changing(&apikey_key_table, &id))
		return false;
	if (!in_row || !lock_free(&id, key))
		return apikey_revocation_disable(key);
	if (is_off(key))
		return false;
	apikey_row_set(key, APIKEY_KEY_DISABLED, BoolGetDatum(true));
	apikey_key_update(key, APIKEY_EVENT_DISABLED, NULL);
	return true;
}

static void
disable_replaced(ApikeyRow *key, int times pg_attribute_unused(), void *in_row)
{
	(void) disable_key(key, *(bool *) in_row);
}

/*
 * Disables a key, and what it has replaced, for whoever may; false where it
 * already was, or is revoked.  It waits for nobody, and in a project nobody
 * waits for it.
 */
bool
apikey_manage_disable(const pg_uuid_t *id)
{
	ApikeyRow	key;
	ApikeyRow	as_read;
	bool		found = find_key(id, &key);
	bool		in_row;

	authorize(id, found, APIKEY_RIGHT_DISABLE, &key);
	if (apikey_key_status(&key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED)
		return false;
	as_read = key;
	in_row = above_all(&key);
	if (!disable_key(&key, in_row))
		return false;
	apikey_chain_visit_replaced(&as_read, disable_replaced, &in_row);
	return true;
}

/*
 * Removes what is left of a key that has been removed beside its row, for who may
 * delete the key.  Nobody else has it, though it was his once: what is left takes
 * up the key's name and its account still.
 */
void
apikey_manage_finish(const pg_uuid_t *id, ApikeyLock lock)
{
	ApikeyRow	key;

	if (apikey_table_fetch_latest(&apikey_key_table, id, &key) &&
		apikey_authority_may(APIKEY_RIGHT_DELETE, &key) &&
		apikey_table_lock(&apikey_key_table, id, lock, &key) &&
		apikey_authority_may(APIKEY_RIGHT_DELETE, &key))
		(void) apikey_key_finish(id, lock);
}

/* A key that is to be removed, and whether it can be at once. */
typedef struct Taking
{
	const pg_uuid_t *id;
	ApikeyRow  *key;
	bool		taken;
} Taking;

static void
take(void *work)
{
	Taking	   *taking = work;

	taking->taken = apikey_key_lock(taking->id, APIKEY_LOCK_UPDATE_SKIP,
									taking->key) &&
		apikey_key_free(taking->key);
}

/*
 * Locks a key and what goes with it, where that waits for nobody.  A transaction
 * that sees the past may find that it cannot.
 */
bool
apikey_manage_take(const pg_uuid_t *id, ApikeyRow *key)
{
	Taking		taking = {.id = id, .key = key};

	if (IsolationUsesXactSnapshot())
		return apikey_attempt_alone(take, &taking) && taking.taken;
	take(&taking);
	return taking.taken;
}

/* Removes a key that was taken so. */
void
apikey_manage_remove_taken(ApikeyRow *key)
{
	revoke_predecessors(key, true, cstring_to_text("successor deleted"));
	apikey_key_delete(key);
}

/* Raises where a caller may not remove a key, or names another. */
static void
require_removable(const pg_uuid_t *id, bool found, const ApikeyRow *key,
				  const text *name)
{
	authorize(id, found, APIKEY_RIGHT_DELETE, key);
	if (!apikey_same_text(apikey_row_text(key, APIKEY_KEY_NAME), name))
		apikey_refuse("confirm_name", "It must be the name of the key.");
}

/*
 * Removes a key, for whoever may and can name it.  That waits for nobody: where
 * somebody has the key, it is removed beside its row.
 */
void
apikey_manage_delete(const pg_uuid_t *id, const text *name)
{
	ApikeyRow	key;
	bool		found = find_key(id, &key);

	require_removable(id, found, &key, name);
	if (apikey_manage_take(id, &key))
	{
		require_removable(id, true, &key, name);
		apikey_manage_remove_taken(&key);
		return;
	}
	if (!apikey_key_fetch_latest(id, &key))
		apikey_manage_refuse_concurrent(id);
	revoke_predecessors(&key, true, cstring_to_text("successor deleted"));
	apikey_revocation_remove(&key);
}

/* The row of a key's project, read into tenant; NULL for a personal key. */
const ApikeyRow *
apikey_manage_project(const ApikeyRow *key, ApikeyTenant *tenant)
{
	if (apikey_key_project(key) == NULL)
		return NULL;
	if (!apikey_tenant_fetch_project(apikey_key_project(key), tenant))
		apikey_manage_refuse_concurrent(apikey_row_id(key));
	return &tenant->project;
}
