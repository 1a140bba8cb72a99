/*
 * sql_list_events.c
 *		The rows of the view apikey_events.
 *
 * They are found in this order: the events of organizations and projects that
 * the caller owns, each by itself; then those of its own keys, but for these.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "sql/listing.h"

/* The arguments: what the query has said that it wants; see handdown.c. */
enum
{
	ARG_ID,
	ARG_KEY_ID,
	ARG_KEY_SUBJECT,
	ARG_PROJECT,
	ARG_SINCE,
	ARG_BEFORE,
	ARG_MOST,
	ARG_SKIP
};

/* The columns of the view, but for the one that is converted. */
static const int listed[] = {
	EVENT_ID, EVENT_AT, EVENT_EVENT, EVENT_KEY_ID, EVENT_KEY_NAME, EVENT_PLACE,
	EVENT_ACTOR, EVENT_ACTOR_SUBJECT, EVENT_CLIENT_ADDR, EVENT_DETAIL,
	EVENT_KEY_SUBJECT
};

/* What the query wants of the events. */
typedef struct Wanted
{
	bool		has_id;
	int64		id;
	const pg_uuid_t *key_id;
	const text *subject;
	const text *tenant;
	bool		has_since;
	bool		has_before;
	int64		since;
	int64		before;
} Wanted;

static void
read_wanted(FunctionCallInfo fcinfo, Wanted *wanted)
{
	memset(wanted, 0, sizeof(*wanted));
	wanted->has_id = !PG_ARGISNULL(ARG_ID);
	if (wanted->has_id)
		wanted->id = PG_GETARG_INT64(ARG_ID);
	if (!PG_ARGISNULL(ARG_KEY_ID))
		wanted->key_id = PG_GETARG_UUID_P(ARG_KEY_ID);
	if (!PG_ARGISNULL(ARG_KEY_SUBJECT))
		wanted->subject = PG_GETARG_TEXT_PP(ARG_KEY_SUBJECT);
	if (!PG_ARGISNULL(ARG_PROJECT))
		wanted->tenant = PG_GETARG_TEXT_PP(ARG_PROJECT);
	wanted->has_since = !PG_ARGISNULL(ARG_SINCE);
	if (wanted->has_since)
		wanted->since = PG_GETARG_INT64(ARG_SINCE);
	wanted->has_before = !PG_ARGISNULL(ARG_BEFORE);
	if (wanted->has_before)
		wanted->before = PG_GETARG_INT64(ARG_BEFORE);
}

/* Is an event one of those that the query wants? */
static bool
is_wanted(const Wanted *wanted, const ApikeyRow *event)
{
	int64		id = DatumGetInt64(event->values[EVENT_ID]);
	const pg_uuid_t *key_id = apikey_row_uuid(event, EVENT_KEY_ID);

	if ((wanted->has_id && id != wanted->id) ||
		(wanted->has_since && id < wanted->since) ||
		(wanted->has_before && id >= wanted->before))
		return false;
	if (wanted->key_id != NULL &&
		(key_id == NULL || memcmp(key_id, wanted->key_id, UUID_LEN) != 0))
		return false;
	return (wanted->subject == NULL ||
			apikey_same_text(wanted->subject,
							 apikey_row_text(event, EVENT_KEY_SUBJECT))) &&
		(wanted->tenant == NULL ||
		 apikey_same_text(wanted->tenant, apikey_row_text(event,
														  EVENT_PLACE)));
}

/* May the caller see an event: is it about a key of its own, or a tenant? */
static bool
visible(ApikeyListing *listing, const ApikeyRow *event)
{
	return listing->viewer.sees_all ||
		apikey_event_own(event) ||
		apikey_viewer_owns(&listing->viewer,
						   apikey_row_uuid(event, EVENT_ORGANIZATION),
						   apikey_row_uuid(event, EVENT_PROJECT));
}

static bool
shows(ApikeyListing *listing, const ApikeyRow *event)
{
	return is_wanted(listing->state, event) && visible(listing, event);
}

/* Has an event been listed with its organization or project? */
static bool
listed_with_tenant(ApikeyListing *listing, const ApikeyRow *event)
{
	return apikey_viewer_listed(&listing->viewer,
								apikey_row_uuid(event, EVENT_ORGANIZATION),
								apikey_row_uuid(event, EVENT_PROJECT));
}

/* Is it an event that says whose key it was, and that is still to be listed? */
static bool
shows_own(ApikeyListing *listing, const ApikeyRow *event)
{
	return !event->nulls[EVENT_KEY_OWNER_NAME] &&
		!listed_with_tenant(listing, event) && shows(listing, event);
}

/* The same of one that does not. */
static bool
shows_unnamed(ApikeyListing *listing, const ApikeyRow *event)
{
	return !listed_with_tenant(listing, event) && shows(listing, event);
}

/* The events of a project that is listed by itself, and no other of its path. */
static bool
shows_of_project(ApikeyListing *listing, const ApikeyRow *event)
{
	const pg_uuid_t *project = apikey_row_uuid(event, EVENT_PROJECT);

	return project != NULL &&
		apikey_viewer_project(&listing->viewer, project)->listed &&
		shows(listing, event);
}

/* Reads a range, between the ids that are wanted. */
static void
read_range(ApikeyListing *listing, ApikeyRange *range, ApikeyShows show)
{
	const Wanted *wanted = listing->state;

	if (wanted->has_since)
		apikey_range_key(range, EVENT_ID, BTGreaterEqualStrategyNumber,
						 F_INT8GE, Int64GetDatum(wanted->since));
	if (wanted->has_before)
		apikey_range_key(range, EVENT_ID, BTLessStrategyNumber, F_INT8LT,
						 Int64GetDatum(wanted->before));
	listing->shows = show;
	apikey_listing_read(listing, range);
}

/* Reads the events of a tenant in an organization. */
static void
read_tenant(ApikeyListing *listing, const pg_uuid_t *organization,
			const text *tenant, ApikeyShows show)
{
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_EVENT_PLACE);
	apikey_range_uuid(&range, EVENT_ORGANIZATION, organization);
	apikey_range_text(&range, EVENT_PLACE, tenant);
	read_range(listing, &range, show);
}

/* Reads the events of an organization and of all that is and was in it. */
static void
read_organization(ApikeyListing *listing, const pg_uuid_t *organization)
{
	const Wanted *wanted = listing->state;
	ApikeyRange range;

	if (wanted->tenant != NULL)
	{
		read_tenant(listing, organization, wanted->tenant, shows);
		return;
	}
	apikey_range_start(&range, wanted->subject == NULL ?
					   APIKEY_REL_EVENT_ORGANIZATION :
					   APIKEY_REL_EVENT_ORGANIZATION_SUBJECT);
	apikey_range_uuid(&range, EVENT_ORGANIZATION, organization);
	if (wanted->subject != NULL)
		apikey_range_text(&range, EVENT_KEY_SUBJECT, wanted->subject);
	read_range(listing, &range, shows);
}

/* Reads those of an organization that the caller owns, or of a project. */
static void
read_owned(const pg_uuid_t *organization, const ApikeyViewedProject *project,
		   void *state)
{
	ApikeyListing *listing = state;
	const Wanted *wanted = listing->state;

	if (project == NULL)
		read_organization(listing, organization);
	else if (wanted->tenant == NULL ||
			 apikey_same_text(wanted->tenant, project->path))
		read_tenant(listing, organization, project->path, shows_of_project);
}

/* Reads the events of keys whose owner was a role, or has its number. */
static void
read_owner(ApikeyListing *listing, Oid role, ApikeyShows show)
{
	const ApikeyViewer *viewer = &listing->viewer;
	const Wanted *wanted = listing->state;
	bool		own_subject = viewer->by_subject && !viewer->sees_all;
	bool		of_subject = own_subject || wanted->subject != NULL;
	ApikeyRange range;

	apikey_range_start(&range, of_subject ? APIKEY_REL_EVENT_OWNER_SUBJECT :
					   wanted->tenant != NULL ? APIKEY_REL_EVENT_OWNER_PLACE :
					   APIKEY_REL_EVENT_OWNER);
	apikey_range_key(&range, EVENT_KEY_OWNER, BTEqualStrategyNumber, F_OIDEQ,
					 ObjectIdGetDatum(role));
	if (of_subject)
		apikey_range_text(&range, EVENT_KEY_SUBJECT,
						  own_subject ? viewer->subject : wanted->subject);
	else if (wanted->tenant != NULL)
		apikey_range_text(&range, EVENT_PLACE, wanted->tenant);
	read_range(listing, &range, show);
}

/* Reads the events of a key of the caller's that do not say whose it was. */
static bool
read_unnamed_of(const ApikeyRow *key, void *state)
{
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_EVENT_UNNAMED);
	apikey_range_uuid(&range, EVENT_KEY_ID, apikey_row_id(key));
	read_range(state, &range, shows_unnamed);
	return true;
}

/*
 * Reads the events from a dump of 0.1.0, which do not say whose key it was:
 * see apikey_event_owned.  Where there are any, each key of the caller's is
 * looked up.
 */
static void
read_unnamed(ApikeyListing *listing)
{
	ApikeyRange range;
	ApikeyRow	row;
	ApikeyTurns turns;
	ListCell   *cell;
	Snapshot	snapshot;

	apikey_range_start(&range, APIKEY_REL_EVENT_UNNAMED);
	if (!apikey_listing_first(listing, &range, &row))
		return;
	snapshot = apikey_latest_snapshot();
	apikey_turns_begin(&turns, read_unnamed_of, listing);
	foreach(cell, listing->viewer.roles)
	{
		/* For its keys and numbers alone. */
		apikey_range_start(&range, APIKEY_REL_KEY_OWNER_SUBJECT);
		apikey_range_key(&range, APIKEY_KEY_OWNER, BTEqualStrategyNumber,
						 F_OIDEQ, ObjectIdGetDatum(lfirst_oid(cell)));
		if (listing->viewer.by_subject)
			apikey_range_text(&range, APIKEY_KEY_SUBJECT,
							  listing->viewer.subject);
		apikey_table_walk(&apikey_key_table, range.index, range.keys,
						  range.count, snapshot, apikey_turns_visit, &turns);
	}
	apikey_turns_end(&turns);
	UnregisterSnapshot(snapshot);
}

/*
 * Reads the events of a key, if the newest may be seen: then the caller may
 * know of it.  Otherwise false: of another's key, no more is read than that.
 */
static bool
read_key(ApikeyListing *listing, const pg_uuid_t *id)
{
	ApikeyRange range;
	ApikeyRow	newest;

	apikey_range_start(&range, APIKEY_REL_EVENT_KEY);
	apikey_range_uuid(&range, EVENT_KEY_ID, id);
	if (!apikey_listing_first(listing, &range, &newest) ||
		!visible(listing, &newest))
		return false;
	apikey_range_start(&range, APIKEY_REL_EVENT_KEY);
	apikey_range_uuid(&range, EVENT_KEY_ID, id);
	read_range(listing, &range, shows);
	return true;
}

static void
read_id(ApikeyListing *listing, int64 id)
{
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_EVENT_PKEY);
	apikey_range_key(&range, EVENT_ID, BTEqualStrategyNumber, F_INT8EQ,
					 Int64GetDatum(id));
	listing->shows = shows;
	apikey_listing_read(listing, &range);
}

/* Reads what may be wanted for who sees all events. */
static void
read_all(ApikeyListing *listing)
{
	const Wanted *wanted = listing->state;
	ApikeyRange range;
	Datum	   *values;
	int			count;

	if (wanted->tenant != NULL)
	{
		values = apikey_listing_distinct(listing, APIKEY_REL_EVENT_ORGANIZATION,
										 EVENT_ORGANIZATION, F_UUID_LT, &count);
		for (int i = 0; i < count; i++)
			read_tenant(listing, DatumGetUUIDP(values[i]), wanted->tenant,
						shows);
	}
	else if (wanted->subject != NULL)
	{
		values = apikey_listing_distinct(listing, APIKEY_REL_EVENT_OWNER,
										 EVENT_KEY_OWNER, F_OIDLT, &count);
		for (int i = 0; i < count; i++)
			read_owner(listing, DatumGetObjectId(values[i]), shows);
	}
	else
	{
		apikey_range_start(&range, APIKEY_REL_EVENT_PKEY);
		read_range(listing, &range, shows);
	}
}

/* The same for everybody else. */
static void
read_visible(ApikeyListing *listing)
{
	const Wanted *wanted = listing->state;
	ApikeyViewer *viewer = &listing->viewer;
	ListCell   *cell;

	apikey_viewer_owned(viewer, read_owned, listing);
	foreach(cell, viewer->roles)
	{
		if (!viewer->by_subject || wanted->subject == NULL ||
			apikey_same_text(viewer->subject, wanted->subject))
			read_owner(listing, lfirst_oid(cell), shows_own);
	}
	read_unnamed(listing);
}

static void
makes(ApikeyListing *listing pg_attribute_unused(), ApikeyRow *event,
	  Datum *values, bool *nulls)
{
	for (size_t i = 0; i < lengthof(listed); i++)
	{
		values[i] = event->values[listed[i]];
		nulls[i] = event->nulls[listed[i]];
		if (listed[i] == EVENT_ACTOR)
		{
			Name		actor = palloc0(sizeof(NameData));

			namestrcpy(actor, TextDatumGetCString(event->values[EVENT_ACTOR]));
			values[i] = NameGetDatum(actor);
		}
	}
}

/*
 * _apikey_events(id bigint, key_id uuid, key_subject text, project text,
 *				  since bigint, before bigint, most bigint, skip bigint)
 *		returns a set of rows of the view apikey_events
 *		The events that the caller may see and, of these, that the query wants.
 */
PG_FUNCTION_INFO_V1(_apikey_events);
Datum
_apikey_events(PG_FUNCTION_ARGS)
{
	ApikeyListing listing;
	Wanted		wanted;

	read_wanted(fcinfo, &wanted);
	apikey_listing_open(&listing, fcinfo);
	listing.table = &apikey_event_table;
	listing.major = EVENT_ID;
	listing.makes = makes;
	listing.state = &wanted;
	/* Of an event that does not say whose key it was: see apikey_event_owned. */
	apikey_table_keep(&apikey_key_table, APIKEY_REL_KEY_PKEY);
	apikey_table_keep_long(&apikey_key_table);
	apikey_table_keep_long(listing.table);	/* see read_key */
	if (!PG_ARGISNULL(ARG_MOST))
		apikey_listing_bound(&listing, PG_GETARG_INT64(ARG_MOST),
							 PG_ARGISNULL(ARG_SKIP) ? 0 : PG_GETARG_INT64(ARG_SKIP));
	if (listing.viewer.sees_nothing)
		 /* no rows */ ;
	else if (wanted.has_id)
		read_id(&listing, wanted.id);
	else if (wanted.key_id != NULL && read_key(&listing, wanted.key_id))
		 /* that was all */ ;
	else if (listing.viewer.sees_all)
		read_all(&listing);
	else
		read_visible(&listing);
	apikey_listing_close(&listing);
	PG_RETURN_NULL();
}
