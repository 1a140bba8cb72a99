/*
 * bound.c
 *		What a key is bound by, and spending of all of it or of nothing.
 *
 * A key's limits are one list: its own, those of its subject, of its project
 * and of its organization; rate_limit and credits of its row stand there like
 * any other, first.  A key that has been replaced is bound by what its last
 * successor is itself, and draws on the same; it has no limits of its own any
 * more.  The list is in the order in which they refuse: by holder,
 * in each rates before quotas and balances, and then by unit.  It is read where
 * the key is read, and remembered with it.
 *
 * A verification spends of the limits of "requests" its cost, and of the units
 * that its costs name.  Where one refuses, what was taken of those before comes
 * back, and those behind it are only asked whether they could decide: one that
 * cannot comes before all refusals.  All waiting together has one bound.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "limits/bound.h"
#include "limits/shared_rate.h"
#include "store/complaint.h"
#include "credits/credit.h"
#include "limits/period.h"
#include "limits/tally.h"
#include "verify/verify.h"

static const char *const holder_names[] = {
	[APIKEY_HOLDER_KEY] = "key",
	[APIKEY_HOLDER_SUBJECT] = "subject",
	[APIKEY_HOLDER_PROJECT] = "project",
	[APIKEY_HOLDER_ORGANIZATION] = "organization"
};

/* The list while it is being read. */
typedef struct Gathering
{
	ApikeyBounds *bounds;
	Oid			owner;			/* of the key */
	uint8		holder;
	uint8		rank;			/* the short form, a project's, an organization's */
} Gathering;

static ApikeyBound *
add_bound(Gathering *gathering, const pg_uuid_t *id, ApikeyLimitKind kind)
{
	ApikeyBounds *bounds = gathering->bounds;
	ApikeyBound *bound;

	if (bounds->count == APIKEY_BOUNDS_MAX)
		elog(ERROR, "a key has too many limits");
	bound = &bounds->list[bounds->count++];
	memset(bound, 0, sizeof(*bound));
	bound->id = *id;
	bound->holder = gathering->holder;
	bound->rank = gathering->rank;
	bound->kind = kind;
	bound->hint.owner = gathering->owner;
	return bound;
}

static void
set_rate(ApikeyBound *bound)
{
	bound->rate.tokens = bound->amount;
	bound->rate.window = ((int64) bound->period.day * USECS_PER_DAY +
						  bound->period.time) * APIKEY_LIMITER_UNITS;
}

/* Fills in what the row of a limit says. */
static void
set_from_limit(ApikeyBound *bound, const ApikeyRow *limit)
{
	text_to_cstring_buffer(apikey_row_text(limit, APIKEY_LIMIT_UNIT),
						   bound->unit, sizeof(bound->unit));
	bound->of_requests = strcmp(bound->unit, APIKEY_REQUESTS) == 0;
	bound->amount = DatumGetInt64(limit->values[APIKEY_LIMIT_AMOUNT]);
	bound->overdraft = DatumGetInt64(limit->values[APIKEY_LIMIT_OVERDRAFT]);
	bound->starts_at = DatumGetTimestampTz(limit->values[APIKEY_LIMIT_STARTS_AT]);
	bound->periodic = !limit->nulls[APIKEY_LIMIT_PERIOD];
	if (bound->periodic)
		bound->period = *DatumGetIntervalP(limit->values[APIKEY_LIMIT_PERIOD]);
	if (bound->kind == APIKEY_LIMIT_RATE)
		set_rate(bound);
	bound->shared = bound->kind == APIKEY_LIMIT_RATE &&
		apikey_row_bool(limit, APIKEY_LIMIT_SHARED);
}

/* Makes a bound of a limit, whosever it is. */
void
apikey_bound_of_limit(ApikeyBound *bound, const ApikeyRow *limit)
{
	memset(bound, 0, sizeof(*bound));
	bound->id = *apikey_row_id(limit);
	bound->kind = apikey_limit_kind(limit);
	set_from_limit(bound, limit);
}

static bool
gather_limit(const ApikeyRow *limit, void *state)
{
	Gathering  *gathering = state;

	if (!limit->nulls[APIKEY_LIMIT_OWNER] &&
		!apikey_role_stands(DatumGetObjectId(limit->values[APIKEY_LIMIT_OWNER]),
							apikey_row_text(limit, APIKEY_LIMIT_OWNER_NAME)))
		return true;
	set_from_limit(add_bound(gathering, apikey_row_id(limit),
							 apikey_limit_kind(limit)), limit);
	return true;
}

/*
 * The key by which another is limited: itself, or the last that has replaced
 * it.  A circle can only be made by hand; by Brent's way it is noticed.
 */
static void
read_last(const ApikeyRow *key, ApikeyRow *last)
{
	pg_uuid_t	seen = *apikey_row_id(key);
	uint64		steps = 0;
	uint64		room = 1;
	ApikeyRow	row;

	*last = *key;
	while (!last->nulls[APIKEY_KEY_ROTATED_TO])
	{
		pg_uuid_t	next = *DatumGetUUIDP(last->values[APIKEY_KEY_ROTATED_TO]);

		CHECK_FOR_INTERRUPTS();
		if (memcmp(&next, &seen, sizeof(pg_uuid_t)) == 0 ||
			!apikey_key_fetch_latest(&next, &row))
			break;
		*last = row;
		if (++steps == room)
		{
			seen = next;
			room *= 2;
			steps = 0;
		}
	}
}

/*
 * Has a key been replaced since it was read?  Then its limits are its
 * successor's, and it may have seemed to have none.
 */
static bool
replaced_since(ApikeyRow *last)
{
	ApikeyRow	row;

	if (!last->nulls[APIKEY_KEY_ROTATED_TO] ||
		!apikey_key_fetch_latest(apikey_row_id(last), &row))
		return false;
	*last = row;
	return !last->nulls[APIKEY_KEY_ROTATED_TO];
}

/* Where the state of a key's rate limit is. */
static const pg_uuid_t *
rate_account(const ApikeyRow *key)
{
	return key->nulls[APIKEY_KEY_RATE_ACCOUNT] ? apikey_row_id(key) :
		DatumGetUUIDP(key->values[APIKEY_KEY_RATE_ACCOUNT]);
}

/* The short form, in the key's own row. */
static void
gather_short(Gathering *gathering, const ApikeyRow *key)
{
	ApikeyRate	rate;
	ApikeyBound *bound;

	if (apikey_limiter_of(key, &rate))
	{
		bound = add_bound(gathering, rate_account(key), APIKEY_LIMIT_RATE);
		bound->short_form = bound->of_requests = bound->periodic = true;
		strcpy(bound->unit, APIKEY_REQUESTS);
		bound->amount = rate.tokens;
		bound->rate = rate;
		bound->period = *DatumGetIntervalP(key->values[APIKEY_KEY_RATE_WINDOW]);
	}
	if (apikey_key_account(key) != NULL)
	{
		bound = add_bound(gathering, apikey_key_account(key),
						  APIKEY_LIMIT_BALANCE);
		bound->short_form = bound->of_requests = true;
		strcpy(bound->unit, APIKEY_REQUESTS);
	}
}

static void
gather(Gathering *gathering, ApikeyBoundHolder as, int rank,
	   const ApikeyLimitHolder *holder)
{
	gathering->holder = as;
	gathering->rank = rank;
	apikey_limit_scan(holder, gather_limit, gathering);
}

/*
 * What a key is bound by itself, or as what has replaced it.  Its limits are
 * looked for after its row was read, so that none is missed that has gone to a
 * successor meanwhile.
 */
static void
gather_own(Gathering *gathering, const ApikeyRow *key, bool any)
{
	ApikeyLimitHolder holder = {0};
	ApikeyRow	from = *key;
	ApikeyRow	last;
	int			before;

	do
	{
		read_last(&from, &last);
		gathering->bounds->count = 0;
		gather_short(gathering, &last);
		before = gathering->bounds->count;
		if (!any)
			return;
		holder.key = apikey_row_id(&last);
		gather(gathering, APIKEY_HOLDER_KEY, 0, &holder);
		from = last;
	} while (gathering->bounds->count == before && replaced_since(&from));
}

/* The limits of the place that a key is in, and of its subject there. */
static void
gather_places(Gathering *gathering, const ApikeyPlace *place,
			  const text *subject)
{
	ApikeyLimitHolder holder = {
		.organization = apikey_place_organization(place),
		.project = apikey_place_project(place)
	};

	gather(gathering, APIKEY_HOLDER_PROJECT, 0, &holder);
	holder.subject = subject;
	if (subject != NULL)
		gather(gathering, APIKEY_HOLDER_SUBJECT, 0, &holder);
	holder.project = NULL;
	if (subject != NULL)
		gather(gathering, APIKEY_HOLDER_SUBJECT, 1, &holder);
	holder.subject = NULL;
	gather(gathering, APIKEY_HOLDER_ORGANIZATION, 0, &holder);
}

/* The order in which limits refuse. */
static int
compare_bounds(const void *one, const void *two)
{
	const ApikeyBound *a = one;
	const ApikeyBound *b = two;
	int			result;

	if (a->holder != b->holder)
		return a->holder < b->holder ? -1 : 1;
	if (a->short_form != b->short_form)
		return a->short_form ? -1 : 1;
	if ((a->kind == APIKEY_LIMIT_RATE) != (b->kind == APIKEY_LIMIT_RATE))
		return a->kind == APIKEY_LIMIT_RATE ? -1 : 1;
	result = strcmp(a->unit, b->unit);
	if (result == 0)
		result = (int) a->rank - (int) b->rank;
	if (result == 0)
		result = (int) a->kind - (int) b->kind;
	return result != 0 ? result : memcmp(&a->id, &b->id, sizeof(pg_uuid_t));
}

static void
find_first_of_units(ApikeyBounds *bounds)
{
	for (int i = 0; i < bounds->count; i++)
	{
		bounds->list[i].first_of_unit = true;
		for (int j = 0; j < i; j++)
		{
			if (strcmp(bounds->list[i].unit, bounds->list[j].unit) == 0)
				bounds->list[i].first_of_unit = false;
		}
	}
}

/*
 * What a key is bound by; NULL for nothing.  Its place is NULL for a personal
 * key.
 */
ApikeyBounds *
apikey_bounds_read(const ApikeyRow *key, const ApikeyPlace *place)
{
	bool		any = apikey_limit_any();
	const text *subject = apikey_row_text(key, APIKEY_KEY_SUBJECT);
	Gathering	gathering = {.owner = apikey_key_owner(key)};
	ApikeyLimitHolder holder = {0};

	if (!any && key->nulls[APIKEY_KEY_RATE_LIMIT] &&
		apikey_key_account(key) == NULL && key->nulls[APIKEY_KEY_ROTATED_TO])
		return NULL;
	gathering.bounds = palloc(APIKEY_BOUNDS_BYTES(APIKEY_BOUNDS_MAX));
	gather_own(&gathering, key, any);
	if (any)
	{
		holder.owner = apikey_key_owner(key);
		holder.subject = subject;
		if (place != NULL)
			gather_places(&gathering, place, subject);
		else if (apikey_key_project(key) == NULL && subject != NULL)
			gather(&gathering, APIKEY_HOLDER_SUBJECT, 0, &holder);
	}
	if (gathering.bounds->count == 0)
		return NULL;
	qsort(gathering.bounds->list, gathering.bounds->count, sizeof(ApikeyBound),
		  compare_bounds);
	find_first_of_units(gathering.bounds);
	return gathering.bounds;
}

/* The rate_limit that a key is bound by; NULL for none. */
const ApikeyRate *
apikey_bounds_own_rate(const ApikeyBounds *bounds)
{
	return bounds != NULL && bounds->list[0].short_form &&
		bounds->list[0].kind == APIKEY_LIMIT_RATE ? &bounds->list[0].rate : NULL;
}

/* What a verification is to spend of a limit; 0 for nothing. */
static int64
cost_of(const ApikeyBound *bound, const ApikeyDemand *demand)
{
	if (bound->of_requests)
		return demand->cost;
	return demand->costs == NULL ? 0 :
		apikey_costs_of(demand->costs, bound->unit);
}

static TimestampTz
rate_time(int64 time)
{
	return (time + APIKEY_LIMITER_UNITS - 1) / APIKEY_LIMITER_UNITS;
}

static void
complain(const ApikeyVerdict *verdict, const ApikeyBound *bound)
{
	const char *id = apikey_id_string(apikey_row_id(verdict->key));

	if (!apikey_usage_shared() && bound->kind == APIKEY_LIMIT_RATE)
		apikey_complain(APIKEY_COMPLAINT_PRELOAD,
						"API key %s has a rate limit, and the library \"apikey\" is not in \"shared_preload_libraries\".",
						id);
	else if (bound->shared && apikey_shared_rate_elsewhere())
		apikey_complain(APIKEY_COMPLAINT_CREDITS,
						"A rate that servers share limits API key %s, and the primary does not answer.",
						id);
	else if (bound->kind == APIKEY_LIMIT_RATE)
		apikey_complain(APIKEY_COMPLAINT_ROOM,
						"There is no room in shared memory for the rate limit of API key %s.",
						id);
	else
		apikey_complain(APIKEY_COMPLAINT_CREDITS,
						apikey_catalog()->first_script ?
						"Credits of API key %s are not spent before \"ALTER EXTENSION apikey UPDATE\"." :
						"Credits of API key %s cannot be written now, or the worker that leases them does not answer.",
						id);
}

static ApikeyCode
spend_rate(const ApikeyVerdict *verdict, ApikeyBound *bound,
		   ApikeySlotHint *hint, int64 cost, ApikeyBoundState *state)
{
	ApikeyRateState rate;
	ApikeyLimitVerdict passed;

	passed = apikey_usage_limit(&bound->id, hint, &bound->rate, cost,
								verdict->at, &rate);
	if (passed == APIKEY_LIMIT_UNAVAILABLE)
		return APIKEY_CODE_UNAVAILABLE;
	state->known = true;
	state->remaining = rate.remaining;
	state->resets_at = rate_time(rate.reset);
	return passed == APIKEY_LIMIT_PASSED ? APIKEY_CODE_VALID :
		APIKEY_CODE_RATE_LIMITED;
}

static ApikeyCode
spend_account(ApikeyBound *bound, ApikeySpending *spending,
			  ApikeyBoundState *state)
{
	ApikeyCreditVerdict spent;

	/* Without the library, only credits are kept. */
	if (!bound->short_form && !apikey_usage_shared())
		return APIKEY_CODE_UNAVAILABLE;
	spent = apikey_credit_spend(spending);
	if (spent == APIKEY_CREDIT_UNAVAILABLE)
		return APIKEY_CODE_UNAVAILABLE;
	state->known = spending->known;
	state->remaining = spending->left;
	state->resets_at = spending->until == DT_NOEND ? 0 : spending->until;
	return spent == APIKEY_CREDIT_SPENT ? APIKEY_CODE_VALID :
		APIKEY_CODE_EXHAUSTED;
}

/* The same of one that servers share: here or, on a member, of the primary. */
static ApikeyCode
spend_shared(const ApikeyVerdict *verdict, ApikeyBound *bound,
			 ApikeySlotHint *hint, int64 cost, TimestampTz *wait_until,
			 ApikeyBoundState *state)
{
	ApikeyLimitVerdict passed;

	if (!apikey_shared_rate_elsewhere())
	{
		if (apikey_usage_shared())
			apikey_shared_rate_fill(bound, hint);
		return spend_rate(verdict, bound, hint, cost, state);
	}
	passed = apikey_shared_rate_spend(bound, hint, cost, wait_until, state);
	if (passed == APIKEY_LIMIT_UNAVAILABLE)
		return APIKEY_CODE_UNAVAILABLE;
	return passed == APIKEY_LIMIT_PASSED ? APIKEY_CODE_VALID :
		APIKEY_CODE_RATE_LIMITED;
}

/* A verification on its way through the limits. */
typedef struct Passage
{
	ApikeyVerdict *verdict;
	TimestampTz wait_until;		/* see ApikeySpending */
	ApikeySpending spent[APIKEY_BOUNDS_MAX];
} Passage;

/* A key's own slot is that of its limit, too, but for one that was rotated. */
static ApikeySlotHint *
hint_of(const ApikeyVerdict *verdict, ApikeyBound *bound)
{
	return bound->short_form &&
		memcmp(&bound->id, apikey_row_id(verdict->key), sizeof(pg_uuid_t)) == 0 ?
		verdict->hint : &bound->hint;
}

static ApikeyCode
spend_bound(Passage *passage, int number, int64 cost)
{
	ApikeyVerdict *verdict = passage->verdict;
	ApikeyBound *bound = &verdict->bounds->list[number];
	ApikeySpending *spending = &passage->spent[number];
	ApikeyBoundState *state = &verdict->states[number];
	ApikeySlotHint *hint = hint_of(verdict, bound);
	ApikeyCode	code;

	if (bound->kind == APIKEY_LIMIT_RATE)
		return bound->shared ?
			spend_shared(verdict, bound, hint, cost, &passage->wait_until, state) :
			spend_rate(verdict, bound, hint, cost, state);
	memset(spending, 0, sizeof(*spending));
	spending->account = &bound->id;
	spending->hint = hint;
	spending->cost = cost;
	spending->wait_until = passage->wait_until;
	code = spend_account(bound, spending, state);
	passage->wait_until = spending->wait_until;
	return code;
}

/* Gives back what a limit has passed. */
static void
unspend_bound(Passage *passage, int number, int64 cost)
{
	ApikeyVerdict *verdict = passage->verdict;
	ApikeyBound *bound = &verdict->bounds->list[number];
	ApikeyBoundState *state = &verdict->states[number];
	ApikeyRateState rate = {0};

	if (bound->shared && apikey_shared_rate_elsewhere())
	{
		apikey_shared_rate_unspend(bound, hint_of(verdict, bound), cost);
		return;
	}
	if (bound->kind == APIKEY_LIMIT_RATE)
	{
		apikey_usage_unlimit(&bound->id, hint_of(verdict, bound), &bound->rate,
							 cost, verdict->at, &rate);
		state->remaining = rate.remaining;
		state->resets_at = rate_time(rate.reset);
		return;
	}
	apikey_credit_unspend(&passage->spent[number]);
	state->remaining += passage->spent[number].taken;
}

/* Tells what the tightest limits of requests leave, of each kind one. */
static void
tell_tightest(ApikeyVerdict *verdict)
{
	for (int i = 0; i < verdict->bounds->count; i++)
	{
		const ApikeyBound *bound = &verdict->bounds->list[i];
		const ApikeyBoundState *state = &verdict->states[i];

		if (!state->known || !bound->of_requests)
			continue;
		if (bound->kind == APIKEY_LIMIT_RATE &&
			(!verdict->rated || state->remaining < verdict->rate_remaining))
		{
			verdict->rated = true;
			verdict->rate_remaining = (int32) Min(state->remaining, PG_INT32_MAX);
			verdict->rate_reset_at = state->resets_at;
		}
		if (bound->kind != APIKEY_LIMIT_RATE &&
			(!verdict->credited || state->remaining < verdict->credits))
		{
			verdict->credited = true;
			verdict->credits = state->remaining;
		}
	}
}

/* A rate that refuses says when this cost passes. */
static void
tell_refusing(ApikeyVerdict *verdict)
{
	const ApikeyBound *bound = &verdict->bounds->list[verdict->refused_by];
	const ApikeyBoundState *state = &verdict->states[verdict->refused_by];

	if (bound->kind != APIKEY_LIMIT_RATE)
		return;
	verdict->rated = true;
	verdict->rate_remaining = (int32) Min(state->remaining, PG_INT32_MAX);
	verdict->rate_reset_at = state->resets_at;
}

/* What has been spent may be given back by charges. */
static void
count_spent(const ApikeyVerdict *verdict, const ApikeyDemand *demand)
{
	for (int i = 0; i < verdict->bounds->count; i++)
	{
		const ApikeyBound *bound = &verdict->bounds->list[i];

		apikey_tally_spent(apikey_row_id(verdict->key), bound,
						   &verdict->states[i], cost_of(bound, demand));
		if (bound->first_of_unit)
			apikey_tally_unit(apikey_row_id(verdict->key), bound->unit,
							  cost_of(bound, demand));
	}
}

/*
 * Spends what a key that passes everything else is limited in: all of it, or
 * nothing.
 */
ApikeyCode
apikey_bounds_spend(ApikeyVerdict *verdict, const ApikeyDemand *demand)
{
	static ApikeyBoundState states[APIKEY_BOUNDS_MAX];
	static Passage passage;		/* too large for a stack that may be deep */
	ApikeyBounds *bounds = verdict->bounds;
	ApikeyCode	code = APIKEY_CODE_VALID;
	int			unavailable = -1;

	passage.verdict = verdict;
	passage.wait_until = 0;
	verdict->states = states;
	verdict->refused_by = -1;
	memset(states, 0, bounds->count * sizeof(ApikeyBoundState));
	for (int i = 0; i < bounds->count && unavailable < 0; i++)
	{
		int64		cost = cost_of(&bounds->list[i], demand);
		ApikeyCode	this;

		if (cost == 0 && !bounds->list[i].of_requests)
			continue;
		this = spend_bound(&passage, i, code == APIKEY_CODE_VALID ? cost : 0);
		if (this == APIKEY_CODE_UNAVAILABLE)
			unavailable = i;
		else if (this != APIKEY_CODE_VALID)
		{
			code = this;
			verdict->refused_by = i;
		}
	}

	if (unavailable >= 0 || verdict->refused_by >= 0)
	{
		int			end = verdict->refused_by >= 0 ? verdict->refused_by : unavailable;

		for (int i = end - 1; i >= 0; i--)
		{
			int64		cost = cost_of(&bounds->list[i], demand);

			if (cost > 0)
				unspend_bound(&passage, i, cost);
		}
	}
	if (unavailable >= 0)
	{
		complain(verdict, &bounds->list[unavailable]);
		verdict->refused_by = -1;
		code = APIKEY_CODE_UNAVAILABLE;
	}
	if (code == APIKEY_CODE_VALID && apikey_usage_shared())
		count_spent(verdict, demand);
	tell_tightest(verdict);
	if (verdict->refused_by >= 0)
		tell_refusing(verdict);
	apikey_mark_bounds(verdict, code);
	return code;
}

/* Looks at what is left of a limit that has been asked for nothing. */
void
apikey_bound_ask(const ApikeyBound *bound, TimestampTz now,
				 ApikeyBoundState *state)
{
	ApikeyRateState rate;
	ApikeyRow	row;

	if (bound->kind == APIKEY_LIMIT_RATE)
	{
		apikey_usage_look(&bound->id, &bound->rate, now, &rate);
		state->known = apikey_usage_shared();
		state->remaining = rate.remaining;
		state->resets_at = rate_time(rate.reset);
		return;
	}
	state->remaining = apikey_account_left(&bound->id, &row, &state->known);
	if (state->known)
	{
		state->resets_at = apikey_account_refill_at(&row);
		if (state->resets_at == DT_NOEND)
			state->resets_at = 0;
	}
}

/* What is left of a limit now, for the view. */
void
apikey_bound_look(const ApikeyRow *limit, ApikeyBoundState *state)
{
	ApikeyBound bound = {.id = *apikey_row_id(limit)};

	memset(state, 0, sizeof(*state));
	bound.kind = apikey_limit_kind(limit);
	set_from_limit(&bound, limit);
	apikey_bound_ask(&bound, GetCurrentTimestamp(), state);
}

/* How long the present period of a limit is; negative for none. */
static double
period_seconds(const ApikeyBound *bound, const Interval *period,
			   TimestampTz now)
{
	TimestampTz begin;
	TimestampTz end;

	if (bound->kind == APIKEY_LIMIT_RATE)
		return (double) bound->rate.window / APIKEY_LIMITER_UNITS / USECS_PER_SEC;
	if (period == NULL)
		return -1;
	if (bound->short_form)
		return (double) (period->time + period->day * USECS_PER_DAY) / USECS_PER_SEC +
			period->month * (double) DAYS_PER_MONTH * SECS_PER_DAY;
	apikey_period_at(period, bound->starts_at, now, &begin, &end);
	return (double) (end - begin) / USECS_PER_SEC;
}

/*
 * Of credits, the account says what they are: what is refilled is a quota, and
 * of others nobody knows how many there were.
 */
static const Interval *
resolve(const ApikeyBound *bound, ApikeyBound *as)
{
	static Interval period;
	const Interval *refill;
	ApikeyRow	row;
	bool		found;

	*as = *bound;
	if (!bound->short_form || bound->kind == APIKEY_LIMIT_RATE)
		return bound->periodic ? &bound->period : NULL;
	(void) apikey_account_left(&bound->id, &row, &found);
	refill = found ? apikey_account_refill(&row, &as->amount) : NULL;
	if (refill == NULL)
		return NULL;
	as->kind = APIKEY_LIMIT_QUOTA;
	period = *refill;
	return &period;
}

/* {"holder": ..., "unit": ..., ...}: a limit, and what is left of it. */
char *
apikey_bound_json(const ApikeyVerdict *verdict, int number)
{
	ApikeyBoundState *state = &verdict->states[number];
	ApikeyBound bound;
	const Interval *period = resolve(&verdict->bounds->list[number], &bound);
	double		seconds = period_seconds(&bound, period, verdict->at);
	StringInfoData json;

	if (!state->known)
		apikey_bound_ask(&bound, verdict->at, state);
	apikey_detail_begin(&json);
	apikey_detail_string(&json, "holder", holder_names[bound.holder]);
	apikey_detail_string(&json, "unit", bound.unit);
	apikey_detail_string(&json, "kind", apikey_limit_kind_name(bound.kind));
	apikey_detail_json(&json, "amount", bound.amount == 0 ? "null" :
					   psprintf(INT64_FORMAT, bound.amount));
	apikey_detail_json(&json, "period_seconds", seconds < 0 ? "null" :
					   psprintf("%.15g", seconds));
	apikey_detail_json(&json, "remaining", !state->known ? "null" :
					   psprintf(INT64_FORMAT, state->remaining));
	apikey_detail_json(&json, "resets_at", state->resets_at == 0 ? "null" :
					   apikey_json_time(state->resets_at));
	return apikey_detail_end(&json);
}

/* [{...}, ...]: all that a key is bound by. */
char *
apikey_bounds_json(const ApikeyVerdict *verdict)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (int i = 0; verdict->bounds != NULL && i < verdict->bounds->count; i++)
		appendStringInfo(&json, "%s%s", i == 0 ? "" : ", ",
						 apikey_bound_json(verdict, i));
	appendStringInfoChar(&json, ']');
	return json.data;
}
