/*
 * sql_views.c
 *		What the policies on our tables ask, and what the views of 0.1.0 did: a
 *		library and an install script of different versions work together.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"

/* What the caller is in the projects that a query has met so far. */
typedef struct SeenProjects
{
	Oid			user;			/* whose role that is */
	text	   *subject;
	HTAB	   *projects;
	MemoryContext context;
} SeenProjects;

typedef struct SeenProject
{
	pg_uuid_t	id;				/* hash key */
	ApikeyAuthority authority;
} SeenProject;

/* The query's projects, empty where it is not the same principal any more. */
static SeenProjects *
seen_projects(FunctionCallInfo fcinfo)
{
	SeenProjects *seen = fcinfo->flinfo->fn_extra;
	text	   *subject = apikey_principal_subject();
	HASHCTL		control = {
		.keysize = sizeof(pg_uuid_t),
		.entrysize = sizeof(SeenProject)
	};

	if (seen == NULL)
	{
		seen = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
									  sizeof(SeenProjects));
		seen->context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt,
											  "apikey projects",
											  ALLOCSET_SMALL_SIZES);
		fcinfo->flinfo->fn_extra = seen;
	}
	else if (seen->user == GetUserId() &&
			 apikey_same_text(seen->subject, subject))
		return seen;

	MemoryContextReset(seen->context);
	control.hcxt = seen->context;
	seen->user = GetUserId();
	seen->subject = subject == NULL ? NULL :
		(text *) DatumGetPointer(datumCopy(PointerGetDatum(subject), false, -1));
	seen->projects = hash_create("apikey projects", 64, &control,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return seen;
}

static const ApikeyAuthority *
authority_in_project(FunctionCallInfo fcinfo, const pg_uuid_t *project)
{
	bool		found;
	SeenProject *entry = hash_search(seen_projects(fcinfo)->projects, project,
									 HASH_ENTER, &found);

	if (!found)
		apikey_authority_in_project(project, &entry->authority);
	return &entry->authority;
}

/*
 * _apikey_visible(owner regrole, subject text, project uuid,
 *				   vouched_by regrole, vouched_by_subject text)
 *		returns boolean
 *		May the caller see a key of this owner and voucher in this project?
 *		0.1.0 has it without the voucher.
 */
PG_FUNCTION_INFO_V1(_apikey_visible);
Datum
_apikey_visible(PG_FUNCTION_ARGS)
{
	static const ApikeyKeyColumn columns[] = {
		APIKEY_KEY_OWNER, APIKEY_KEY_SUBJECT, APIKEY_KEY_PROJECT,
		APIKEY_KEY_VOUCHED_BY, APIKEY_KEY_VOUCHED_BY_SUBJECT
	};
	ApikeyRow	key;

	if (apikey_authority_sees_all())
		PG_RETURN_BOOL(true);
	if (PG_ARGISNULL(0) || !apikey_principal_readable())
		PG_RETURN_BOOL(false);
	apikey_row_clear(&key);
	for (int i = 0; i < PG_NARGS(); i++)
	{
		key.values[columns[i]] = PG_GETARG_DATUM(i);
		key.nulls[columns[i]] = PG_ARGISNULL(i);
	}
	PG_RETURN_BOOL(apikey_authority_grants(PG_ARGISNULL(2) ? NULL :
										   authority_in_project(fcinfo, PG_GETARG_UUID_P(2)),
										   APIKEY_RIGHT_SEE, &key));
}

/*
 * _apikey_standing(organization uuid, project uuid) returns apikey_role
 *		What the caller is in a project or, without one, in an organization.
 */
PG_FUNCTION_INFO_V1(_apikey_standing);
Datum
_apikey_standing(PG_FUNCTION_ARGS)
{
	bool		known = superuser() || apikey_principal_readable();
	ApikeyRole	role;

	apikey_member_keep();
	role = PG_ARGISNULL(0) || !known ? APIKEY_ROLE_NONE :
		apikey_member_role(GetUserId(), apikey_principal_subject_if_known(),
						   PG_GETARG_UUID_P(0),
						   PG_ARGISNULL(1) ? NULL : PG_GETARG_UUID_P(1));

	if (role == APIKEY_ROLE_NONE)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(apikey_role_datum(role));
}

/*
 * _apikey_sees_all() returns boolean
 *		Is the caller a superuser, or BYPASSRLS?
 */
PG_FUNCTION_INFO_V1(_apikey_sees_all);
Datum
_apikey_sees_all(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_BOOL(apikey_authority_sees_all());
}

/* Is the caller an owner of a project or, where it is gone, its organization? */
static bool
owns_tenant(FunctionCallInfo fcinfo, int organization, int project)
{
	ApikeyTenant tenant;

	apikey_member_keep();
	if (!PG_ARGISNULL(project) &&
		apikey_tenant_fetch_project(PG_GETARG_UUID_P(project), &tenant))
		return apikey_tenant_role(&tenant) == APIKEY_ROLE_OWNER;
	return !PG_ARGISNULL(organization) &&
		apikey_member_role(GetUserId(), apikey_principal_subject(),
						   PG_GETARG_UUID_P(organization), NULL) ==
		APIKEY_ROLE_OWNER;
}

/*
 * _apikey_event_visible(key_owner regrole, key_owner_name text,
 *						 key_subject text, key_id uuid, organization uuid,
 *						 project uuid) returns boolean
 *		May the caller see an event about this?
 */
PG_FUNCTION_INFO_V1(_apikey_event_visible_0_2);
Datum
_apikey_event_visible_0_2(PG_FUNCTION_ARGS)
{
	if (apikey_authority_sees_all())
		PG_RETURN_BOOL(true);
	if (!apikey_principal_readable())
		PG_RETURN_BOOL(false);
	apikey_key_keep();
	PG_RETURN_BOOL((!PG_ARGISNULL(0) &&
					apikey_event_owned(PG_GETARG_OID(0),
									   PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1),
									   PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2),
									   PG_ARGISNULL(3) ? NULL : PG_GETARG_UUID_P(3))) ||
				   owns_tenant(fcinfo, 4, 5) || apikey_administers());
}

/*
 * _apikey_event_visible(key_owner oid, key_subject text, organization uuid,
 *						 project uuid) returns boolean
 *		The same for the SQL of 0.1.0, which knows no name of the owner.
 */
PG_FUNCTION_INFO_V1(_apikey_event_visible);
Datum
_apikey_event_visible(PG_FUNCTION_ARGS)
{
	text	   *subject = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);

	if (apikey_authority_sees_all())
		PG_RETURN_BOOL(true);
	if (!apikey_principal_readable())
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL((!PG_ARGISNULL(0) &&
					apikey_principal_matches(PG_GETARG_OID(0), subject)) ||
				   owns_tenant(fcinfo, 2, 3));
}

/*
 * _apikey_role_name(role regrole, last_known text) returns name
 */
PG_FUNCTION_INFO_V1(_apikey_role_name);
Datum
_apikey_role_name(PG_FUNCTION_ARGS)
{
	Name		name = palloc0(sizeof(NameData));

	namestrcpy(name, text_to_cstring(apikey_role_name_text(PG_GETARG_OID(0),
														   PG_GETARG_TEXT_PP(1))));
	PG_RETURN_NAME(name);
}

/*
 * _apikey_status(owner regrole, disabled boolean, starts_at timestamptz,
 *				  expires_at timestamptz, revoked_at timestamptz) returns text
 *		A key's status when the statement started.
 */
PG_FUNCTION_INFO_V1(_apikey_status);
Datum
_apikey_status(PG_FUNCTION_ARGS)
{
	static const ApikeyKeyColumn columns[] = {
		APIKEY_KEY_OWNER, APIKEY_KEY_DISABLED, APIKEY_KEY_STARTS_AT,
		APIKEY_KEY_EXPIRES_AT, APIKEY_KEY_REVOKED_AT
	};
	ApikeyRow	key;
	ApikeyStatus status;

	apikey_row_clear(&key);
	for (size_t i = 0; i < lengthof(columns); i++)
	{
		key.values[columns[i]] = PG_GETARG_DATUM(i);
		key.nulls[columns[i]] = PG_ARGISNULL(i);
	}
	status = apikey_key_status(&key, GetCurrentStatementStartTimestamp());
	PG_RETURN_TEXT_P(cstring_to_text(apikey_status_name(status)));
}
