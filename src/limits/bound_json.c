/*
 * bound_json.c
 *		What is told of the limits that a key is bound by.
 */
#include "postgres.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "credits/credits.h"
#include "limits/limits_internal.h"

static const char *const holder_names[] = {
	[APIKEY_HOLDER_KEY] = "key",
	[APIKEY_HOLDER_SUBJECT] = "subject",
	[APIKEY_HOLDER_PROJECT] = "project",
	[APIKEY_HOLDER_ORGANIZATION] = "organization"
};

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
