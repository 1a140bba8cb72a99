/*
 * charge.c
 *		Charging a key what a request has turned out to cost, or giving back.
 *
 * A charge is of the limits that a verification of the key would spend of, and
 * does not refuse: a rate goes into debt, by one more of its amount, a quota or
 * balance to its overdraft.  What is beyond is dropped, and told of.  Nothing
 * is written here; where one limit cannot take part now, an error undoes what
 * others have taken.
 *
 * What is given back is at most what the key has spent in the present period,
 * as tally.c knows it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "limits/limits_internal.h"
#include "limits/tally.h"

pg_noreturn static void
refuse_now(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot charge the API key now"),
			 errdetail("A limit has no room in shared memory, or the worker that leases of it does not answer, or there are more than a verification looks at, or the key has been replaced too many times in its grace."),
			 errhint("Charge it again.")));
}

static void
tell_dropped(const ApikeyVerdict *verdict, const ApikeyBound *bound,
			 int64 dropped)
{
	if (dropped > 0)
		apikey_tally_dropped(verdict->id, bound, dropped);
}

static int64
charge_rate(ApikeyVerdict *verdict, ApikeyBound *bound, int64 cost,
			TimestampTz *wait_until)
{
	ApikeyBoundState state = {0};
	int64		taken;
	uint8		era;

	if (bound->shared && apikey_fleet_limits_elsewhere())
	{
		if (!apikey_shared_rate_charge(bound, cost, wait_until, &taken))
			refuse_now();
		tell_dropped(verdict, bound, cost - taken);
		return taken;
	}
	if (bound->shared)
		apikey_shared_rate_fill(bound, &bound->hint);
	if (!apikey_usage_charge(&bound->id, &bound->hint, &bound->rate, cost,
							 verdict->at, &taken, &era))
		refuse_now();
	state.era = era;
	apikey_tally_rate_charged(verdict, bound, &state, taken);
	apikey_tally_spent(verdict, bound, &state, taken);
	tell_dropped(verdict, bound, cost - taken);
	return taken;
}

static int64
charge_account(ApikeyVerdict *verdict, ApikeyBound *bound, int64 cost,
			   TimestampTz *wait_until, ApikeyBoundState *state)
{
	ApikeySpending spending = {
		.account = &bound->id,
		.hint = &bound->hint,
		.now = verdict->at,
		.cost = cost,
		.charge = true,
		.overdraft = bound->overdraft,
		.wait_until = *wait_until
	};

	if (apikey_credit_spend(&spending) != APIKEY_CREDIT_SPENT)
		refuse_now();
	*wait_until = spending.wait_until;
	state->known = spending.known;
	state->remaining = spending.left;
	state->resets_at = spending.until == DT_NOEND ? 0 : spending.until;
	state->era = spending.generation;
	apikey_tally_spent(verdict, bound, state, spending.taken);
	tell_dropped(verdict, bound, cost - spending.taken);
	return spending.taken;
}

/* Gives back of a rate; of one that is not limited here nothing. */
static void
give_back_rate(const ApikeyVerdict *verdict, const ApikeyBound *bound,
			   int64 amount)
{
	ApikeyRateState rate;

	if (bound->shared && apikey_fleet_limits_elsewhere())
		return;
	apikey_usage_look(&bound->id, &bound->rate, verdict->at, &rate);
	apikey_tally_give_back_rate(verdict->id, bound, &rate, amount);
}

/* Gives back of a limit what the key has spent of it, at most. */
static int64
give_back(ApikeyVerdict *verdict, ApikeyBound *bound, int64 amount,
		  TimestampTz *wait_until)
{
	ApikeyBoundState state = {0};
	ApikeySpending spending = {
		.account = &bound->id,
		.hint = &bound->hint,
		.wait_until = *wait_until
	};

	if (bound->kind == APIKEY_LIMIT_RATE)
	{
		give_back_rate(verdict, bound, amount);
		return 0;
	}
	apikey_bound_ask(bound, verdict->at, &state);
	amount = apikey_tally_take(verdict->id, bound, &state, amount,
							   &spending.of_row);
	if (amount == 0)
		return 0;
	spending.cost = amount;
	spending.until = state.resets_at == 0 ? DT_NOEND : state.resets_at;
	spending.generation = state.era;
	if (apikey_credit_refund(&spending) != APIKEY_CREDIT_SPENT)
		refuse_now();
	*wait_until = spending.wait_until;
	return -amount;
}

/* What came of a charge, by unit: the most that a limit of it took or got. */
static void
count_units(const ApikeyVerdict *verdict, const int64 *taken)
{
	const ApikeyBounds *bounds = verdict->bounds;

	for (int i = 0; i < bounds->count; i++)
	{
		int64		most = taken[i];

		if (!bounds->list[i].first_of_unit)
			continue;
		for (int j = i + 1; j < bounds->count; j++)
		{
			if (strcmp(bounds->list[j].unit, bounds->list[i].unit) == 0 &&
				(most < 0 || taken[j] < 0 ? taken[j] < most : taken[j] > most))
				most = taken[j];
		}
		apikey_tally_unit(verdict->id, &bounds->list[i], most);
	}
}

/*
 * Is it not known what a key is limited by?  One that has ended, and has been
 * replaced very often, has none of its own, as one that is deleted.
 */
static bool
is_unknown(const ApikeyVerdict *verdict)
{
	return verdict->bounds->more ||
		(verdict->bounds->far &&
		 !apikey_status_ended(&verdict->state, verdict->term, verdict->at));
}

/* Charges a key that has limits. */
void
apikey_charge_key(ApikeyVerdict *verdict, Jsonb *costs)
{
	ApikeyBounds *bounds = verdict->bounds;
	TimestampTz wait_until = 0;
	int64	   *taken = palloc0(bounds->count * sizeof(int64));

	if (is_unknown(verdict))
		refuse_now();
	apikey_tally_begin();
	verdict->refused_by = -1;
	verdict->states = palloc0(bounds->count * sizeof(ApikeyBoundState));
	for (int i = 0; i < bounds->count; i++)
	{
		ApikeyBound *bound = &bounds->list[i];
		int64		cost = apikey_costs_of(costs, bound->unit);

		if (cost < 0)
			taken[i] = give_back(verdict, bound, -cost, &wait_until);
		else if (cost > 0 && bound->kind == APIKEY_LIMIT_RATE)
			taken[i] = charge_rate(verdict, bound, cost, &wait_until);
		else if (cost > 0)
			taken[i] = charge_account(verdict, bound, cost, &wait_until,
									  &verdict->states[i]);
	}
	count_units(verdict, taken);
	apikey_mark_bounds(verdict, APIKEY_CODE_VALID);
}
