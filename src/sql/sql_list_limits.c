/*
 * sql_list_limits.c
 *		The rows of the view apikey_limits.
 *
 * They are found by their holders: the organizations and projects in which the
 * caller is something, the keys that it sees, and its own personal keys'
 * subjects.  Of a subject in a tenant they are shown to that subject and to
 * whoever may see all keys there.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/access.h"
#include "limits/limits.h"
#include "sql/listing.h"

/* The columns of the view. */
enum
{
	LIST_ID,
	LIST_KEY_ID,
	LIST_PATH,
	LIST_ROLE_NAME,
	LIST_SUBJECT,
	LIST_UNIT,
	LIST_KIND,
	LIST_AMOUNT,
	LIST_PERIOD,
	LIST_SHARED,
	LIST_OVERDRAFT,
	LIST_REMAINING,
	LIST_RESETS_AT,
	LIST_CREATED_AT,
	LIST_CREATED_BY
};

static const struct
{
	int			listed;
	ApikeyLimitColumn stored;
}			plain[] = {
	{LIST_ID, APIKEY_LIMIT_ID},
	{LIST_KEY_ID, APIKEY_LIMIT_KEY},
	{LIST_SUBJECT, APIKEY_LIMIT_SUBJECT},
	{LIST_UNIT, APIKEY_LIMIT_UNIT},
	{LIST_KIND, APIKEY_LIMIT_KIND},
	{LIST_AMOUNT, APIKEY_LIMIT_AMOUNT},
	{LIST_PERIOD, APIKEY_LIMIT_PERIOD},
	{LIST_SHARED, APIKEY_LIMIT_SHARED},
	{LIST_OVERDRAFT, APIKEY_LIMIT_OVERDRAFT},
	{LIST_CREATED_AT, APIKEY_LIMIT_CREATED_AT}
};

/* Does the caller see a limit where it is something? */
static bool
shows(ApikeyListing *listing, const ApikeyRow *limit)
{
	ApikeyViewer *viewer = &listing->viewer;
	ApikeyLimitHolder holder;

	if (viewer->sees_all)
		return true;
	apikey_limit_holder(limit, &holder);
	if (holder.subject == NULL ||
		(viewer->by_subject && apikey_same_text(viewer->subject, holder.subject)))
		return true;
	if (holder.organization == NULL)
		return !viewer->by_subject || viewer->subject == NULL;
	if (holder.project != NULL)
		return apikey_authority_lists(&apikey_viewer_project(viewer, holder.project)->authority);
	return apikey_viewer_organization(viewer,
									  holder.organization)->member_role >=
		APIKEY_ROLE_ADMIN;
}

/* Reads the limits that are a key's. */
static void
read_key(ApikeyListing *listing, const pg_uuid_t *id)
{
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_LIMIT_HOLDER);
	apikey_range_uuid(&range, APIKEY_LIMIT_KEY, id);
	apikey_listing_read(listing, &range);
}

/* Reads those of a tenant, with its subjects. */
static void
read_tenant(ApikeyListing *listing, const pg_uuid_t *organization,
			const pg_uuid_t *project)
{
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_LIMIT_HOLDER);
	apikey_range_uuid(&range, APIKEY_LIMIT_KEY, NULL);
	apikey_range_uuid(&range, APIKEY_LIMIT_ORGANIZATION, organization);
	apikey_range_uuid(&range, APIKEY_LIMIT_PROJECT, project);
	apikey_listing_read(listing, &range);
}

/* Reads those of a role's subjects. */
static void
read_role(ApikeyListing *listing, Oid role)
{
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_LIMIT_HOLDER);
	apikey_range_uuid(&range, APIKEY_LIMIT_KEY, NULL);
	apikey_range_uuid(&range, APIKEY_LIMIT_ORGANIZATION, NULL);
	apikey_range_uuid(&range, APIKEY_LIMIT_PROJECT, NULL);
	apikey_range_key(&range, APIKEY_LIMIT_OWNER, BTEqualStrategyNumber,
					 F_OIDEQ, ObjectIdGetDatum(role));
	apikey_listing_read(listing, &range);
}

static void
list_organization(ApikeyViewedOrganization *organization, void *state)
{
	read_tenant(state, &organization->id, NULL);
}

static bool
list_key(const ApikeyRow *key, void *state)
{
	ApikeyListing *listing = state;
	ApikeyRow	row = *key;

	if (apikey_viewer_sees_key(&listing->viewer, key) &&
		apikey_revocation_apply_latest(&row))
		read_key(listing, apikey_row_id(key));
	return true;
}

/* Reads the limits of the keys of a range. */
static void
read_keys(ApikeyListing *listing, const ApikeyRange *range, ApikeyVisit visit)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ApikeyTurns turns;

	apikey_turns_begin(&turns, visit, listing);
	apikey_table_walk(&apikey_key_table, range->index, range->keys,
					  range->count, snapshot, apikey_turns_visit, &turns);
	apikey_turns_end(&turns);
	UnregisterSnapshot(snapshot);
}

static void
list_project(ApikeyViewedProject *project, void *state)
{
	ApikeyListing *listing = state;
	ApikeyRange range;

	read_tenant(listing, &project->organization, &project->id);
	project->listed = apikey_authority_lists(&project->authority);
	if (!project->listed)
		return;
	apikey_range_start(&range, APIKEY_REL_KEY_PROJECT);
	apikey_range_uuid(&range, APIKEY_KEY_PROJECT, &project->id);
	read_keys(listing, &range, list_key);
}

/* A key of the caller's that was not listed with its project. */
static bool
list_own_key(const ApikeyRow *key, void *state)
{
	ApikeyListing *listing = state;
	const pg_uuid_t *project = apikey_key_project(key);

	return (project != NULL &&
			apikey_viewer_project(&listing->viewer, project)->listed) ||
		list_key(key, state);
}

/* One that it vouches for is listed once, as its owner's where it is that. */
static bool
list_vouched_key(const ApikeyRow *key, void *state)
{
	return apikey_principal_matches(apikey_key_owner(key),
									apikey_row_text(key, APIKEY_KEY_SUBJECT)) ||
		list_own_key(key, state);
}

/*
 * Reads the limits of the keys of which a role is owner or voucher.  While
 * subjects are in use none of its other subjects' keys is looked at: what that
 * reads beside the table would be counted.
 */
static void
read_own_keys(ApikeyListing *listing, ApikeyRelation index, int role_column,
			  Oid role, int subject_column, ApikeyVisit visit)
{
	ApikeyRange range;

	apikey_range_start(&range, index);
	apikey_range_key(&range, role_column, BTEqualStrategyNumber, F_OIDEQ,
					 ObjectIdGetDatum(role));
	if (listing->viewer.by_subject)
		apikey_range_text(&range, subject_column, listing->viewer.subject);
	read_keys(listing, &range, visit);
}

static void
read_visible(ApikeyListing *listing)
{
	ListCell   *cell;

	apikey_viewer_organizations(&listing->viewer, list_organization, listing);
	apikey_viewer_projects(&listing->viewer, NULL, list_project, listing);
	foreach(cell, listing->viewer.roles)
	{
		Oid			role = lfirst_oid(cell);

		read_role(listing, role);
		read_own_keys(listing, APIKEY_REL_KEY_OWNER_SUBJECT, APIKEY_KEY_OWNER,
					  role, APIKEY_KEY_SUBJECT, list_own_key);
		read_own_keys(listing, APIKEY_REL_KEY_VOUCHED_BY, APIKEY_KEY_VOUCHED_BY,
					  role, APIKEY_KEY_VOUCHED_BY_SUBJECT, list_vouched_key);
	}
}

/* The path of a limit's tenant, as the query's snapshot has it. */
static text *
path_of(ApikeyListing *listing, const ApikeyLimitHolder *holder)
{
	ApikeyRow	row;

	if (holder->project != NULL)
		return apikey_viewer_project(&listing->viewer, holder->project)->path;
	return apikey_table_fetch(&apikey_organization_table, holder->organization,
							  listing->viewer.snapshot, &row) ?
		apikey_row_text(&row, APIKEY_ORGANIZATION_NAME) : NULL;
}

static Datum
name_datum(const text *value)
{
	Name		name = palloc0(sizeof(NameData));

	namestrcpy(name, text_to_cstring(value));
	return NameGetDatum(name);
}

/* Whose it is, and who made it. */
static void
make_holder(ApikeyListing *listing, const ApikeyRow *limit, Datum *values,
			bool *nulls)
{
	ApikeyLimitHolder holder;
	text	   *path = NULL;

	apikey_limit_holder(limit, &holder);
	if (holder.organization != NULL)
		path = path_of(listing, &holder);
	values[LIST_PATH] = PointerGetDatum(path);
	nulls[LIST_PATH] = path == NULL;
	nulls[LIST_ROLE_NAME] = !OidIsValid(holder.owner);
	if (OidIsValid(holder.owner))
		values[LIST_ROLE_NAME] =
			name_datum(apikey_role_name_text(holder.owner,
											 apikey_row_text(limit, APIKEY_LIMIT_OWNER_NAME)));
	values[LIST_CREATED_BY] =
		name_datum(apikey_row_text(limit, APIKEY_LIMIT_CREATED_BY));
	nulls[LIST_CREATED_BY] = false;
}

static void
makes(ApikeyListing *listing, ApikeyRow *limit, Datum *values, bool *nulls)
{
	ApikeyBoundState state;

	for (size_t i = 0; i < lengthof(plain); i++)
	{
		values[plain[i].listed] = limit->values[plain[i].stored];
		nulls[plain[i].listed] = limit->nulls[plain[i].stored];
	}
	make_holder(listing, limit, values, nulls);
	/* What is left now is for who sees the limit now. */
	state.known = false;
	if (listing->viewer.sees_all || !apikey_latest_hidden())
		apikey_bound_look(limit, &state);
	if (state.known)
	{
		values[LIST_REMAINING] = Int64GetDatum(state.remaining);
		nulls[LIST_REMAINING] = false;
		values[LIST_RESETS_AT] = TimestampTzGetDatum(state.resets_at);
		nulls[LIST_RESETS_AT] = state.resets_at == 0;
	}
}

static void
start(ApikeyListing *listing)
{
	listing->table = &apikey_limit_table;
	listing->major = APIKEY_LIMIT_CREATED_AT;
	listing->shows = shows;
	listing->makes = makes;
}

/*
 * _apikey_limits() returns a set of rows of apikey_limits
 *		The limits whose holders the caller sees.
 */
PG_FUNCTION_INFO_V1(_apikey_limits);
Datum
_apikey_limits(PG_FUNCTION_ARGS)
{
	ApikeyListing listing;
	ApikeyRange range;

	apikey_listing_open(&listing, fcinfo);
	start(&listing);
	if (listing.viewer.sees_nothing)
		 /* no rows */ ;
	else if (listing.viewer.sees_all)
	{
		apikey_range_start(&range, APIKEY_REL_LIMIT_PKEY);
		apikey_listing_read(&listing, &range);
	}
	else
		read_visible(&listing);
	apikey_listing_close(&listing);
	PG_RETURN_NULL();
}

/* The row of a limit that has been changed; NULL where the caller does not see it. */
HeapTuple
apikey_list_one_limit(const pg_uuid_t *id, TupleDesc desc)
{
	ApikeyListing listing;
	ApikeyRange range;

	apikey_listing_open_one(&listing, desc);
	start(&listing);
	apikey_range_start(&range, APIKEY_REL_LIMIT_PKEY);
	apikey_range_uuid(&range, APIKEY_LIMIT_ID, id);
	apikey_listing_read(&listing, &range);
	apikey_listing_close(&listing);
	return listing.made;
}
