/*
 * sql_list_keys.c
 *		The rows of the view apikeys.
 *
 * They are found in this order: the projects whose keys the caller may see,
 * each by itself; then the keys that are its own, as owner or as whoever
 * vouches, but for those of these projects.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgroids.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/access.h"
#include "sql/list_key.h"
#include "sql/listing.h"

/* The arguments: what the query has said that it wants; see handdown.c. */
enum
{
	ARG_ID,
	ARG_OWNER,
	ARG_SUBJECT,
	ARG_PROJECT,
	ARG_SINCE,
	ARG_BEFORE,
	ARG_MOST,
	ARG_SKIP,
	ARG_COLUMNS
};

static void
read_wanted(FunctionCallInfo fcinfo, ApikeyListWanted *wanted)
{
	memset(wanted, 0, sizeof(*wanted));
	if (!PG_ARGISNULL(ARG_ID))
		wanted->id = PG_GETARG_UUID_P(ARG_ID);
	if (!PG_ARGISNULL(ARG_OWNER))
		wanted->owner = PG_GETARG_NAME(ARG_OWNER);
	if (!PG_ARGISNULL(ARG_SUBJECT))
		wanted->subject = PG_GETARG_TEXT_PP(ARG_SUBJECT);
	if (!PG_ARGISNULL(ARG_PROJECT))
		wanted->project = PG_GETARG_TEXT_PP(ARG_PROJECT);
	/* See give_no_project() in handdown.c. */
	wanted->personal = wanted->project != NULL &&
		VARSIZE_ANY_EXHDR(wanted->project) == 0;
	if (wanted->personal)
		wanted->project = NULL;
	wanted->has_since = !PG_ARGISNULL(ARG_SINCE);
	if (wanted->has_since)
		wanted->since = PG_GETARG_TIMESTAMPTZ(ARG_SINCE);
	wanted->has_before = !PG_ARGISNULL(ARG_BEFORE);
	if (wanted->has_before)
		wanted->before = PG_GETARG_TIMESTAMPTZ(ARG_BEFORE);
	wanted->columns = PG_ARGISNULL(ARG_COLUMNS) ? ~UINT64CONST(0) :
		(uint64) PG_GETARG_INT64(ARG_COLUMNS);
}

/* The project of a key; NULL for a personal one. */
static ApikeyViewedProject *
project_of(ApikeyListing *listing, const ApikeyRow *key)
{
	const pg_uuid_t *id = apikey_key_project(key);

	return id == NULL ? NULL : apikey_viewer_project(&listing->viewer, id);
}

/* Is a key one of those that the query wants, whoever its owner is? */
static bool
is_wanted(ApikeyListing *listing, const ApikeyRow *key)
{
	const ApikeyListWanted *wanted = listing->state;
	TimestampTz created_at = DatumGetTimestampTz(key->values[APIKEY_KEY_CREATED_AT]);

	if (wanted->subject != NULL &&
		!apikey_same_text(wanted->subject,
						  apikey_row_text(key, APIKEY_KEY_SUBJECT)))
		return false;
	if ((wanted->has_since && created_at < wanted->since) ||
		(wanted->has_before && created_at >= wanted->before))
		return false;
	if (wanted->project != NULL || wanted->personal)
	{
		const ApikeyViewedProject *project = project_of(listing, key);

		if (project == NULL || project->path == NULL)
			return wanted->personal;
		return !wanted->personal &&
			apikey_same_text(wanted->project, project->path);
	}
	return true;
}

/* Is it one of an owner's that the query wants?  That is looked up. */
static bool
is_of_owner(const ApikeyListWanted *wanted, const ApikeyRow *key)
{
	return wanted->owner == NULL ||
		strcmp(NameStr(*wanted->owner), NameStr(*apikey_list_owner_name(key))) == 0;
}

/* Of a key that the caller does not see nothing is looked up. */
static bool
shows(ApikeyListing *listing, const ApikeyRow *key)
{
	const ApikeyListWanted *wanted = listing->state;
	ApikeyRow	row = *key;

	return is_wanted(listing, key) &&
		apikey_viewer_sees_key(&listing->viewer, key) &&
		is_of_owner(wanted, key) &&
		(!wanted->revocations ||
		 apikey_revocation_apply(&row, listing->viewer.snapshot));
}

/* The same for a key that is the caller's own: was it listed with its project? */
static bool
shows_own(ApikeyListing *listing, const ApikeyRow *key)
{
	const ApikeyViewedProject *project = project_of(listing, key);

	return (project == NULL || !project->listed) && shows(listing, key);
}

/* The same for one that is its own by vouching: not as its owner, too. */
static bool
shows_vouched(ApikeyListing *listing, const ApikeyRow *key)
{
	return !apikey_principal_matches(apikey_key_owner(key),
									 apikey_row_text(key, APIKEY_KEY_SUBJECT)) &&
		shows_own(listing, key);
}

/* Bounds a range by the time of creation. */
static void
range_between(const ApikeyListWanted *wanted, ApikeyRange *range)
{
	if (wanted->has_since)
		apikey_range_key(range, APIKEY_KEY_CREATED_AT,
						 BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
						 TimestampTzGetDatum(wanted->since));
	if (wanted->has_before)
		apikey_range_key(range, APIKEY_KEY_CREATED_AT, BTLessStrategyNumber,
						 F_TIMESTAMPTZ_LT,
						 TimestampTzGetDatum(wanted->before));
}

/* Reads the keys of a project. */
static void
read_project(ApikeyListing *listing, const pg_uuid_t *id)
{
	const ApikeyListWanted *wanted = listing->state;
	ApikeyRange range;

	apikey_range_start(&range, wanted->subject == NULL ?
					   APIKEY_REL_KEY_PROJECT : APIKEY_REL_KEY_PROJECT_SUBJECT);
	apikey_range_uuid(&range, APIKEY_KEY_PROJECT, id);
	if (wanted->subject != NULL)
		apikey_range_text(&range, APIKEY_KEY_SUBJECT, wanted->subject);
	range_between(wanted, &range);
	listing->shows = shows;
	apikey_listing_read(listing, &range);
}

/* Reads those of a project where the caller may see all of them. */
static void
read_viewed_project(ApikeyViewedProject *project, void *state)
{
	ApikeyListing *listing = state;
	ApikeyListWanted	   *wanted = listing->state;
	ApikeyRow	row;

	if (!apikey_authority_lists(&project->authority))
		return;
	project->listed = true;
	read_project(listing, &project->id);
	wanted->complete = wanted->project != NULL &&
		apikey_table_fetch(&apikey_project_table, &project->id,
						   listing->viewer.snapshot, &row);
}

/*
 * May keys with this owner's number be wanted?  Of a dropped role there is no
 * name but in its keys; where its number has come again, they are older than
 * those of the role that has it now.
 */
static bool
owner_wanted(ApikeyListing *listing, Oid role)
{
	const ApikeyListWanted *wanted = listing->state;
	const char *name = apikey_role_called(role);
	ApikeyRange range;
	ApikeyRow	oldest;

	if (wanted->owner == NULL || name == NULL ||
		strcmp(NameStr(*wanted->owner), name) == 0)
		return true;
	apikey_range_start(&range, APIKEY_REL_KEY_OWNER);
	apikey_range_key(&range, APIKEY_KEY_OWNER, BTEqualStrategyNumber, F_OIDEQ,
					 ObjectIdGetDatum(role));
	return apikey_listing_last(listing, &range, &oldest) &&
		!apikey_key_owner_stands(&oldest);
}

/* Reads the keys whose owner is a role and, where that counts, the subject. */
static void
read_owner(ApikeyListing *listing, Oid role)
{
	const ApikeyViewer *viewer = &listing->viewer;
	const ApikeyListWanted *wanted = listing->state;
	bool		own_subject = viewer->by_subject && !viewer->sees_all;
	ApikeyRange range;

	apikey_range_start(&range, own_subject || wanted->subject != NULL ?
					   APIKEY_REL_KEY_OWNER_SUBJECT : APIKEY_REL_KEY_OWNER);
	apikey_range_key(&range, APIKEY_KEY_OWNER, BTEqualStrategyNumber, F_OIDEQ,
					 ObjectIdGetDatum(role));
	if (own_subject || wanted->subject != NULL)
		apikey_range_text(&range, APIKEY_KEY_SUBJECT,
						  own_subject ? viewer->subject : wanted->subject);
	range_between(wanted, &range);
	listing->shows = shows_own;
	apikey_listing_read(listing, &range);
}

/* Reads the keys of other owners for which a role vouches. */
static void
read_vouched(ApikeyListing *listing, Oid role)
{
	const ApikeyViewer *viewer = &listing->viewer;
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_KEY_VOUCHED_BY);
	apikey_range_key(&range, APIKEY_KEY_VOUCHED_BY, BTEqualStrategyNumber,
					 F_OIDEQ, ObjectIdGetDatum(role));
	if (viewer->by_subject)
	{
		apikey_range_text(&range, APIKEY_KEY_VOUCHED_BY_SUBJECT,
						  viewer->subject);
		range_between(listing->state, &range);
	}
	range.newest_first = viewer->by_subject;
	listing->shows = shows_vouched;
	apikey_listing_read(listing, &range);
}

/* Reads the key of an id.  Who has an id may as well know that it is one. */
static void
read_id(ApikeyListing *listing, const pg_uuid_t *id)
{
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_KEY_PKEY);
	apikey_range_uuid(&range, APIKEY_KEY_ID, id);
	listing->shows = shows;
	apikey_listing_read(listing, &range);
}

/* Reads what may be wanted for who sees all keys. */
static void
read_all(ApikeyListing *listing)
{
	const ApikeyListWanted *wanted = listing->state;
	ApikeyViewer *viewer = &listing->viewer;
	Datum	   *owners;
	int			count;

	if (wanted->project != NULL)
	{
		const pg_uuid_t *id = apikey_viewer_find_project(viewer, wanted->project);

		if (id != NULL)
			read_project(listing, id);
		return;
	}
	owners = apikey_listing_distinct(listing, APIKEY_REL_KEY_OWNER,
									 APIKEY_KEY_OWNER, F_OIDLT, &count);
	for (int i = 0; i < count; i++)
	{
		if (owner_wanted(listing, DatumGetObjectId(owners[i])))
			read_owner(listing, DatumGetObjectId(owners[i]));
	}
}

/* The same for everybody else. */
static void
read_visible(ApikeyListing *listing)
{
	const ApikeyListWanted *wanted = listing->state;
	ApikeyViewer *viewer = &listing->viewer;
	ListCell   *cell;

	if (!wanted->personal)
		apikey_viewer_projects(viewer, wanted->project, read_viewed_project,
							   listing);
	foreach(cell, wanted->complete ? NIL : viewer->roles)
	{
		if (owner_wanted(listing, lfirst_oid(cell)) &&
			(!viewer->by_subject || wanted->subject == NULL ||
			 apikey_same_text(viewer->subject, wanted->subject)))
			read_owner(listing, lfirst_oid(cell));
		if (!wanted->personal)
			read_vouched(listing, lfirst_oid(cell));
	}
}

/* Makes a row of the view. */
static void
makes(ApikeyListing *listing, ApikeyRow *key, Datum *values, bool *nulls)
{
	apikey_list_key_make(listing, project_of(listing, key), key, values,
						 nulls);
}

static void
start(ApikeyListing *listing, ApikeyListWanted *wanted)
{
	listing->table = &apikey_key_table;
	listing->major = APIKEY_KEY_CREATED_AT;
	listing->minor = APIKEY_KEY_ID;
	listing->makes = makes;
	listing->state = wanted;
	wanted->revocations = apikey_revocation_any_in(listing->viewer.snapshot);
}

/*
 * _apikey_keys(id uuid, owner name, subject text, project text,
 *				since timestamptz, before timestamptz, most bigint, skip bigint,
 *				columns bigint) returns a set of rows of the view apikeys
 *		The keys that the caller may see and, of these, that the query wants.
 */
PG_FUNCTION_INFO_V1(_apikey_keys);
Datum
_apikey_keys(PG_FUNCTION_ARGS)
{
	ApikeyListing listing;
	ApikeyListWanted		wanted;

	read_wanted(fcinfo, &wanted);
	apikey_listing_open(&listing, fcinfo);
	start(&listing, &wanted);
	if (!PG_ARGISNULL(ARG_MOST))
		apikey_listing_bound(&listing, PG_GETARG_INT64(ARG_MOST),
							 PG_ARGISNULL(ARG_SKIP) ? 0 : PG_GETARG_INT64(ARG_SKIP));
	if (listing.viewer.sees_nothing)
		 /* no rows */ ;
	else if (wanted.id != NULL)
		read_id(&listing, wanted.id);
	else if (listing.viewer.sees_all)
		read_all(&listing);
	else
		read_visible(&listing);
	apikey_listing_close(&listing);
	PG_RETURN_NULL();
}

/* The row of a key that has been changed; NULL where the caller does not see it. */
HeapTuple
apikey_list_one_key(const pg_uuid_t *id, TupleDesc desc)
{
	ApikeyListing listing;
	ApikeyListWanted wanted = {.columns = ~UINT64CONST(0)};

	apikey_listing_open_one(&listing, desc);
	start(&listing, &wanted);
	read_id(&listing, id);
	apikey_listing_close(&listing);
	return listing.made;
}
