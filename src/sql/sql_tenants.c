/*
 * sql_tenants.c
 *		The SQL functions for organizations, projects and members.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/access.h"
#include "keys/keys.h"
#include "limits/limits.h"

/*
 * apikey_organization_create(name text) returns uuid
 *		The caller becomes its owner.
 */
PG_FUNCTION_INFO_V1(apikey_organization_create);
Datum
apikey_organization_create(PG_FUNCTION_ARGS)
{
	ApikeyTenant tenant;

	PreventCommandIfReadOnly("apikey_organization_create()");
	apikey_tenant_create_organization(apikey_required_text(fcinfo, 0, "name"), &tenant);
	PG_RETURN_UUID_P(apikey_tenant_organization(&tenant));
}

/* Issues the key that a project can come with. */
static text *
issue_default_key(text *project)
{
	ApikeyIssue issue = {0};
	ApikeyRow	key;
	Interval	window = {.time = USECS_PER_MINUTE};

	issue.name = cstring_to_text("default");
	issue.project = project;
	apikey_row_clear(&key);
	apikey_row_set_pointer(&key, APIKEY_KEY_SCOPES,
						   construct_empty_array(TEXTOID));
	apikey_row_set_pointer(&key, APIKEY_KEY_RATE_WINDOW, &window);
	apikey_row_set(&key, APIKEY_KEY_METADATA,
				   DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	return apikey_issue(&key, &issue);
}

/*
 * apikey_project_create(path text, default_key boolean) returns text
 *		The default key's text, or NULL.
 */
PG_FUNCTION_INFO_V1(apikey_project_create);
Datum
apikey_project_create(PG_FUNCTION_ARGS)
{
	text	   *path = apikey_required_text(fcinfo, 0, "path");
	ApikeyTenant tenant;

	PreventCommandIfReadOnly("apikey_project_create()");
	apikey_require(fcinfo, 1, "default_key");
	apikey_tenant_create_project(path, &tenant);
	if (!PG_GETARG_BOOL(1))
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(issue_default_key(path));
}

/*
 * apikey_member_add(path text, member regrole, role apikey_role, subject text)
 *		returns void
 *		Adds a member, or changes its role.
 */
PG_FUNCTION_INFO_V1(apikey_member_add);
Datum
apikey_member_add(PG_FUNCTION_ARGS)
{
	text	   *path = apikey_required_text(fcinfo, 0, "path");
	text	   *subject = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
	ApikeyTenant tenant;

	PreventCommandIfReadOnly("apikey_member_add()");
	apikey_require(fcinfo, 1, "member");
	apikey_require(fcinfo, 2, "role");
	if (subject != NULL)
		apikey_rule_subject(subject);
	apikey_tenant_open(path, &tenant);
	apikey_role_require(PG_GETARG_OID(1));
	apikey_member_put(&tenant, PG_GETARG_OID(1), subject,
					  apikey_role_from_datum(PG_GETARG_DATUM(2)));
	PG_RETURN_VOID();
}

/*
 * apikey_member_remove(path text, member regrole, subject text)
 *		returns boolean
 *		False where there was no such member.
 */
PG_FUNCTION_INFO_V1(apikey_member_remove);
Datum
apikey_member_remove(PG_FUNCTION_ARGS)
{
	text	   *path = apikey_required_text(fcinfo, 0, "path");
	text	   *subject = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	ApikeyTenant tenant;

	PreventCommandIfReadOnly("apikey_member_remove()");
	apikey_require(fcinfo, 1, "member");
	apikey_tenant_open_to_remove(path, &tenant);
	PG_RETURN_BOOL(apikey_member_remove_from(&tenant, PG_GETARG_OID(1),
											 subject));
}

/* Opens the project, or the organization, of a path; raises for the other. */
static void
open_tenant(const text *path, bool is_project, ApikeyLock lock,
			ApikeyTenant *tenant)
{
	apikey_principal_require();
	if (is_project !=
		(memchr(VARDATA_ANY(path), '/', VARSIZE_ANY_EXHDR(path)) != NULL))
		apikey_tenant_refuse_unknown(text_to_cstring(path), is_project);
	apikey_tenant_open_with(path, lock, tenant);
}

/*
 * apikey_project_apply(path text) returns bigint
 *		Lets the project's keys end within its max_ttl from now; how many did
 *		not.  Waits for whoever makes a key in it, or gives one another end.
 */
PG_FUNCTION_INFO_V1(apikey_project_apply);
Datum
apikey_project_apply(PG_FUNCTION_ARGS)
{
	ApikeyTenant tenant;

	PreventCommandIfReadOnly("apikey_project_apply()");
	open_tenant(apikey_required_text(fcinfo, 0, "path"), true,
				APIKEY_LOCK_CHANGE, &tenant);
	PG_RETURN_INT64(apikey_apply_project(&tenant));
}

/* Drops the tenant that the arguments name, twice. */
static Datum
drop_tenant(FunctionCallInfo fcinfo, bool is_project)
{
	text	   *path = apikey_required_text(fcinfo, 0, "path");
	text	   *confirmed = apikey_required_text(fcinfo, 1, "confirm_name");
	ApikeyTenant tenant;

	open_tenant(path, is_project, APIKEY_LOCK_UPDATE, &tenant);
	if (!apikey_same_text(path, confirmed))
		apikey_refuse("confirm_name", "It must repeat the path.");
	apikey_tenant_drop(&tenant);
	PG_RETURN_BOOL(true);
}

/*
 * apikey_organization_drop(path text, confirm_name text) returns boolean
 *		Removes an organization, its projects, members and keys.
 */
PG_FUNCTION_INFO_V1(apikey_organization_drop);
Datum
apikey_organization_drop(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("apikey_organization_drop()");
	return drop_tenant(fcinfo, false);
}

/*
 * apikey_project_drop(path text, confirm_name text) returns boolean
 *		Removes a project, its members and keys.
 */
PG_FUNCTION_INFO_V1(apikey_project_drop);
Datum
apikey_project_drop(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("apikey_project_drop()");
	return drop_tenant(fcinfo, true);
}
