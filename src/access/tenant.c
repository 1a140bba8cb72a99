/*
 * tenant.c
 *		Organizations and projects: finding, making and dropping them.
 *
 * A tenant is an organization (acme) or a project of one (acme/payments).
 *
 * Who changes an organization's members locks its row, so that such changes
 * come one after the other, and one owner is left.  Who makes a project in it,
 * or changes a project's members or keys, only keeps the row that it hangs on
 * from being removed; who changes a project's settings, that anybody else does.
 * So nobody who makes keys holds up its project's owners in settings and
 * members, nor a project's owner those of its organization.  To drop a tenant
 * waits for all of them, and so does to apply a project's max_ttl to its keys.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access_internal.h"

#define PART_MAX	64			/* characters of a name in a path */

/* Is this a name: ^[a-z0-9][a-z0-9-]{0,63}$ ? */
static bool
part_valid(const char *part, int len)
{
	if (len < 1 || len > PART_MAX || part[0] == '-')
		return false;
	for (int i = 0; i < len; i++)
	{
		char		c = part[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
			return false;
	}
	return true;
}

/* Finds the row of a table by a text. */
static bool
find_by_text(const ApikeyTable *table, ApikeyRelation index, int column,
			 const char *value, ApikeyRow *row)
{
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, column + 1, BTEqualStrategyNumber,
						   InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(value));
	return apikey_table_find(table, index, &key, 1, row);
}

static bool
find_organization(const char *name, ApikeyRow *row)
{
	return find_by_text(&apikey_organization_table,
						APIKEY_REL_ORGANIZATION_NAME,
						APIKEY_ORGANIZATION_NAME, name, row);
}

/*
 * Whoever is not known is told of no tenant, and of none that is missing.  What
 * is locked for one that is there is locked before: so whoever has the caller
 * wait for that lock tells nothing by it.
 */
static bool
find_tenant(const text *path, ApikeyTenant *tenant)
{
	apikey_principal_require();
	apikey_member_keep();
	tenant->path = text_to_cstring(path);
	tenant->is_project = strchr(tenant->path, '/') != NULL;
	if (!tenant->is_project)
		return find_organization(tenant->path, &tenant->organization);
	return find_by_text(&apikey_project_table, APIKEY_REL_PROJECT_PATH,
						APIKEY_PROJECT_PATH, tenant->path, &tenant->project);
}

/* What the caller is in a tenant. */
ApikeyRole
apikey_tenant_role(const ApikeyTenant *tenant)
{
	return apikey_member_role(GetUserId(), apikey_principal_subject(),
							  apikey_tenant_organization(tenant),
							  apikey_tenant_project(tenant));
}

/*
 * There is no such tenant for the caller.  A key that was given for a path by
 * mistake is masked, and what is longer than any path is cut.
 */
void
apikey_tenant_refuse_unknown(const char *path, bool is_project)
{
	int			len = (int) strlen(path);
	int			shown = pg_mbcliplen(path, len, 3 * PART_MAX);
	char	   *masked = psprintf("%.*s%s", shown, path, shown < len ? "..." : "");

	apikey_redact_text(masked, strlen(masked));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 is_project ?
			 errmsg("project \"%s\" does not exist", masked) :
			 errmsg("organization \"%s\" does not exist", masked)));
}

/*
 * Raises where there is no such tenant for the caller (42704), or he is less
 * than a role there (42501).
 */
static void
authorize(const ApikeyTenant *tenant, bool found, ApikeyRole needed)
{
	ApikeyRole	member_role = found ? apikey_tenant_role(tenant) :
		APIKEY_ROLE_NONE;

	if (member_role >= needed)
		return;
	if (member_role == APIKEY_ROLE_NONE &&
		!(found && (has_bypassrls_privilege(GetUserId()) ||
					apikey_administers())))
		apikey_tenant_refuse_unknown(tenant->path, tenant->is_project);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 tenant->is_project ?
			 errmsg("permission denied for project \"%s\"", tenant->path) :
			 errmsg("permission denied for organization \"%s\"",
					tenant->path)));
}

/* Opens a tenant for its owners, its row locked. */
void
apikey_tenant_open_with(const text *path, ApikeyLock lock,
						ApikeyTenant *tenant)
{
	bool		found = find_tenant(path, tenant);

	authorize(tenant, found, APIKEY_ROLE_OWNER);
	found = tenant->is_project ?
		apikey_table_lock(&apikey_project_table, apikey_tenant_project(tenant),
						  lock, &tenant->project) :
		apikey_table_lock(&apikey_organization_table,
						  apikey_tenant_organization(tenant), lock,
						  &tenant->organization);
	authorize(tenant, found, APIKEY_ROLE_OWNER);
}

static bool
names_project(const text *path)
{
	return memchr(VARDATA_ANY(path), '/', VARSIZE_ANY_EXHDR(path)) != NULL;
}

/* Opens a tenant for its members to be changed, by its owners. */
void
apikey_tenant_open(const text *path, ApikeyTenant *tenant)
{
	apikey_tenant_open_with(path, names_project(path) ? APIKEY_LOCK_KEEP :
							APIKEY_LOCK_CHANGE, tenant);
}

/*
 * Opens a tenant for a member to be removed, by its owners.  A project's row is
 * not locked for that, so that who drops it, and is to be removed, holds nobody
 * up.
 */
void
apikey_tenant_open_to_remove(const text *path, ApikeyTenant *tenant)
{
	if (names_project(path))
		authorize(tenant, find_tenant(path, tenant), APIKEY_ROLE_OWNER);
	else
		apikey_tenant_open(path, tenant);
}

/* Opens the project whose row has an id for a change, by its owners. */
void
apikey_tenant_open_project(const pg_uuid_t *id, ApikeyTenant *tenant)
{
	if (!apikey_table_fetch_latest(&apikey_project_table, id,
								   &tenant->project))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change project due to a concurrent change")));
	apikey_tenant_open_with(apikey_row_text(&tenant->project,
											APIKEY_PROJECT_PATH),
							APIKEY_LOCK_CHANGE, tenant);
}

/* Locks an opened project to the end of the transaction. */
void
apikey_tenant_lock(ApikeyTenant *tenant, ApikeyLock lock)
{
	if (!apikey_table_lock(&apikey_project_table,
						   apikey_tenant_project(tenant),
						   lock, &tenant->project))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not use project \"%s\" due to a concurrent change",
						tenant->path)));
}

/*
 * Opens a project for keys to be made in it, by its admins: it cannot be
 * dropped before the transaction ends.
 */
void
apikey_tenant_open_for_keys(const text *path, ApikeyTenant *tenant)
{
	bool		found = find_tenant(path, tenant) && tenant->is_project;

	tenant->is_project = true;
	authorize(tenant, found, APIKEY_ROLE_ADMIN);
	apikey_tenant_lock(tenant, APIKEY_LOCK_KEEP);
	authorize(tenant, true, APIKEY_ROLE_ADMIN);
}

/* Keeps a project from being dropped to the end of the transaction. */
void
apikey_tenant_keep(ApikeyTenant *tenant)
{
	apikey_tenant_lock(tenant, APIKEY_LOCK_KEEP);
}

#define PART_RULE	"A name has 1 to 64 characters a-z, 0-9 and \"-\", starting with a letter or digit."

/* Makes an organization, whose owner the caller becomes. */
void
apikey_tenant_create_organization(const text *name, ApikeyTenant *tenant)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	tenant->path = text_to_cstring(name);
	tenant->is_project = false;
	if (!part_valid(tenant->path, strlen(tenant->path)))
		apikey_refuse_by("apikey_organization_name", "name", PART_RULE);
	apikey_principal_require();

	apikey_generate_id(id);
	apikey_row_clear(&tenant->organization);
	apikey_row_set_pointer(&tenant->organization, APIKEY_ORGANIZATION_ID, id);
	apikey_row_set_pointer(&tenant->organization, APIKEY_ORGANIZATION_NAME,
						   cstring_to_text(tenant->path));
	apikey_row_set(&tenant->organization, APIKEY_ORGANIZATION_CREATED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_hold_keep();
	apikey_table_insert(&apikey_organization_table, &tenant->organization);
	if (!apikey_hold_take(tenant))
		apikey_table_refuse_taken(&apikey_organization_table,
								  &tenant->organization,
								  apikey_organization_table.argument);
	apikey_event_tenant(tenant, APIKEY_EVENT_ORGANIZATION_CREATED, NULL);
	apikey_member_found(tenant, apikey_principal_new_subject(NULL, false));
}

/* Makes a project, for an owner of its organization. */
void
apikey_tenant_create_project(const text *path, ApikeyTenant *tenant)
{
	char	   *whole = text_to_cstring(path);
	char	   *slash = strchr(whole, '/');
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	if (slash == NULL || !part_valid(whole, slash - whole) ||
		!part_valid(slash + 1, strlen(slash + 1)))
		apikey_refuse_by("apikey_project_path", "path", "A path is \"organization/project\". " PART_RULE);

	apikey_tenant_open_with(cstring_to_text_with_len(whole, slash - whole),
							APIKEY_LOCK_KEEP, tenant);
	apikey_generate_id(id);
	apikey_row_clear(&tenant->project);
	apikey_row_set_pointer(&tenant->project, APIKEY_PROJECT_ID, id);
	apikey_row_set_pointer(&tenant->project, APIKEY_PROJECT_ORGANIZATION,
						   apikey_tenant_organization(tenant));
	tenant->path = whole;
	tenant->is_project = true;
	apikey_row_set_pointer(&tenant->project, APIKEY_PROJECT_PATH, path);
	apikey_row_set(&tenant->project, APIKEY_PROJECT_CREATED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_row_set(&tenant->project, APIKEY_PROJECT_MEMBERS_CAN_VIEW,
				   BoolGetDatum(false));
	apikey_row_set(&tenant->project, APIKEY_PROJECT_REVEALABLE,
				   BoolGetDatum(false));
	apikey_table_insert(&apikey_project_table, &tenant->project);
	apikey_event_tenant(tenant, APIKEY_EVENT_PROJECT_CREATED, NULL);
}
