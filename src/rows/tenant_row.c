/*
 * tenant_row.c
 *		The rows of organizations and projects, and what is read of one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "store/store.h"
#include "rows/rows.h"

static const ApikeyColumn organization_columns[] = {
	[APIKEY_ORGANIZATION_ID] = {"id", UUIDOID, false, true},
	[APIKEY_ORGANIZATION_NAME] = {"name", TEXTOID, false, true},
	[APIKEY_ORGANIZATION_CREATED_AT] = {"created_at", TIMESTAMPTZOID, false, true}
};

static const ApikeyColumn project_columns[] = {
	[APIKEY_PROJECT_ID] = {"id", UUIDOID, false, true},
	[APIKEY_PROJECT_ORGANIZATION] = {"organization", UUIDOID, false, true},
	[APIKEY_PROJECT_PATH] = {"path", TEXTOID, false, true},
	[APIKEY_PROJECT_CREATED_AT] = {"created_at", TIMESTAMPTZOID, false, true},
	[APIKEY_PROJECT_MEMBERS_CAN_VIEW] = {"members_can_view", BOOLOID, true, true},
	[APIKEY_PROJECT_NAME_PATTERN] = {"name_pattern", TEXTOID, true},
	[APIKEY_PROJECT_MAX_TTL] = {"max_ttl", INTERVALOID, true},
	[APIKEY_PROJECT_MAX_KEYS] = {"max_keys", INT4OID, true},
	[APIKEY_PROJECT_TERMS] = {"terms", TEXTOID, true},
	[APIKEY_PROJECT_REVEALABLE] = {"revealable", BOOLOID, true, true},
	[APIKEY_PROJECT_MAX_IDLE] = {"max_idle", INTERVALOID, true},
	[APIKEY_PROJECT_MAX_IDLE_AT] = {"max_idle_at", TIMESTAMPTZOID, false}
};

ApikeyTable apikey_organization_table = {
	.name = "apikey_organization",
	.noun = "organization",
	.label = APIKEY_ORGANIZATION_NAME,
	.argument = "name",
	.relation = APIKEY_REL_ORGANIZATION,
	.pkey = APIKEY_REL_ORGANIZATION_PKEY,
	.columns = organization_columns,
	.count = lengthof(organization_columns)
};

ApikeyTable apikey_project_table = {
	.name = "apikey_project",
	.noun = "project",
	.label = APIKEY_PROJECT_PATH,
	.argument = "path",
	.relation = APIKEY_REL_PROJECT,
	.pkey = APIKEY_REL_PROJECT_PKEY,
	.columns = project_columns,
	.count = lengthof(project_columns),
	.later = lengthof(project_columns) - APIKEY_PROJECT_MAX_IDLE
};

/* The id of the organization, the tenant itself or around it. */
const pg_uuid_t *
apikey_tenant_organization(const ApikeyTenant *tenant)
{
	return tenant->is_project ?
		DatumGetUUIDP(tenant->project.values[APIKEY_PROJECT_ORGANIZATION]) :
		apikey_row_id(&tenant->organization);
}

/* The project's id; NULL where the tenant is an organization. */
const pg_uuid_t *
apikey_tenant_project(const ApikeyTenant *tenant)
{
	return tenant->is_project ? apikey_row_id(&tenant->project) : NULL;
}

/* Is a project the one called so, or of the organization called so? */
bool
apikey_tenant_within(const char *project, const text *path)
{
	size_t		len = VARSIZE_ANY_EXHDR(path);

	return project != NULL && len > 0 && strlen(project) >= len &&
		memcmp(project, VARDATA_ANY(path), len) == 0 &&
		(project[len] == '\0' || project[len] == '/');
}

/* Reads the project of an id; false where it is gone. */
bool
apikey_tenant_fetch_project(const pg_uuid_t *id, ApikeyTenant *tenant)
{
	tenant->is_project = true;
	if (!apikey_table_fetch_latest(&apikey_project_table, id,
								   &tenant->project))
		return false;
	tenant->path = text_to_cstring(apikey_row_text(&tenant->project,
												   APIKEY_PROJECT_PATH));
	return true;
}
