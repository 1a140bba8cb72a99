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

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "limits/limits_internal.h"
#include "limits/tally.h"

/* What a verification is to spend of a limit; 0 for nothing. */
static int64
cost_of(const ApikeyBound *bound, const ApikeyRequirements *required)
{
	if (bound->of_requests)
		return required->cost;
	return required->costs == NULL ? 0 :
		apikey_costs_of(required->costs, bound->unit);
}

static TimestampTz
rate_time(int64 time)
{
	return (time + APIKEY_LIMITER_UNITS - 1) / APIKEY_LIMITER_UNITS;
}

static void
complain(const ApikeyVerdict *verdict, const ApikeyBound *bound)
{
	const char *id = apikey_id_string(verdict->id);

	if (bound->kind == APIKEY_LIMIT_RATE &&
		!(bound->shared ? apikey_preloaded() : apikey_usage_shared()))
		apikey_complain(APIKEY_COMPLAINT_PRELOAD,
						"API key %s has a rate limit, and the library \"apikey\" is not in \"shared_preload_libraries\".",
						id);
	else if (bound->shared && apikey_fleet_limits_elsewhere())
		apikey_complain(APIKEY_COMPLAINT_CREDITS,
						"A rate that servers share limits API key %s, and the primary does not answer, or somebody has the catalogs of subscriptions locked.",
						id);
	else if (bound->kind == APIKEY_LIMIT_RATE)
		apikey_complain(apikey_preloaded() ? APIKEY_COMPLAINT_ROOM :
						APIKEY_COMPLAINT_PRELOAD,
						"There is no room in shared memory for the rate limit of API key %s.",
						id);
	else
		apikey_complain(APIKEY_COMPLAINT_CREDITS,
						apikey_catalog()->first_script ?
						"Credits of API key %s are not spent before \"ALTER EXTENSION apikey UPDATE\"." :
						"Credits of API key %s cannot be written now, or the worker that leases them does not answer.",
						id);
}

/* Spends of a rate that is limited here; cost 0 only asks. */
static ApikeyCode
spend_rate(const ApikeyVerdict *verdict, ApikeyBound *bound,
		   ApikeySlotHint *hint, int64 cost, ApikeyBoundState *state)
{
	ApikeyRateState rate;
	ApikeyLimitVerdict passed;

	if (bound->shared && cost > 0)
		apikey_shared_rate_fill(bound, hint);
	passed = apikey_usage_limit(&bound->id, hint, &bound->rate, cost,
								verdict->at, &rate);
	if (passed == APIKEY_LIMIT_UNAVAILABLE)
		return APIKEY_CODE_UNAVAILABLE;
	if (bound->shared && cost == 0)
		apikey_shared_rate_look(bound, verdict->at, &rate);
	state->known = true;
	state->remaining = rate.remaining;
	state->resets_at = rate_time(rate.reset);
	state->era = rate.era;
	return passed == APIKEY_LIMIT_PASSED ? APIKEY_CODE_VALID :
		APIKEY_CODE_RATE_LIMITED;
}

static ApikeyCode
spend_account(ApikeyBound *bound, ApikeySpending *spending,
			  ApikeyBoundState *state)
{
	ApikeyCreditVerdict spent;

	/* Without the library, only credits are kept. */
	if (!bound->short_form && !apikey_preloaded())
		return APIKEY_CODE_UNAVAILABLE;
	spent = apikey_credit_spend(spending);
	if (spent == APIKEY_CREDIT_UNAVAILABLE)
		return APIKEY_CODE_UNAVAILABLE;
	state->known = spending->known;
	state->remaining = spending->left;
	state->resets_at = spending->until == DT_NOEND ? 0 : spending->until;
	state->era = spending->generation;
	state->in_row = spending->in_row;
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

	if (!apikey_fleet_limits_elsewhere())
		return apikey_preloaded() ?
			spend_rate(verdict, bound, hint, cost, state) :
			APIKEY_CODE_UNAVAILABLE;
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
		memcmp(&bound->id, verdict->id, sizeof(pg_uuid_t)) == 0 ?
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
	spending->now = verdict->at;
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
	ApikeyRateState rate = {.era = (uint8) state->era};

	if (bound->shared && apikey_fleet_limits_elsewhere())
	{
		apikey_shared_rate_unspend(bound, hint_of(verdict, bound), cost, state);
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
count_spent(const ApikeyVerdict *verdict, const ApikeyRequirements *required)
{
	apikey_tally_begin();
	for (int i = 0; i < verdict->bounds->count; i++)
	{
		const ApikeyBound *bound = &verdict->bounds->list[i];
		int64		cost = cost_of(bound, required);

		apikey_tally_spent(verdict, bound, &verdict->states[i], cost);
		if (bound->first_of_unit)
			apikey_tally_unit(verdict->id, bound, cost);
	}
}

static ApikeyCode
spend_all(ApikeyVerdict *verdict, const ApikeyRequirements *required)
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
		int64		cost = cost_of(&bounds->list[i], required);
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
			int64		cost = cost_of(&bounds->list[i], required);

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
	if (code == APIKEY_CODE_VALID && apikey_preloaded())
		count_spent(verdict, required);
	tell_tightest(verdict);
	if (verdict->refused_by >= 0)
		tell_refusing(verdict);
	apikey_mark_bounds(verdict, code);
	return code;
}

/*
 * Spends what a key that passes everything else is limited in: all of it, or
 * nothing.
 */
ApikeyCode
apikey_bounds_spend(ApikeyVerdict *verdict, const ApikeyRequirements *required)
{
	if (!verdict->bounds->more && !verdict->bounds->far)
		return spend_all(verdict, required);
	if (verdict->bounds->far)
		apikey_complain(APIKEY_COMPLAINT_CHAIN,
						"API key %s has been replaced too many times in its grace.",
						apikey_id_string(verdict->id));
	else
		apikey_complain(APIKEY_COMPLAINT_LIMITS,
						"API key %s has more than %d limits, its own and those of where it belongs.",
						apikey_id_string(verdict->id), APIKEY_BOUNDS_MAX);
	return APIKEY_CODE_UNAVAILABLE;
}

/* Looks at what is left of a limit that has been asked for nothing. */
void
apikey_bound_ask(const ApikeyBound *bound, TimestampTz now,
				 ApikeyBoundState *state)
{
	ApikeyLeaseRow lease;
	ApikeyRateState rate;
	ApikeyRow	row;

	if (bound->kind == APIKEY_LIMIT_RATE)
	{
		/* A member has but tokens of it. */
		if (bound->shared ?
			!apikey_preloaded() || apikey_fleet_limits_elsewhere() :
			!apikey_usage_shared())
			return;
		apikey_usage_look(&bound->id, &bound->rate, now, &rate);
		if (bound->shared)
			apikey_shared_rate_look(bound, now, &rate);
		state->known = true;
		state->remaining = rate.remaining;
		state->resets_at = rate_time(rate.reset);
		state->era = rate.era;
		return;
	}
	state->remaining = apikey_account_left(&bound->id, &row, &state->known);
	if (state->known)
	{
		apikey_account_lease(&row, &lease);
		state->resets_at = lease.until == DT_NOEND ? 0 : lease.until;
		state->era = lease.generation;
	}
}

/* What is left of a limit now, for the view. */
void
apikey_bound_look(const ApikeyRow *limit, ApikeyBoundState *state)
{
	ApikeyBound bound = {.id = *apikey_row_id(limit)};

	memset(state, 0, sizeof(*state));
	bound.kind = apikey_limit_kind(limit);
	apikey_bound_set_from_limit(&bound, limit);
	apikey_bound_ask(&bound, GetCurrentTimestamp(), state);
}
