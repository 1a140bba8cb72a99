/*
 * limit.c
 *		The rows of limits: what they may be, whose they are, and their state.
 *
 * A limit has one holder:
 *
 *		key							a key, or a key and its successors
 *		owner, subject				the personal keys of a role with that subject
 *		organization				the keys of all its projects
 *		organization, project		the keys of a project
 *		the last two with a subject	only those of that subject
 *
 * The state of a rate is in a slot of shared memory, under the limit's id, as
 * limiter.c has it.  A quota or balance is an account under the limit's id, as
 * account.c has it, and is leased and spent as credits are.  So a limit that
 * is replaced, or whose columns change, keeps its id, and what was spent.
 *
 * Whoever gives a holder another limit locks the holder first: there are so
 * many of them at most, and one of each unit, kind and period.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "credits/credit.h"
#include "limits/limit.h"
#include "limits/period.h"
#include "usage/usage.h"
#include "verify/verify.h"

#define LIMITS_MAX	8			/* of a holder */

static const ApikeyColumn limit_columns[] = {
	[APIKEY_LIMIT_ID] = {"id", UUIDOID, false},
	[APIKEY_LIMIT_KEY] = {"key", UUIDOID, false},
	[APIKEY_LIMIT_ORGANIZATION] = {"organization", UUIDOID, false},
	[APIKEY_LIMIT_PROJECT] = {"project", UUIDOID, false},
	[APIKEY_LIMIT_OWNER] = {"owner", REGROLEOID, false},
	[APIKEY_LIMIT_OWNER_NAME] = {"owner_name", TEXTOID, false},
	[APIKEY_LIMIT_SUBJECT] = {"subject", TEXTOID, false},
	[APIKEY_LIMIT_UNIT] = {"unit", TEXTOID, false},
	[APIKEY_LIMIT_KIND] = {"kind", TEXTOID, false},
	[APIKEY_LIMIT_AMOUNT] = {"amount", INT8OID, true},
	[APIKEY_LIMIT_PERIOD] = {"period", INTERVALOID, true},
	[APIKEY_LIMIT_SHARED] = {"shared", BOOLOID, true},
	[APIKEY_LIMIT_OVERDRAFT] = {"overdraft", INT8OID, true},
	[APIKEY_LIMIT_STARTS_AT] = {"starts_at", TIMESTAMPTZOID, false},
	[APIKEY_LIMIT_CREATED_AT] = {"created_at", TIMESTAMPTZOID, false},
	[APIKEY_LIMIT_CREATED_BY] = {"created_by", TEXTOID, false}
};

ApikeyTable apikey_limit_table = {
	.name = "apikey_limit",
	.taken = "the holder has a limit of this unit, kind and period",
	.argument = "period",
	.relabel = "period",
	.relation = APIKEY_REL_LIMIT,
	.pkey = APIKEY_REL_LIMIT_PKEY,
	.columns = limit_columns,
	.count = lengthof(limit_columns)
};

static const char *const kind_names[] = {
	[APIKEY_LIMIT_RATE] = "rate",
	[APIKEY_LIMIT_QUOTA] = "quota",
	[APIKEY_LIMIT_BALANCE] = "balance"
};

const char *
apikey_limit_kind_name(ApikeyLimitKind kind)
{
	return kind_names[kind];
}

/* The kind that a text names; -1 for none. */
static int
find_kind(const text *name)
{
	for (size_t i = 0; i < lengthof(kind_names); i++)
	{
		if (VARSIZE_ANY_EXHDR(name) == strlen(kind_names[i]) &&
			memcmp(VARDATA_ANY(name), kind_names[i], strlen(kind_names[i])) == 0)
			return (int) i;
	}
	return -1;
}

ApikeyLimitKind
apikey_limit_kind(const ApikeyRow *limit)
{
	int			kind = find_kind(apikey_row_text(limit, APIKEY_LIMIT_KIND));

	if (kind < 0)
		elog(ERROR, "a limit is of no known kind");
	return (ApikeyLimitKind) kind;
}

static const pg_uuid_t *
row_uuid(const ApikeyRow *row, int column)
{
	return row->nulls[column] ? NULL : DatumGetUUIDP(row->values[column]);
}

static int64
row_int64(const ApikeyRow *row, int column)
{
	return DatumGetInt64(row->values[column]);
}

/* Whose a limit is. */
void
apikey_limit_holder(const ApikeyRow *limit, ApikeyLimitHolder *holder)
{
	holder->key = row_uuid(limit, APIKEY_LIMIT_KEY);
	holder->organization = row_uuid(limit, APIKEY_LIMIT_ORGANIZATION);
	holder->project = row_uuid(limit, APIKEY_LIMIT_PROJECT);
	holder->owner = limit->nulls[APIKEY_LIMIT_OWNER] ? InvalidOid :
		DatumGetObjectId(limit->values[APIKEY_LIMIT_OWNER]);
	holder->subject = apikey_row_text(limit, APIKEY_LIMIT_SUBJECT);
}

/* What verification calls the holder; who has a subject is one of its own. */
const char *
apikey_limit_holder_name(const ApikeyRow *limit)
{
	if (!limit->nulls[APIKEY_LIMIT_KEY])
		return "key";
	if (!limit->nulls[APIKEY_LIMIT_SUBJECT])
		return "subject";
	return limit->nulls[APIKEY_LIMIT_PROJECT] ? "organization" : "project";
}

static bool
any_row(const ApikeyRow *row pg_attribute_unused(), void *state)
{
	*(bool *) state = true;
	return false;
}

/*
 * Is there a limit in this database at all?  Sessions remember it, so that
 * where there is none, keys are not looked up for any.
 */
bool
apikey_limit_any(void)
{
	uint64		begun;
	Snapshot	snapshot;
	bool		any;

	if (apikey_fact_known(APIKEY_FACT_LIMITS, &any))
		return any;
	if (apikey_catalog()->first_script)
		return false;
	begun = apikey_changes_begin();
	any = false;
	snapshot = apikey_latest_snapshot();
	apikey_table_walk(&apikey_limit_table, APIKEY_REL_LIMIT_PKEY, NULL, 0,
					  snapshot, any_row, &any);
	UnregisterSnapshot(snapshot);
	apikey_fact_store(APIKEY_FACT_LIMITS, begun, any);
	return any;
}

static void
null_key(ScanKey key, int column)
{
	ScanKeyEntryInitialize(key, SK_ISNULL | SK_SEARCHNULL, column + 1,
						   InvalidStrategy, InvalidOid, InvalidOid, InvalidOid,
						   (Datum) 0);
}

static void
uuid_key(ScanKey key, int column, const pg_uuid_t *value)
{
	if (value == NULL)
		null_key(key, column);
	else
		ScanKeyInit(key, column + 1, BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(value));
}

/* Visits the limits of a holder. */
void
apikey_limit_scan(const ApikeyLimitHolder *holder, ApikeyVisit visit,
				  void *state)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData keys[5];

	uuid_key(&keys[0], APIKEY_LIMIT_KEY, holder->key);
	uuid_key(&keys[1], APIKEY_LIMIT_ORGANIZATION, holder->organization);
	uuid_key(&keys[2], APIKEY_LIMIT_PROJECT, holder->project);
	if (OidIsValid(holder->owner))
		ScanKeyInit(&keys[3], APIKEY_LIMIT_OWNER + 1, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(holder->owner));
	else
		null_key(&keys[3], APIKEY_LIMIT_OWNER);
	if (holder->subject != NULL)
		ScanKeyEntryInitialize(&keys[4], 0, APIKEY_LIMIT_SUBJECT + 1,
							   BTEqualStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXTEQ,
							   PointerGetDatum(holder->subject));
	else
		null_key(&keys[4], APIKEY_LIMIT_SUBJECT);
	apikey_table_scan(&apikey_limit_table, APIKEY_REL_LIMIT_HOLDER, keys, 5,
					  snapshot, visit, state);
	UnregisterSnapshot(snapshot);
}

/* The period of a quota that a time is in. */
void
apikey_limit_period(const ApikeyRow *limit, TimestampTz now,
					TimestampTz *begin, TimestampTz *end)
{
	apikey_period_at(DatumGetIntervalP(limit->values[APIKEY_LIMIT_PERIOD]),
					 DatumGetTimestampTz(limit->values[APIKEY_LIMIT_STARTS_AT]),
					 now, begin, end);
}

/* Raises 55000 where there is nothing that could hold a limit. */
void
apikey_limit_require_library(void)
{
	if (!apikey_usage_shared())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("limits need the library \"apikey\" to be preloaded"),
				 errhint("Add it to shared_preload_libraries and restart the server.")));
}

bool
apikey_limit_unit_valid(const text *unit)
{
	size_t		len = VARSIZE_ANY_EXHDR(unit);

	if (len < 1 || len > APIKEY_UNIT_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		char		c = VARDATA_ANY(unit)[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return true;
}

/* 1 second to so long; months are for quotas. */
static bool
period_valid(const Interval *period, ApikeyLimitKind kind)
{
	int			years = 10;
	int			days = kind == APIKEY_LIMIT_RATE ? 31 : years * 365 + 3;

	return apikey_period_one_field(period) &&
		period->month <= (kind == APIKEY_LIMIT_RATE ? 0 : years * MONTHS_PER_YEAR) &&
		period->day <= days &&
		period->time <= days * USECS_PER_DAY &&
		(period->time == 0 || period->time >= USECS_PER_SEC);
}

static void
rule_period(const ApikeyRow *limit, ApikeyLimitKind kind)
{
	bool		none = limit->nulls[APIKEY_LIMIT_PERIOD];

	if (kind == APIKEY_LIMIT_BALANCE)
	{
		if (!none)
			apikey_refuse_by("apikey_limit_period", "period",
							 "A balance has no period: null.");
		return;
	}
	if (none)
		apikey_refuse_null("period");
	if (!period_valid(DatumGetIntervalP(limit->values[APIKEY_LIMIT_PERIOD]),
					  kind))
		apikey_refuse_by("apikey_limit_period", "period",
						 kind == APIKEY_LIMIT_RATE ?
						 "The period of a rate is 1 second to 31 days, days or time alone." :
						 "The period of a quota is 1 second to 10 years, months, days or time alone.");
}

static void
rule_overdraft(const ApikeyRow *limit, ApikeyLimitKind kind)
{
	int64		overdraft;

	if (limit->nulls[APIKEY_LIMIT_OVERDRAFT])
		apikey_refuse_null("overdraft");
	overdraft = row_int64(limit, APIKEY_LIMIT_OVERDRAFT);
	if (overdraft < 0 || overdraft > APIKEY_LIMIT_MOST)
		apikey_refuse_by("apikey_limit_overdraft", "overdraft",
						 "An overdraft is 0 to 9007199254740992.");
	if (overdraft > 0 && kind == APIKEY_LIMIT_RATE)
		apikey_refuse_by("apikey_limit_overdraft", "overdraft",
						 "A rate has no overdraft.");
}

/* What a limit may be. */
void
apikey_limit_rule(const ApikeyRow *limit)
{
	int			kind;
	int64		amount;

	if (!apikey_limit_unit_valid(apikey_row_text(limit, APIKEY_LIMIT_UNIT)))
		apikey_refuse("unit", "A unit has 1 to 40 characters a-z, 0-9 and \"_\".");
	kind = find_kind(apikey_row_text(limit, APIKEY_LIMIT_KIND));
	if (kind < 0)
		apikey_refuse("kind", "A kind is \"rate\", \"quota\" or \"balance\".");
	if (limit->nulls[APIKEY_LIMIT_AMOUNT])
		apikey_refuse_null("amount");
	amount = row_int64(limit, APIKEY_LIMIT_AMOUNT);
	if (amount < 1 || amount > APIKEY_LIMIT_MOST)
		apikey_refuse("amount", "An amount is 1 to 9007199254740992.");
	if (limit->nulls[APIKEY_LIMIT_SHARED])
		apikey_refuse_null("shared");
	rule_period(limit, kind);
	rule_overdraft(limit, kind);
}

/* {"id": ..., "holder": ..., ...}: what a limit is, to be told in an event. */
static void
begin_detail(StringInfo json, const ApikeyRow *limit)
{
	apikey_detail_begin(json);
	apikey_detail_string(json, "id", apikey_id_string(apikey_row_id(limit)));
	apikey_detail_string(json, "holder", apikey_limit_holder_name(limit));
	if (!limit->nulls[APIKEY_LIMIT_SUBJECT])
		apikey_detail_text(json, "subject",
						   apikey_row_text(limit, APIKEY_LIMIT_SUBJECT));
	for (int i = APIKEY_LIMIT_UNIT; i <= APIKEY_LIMIT_OVERDRAFT; i++)
		apikey_detail_value(json, limit_columns[i].name, limit_columns[i].type,
							limit->values[i], limit->nulls[i]);
}

char *
apikey_limit_detail(const ApikeyRow *limit)
{
	StringInfoData json;

	begin_detail(&json, limit);
	return apikey_detail_end(&json);
}

/* The same with a number, and the key that it is about, or NULL. */
char *
apikey_limit_detail_with(const ApikeyRow *limit, const char *name,
						 int64 value, const pg_uuid_t *key)
{
	StringInfoData json;

	begin_detail(&json, limit);
	apikey_detail_json(&json, name, psprintf(INT64_FORMAT, value));
	if (key != NULL)
		apikey_detail_string(&json, "key_id", apikey_id_string(key));
	return apikey_detail_end(&json);
}

/* Finds the place of a limit; false where it is gone. */
static bool
fetch_place(const ApikeyLimitHolder *holder, ApikeyPlace *place)
{
	if (holder->project != NULL)
		return apikey_place_fetch_project(holder->project, place);
	place->is_project = false;
	if (!apikey_table_fetch_latest(&apikey_organization_table,
								   holder->organization, &place->organization))
		return false;
	place->path = text_to_cstring(apikey_row_text(&place->organization,
												  APIKEY_ORGANIZATION_NAME));
	return true;
}

/* Tells of a limit whom its holder concerns; of one that is gone, nobody. */
void
apikey_limit_tell(const ApikeyRow *limit, ApikeyEvent event,
				  const char *detail)
{
	ApikeyLimitHolder holder;
	ApikeyPlace place;
	ApikeyRow	key;

	apikey_limit_holder(limit, &holder);
	if (holder.key != NULL)
	{
		if (apikey_key_fetch_latest(holder.key, &key))
			apikey_event_key(&key, event, detail);
	}
	else if (holder.organization == NULL)
		apikey_event_subject(holder.owner, holder.subject, event, detail);
	else if (fetch_place(&holder, &place))
		apikey_event_place(&place, event, detail);
}

/* The search among a holder's limits for the one that is to be replaced. */
typedef struct Search
{
	const ApikeyRow *like;
	ApikeyRow  *found_row;
	bool		found;
	int			count;
} Search;

static bool
same_period(const ApikeyRow *one, const ApikeyRow *two)
{
	if (one->nulls[APIKEY_LIMIT_PERIOD] || two->nulls[APIKEY_LIMIT_PERIOD])
		return one->nulls[APIKEY_LIMIT_PERIOD] == two->nulls[APIKEY_LIMIT_PERIOD];
	return apikey_period_same(DatumGetIntervalP(one->values[APIKEY_LIMIT_PERIOD]),
							  DatumGetIntervalP(two->values[APIKEY_LIMIT_PERIOD]));
}

static bool
search_visit(const ApikeyRow *row, void *state)
{
	Search	   *search = state;

	search->count++;
	if (apikey_same_text(apikey_row_text(row, APIKEY_LIMIT_UNIT),
						 apikey_row_text(search->like, APIKEY_LIMIT_UNIT)) &&
		apikey_same_text(apikey_row_text(row, APIKEY_LIMIT_KIND),
						 apikey_row_text(search->like, APIKEY_LIMIT_KIND)) &&
		same_period(row, search->like))
	{
		*search->found_row = *row;
		search->found = true;
	}
	return true;
}

/*
 * May whoever has a subject make this of a limit?  Only what is tighter:
 * neither more nor for other periods, nor for one server alone.
 */
static bool
tighter(const ApikeyRow *before, const ApikeyRow *limit)
{
	return row_int64(limit, APIKEY_LIMIT_AMOUNT) <=
		row_int64(before, APIKEY_LIMIT_AMOUNT) &&
		row_int64(limit, APIKEY_LIMIT_OVERDRAFT) <=
		row_int64(before, APIKEY_LIMIT_OVERDRAFT) &&
		(apikey_row_bool(limit, APIKEY_LIMIT_SHARED) ||
		 !apikey_row_bool(before, APIKEY_LIMIT_SHARED)) &&
		same_period(before, limit);
}

static void
require_tighter(const ApikeyRow *before, const ApikeyRow *limit)
{
	if (limit->nulls[APIKEY_LIMIT_ORGANIZATION] && !superuser() &&
		apikey_principal_subject() != NULL && !tighter(before, limit))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to loosen a limit"),
				 errdetail("Whoever has a subject may only make limits tighter.")));
}

/*
 * Writes a limit that has changed, for whoever may, and the event that tells of
 * it.  What was spent stays spent.
 */
void
apikey_limit_change(const ApikeyRow *before, ApikeyRow *limit,
					const char *changes)
{
	StringInfoData json;
	bool		restarts = !same_period(before, limit);

	require_tighter(before, limit);
	if (restarts)
		apikey_row_set(limit, APIKEY_LIMIT_STARTS_AT,
					   TimestampTzGetDatum(GetCurrentTimestamp()));
	if (apikey_limit_kind(limit) != APIKEY_LIMIT_RATE)
		apikey_account_of_limit_changed(limit,
										row_int64(limit, APIKEY_LIMIT_AMOUNT) -
										row_int64(before, APIKEY_LIMIT_AMOUNT),
										restarts);
	apikey_table_update(&apikey_limit_table, limit);
	begin_detail(&json, limit);
	if (changes != NULL)
		apikey_detail_json(&json, "changes", changes);
	else
		apikey_detail_value(&json, "amount_before", INT8OID,
							before->values[APIKEY_LIMIT_AMOUNT], false);
	apikey_limit_tell(limit, APIKEY_EVENT_LIMIT_SET, apikey_detail_end(&json));
}

static bool
limit_differs(const ApikeyRow *one, const ApikeyRow *two)
{
	return row_int64(one, APIKEY_LIMIT_AMOUNT) != row_int64(two, APIKEY_LIMIT_AMOUNT) ||
		row_int64(one, APIKEY_LIMIT_OVERDRAFT) != row_int64(two, APIKEY_LIMIT_OVERDRAFT) ||
		apikey_row_bool(one, APIKEY_LIMIT_SHARED) != apikey_row_bool(two, APIKEY_LIMIT_SHARED);
}

/* Makes a new limit of a locked holder. */
static void
create(ApikeyRow *limit)
{
	TimestampTz now = GetCurrentTimestamp();
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	apikey_generate_id(id);
	apikey_row_set_pointer(limit, APIKEY_LIMIT_ID, id);
	apikey_row_set(limit, APIKEY_LIMIT_STARTS_AT, TimestampTzGetDatum(now));
	apikey_row_set(limit, APIKEY_LIMIT_CREATED_AT, TimestampTzGetDatum(now));
	apikey_row_set_pointer(limit, APIKEY_LIMIT_CREATED_BY,
						   apikey_role_name_text(GetUserId(), NULL));
	if (apikey_limit_kind(limit) != APIKEY_LIMIT_RATE)
		apikey_account_of_limit_create(limit);
	apikey_table_insert(&apikey_limit_table, limit);
	apikey_limit_tell(limit, APIKEY_EVENT_LIMIT_SET, apikey_limit_detail(limit));
}

/*
 * Makes a limit of a locked holder, or replaces the one of its unit, kind and
 * period; returns its id.
 */
void
apikey_limit_put(ApikeyRow *limit, pg_uuid_t *id)
{
	ApikeyLimitHolder holder;
	ApikeyRow	before;
	Search		search = {.like = limit, .found_row = &before};

	apikey_limit_holder(limit, &holder);
	apikey_limit_scan(&holder, search_visit, &search);
	if (!search.found)
	{
		if (search.count >= LIMITS_MAX)
			apikey_refuse_by("apikey_limit_count",
							 holder.key != NULL ? "key" :
							 holder.subject != NULL ? "subject" : "path",
							 psprintf("A holder has at most %d limits.",
									  LIMITS_MAX));
		create(limit);
	}
	else
	{
		ApikeyRow	after = before;

		for (int i = APIKEY_LIMIT_AMOUNT; i <= APIKEY_LIMIT_OVERDRAFT; i++)
			after.values[i] = limit->values[i];
		if (limit_differs(&before, &after))
			apikey_limit_change(&before, &after, NULL);
		*limit = after;
	}
	*id = *apikey_row_id(limit);
}

/* Removes a limit, its state and all. */
void
apikey_limit_remove(const ApikeyRow *limit)
{
	if (limit->nulls[APIKEY_LIMIT_ORGANIZATION] && !superuser() &&
		apikey_principal_subject() != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to drop a limit"),
				 errdetail("Whoever has a subject may only make limits tighter.")));
	apikey_limit_tell(limit, APIKEY_EVENT_LIMIT_DROPPED,
					  apikey_limit_detail(limit));
	apikey_account_of_limit_drop(apikey_row_id(limit));
	apikey_table_delete(&apikey_limit_table, apikey_row_id(limit), false);
	apikey_ended_key(apikey_row_id(limit), true);
}

static bool
drop_visited(const ApikeyRow *limit, void *state pg_attribute_unused())
{
	apikey_account_of_limit_drop(apikey_row_id(limit));
	apikey_table_delete(&apikey_limit_table, apikey_row_id(limit), false);
	apikey_ended_key(apikey_row_id(limit), true);
	return true;
}

/* A key is gone, and its limits with it. */
void
apikey_limit_drop_of_key(const pg_uuid_t *key)
{
	ApikeyLimitHolder holder = {.key = key};

	if (apikey_limit_any())
		apikey_limit_scan(&holder, drop_visited, NULL);
}

/* The same of a place, those for subjects of it included. */
void
apikey_limit_drop_of_place(const pg_uuid_t *organization,
						   const pg_uuid_t *project)
{
	Snapshot	snapshot;
	ScanKeyData keys[3];

	if (!apikey_limit_any())
		return;
	uuid_key(&keys[0], APIKEY_LIMIT_KEY, NULL);
	uuid_key(&keys[1], APIKEY_LIMIT_ORGANIZATION, organization);
	uuid_key(&keys[2], APIKEY_LIMIT_PROJECT, project);
	snapshot = apikey_latest_snapshot();
	apikey_table_scan(&apikey_limit_table, APIKEY_REL_LIMIT_HOLDER, keys, 3,
					  snapshot, drop_visited, NULL);
	UnregisterSnapshot(snapshot);
}

static bool
follow_visited(const ApikeyRow *row, void *state)
{
	ApikeyRow	limit;

	if (apikey_table_lock(&apikey_limit_table, apikey_row_id(row),
						  APIKEY_LOCK_UPDATE, &limit))
	{
		apikey_row_set_pointer(&limit, APIKEY_LIMIT_KEY, state);
		apikey_table_update(&apikey_limit_table, &limit);
	}
	return true;
}

/* The limits of a key go on as its successor's, with what was spent. */
void
apikey_limit_follow(const pg_uuid_t *from, const pg_uuid_t *to)
{
	ApikeyLimitHolder holder = {.key = from};

	if (apikey_limit_any())
		apikey_limit_scan(&holder, follow_visited,
						  unconstify(pg_uuid_t *, to));
}
