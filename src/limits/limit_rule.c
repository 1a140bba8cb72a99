/*
 * limit_rule.c
 *		What a limit may be.
 */
#include "postgres.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "limits/limits_internal.h"

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
	overdraft = apikey_limit_number(limit, APIKEY_LIMIT_OVERDRAFT);
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
	kind = apikey_limit_find_kind(apikey_row_text(limit, APIKEY_LIMIT_KIND));
	if (kind < 0)
		apikey_refuse("kind", "A kind is \"rate\", \"quota\" or \"balance\".");
	if (limit->nulls[APIKEY_LIMIT_AMOUNT])
		apikey_refuse_null("amount");
	amount = apikey_limit_number(limit, APIKEY_LIMIT_AMOUNT);
	if (amount < 1 || amount > APIKEY_LIMIT_MOST)
		apikey_refuse("amount", "An amount is 1 to 9007199254740992.");
	if (limit->nulls[APIKEY_LIMIT_SHARED])
		apikey_refuse_null("shared");
	rule_period(limit, kind);
	rule_overdraft(limit, kind);
}
