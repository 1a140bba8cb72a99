/*
 * sql_list_history.c
 *		The rows of the view apikey_usage_history.
 *
 * They are shown to whom the key's events are: found are those of the
 * organizations and projects that the caller owns, and then, of the others,
 * those of its own keys.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "store/store.h"
#include "events/events.h"
#include "access/access.h"
#include "usage/usage.h"
#include "sql/listing.h"

/* The columns of the view, in their order there. */
static const int listed[] = {
	HISTORY_KEY_ID, HISTORY_KEY_NAME, HISTORY_PLACE, HISTORY_KEY_SUBJECT,
	HISTORY_STARTS_AT, HISTORY_STEP, HISTORY_USE_COUNT, HISTORY_DENIED,
	HISTORY_SPENT
};

/* May the caller see the events of the key of a row? */
static bool
shows(ApikeyListing *listing, const ApikeyRow *row)
{
	return listing->viewer.sees_all ||
		apikey_event_owned(DatumGetObjectId(row->values[HISTORY_KEY_OWNER]),
						   apikey_row_text(row, HISTORY_KEY_OWNER_NAME),
						   apikey_row_text(row, HISTORY_KEY_SUBJECT),
						   apikey_row_uuid(row, HISTORY_KEY_ID)) ||
		apikey_viewer_owns(&listing->viewer,
						   apikey_row_uuid(row, HISTORY_ORGANIZATION),
						   apikey_row_uuid(row, HISTORY_PROJECT));
}

/* The same of one that was not listed with its organization or project. */
static bool
shows_own(ApikeyListing *listing, const ApikeyRow *row)
{
	return !apikey_viewer_listed(&listing->viewer,
								 apikey_row_uuid(row, HISTORY_ORGANIZATION),
								 apikey_row_uuid(row, HISTORY_PROJECT)) &&
		shows(listing, row);
}

/* Reads the rows of an organization, or of one of its projects. */
static void
read_tenant(const pg_uuid_t *organization, const ApikeyViewedProject *project,
			void *state)
{
	ApikeyListing *listing = state;
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_HISTORY_PLACE);
	apikey_range_uuid(&range, HISTORY_ORGANIZATION, organization);
	if (project != NULL)
		apikey_range_uuid(&range, HISTORY_PROJECT, &project->id);
	listing->shows = shows;
	apikey_listing_read(listing, &range);
}

static void
read_owner(ApikeyListing *listing, Oid role)
{
	ApikeyRange range;

	apikey_range_start(&range, APIKEY_REL_HISTORY_OWNER);
	apikey_range_key(&range, HISTORY_KEY_OWNER, BTEqualStrategyNumber, F_OIDEQ,
					 ObjectIdGetDatum(role));
	listing->shows = shows_own;
	apikey_listing_read(listing, &range);
}

static void
makes(ApikeyListing *listing pg_attribute_unused(), ApikeyRow *row,
	  Datum *values, bool *nulls)
{
	for (size_t i = 0; i < lengthof(listed); i++)
	{
		values[i] = row->values[listed[i]];
		nulls[i] = row->nulls[listed[i]];
	}
}

/*
 * _apikey_usage_history() returns a set of rows of apikey_usage_history
 */
PG_FUNCTION_INFO_V1(_apikey_usage_history);
Datum
_apikey_usage_history(PG_FUNCTION_ARGS)
{
	ApikeyListing listing;
	ApikeyRange range;
	ListCell   *cell;

	apikey_listing_open(&listing, fcinfo);
	listing.table = &apikey_history_table;
	listing.major = HISTORY_STARTS_AT;
	listing.shows = shows;
	listing.makes = makes;
	if (listing.viewer.sees_nothing)
		 /* no rows */ ;
	else if (listing.viewer.sees_all)
	{
		apikey_range_start(&range, APIKEY_REL_HISTORY_PKEY);
		apikey_listing_read(&listing, &range);
	}
	else
	{
		apikey_viewer_owned(&listing.viewer, read_tenant, &listing);
		foreach(cell, listing.viewer.roles)
			read_owner(&listing, lfirst_oid(cell));
	}
	apikey_listing_close(&listing);
	PG_RETURN_NULL();
}
