/*
 * period.c
 *		The periods of quotas: where one begins, and where it ends.
 *
 * A period of exactly an hour, a day, seven days, a month or a year is the
 * calendar's, in UTC, a week beginning on Monday.  Every other one is counted
 * from an anchor: the n-th begins n periods after it, each counted anew from
 * the anchor, so that months from the 31st on end on the last day of a shorter
 * month and on the 31st again.
 *
 * Times are computed as timestamps without time zone, which for UTC are the
 * same numbers, so that no session's time zone has a say.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "text/text.h"

/* What date_trunc calls the calendar's periods. */
static const struct
{
	Interval	length;
	const char *unit;
}			calendar[] = {
	{{.time = USECS_PER_HOUR}, "hour"},
	{{.day = 1}, "day"},
	{{.day = 7}, "week"},
	{{.month = 1}, "month"},
	{{.month = 12}, "year"}
};

/* Are two lengths the same, field by field?  A month is not 30 days. */
bool
apikey_period_same(const Interval *one, const Interval *two)
{
	return one->month == two->month && one->day == two->day &&
		one->time == two->time;
}

/* Is a length one positive field, and nothing else? */
bool
apikey_period_one_field(const Interval *period)
{
	return (period->month > 0) + (period->day > 0) + (period->time > 0) == 1 &&
		period->month >= 0 && period->day >= 0 && period->time >= 0;
}

/* The unit of a calendar's period; NULL for another. */
static const char *
calendar_unit(const Interval *period)
{
	for (size_t i = 0; i < lengthof(calendar); i++)
	{
		if (apikey_period_same(period, &calendar[i].length))
			return calendar[i].unit;
	}
	return NULL;
}

/* So many periods after a time. */
static TimestampTz
time_after(TimestampTz start, const Interval *period, int64 times)
{
	Interval	span = {
		.month = (int32) (period->month * times),
		.day = (int32) (period->day * times),
		.time = period->time * times
	};

	return DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
												 TimestampGetDatum(start),
												 IntervalPGetDatum(&span)));
}

/*
 * How many whole periods have gone from an anchor to a time.  A month has 28
 * to 31 days: from the shortest an estimate goes down to what is right.
 */
static int64
periods_gone(TimestampTz anchor, const Interval *period, TimestampTz now)
{
	int64		shortest = period->time +
		(period->day + period->month * (int64) 28) * USECS_PER_DAY;
	int64		longest = period->time +
		(period->day + period->month * (int64) 31) * USECS_PER_DAY;
	int64		low;
	int64		high;

	if (now < anchor)
		return 0;
	low = (now - anchor) / longest;
	high = (now - anchor) / shortest;
	while (low < high)
	{
		int64		middle = high - (high - low) / 2;

		if (time_after(anchor, period, middle) <= now)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/*
 * The period that a time is in: its beginning and its end, which is the next
 * one's beginning.  Before the anchor it is the first.
 */
void
apikey_period_at(const Interval *period, TimestampTz anchor, TimestampTz now,
				 TimestampTz *begin, TimestampTz *end)
{
	const char *unit = calendar_unit(period);
	int64		gone;

	if (unit != NULL)
	{
		*begin = DatumGetTimestamp(DirectFunctionCall2(timestamp_trunc,
													   CStringGetTextDatum(unit),
													   TimestampGetDatum(now)));
		*end = time_after(*begin, period, 1);
		return;
	}
	gone = periods_gone(anchor, period, now);
	*begin = time_after(anchor, period, gone);
	*end = time_after(anchor, period, gone + 1);
}
