/*
 * tenant_drop.c
 *		Dropping an organization or project, and all that is in it.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"
#include "limits/limits_internal.h"

/* Removes a key that is there still, waiting for nobody who has it. */
static bool
delete_key(const ApikeyRow *row, void *state pg_attribute_unused())
{
	pg_uuid_t	id = *apikey_row_id(row);
	ApikeyRow	key;

	if (apikey_manage_take(&id, &key))
		apikey_key_delete(&key);
	else
	{
		if (apikey_key_fetch_latest(&id, &key))
			apikey_revocation_remove(&key);
		/* The row goes later, or is going, and the project is not known then. */
		apikey_deleted_note(row, APIKEY_LOCK_UPDATE_SKIP);
	}
	return true;
}

static void
delete_keys(const ApikeyTenant *tenant)
{
	ApikeyTurns turns;

	apikey_turns_begin(&turns, delete_key, NULL);
	apikey_key_walk_project(apikey_tenant_project(tenant), apikey_turns_visit,
							&turns);
	apikey_turns_end(&turns);
}

static bool
delete_member(const ApikeyRow *row, void *state pg_attribute_unused())
{
	apikey_member_end(row);
	return true;
}

/* Of a project where one is given, else of the organization itself. */
static void
delete_members(const pg_uuid_t *organization, const pg_uuid_t *project)
{
	ApikeyTurns turns;

	apikey_turns_begin(&turns, delete_member, NULL);
	apikey_member_scan(organization, project, apikey_turns_visit, &turns);
	apikey_turns_end(&turns);
}

static void
drop_project(ApikeyTenant *tenant)
{
	apikey_tenant_lock(tenant, APIKEY_LOCK_UPDATE);
	delete_keys(tenant);
	delete_members(apikey_tenant_organization(tenant),
				   apikey_tenant_project(tenant));
	apikey_limit_drop_of_tenant(apikey_tenant_organization(tenant),
								apikey_tenant_project(tenant));
	apikey_event_tenant(tenant, APIKEY_EVENT_PROJECT_DROPPED, NULL);
	apikey_table_delete(&apikey_project_table, apikey_tenant_project(tenant),
						true);
}

static bool
drop_visited_project(const ApikeyRow *row, void *state)
{
	ApikeyTenant tenant = *(ApikeyTenant *) state;

	tenant.is_project = true;
	tenant.project = *row;
	tenant.path = text_to_cstring(apikey_row_text(row, APIKEY_PROJECT_PATH));
	drop_project(&tenant);
	return true;
}

static void
drop_projects(ApikeyTenant *tenant)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ApikeyTurns turns;
	ScanKeyData key;

	ScanKeyInit(&key, APIKEY_PROJECT_ORGANIZATION + 1, BTEqualStrategyNumber,
				F_UUID_EQ, UUIDPGetDatum(apikey_tenant_organization(tenant)));
	apikey_turns_begin(&turns, drop_visited_project, tenant);
	apikey_table_walk(&apikey_project_table, APIKEY_REL_PROJECT_ORGANIZATION,
					  &key, 1, snapshot, apikey_turns_visit, &turns);
	apikey_turns_end(&turns);
	UnregisterSnapshot(snapshot);
}

/* Removes an opened tenant and all that is below it; the events stay. */
void
apikey_tenant_drop(ApikeyTenant *tenant)
{
	if (tenant->is_project)
	{
		drop_project(tenant);
		return;
	}

	drop_projects(tenant);
	apikey_hold_name(tenant);
	delete_members(apikey_tenant_organization(tenant), NULL);
	apikey_limit_drop_of_tenant(apikey_tenant_organization(tenant), NULL);
	apikey_event_tenant(tenant, APIKEY_EVENT_ORGANIZATION_DROPPED, NULL);
	apikey_table_delete(&apikey_organization_table,
						apikey_tenant_organization(tenant), true);
}
