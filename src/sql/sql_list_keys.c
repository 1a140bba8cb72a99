/*
 * sql_list_keys.c
 *		The rows of the view apikeys.
 *
 * They are found in this order: the projects whose keys the caller may see,
 * each by itself; then the keys that are its own, as owner or as whoever
 * vouches, but for those of these projects.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "credits/credit.h"
#include "sql/listing.h"
#include "usage/usage.h"

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

/* The columns of the view. */
enum
{
	LIST_ID,
	LIST_NAME,
	LIST_MASKED_KEY,
	LIST_DESCRIPTION,
	LIST_STATUS,
	LIST_PROJECT,
	LIST_OWNER,
	LIST_SUBJECT,
	LIST_ROLE,
	LIST_SCOPES,
	LIST_CREATED_AT,
	LIST_STARTS_AT,
	LIST_EXPIRES_AT,
	LIST_LAST_USED_AT,
	LIST_LAST_USED_ADDR,
	LIST_USE_COUNT,
	LIST_DENIED_COUNT,
	LIST_RATE_LIMIT,
	LIST_RATE_WINDOW,
	LIST_CREDITS,
	LIST_CREDITS_REFILL,
	LIST_CREDITS_INTERVAL,
	LIST_ALLOWED_IPS,
	LIST_METADATA,
	LIST_REVOKED_AT,
	LIST_REVOKE_REASON,
	LIST_ROTATED_TO,
	LIST_EFFECTIVE_ROLE,
	LIST_CREATED_BY,
	LIST_CREATED_BY_SUBJECT,
	LIST_UPDATED_AT,
	LIST_REVEALABLE,
	LIST_ACCEPTED_TERMS,
	LIST_VOUCHED_BY,
	LIST_VOUCHED_BY_SUBJECT
};

/* Of the view's columns, those that are columns of the table. */
static const struct
{
	int			listed;
	ApikeyKeyColumn stored;
}			plain[] = {
	{LIST_ID, APIKEY_KEY_ID},
	{LIST_NAME, APIKEY_KEY_NAME},
	{LIST_DESCRIPTION, APIKEY_KEY_DESCRIPTION},
	{LIST_SUBJECT, APIKEY_KEY_SUBJECT},
	{LIST_ROLE, APIKEY_KEY_ROLE},
	{LIST_SCOPES, APIKEY_KEY_SCOPES},
	{LIST_CREATED_AT, APIKEY_KEY_CREATED_AT},
	{LIST_STARTS_AT, APIKEY_KEY_STARTS_AT},
	{LIST_EXPIRES_AT, APIKEY_KEY_EXPIRES_AT},
	{LIST_RATE_LIMIT, APIKEY_KEY_RATE_LIMIT},
	{LIST_RATE_WINDOW, APIKEY_KEY_RATE_WINDOW},
	{LIST_ALLOWED_IPS, APIKEY_KEY_ALLOWED_IPS},
	{LIST_METADATA, APIKEY_KEY_METADATA},
	{LIST_REVOKED_AT, APIKEY_KEY_REVOKED_AT},
	{LIST_REVOKE_REASON, APIKEY_KEY_REVOKE_REASON},
	{LIST_ROTATED_TO, APIKEY_KEY_ROTATED_TO},
	{LIST_ACCEPTED_TERMS, APIKEY_KEY_ACCEPTED_TERMS}
};

/* What the query wants of the keys. */
typedef struct Wanted
{
	const pg_uuid_t *id;
	const NameData *owner;
	const text *subject;
	const text *project;
	bool		has_since;
	bool		has_before;
	TimestampTz since;
	TimestampTz before;
	bool		revocations;	/* that are not in their keys' rows */
	uint64		columns;		/* of the view, by their bits */
	bool		complete;		/* the one project has been listed */
} Wanted;

static void
read_wanted(FunctionCallInfo fcinfo, Wanted *wanted)
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
	wanted->has_since = !PG_ARGISNULL(ARG_SINCE);
	if (wanted->has_since)
		wanted->since = PG_GETARG_TIMESTAMPTZ(ARG_SINCE);
	wanted->has_before = !PG_ARGISNULL(ARG_BEFORE);
	if (wanted->has_before)
		wanted->before = PG_GETARG_TIMESTAMPTZ(ARG_BEFORE);
	wanted->columns = PG_ARGISNULL(ARG_COLUMNS) ? ~UINT64CONST(0) :
		(uint64) PG_GETARG_INT64(ARG_COLUMNS);
}

static bool
wants(const Wanted *wanted, int column)
{
	return (wanted->columns >> column & 1) != 0;
}

/* The name of a role, or the one last known. */
static Name
role_name(Oid role, const text *last_known)
{
	Name		name = palloc0(sizeof(NameData));

	namestrcpy(name, text_to_cstring(apikey_role_name_text(role, last_known)));
	return name;
}

static Name
owner_name(const ApikeyRow *key)
{
	return role_name(apikey_key_owner(key),
					 apikey_row_text(key, APIKEY_KEY_OWNER_NAME));
}

/* The project of a key; NULL for a personal one. */
static ApikeyViewedProject *
project_of(ApikeyListing *listing, const ApikeyRow *key)
{
	const pg_uuid_t *id = apikey_key_project(key);

	return id == NULL ? NULL : apikey_viewer_project(&listing->viewer, id);
}

/* Is a key one of those that the query wants? */
static bool
is_wanted(ApikeyListing *listing, const ApikeyRow *key)
{
	const Wanted *wanted = listing->state;
	TimestampTz created_at = DatumGetTimestampTz(key->values[APIKEY_KEY_CREATED_AT]);

	if (wanted->subject != NULL &&
		!apikey_same_text(wanted->subject,
						  apikey_row_text(key, APIKEY_KEY_SUBJECT)))
		return false;
	if ((wanted->has_since && created_at < wanted->since) ||
		(wanted->has_before && created_at >= wanted->before))
		return false;
	if (wanted->owner != NULL &&
		strcmp(NameStr(*wanted->owner), NameStr(*owner_name(key))) != 0)
		return false;
	if (wanted->project != NULL)
	{
		ApikeyViewedProject *project = project_of(listing, key);

		return project != NULL &&
			apikey_same_text(wanted->project, project->path);
	}
	return true;
}

static bool
shows(ApikeyListing *listing, const ApikeyRow *key)
{
	return is_wanted(listing, key) &&
		apikey_viewer_sees_key(&listing->viewer, key);
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
range_between(const Wanted *wanted, ApikeyRange *range)
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
	const Wanted *wanted = listing->state;
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
	Wanted	   *wanted = listing->state;
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
	const Wanted *wanted = listing->state;
	const char *name = GetUserNameFromId(role, true);
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
	const Wanted *wanted = listing->state;
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
	const Wanted *wanted = listing->state;
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
	const Wanted *wanted = listing->state;
	ApikeyViewer *viewer = &listing->viewer;
	ListCell   *cell;

	apikey_viewer_projects(viewer, wanted->project, read_viewed_project,
						   listing);
	foreach(cell, wanted->complete ? NIL : viewer->roles)
	{
		if (owner_wanted(listing, lfirst_oid(cell)) &&
			(!viewer->by_subject || wanted->subject == NULL ||
			 apikey_same_text(viewer->subject, wanted->subject)))
			read_owner(listing, lfirst_oid(cell));
		read_vouched(listing, lfirst_oid(cell));
	}
}

/* prefix_...last, of an imported key once it has been used. */
static Datum
masked_key(ApikeyListing *listing, const ApikeyRow *key)
{
	char	   *prefix = text_to_cstring(apikey_row_text(key, APIKEY_KEY_PREFIX));
	text	   *last_four = apikey_row_text(key, APIKEY_KEY_LAST_FOUR);

	if (VARSIZE_ANY_EXHDR(last_four) == 0)
		last_four = apikey_import_last_four(apikey_row_id(key),
											listing->viewer.snapshot);
	return CStringGetTextDatum(psprintf("%s_...%s", prefix,
										last_four == NULL ? "" :
										text_to_cstring(last_four)));
}

/* The later of two times, either of which may be 0, which is none. */
static void
set_latest(Datum *values, bool *nulls, int column, TimestampTz one,
		   TimestampTz two)
{
	nulls[column] = one == 0 && two == 0;
	values[column] = TimestampTzGetDatum(one == 0 ? two : two == 0 ? one :
										 Max(one, two));
}

/* The use of a key: the table's, and what this server has not written yet. */
static void
make_use(ApikeyListing *listing, const ApikeyRow *key, Datum *values,
		 bool *nulls)
{
	ApikeyUse	use;
	ApikeyRow	stored;
	bool		found = apikey_table_fetch(&apikey_use_table,
										   apikey_row_id(key),
										   listing->viewer.snapshot, &stored);
	int64		flush;

	if (!found)
	{
		apikey_row_clear(&stored);
		stored.values[APIKEY_USE_USE_COUNT] = Int64GetDatum(0);
		stored.values[APIKEY_USE_DENIED_COUNT] = Int64GetDatum(0);
	}
	flush = stored.nulls[APIKEY_USE_FLUSH] ? 0 :
		DatumGetInt64(stored.values[APIKEY_USE_FLUSH]);
	if (!apikey_usage_pending(apikey_row_id(key), flush, &use))
		memset(&use, 0, sizeof(use));
	values[LIST_USE_COUNT] =
		Int64GetDatum(DatumGetInt64(stored.values[APIKEY_USE_USE_COUNT]) +
					  (int64) use.uses);
	values[LIST_DENIED_COUNT] =
		Int64GetDatum(DatumGetInt64(stored.values[APIKEY_USE_DENIED_COUNT]) +
					  (int64) use.denials);
	nulls[LIST_USE_COUNT] = nulls[LIST_DENIED_COUNT] = false;
	set_latest(values, nulls, LIST_LAST_USED_AT, use.last_used_at,
			   stored.nulls[APIKEY_USE_LAST_USED_AT] ? 0 :
			   DatumGetTimestampTz(stored.values[APIKEY_USE_LAST_USED_AT]));
	values[LIST_LAST_USED_ADDR] = stored.values[APIKEY_USE_LAST_USED_ADDR];
	nulls[LIST_LAST_USED_ADDR] = stored.nulls[APIKEY_USE_LAST_USED_ADDR];
	if (use.has_addr)
	{
		values[LIST_LAST_USED_ADDR] = InetPGetDatum(apikey_usage_inet(&use.addr));
		nulls[LIST_LAST_USED_ADDR] = false;
	}
}

static void
make_credits(ApikeyRow *key, Datum *values, bool *nulls)
{
	if (apikey_key_account(key) == NULL ||
		!apikey_account_fetch(apikey_key_account(key), key))
		return;
	for (int i = 0; i < 3; i++)
	{
		values[LIST_CREDITS + i] = key->values[APIKEY_KEY_CREDITS + i];
		nulls[LIST_CREDITS + i] = key->nulls[APIKEY_KEY_CREDITS + i];
	}
}

/* What the key is now, by the clock of the statement. */
static void
make_status(const ApikeyViewedProject *project, const ApikeyRow *key,
			Datum *values, bool *nulls)
{
	ApikeyKeyState state;
	ApikeyStatus status;

	apikey_status_read(key, project != NULL && project->exists ?
					   &project->place : NULL, &state);
	status = apikey_status_at(key, &state, GetCurrentStatementStartTimestamp());
	values[LIST_STATUS] = CStringGetTextDatum(apikey_status_name(status));
	nulls[LIST_STATUS] = false;
	nulls[LIST_EFFECTIVE_ROLE] = state.role == APIKEY_ROLE_NONE;
	if (state.role != APIKEY_ROLE_NONE)
		values[LIST_EFFECTIVE_ROLE] = apikey_role_datum(state.role);
}

static void
set_text(Datum *values, bool *nulls, int column, const text *value)
{
	values[column] = PointerGetDatum(value);
	nulls[column] = value == NULL;
}

static void
set_name(Datum *values, bool *nulls, int column, Name value)
{
	values[column] = NameGetDatum(value);
	nulls[column] = false;
}

/* Whose it is, who made it, and who vouches: see the rows' comments. */
static void
make_principals(const ApikeyRow *key, Datum *values, bool *nulls)
{
	bool		created = !key->nulls[APIKEY_KEY_CREATED_BY];
	const text *subject;

	set_name(values, nulls, LIST_OWNER, owner_name(key));
	set_name(values, nulls, LIST_CREATED_BY, !created ? owner_name(key) :
			 role_name(InvalidOid, apikey_row_text(key, APIKEY_KEY_CREATED_BY)));
	set_text(values, nulls, LIST_CREATED_BY_SUBJECT,
			 apikey_row_text(key, created ? APIKEY_KEY_CREATED_BY_SUBJECT :
							 APIKEY_KEY_SUBJECT));
	if (apikey_key_project(key) == NULL)
		return;
	set_name(values, nulls, LIST_VOUCHED_BY,
			 role_name(apikey_status_voucher(key, &subject),
					   apikey_status_voucher_name(key)));
	set_text(values, nulls, LIST_VOUCHED_BY_SUBJECT, subject);
}

/* Makes a row of the view; what costs a reading only where it is wanted. */
static void
makes(ApikeyListing *listing, ApikeyRow *key, Datum *values, bool *nulls)
{
	const Wanted *wanted = listing->state;
	const ApikeyViewedProject *project = project_of(listing, key);

	if (wanted->revocations)
		apikey_revocation_apply(key, listing->viewer.snapshot);
	for (size_t i = 0; i < lengthof(plain); i++)
	{
		values[plain[i].listed] = key->values[plain[i].stored];
		nulls[plain[i].listed] = key->nulls[plain[i].stored];
	}
	make_principals(key, values, nulls);
	set_text(values, nulls, LIST_PROJECT, project == NULL ? NULL : project->path);
	values[LIST_UPDATED_AT] = key->values[key->nulls[APIKEY_KEY_UPDATED_AT] ?
										  APIKEY_KEY_CREATED_AT :
										  APIKEY_KEY_UPDATED_AT];
	nulls[LIST_UPDATED_AT] = false;
	if (wants(wanted, LIST_MASKED_KEY))
		set_text(values, nulls, LIST_MASKED_KEY,
				 DatumGetTextPP(masked_key(listing, key)));
	if (wants(wanted, LIST_STATUS) || wants(wanted, LIST_EFFECTIVE_ROLE))
		make_status(project, key, values, nulls);
	if (wants(wanted, LIST_USE_COUNT) || wants(wanted, LIST_DENIED_COUNT) ||
		wants(wanted, LIST_LAST_USED_AT) || wants(wanted, LIST_LAST_USED_ADDR))
		make_use(listing, key, values, nulls);
	if (wants(wanted, LIST_CREDITS) || wants(wanted, LIST_CREDITS_REFILL) ||
		wants(wanted, LIST_CREDITS_INTERVAL))
		make_credits(key, values, nulls);
	values[LIST_REVEALABLE] = BoolGetDatum(wants(wanted, LIST_REVEALABLE) &&
										   apikey_reveal_can(key));
	nulls[LIST_REVEALABLE] = false;
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
	Wanted		wanted;

	read_wanted(fcinfo, &wanted);
	apikey_listing_open(&listing, fcinfo);
	listing.table = &apikey_key_table;
	listing.major = APIKEY_KEY_CREATED_AT;
	listing.minor = APIKEY_KEY_ID;
	listing.makes = makes;
	listing.state = &wanted;
	wanted.revocations = apikey_revocation_any_in(listing.viewer.snapshot);
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
