/*
 * limiter.c
 *		Rate limits by the generic cell rate algorithm (ITU-T I.371, annex A).
 *
 * The state of a limit is one number, the theoretical arrival time: when all
 * that was spent will have come back.  limit tokens pass at once, then one
 * more each window / limit.  Advancing it by compare-and-swap lets exactly
 * that many pass, from however many processes.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "usage.h"

/* How long a token takes to come back, rounded up: never sooner. */
static int64
limit_step(const ApikeyLimit *limit)
{
	return (limit->window + limit->tokens - 1) / limit->tokens;
}

/*
 * The arrival time as it counts at an instant.  More than all is never spent:
 * where the number says so, others have been here since the caller's clock was
 * read, or the window has become shorter, or the clock has been set back.  A
 * clock that is read after the number tells: what is beyond all even then is
 * put right, by one attempt, since whoever else changes the number has put it
 * right, too.
 */
static int64
arrival_within(pg_atomic_uint64 *arrival, uint64 *seen, int64 room, int64 *now)
{
	if ((int64) *seen <= *now + room)
		return (int64) *seen;
	*now = Max(*now, GetCurrentTimestamp() * APIKEY_LIMITER_UNITS);
	if ((int64) *seen > *now + room &&
		pg_atomic_compare_exchange_u64(arrival, seen, (uint64) (*now + room)))
		*seen = (uint64) (*now + room);
	return Min((int64) *seen, *now + room);
}

/*
 * Takes cost tokens, if they are there, and tells what is left.  The loop goes
 * round again only where another process has taken some meanwhile, and each
 * round reads the clock once at most.
 */
bool
apikey_limiter_take(pg_atomic_uint64 *arrival, const ApikeyLimit *limit,
					int64 now, int32 cost, ApikeyLimitState *state)
{
	int64		step = limit_step(limit);
	int64		room = step * limit->tokens;
	uint64		seen = pg_atomic_read_u64(arrival);
	int64		before;
	int64		after;

	do
	{
		/* What came back before now is not saved up. */
		before = Max(arrival_within(arrival, &seen, room, &now), now);
		after = before + (cost > limit->tokens ? 0 : cost * step);
		if (cost > limit->tokens || after - now > room)
		{
			state->remaining = (int32) (Max(room - (before - now), 0) / step);
			state->reset = cost > limit->tokens ? 0 : after - room;
			return false;
		}
	} while (cost > 0 &&
			 !pg_atomic_compare_exchange_u64(arrival, &seen, (uint64) after));

	state->remaining = (int32) ((room - (after - now)) / step);
	state->reset = after;
	return true;
}

/* Gives back what was taken. */
void
apikey_limiter_return(pg_atomic_uint64 *arrival, const ApikeyLimit *limit,
					  int32 cost)
{
	pg_atomic_fetch_sub_u64(arrival, cost * limit_step(limit));
}

/* The limit of a key; false where it has none. */
bool
apikey_limiter_of(const ApikeyRow *key, ApikeyLimit *limit)
{
	Interval   *window;

	if (key->nulls[APIKEY_KEY_RATE_LIMIT])
		return false;
	window = DatumGetIntervalP(key->values[APIKEY_KEY_RATE_WINDOW]);
	limit->tokens = DatumGetInt32(key->values[APIKEY_KEY_RATE_LIMIT]);
	limit->window = ((int64) window->day * USECS_PER_DAY + window->time) *
		APIKEY_LIMITER_UNITS;
	return true;
}
