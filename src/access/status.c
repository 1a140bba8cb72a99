/*
 * status.c
 *		What a key is now: its status, and the role it has in effect.
 *
 * A project's key hangs on two principals: its owner, and whoever last decided
 * whose it is, which vouches for it.  What it may is never more than its own
 * role, nor than what either of the two is in the project now.
 *
 *		owner dropped						revoked
 *		voucher dropped						forbidden
 *		owner or voucher left the project	forbidden
 *		project gone						forbidden
 *
 * Nothing that a key was made for is kept by handing it on before leaving:
 * whoever hands it on vouches.  A row that names no voucher, as those of 0.1.0,
 * is vouched for by its owner.  A personal key has neither voucher nor role.
 *
 * Verification and the view both ask apikey_status_read, and nobody decides
 * this anywhere else.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/access.h"

/* Who vouches for a project's key; the subject may be NULL. */
Oid
apikey_status_voucher(const ApikeyRow *key, const text **subject)
{
	bool		named = !key->nulls[APIKEY_KEY_VOUCHED_BY];

	*subject = apikey_row_text(key, named ? APIKEY_KEY_VOUCHED_BY_SUBJECT :
							   APIKEY_KEY_SUBJECT);
	return named ? DatumGetObjectId(key->values[APIKEY_KEY_VOUCHED_BY]) :
		apikey_key_owner(key);
}

/*
 * Of whose share of the shared memory a key takes.  Whoever has a project makes
 * anybody the owner of keys there, unasked, and would use up that role's share: so
 * a project's key takes of that of who vouches for it, which nobody can make
 * another do.
 */
Oid
apikey_status_charged(const ApikeyRow *key)
{
	const text *subject;

	return apikey_key_project(key) == NULL ? apikey_key_owner(key) :
		apikey_status_voucher(key, &subject);
}

/* What the row calls it. */
const text *
apikey_status_voucher_name(const ApikeyRow *key)
{
	return apikey_row_text(key, key->nulls[APIKEY_KEY_VOUCHED_BY] ?
						   APIKEY_KEY_OWNER_NAME : APIKEY_KEY_VOUCHED_BY_NAME);
}

/* From now on the caller vouches for a key that is written next. */
void
apikey_status_vouch(ApikeyRow *key)
{
	bool		in_project = apikey_key_project(key) != NULL;

	apikey_row_set(key, APIKEY_KEY_VOUCHED_BY, ObjectIdGetDatum(GetUserId()));
	key->nulls[APIKEY_KEY_VOUCHED_BY] = !in_project;
	apikey_row_set_pointer(key, APIKEY_KEY_VOUCHED_BY_NAME, !in_project ? NULL :
						   apikey_role_name_text(GetUserId(), NULL));
	apikey_row_set_pointer(key, APIKEY_KEY_VOUCHED_BY_SUBJECT,
						   !in_project ? NULL : apikey_principal_subject());
}

/* What a principal is in a project; nothing, where its role is gone. */
static ApikeyRole
role_in(Oid role, const text *name, const text *subject,
		const ApikeyTenant *tenant, ApikeyKnownRoles *known)
{
	const pg_uuid_t *organization = apikey_tenant_organization(tenant);
	const pg_uuid_t *project = apikey_tenant_project(tenant);

	if (!apikey_role_stands(role, name))
		return APIKEY_ROLE_NONE;
	return known == NULL ?
		apikey_member_role(role, subject, organization, project) :
		apikey_known_role(known, role, subject, organization, project);
}

/* The lower of what a key's owner and its voucher are in its project. */
static ApikeyRole
lower_role(const ApikeyRow *key, const ApikeyTenant *tenant,
		   ApikeyKnownRoles *known)
{
	const text *subject = apikey_row_text(key, APIKEY_KEY_SUBJECT);
	const text *voucher_subject;
	Oid			owner = apikey_key_owner(key);
	Oid			voucher = apikey_status_voucher(key, &voucher_subject);
	ApikeyRole	role = role_in(owner, apikey_row_text(key,
													  APIKEY_KEY_OWNER_NAME),
							   subject, tenant, known);

	if (role == APIKEY_ROLE_NONE ||
		(voucher == owner && apikey_same_text(subject, voucher_subject)))
		return role;
	return Min(role, role_in(voucher,
							 apikey_status_voucher_name(key),
							 voucher_subject, tenant, known));
}

static TimestampTz
row_time(const ApikeyRow *key, ApikeyKeyColumn column, TimestampTz otherwise)
{
	return key->nulls[column] ? otherwise :
		DatumGetTimestampTz(key->values[column]);
}

/*
 * What a key itself is, whoever owner and voucher are in its project, but for
 * what the clock decides by its span.
 */
void
apikey_status_read_own(const ApikeyRow *key, ApikeyKeyState *state,
					   ApikeySpan *span)
{
	state->role = APIKEY_ROLE_NONE;
	state->personal = apikey_key_project(key) == NULL;
	state->revoked = apikey_key_revoked(key);
	state->disabled = apikey_row_bool(key, APIKEY_KEY_DISABLED);
	state->timed = !key->nulls[APIKEY_KEY_STARTS_AT] ||
		!key->nulls[APIKEY_KEY_EXPIRES_AT];
	state->forbidden = false;
	state->replaced = !key->nulls[APIKEY_KEY_ROTATED_TO];
	state->by_address = !key->nulls[APIKEY_KEY_ALLOWED_IPS];
	span->begin = row_time(key, APIKEY_KEY_STARTS_AT, DT_NOBEGIN);
	span->end = row_time(key, APIKEY_KEY_EXPIRES_AT, DT_NOEND);
}

/*
 * What a key is, but for what the clock decides.  tenant is its project; NULL
 * for a personal key, and for one whose project is gone.  Where known is not NULL,
 * what principals are there is remembered in it.
 */
void
apikey_status_read(const ApikeyRow *key, const ApikeyTenant *tenant,
				   ApikeyKnownRoles *known, ApikeyKeyState *state,
				   ApikeySpan *span)
{
	apikey_status_read_own(key, state, span);
	if (state->personal)
		return;
	if (tenant != NULL)
		state->role = Min(lower_role(key, tenant, known),
						  apikey_row_role(key, APIKEY_KEY_ROLE));
	state->forbidden = state->role == APIKEY_ROLE_NONE;
}

/* What a key of which that has been read is at an instant. */
ApikeyStatus
apikey_status_at(const ApikeyKeyState *state, const ApikeySpan *span,
				 TimestampTz now)
{
	if (state->revoked)
		return APIKEY_STATUS_REVOKED;
	if (state->disabled)
		return APIKEY_STATUS_DISABLED;
	if (state->timed && now < span->begin)
		return APIKEY_STATUS_SCHEDULED;
	if (state->timed && now >= span->end)
		return APIKEY_STATUS_EXPIRED;
	if (state->forbidden)
		return APIKEY_STATUS_FORBIDDEN;
	return state->replaced ? APIKEY_STATUS_RETIRING : APIKEY_STATUS_ACTIVE;
}

/*
 * Is a key revoked, or past its end?  Of one that was replaced neither ever
 * changes.  It may be called something else, as disabled.
 */
bool
apikey_status_ended(const ApikeyKeyState *state, const ApikeySpan *span,
					TimestampTz now)
{
	return state->revoked || now >= span->end;
}

/* What a status is called. */
const char *
apikey_status_name(ApikeyStatus status)
{
	static const char *const names[] = {
		[APIKEY_STATUS_ACTIVE] = "active",
		[APIKEY_STATUS_RETIRING] = "retiring",
		[APIKEY_STATUS_SCHEDULED] = "scheduled",
		[APIKEY_STATUS_DISABLED] = "disabled",
		[APIKEY_STATUS_FORBIDDEN] = "forbidden",
		[APIKEY_STATUS_EXPIRED] = "expired",
		[APIKEY_STATUS_REVOKED] = "revoked"
	};

	return names[status];
}
