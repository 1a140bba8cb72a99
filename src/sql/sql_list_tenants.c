/*
 * sql_list_tenants.c
 *		The rows of the views apikey_organizations, apikey_projects and
 *		apikey_members: what the caller belongs to.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/access.h"
#include "sql/listing.h"

/* A list has no more than one condition of the query, or two. */
typedef struct Wanted
{
	const pg_uuid_t *id;
	const text *path;
} Wanted;

static bool
shows(ApikeyListing *listing pg_attribute_unused(),
	  const ApikeyRow *row pg_attribute_unused())
{
	return true;
}

/* Begins a list of a table's rows, in no order. */
static void
tenants_open(ApikeyListing *listing, FunctionCallInfo fcinfo,
			 const ApikeyTable *table, ApikeyMakes makes, void *state)
{
	apikey_listing_open(listing, fcinfo);
	listing->table = table;
	listing->shows = shows;
	listing->makes = makes;
	listing->state = state;
}

/* Reads a whole table, for who sees all of it. */
static void
read_all(ApikeyListing *listing, ApikeyRelation index)
{
	ApikeyRange range;

	apikey_range_start(&range, index);
	apikey_listing_read(listing, &range);
}

/* Reads the row of an id. */
static void
read_id(ApikeyListing *listing, const pg_uuid_t *id)
{
	ApikeyRange range;

	apikey_range_start(&range, listing->table->pkey);
	apikey_range_uuid(&range, 0, id);
	apikey_listing_read(listing, &range);
}

static void
set_role(Datum *values, bool *nulls, int column, ApikeyRole role)
{
	nulls[column] = role == APIKEY_ROLE_NONE;
	if (role != APIKEY_ROLE_NONE)
		values[column] = apikey_role_datum(role);
}

static void
set_column(const ApikeyRow *row, int stored, Datum *values, bool *nulls,
		   int column)
{
	values[column] = row->values[stored];
	nulls[column] = row->nulls[stored];
}

/* A row of apikey_organizations: id, name, role, created_at. */
static void
make_organization(ApikeyListing *listing, ApikeyRow *row, Datum *values,
				  bool *nulls)
{
	set_column(row, APIKEY_ORGANIZATION_ID, values, nulls, 0);
	set_column(row, APIKEY_ORGANIZATION_NAME, values, nulls, 1);
	set_role(values, nulls, 2,
			 apikey_viewer_organization(&listing->viewer,
										apikey_row_id(row))->member_role);
	set_column(row, APIKEY_ORGANIZATION_CREATED_AT, values, nulls, 3);
}

static void
list_organization(ApikeyViewedOrganization *organization, void *state)
{
	read_id(state, &organization->id);
}

/*
 * _apikey_organizations() returns a set of rows of apikey_organizations
 */
PG_FUNCTION_INFO_V1(_apikey_organizations);
Datum
_apikey_organizations(PG_FUNCTION_ARGS)
{
	ApikeyListing listing;

	tenants_open(&listing, fcinfo, &apikey_organization_table,
				 make_organization, NULL);
	if (listing.viewer.sees_tenants)
		read_all(&listing, APIKEY_REL_ORGANIZATION_PKEY);
	else
		apikey_viewer_organizations(&listing.viewer, list_organization, &listing);
	apikey_listing_close(&listing);
	PG_RETURN_NULL();
}

/*
 * A row of apikey_projects: id, path, role, created_at, and the settings, which
 * are the table's columns that follow.
 */
static void
make_project(ApikeyListing *listing, ApikeyRow *row, Datum *values, bool *nulls)
{
	set_column(row, APIKEY_PROJECT_ID, values, nulls, 0);
	set_column(row, APIKEY_PROJECT_PATH, values, nulls, 1);
	set_role(values, nulls, 2,
			 apikey_viewer_project(&listing->viewer,
								   apikey_row_id(row))->authority.member_role);
	for (int i = APIKEY_PROJECT_CREATED_AT; i < listing->table->count; i++)
		set_column(row, i, values, nulls, i);
}

static void
list_project(ApikeyViewedProject *project, void *state)
{
	ApikeyListing *listing = state;
	const Wanted *wanted = listing->state;

	if (wanted->id == NULL ||
		memcmp(wanted->id, &project->id, UUID_LEN) == 0)
		read_id(listing, &project->id);
}

/* Reads the projects that may be wanted, for who sees all of them. */
static void
read_all_projects(ApikeyListing *listing)
{
	const Wanted *wanted = listing->state;
	const pg_uuid_t *id = wanted->id;

	if (id == NULL && wanted->path == NULL)
	{
		read_all(listing, APIKEY_REL_PROJECT_PKEY);
		return;
	}
	if (id == NULL)
		id = apikey_viewer_find_project(&listing->viewer, wanted->path);
	if (id != NULL)
		read_id(listing, id);
}

/*
 * _apikey_projects(id uuid, path text) returns a set of rows of
 *		apikey_projects; with an argument no more than that one.
 */
PG_FUNCTION_INFO_V1(_apikey_projects);
Datum
_apikey_projects(PG_FUNCTION_ARGS)
{
	ApikeyListing listing;
	Wanted		wanted = {
		.id = PG_ARGISNULL(0) ? NULL : PG_GETARG_UUID_P(0),
		.path = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1)
	};

	tenants_open(&listing, fcinfo, &apikey_project_table, make_project,
				 &wanted);
	if (listing.viewer.sees_tenants)
		read_all_projects(&listing);
	else
		apikey_viewer_projects(&listing.viewer, wanted.path, list_project,
							   &listing);
	apikey_listing_close(&listing);
	PG_RETURN_NULL();
}

/* The row of a project that has been changed. */
HeapTuple
apikey_list_one_project(const pg_uuid_t *id, TupleDesc desc)
{
	ApikeyListing listing;

	apikey_listing_open_one(&listing, desc);
	listing.table = &apikey_project_table;
	listing.shows = shows;
	listing.makes = make_project;
	read_id(&listing, id);
	apikey_listing_close(&listing);
	return listing.made;
}

/* The name of an organization, as the query's snapshot has it. */
static text *
organization_name(ApikeyListing *listing, const pg_uuid_t *id)
{
	ApikeyRow	row;

	return apikey_table_fetch(&apikey_organization_table, id,
							  listing->viewer.snapshot, &row) ?
		apikey_row_text(&row, APIKEY_ORGANIZATION_NAME) : NULL;
}

/* A row of apikey_members: path, member, subject, role, created_at, created_by. */
static void
make_member(ApikeyListing *listing, ApikeyRow *row, Datum *values, bool *nulls)
{
	text	   *path = NULL;

	if (!row->nulls[APIKEY_MEMBER_PROJECT])
		path = apikey_viewer_project(&listing->viewer,
									 DatumGetUUIDP(row->values[APIKEY_MEMBER_PROJECT]))->path;
	if (path == NULL)
		path = organization_name(listing,
								 DatumGetUUIDP(row->values[APIKEY_MEMBER_ORGANIZATION]));
	values[0] = PointerGetDatum(path);
	nulls[0] = path == NULL;
	set_column(row, APIKEY_MEMBER_MEMBER, values, nulls, 1);
	set_column(row, APIKEY_MEMBER_SUBJECT, values, nulls, 2);
	set_column(row, APIKEY_MEMBER_ROLE, values, nulls, 3);
	set_column(row, APIKEY_MEMBER_CREATED_AT, values, nulls, 4);
	set_column(row, APIKEY_MEMBER_CREATED_BY, values, nulls, 5);
}

/* Reads the members of an organization itself, or of one of its projects. */
static void
read_members(ApikeyListing *listing, const pg_uuid_t *organization,
			 const pg_uuid_t *project)
{
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_MEMBER_WHO);
	apikey_range_uuid(&range, APIKEY_MEMBER_ORGANIZATION, organization);
	apikey_range_uuid(&range, APIKEY_MEMBER_PROJECT, project);
	apikey_listing_read(listing, &range);
}

static void
list_organization_members(ApikeyViewedOrganization *organization, void *state)
{
	read_members(state, &organization->id, NULL);
}

static void
list_project_members(ApikeyViewedProject *project, void *state)
{
	read_members(state, &project->organization, &project->id);
}

/* Is it a member still, and not removed beside its row? */
static bool
shows_member(ApikeyListing *listing, const ApikeyRow *row)
{
	const bool *removals = listing->state;

	return !*removals ||
		!apikey_revocation_member_removed(apikey_row_id(row), listing->viewer.snapshot);
}

/*
 * _apikey_members() returns a set of rows of apikey_members
 */
PG_FUNCTION_INFO_V1(_apikey_members);
Datum
_apikey_members(PG_FUNCTION_ARGS)
{
	ApikeyListing listing;
	bool		removals;

	tenants_open(&listing, fcinfo, &apikey_member_table, make_member, &removals);
	removals = apikey_revocation_any_in(listing.viewer.snapshot);
	listing.shows = shows_member;
	if (listing.viewer.sees_tenants)
		read_all(&listing, APIKEY_REL_MEMBER_WHO);
	else
	{
		apikey_viewer_organizations(&listing.viewer,
									list_organization_members, &listing);
		apikey_viewer_projects(&listing.viewer, NULL, list_project_members,
							   &listing);
	}
	apikey_listing_close(&listing);
	PG_RETURN_NULL();
}
