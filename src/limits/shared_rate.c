/*
 * shared_rate.c
 *		Rates that several servers share.
 *
 * The limiter is the primary's, in its memory.  The other servers ask it for
 * tokens, which are good for a second from when they were asked for; what is
 * not spent by then is lost.  So in any time at most as much passes on all
 * servers as the limiter lets pass in that and a second, and a round trip.
 * Where the primary has none it says how long to wait, and nobody asks again
 * before.  Cut off, such a rate is unavailable.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "usage/usage.h"
#include "limits/limits_internal.h"

/*
 * What stands in the row of a limit that is made now.  As long as it is the same
 * all that was spent of it is known: not in another lifetime, and not where the
 * row is restored, which is into another table.
 */
int64
apikey_shared_rate_lifetime(void)
{
	uint64		table = (uint64) MyDatabaseId << 32 |
		apikey_catalog_relation(APIKEY_REL_LIMIT);

	return apikey_lifetime_number() ^ (int64) table;
}

/*
 * On the primary: when it is full at the earliest, as what was spent before this
 * server knew of it may be all there was then; 0 where it may be full now.
 */
static int64
full_at_earliest(const ApikeyBound *bound)
{
	int64		full_at;

	if (bound->has_lifetime && bound->lifetime == apikey_shared_rate_lifetime())
		return 0;
	full_at = apikey_lifetime_began() * APIKEY_LIMITER_UNITS +
		bound->rate.window;
	return full_at > GetCurrentTimestamp() * APIKEY_LIMITER_UNITS ? full_at : 0;
}

/* On the primary, before anything is spent: nothing passes before it has come. */
void
apikey_shared_rate_fill(ApikeyBound *bound, ApikeySlotHint *hint)
{
	int64		full_at = full_at_earliest(bound);
	LWLock	   *lock;
	ApikeySlot *slot;

	if (full_at == 0)
		return;
	slot = apikey_slot_open(MyDatabaseId, &bound->id, hint, &lock);
	if (slot == NULL)
		return;					/* then nothing passes */
	apikey_limiter_not_before(slot, full_at);
	LWLockRelease(lock);
}

/* The same for who only looks, and has looked into the slot. */
void
apikey_shared_rate_look(const ApikeyBound *bound, TimestampTz now,
						ApikeyRateState *state)
{
	int64		full_at = full_at_earliest(bound);

	if (full_at != 0)
		apikey_limiter_look_before(&bound->rate, now * APIKEY_LIMITER_UNITS,
								   full_at, state);
}

/* Reads the shared rate of an id; false where it is none. */
static bool
read_rate(const pg_uuid_t *id, ApikeyBound *bound)
{
	ApikeyRow	limit;

	memset(bound, 0, sizeof(*bound));
	if (!apikey_table_fetch_latest(&apikey_limit_table, id, &limit) ||
		apikey_limit_kind(&limit) != APIKEY_LIMIT_RATE ||
		!apikey_row_bool(&limit, APIKEY_LIMIT_SHARED))
		return false;
	apikey_bound_of_limit(bound, &limit);
	return true;
}

/* Takes as many as there are, of those that are wanted. */
static int64
take_some(ApikeyBound *bound, const ApikeyFleetTake *take, int64 *wait)
{
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		int64		least = Max(take->least, 1);
		ApikeyRateState state;
		int64		some;

		if (apikey_usage_limit(&bound->id, &bound->hint, &bound->rate, 0, now,
							   &state) == APIKEY_LIMIT_UNAVAILABLE)
			return 0;
		some = Min(state.remaining, Max(take->most, least));
		if (some < least)
			(void) apikey_usage_limit(&bound->id, &bound->hint, &bound->rate,
									  least, now, &state);
		else if (apikey_usage_limit(&bound->id, &bound->hint, &bound->rate,
									some, now, &state) == APIKEY_LIMIT_PASSED)
			return some;
		else
			continue;			/* somebody else was there in between */
		*wait = state.reset == 0 ? 1000 :
			Max(1, (state.reset / APIKEY_LIMITER_UNITS - now + 999) / 1000);
		return 0;
	}
}

/*
 * Tokens for another server: how many; where there are none, how long there
 * will not be, in milliseconds, below 0 where there is no such rate.
 */
int64
apikey_shared_rate_hand_out(const ApikeyFleetTake *take, int64 *wait)
{
	ApikeyBound bound;
	int64		taken;
	uint8		era;

	*wait = -1;
	if (!read_rate(&take->limit, &bound))
		return 0;
	*wait = 1000;
	apikey_shared_rate_fill(&bound, &bound.hint);
	if (!take->charging)
		return take_some(&bound, take, wait);
	if (!apikey_usage_charge(&bound.id, &bound.hint, &bound.rate,
							 Max(take->least, 1), GetCurrentTimestamp(), &taken,
							 &era))
		return 0;
	return taken;
}
