/*
 * judge.c
 *		The order and meaning of the codes: what a key that was found may do now.
 *
 * The order of the checks is the order of the codes in code.h.
 */
#include "postgres.h"

#include "utils/inval.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "access/access.h"
#include "keys/keys.h"
#include "limits/limits.h"
#include "verify/verify_internal.h"

/*
 * Is the key owned by the role that the caller names?  A personal key is charged to
 * its owner, which stands nearer.
 */
static bool
is_owned(const ApikeyVerdict *verdict, const ApikeyRequirements *required)
{
	return required->owner ==
		(verdict->state.personal ? verdict->hint->role :
		 DatumGetObjectId(apikey_verdict_value(verdict, APIKEY_KEY_OWNER)));
}

/*
 * Is it a key of whom the caller names?  A project's key is taken for nothing
 * but its project's: anyone may make a project and have others own keys there.
 * Where neither is named, it is the caller's own or nobody's.
 */
static ApikeyCode
judge_whose(const ApikeyVerdict *verdict, const ApikeyRequirements *required)
{
	bool		personal = verdict->state.personal;

	if (required->project != NULL)
	{
		if (!apikey_tenant_within(verdict->project, required->project))
			return APIKEY_CODE_WRONG_PROJECT;
		return !required->by_owner || is_owned(verdict, required) ?
			APIKEY_CODE_VALID : APIKEY_CODE_WRONG_OWNER;
	}
	if (!personal && !required->by_owner)
		return APIKEY_CODE_WRONG_PROJECT;
	return personal && is_owned(verdict, required) ? APIKEY_CODE_VALID :
		APIKEY_CODE_WRONG_OWNER;
}

/*
 * Fills in a verdict on a key that has been read just now, in a tenant or none,
 * but for what it is bound by.
 */
static void
begin_at(ApikeyVerdict *verdict, const ApikeyRow *key,
		 const ApikeyTenant *tenant)
{
	verdict->id = apikey_row_id(key);
	verdict->entry = NULL;
	verdict->key = key;
	verdict->project = tenant == NULL ? NULL : tenant->path;
	verdict->rated = verdict->credited = false;
	verdict->span = NULL;
	verdict->state.personal = apikey_key_project(key) == NULL;
	memset(&verdict->fresh_hint, 0, sizeof(verdict->fresh_hint));
	verdict->fresh_hint.role = apikey_status_charged(key);
	verdict->hint = &verdict->fresh_hint;
}

/* Fills in what a key is and is bound by, whose tenant has been read. */
static void
complete_at(ApikeyVerdict *verdict, const ApikeyRow *key,
			const ApikeyTenant *tenant)
{
	verdict->bounds = apikey_bounds_read(key, tenant);
	apikey_status_read(key, tenant, NULL, &verdict->state,
					   &verdict->fresh_term);
	verdict->term = &verdict->fresh_term;
}

/* Reads a key's tenant; NULL for a personal key, or where it is gone. */
static const ApikeyTenant *
read_tenant(const ApikeyRow *key, ApikeyTenant *tenant)
{
	const pg_uuid_t *project = apikey_key_project(key);

	return project != NULL && apikey_tenant_fetch_project(project, tenant) ?
		tenant : NULL;
}

/* Fills in a verdict where the key's tenant is still to be read. */
void
apikey_judge_complete(ApikeyVerdict *verdict, const ApikeyRow *key)
{
	ApikeyTenant space;
	const ApikeyTenant *tenant = read_tenant(key, &space);

	begin_at(verdict, key, tenant);
	complete_at(verdict, key, tenant);
}

/* The same of a key that was deleted, of which that much is kept. */
static bool
read_deleted(const pg_uuid_t *id, const ApikeyRequirements *required,
			 ApikeyRow *key, ApikeyVerdict *verdict)
{
	ApikeyTenant space;
	const ApikeyTenant *tenant;

	if (!apikey_deleted_fetch(id, key, &space))
		return false;
	tenant = apikey_key_project(key) == NULL ? NULL : &space;
	begin_at(verdict, key, tenant);
	if (judge_whose(verdict, required) != APIKEY_CODE_VALID ||
		!apikey_key_owner_stands(key))
		return false;
	verdict->bounds = apikey_bounds_read(key, tenant);
	return true;
}

/*
 * Reads the key of an id, or what is kept of one that was deleted; false where it
 * is not of whom the caller names.  Of such a key no more is looked up than of one
 * that is not there: see apikey_principal_meant.
 */
static bool
read_known(const pg_uuid_t *id, const ApikeyRequirements *required,
		   ApikeyVerdict *verdict)
{
	ApikeyRow  *key = palloc(sizeof(ApikeyRow));
	uint64		begun = apikey_changes_begin();
	ApikeyTenant space;
	const ApikeyTenant *tenant;

	apikey_key_keep();
	apikey_deleted_keep();
	if (!apikey_key_fetch_latest(id, key))
		return read_deleted(id, required, key, verdict);
	tenant = read_tenant(key, &space);
	begin_at(verdict, key, tenant);
	if (judge_whose(verdict, required) != APIKEY_CODE_VALID)
		return false;
	complete_at(verdict, key, tenant);
	apikey_cache_store_id(begun, verdict);
	return true;
}

/*
 * Fills in a verdict on the key of an id, for whoever does not offer the key
 * but would be told of it, and whose key it is.  False where there is none
 * such.
 */
bool
apikey_verify_known(const pg_uuid_t *id, const ApikeyRequirements *required,
					ApikeyVerdict *verdict)
{
	AcceptInvalidationMessages();
	verdict->at = GetCurrentTimestamp();
	verdict->known = true;
	if (apikey_cache_lookup_id(id, verdict))
		return judge_whose(verdict, required) == APIKEY_CODE_VALID;
	return read_known(id, required, verdict);
}

/* What a token adds to what its key is now, which ends with it. */
static ApikeyCode
judge_span(const ApikeyVerdict *verdict, ApikeyCode code)
{
	if (apikey_token_early(verdict->span, verdict->at))
		return APIKEY_CODE_NOT_YET_VALID;
	return apikey_token_ended(verdict->span, verdict->at) ?
		APIKEY_CODE_EXPIRED : code;
}

/* Is a key one that is in force, whatever it is wanted for? */
ApikeyCode
apikey_judge_state(const ApikeyVerdict *verdict)
{
	ApikeyCode	code = APIKEY_CODE_VALID;

	switch (apikey_status_at(&verdict->state, verdict->term, verdict->at))
	{
		case APIKEY_STATUS_REVOKED:
			return APIKEY_CODE_REVOKED;
		case APIKEY_STATUS_DISABLED:
			return APIKEY_CODE_DISABLED;
		case APIKEY_STATUS_SCHEDULED:
			return APIKEY_CODE_NOT_YET_VALID;
		case APIKEY_STATUS_EXPIRED:
			return APIKEY_CODE_EXPIRED;
		case APIKEY_STATUS_FORBIDDEN:
			code = APIKEY_CODE_FORBIDDEN;
			break;
		case APIKEY_STATUS_RETIRING:
		case APIKEY_STATUS_ACTIVE:
			break;
	}
	return verdict->span == NULL ? code : judge_span(verdict, code);
}

/* Is a key good for what is wanted, whoever's it is? */
ApikeyCode
apikey_judge_use(const ApikeyVerdict *verdict,
				 const ApikeyRequirements *required)
{
	if (verdict->state.by_address &&
		!apikey_address_allowed(apikey_verdict_value(verdict, APIKEY_KEY_ALLOWED_IPS),
								required->client_addr))
		return APIKEY_CODE_IP_DENIED;
	if (verdict->state.role < required->min_role)
		return APIKEY_CODE_INSUFFICIENT_ROLE;
	if (required->by_scopes &&
		!apikey_scope_all_granted(apikey_verdict_value(verdict, APIKEY_KEY_SCOPES),
								  required->scopes))
		return APIKEY_CODE_INSUFFICIENT_SCOPE;
	return APIKEY_CODE_VALID;
}

/* Spends what a key that passes everything else is limited in. */
ApikeyCode
apikey_judge_spend(ApikeyVerdict *verdict, const ApikeyRequirements *required)
{
	return verdict->bounds == NULL ? APIKEY_CODE_VALID :
		apikey_bounds_spend(verdict, required);
}

/* What a key whose secret has matched is good for. */
ApikeyCode
apikey_judge(ApikeyVerdict *verdict, const ApikeyRequirements *required)
{
	ApikeyCode	code = apikey_judge_state(verdict);

	if (required->unknown)
		return APIKEY_CODE_UNAVAILABLE;
	if (code == APIKEY_CODE_VALID)
		code = judge_whose(verdict, required);
	if (code == APIKEY_CODE_VALID)
		code = apikey_judge_use(verdict, required);
	return code == APIKEY_CODE_VALID ? apikey_judge_spend(verdict, required) :
		code;
}
