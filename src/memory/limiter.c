/*
 * limiter.c
 *		Rate limits by the generic cell rate algorithm (ITU-T I.371, annex A).
 *
 * The state of a limit is a time, the theoretical arrival time: when all that
 * was spent will have come back.  So many tokens pass at once, then evenly as
 * many in each window.  How far it is ahead of now is the limit's position: a
 * token moves it by window / tokens.
 *
 * The time is kept in nanoseconds, rounded up, and by how much in parts of one,
 * so that any number of tokens is as exact as one.  A token that takes no whole
 * number of parts takes one more; so many parts are let through that as many
 * tokens as there are pass at once all the same.
 *
 * A charge, of what has been used already, may move it by one more window: the
 * limit is in debt then.  Beyond that it is never: where the time says so, the
 * window has become shorter, or the clock has been set back.  Whoever spends puts
 * that right, and the limit is of another era then, into which nothing goes back
 * that was taken before.  Not so who only looks, by whatever row, or goes by one
 * that is not committed yet.
 *
 * What is given back has come back in part since it was taken, or all of it: only
 * the rest goes back.
 *
 * All of it is guarded by the slot's mutex, and a limit is found and locked by
 * that alone.
 */
#include "postgres.h"

#include "store/store.h"
#include "memory/memory.h"

#ifndef HAVE_INT128
#error "apikey needs a compiler with 128-bit integers"
#endif

#define PARTS_BITS		32		/* parts of a nanosecond, as powers of two */
#define PARTS_LET		(1 << 27)	/* at most, through */

/*
 * A division of what is not negative.  Most of what is divided here is no longer
 * than 64 bits, for which processors have an instruction.
 */
static int128
divide(int128 dividend, int64 divisor)
{
	if (dividend <= PG_INT64_MAX)
		return (int64) dividend / divisor;
	return (uint128) dividend / (uint128) divisor;
}

/* So many parts take that many tokens, rounded up. */
static int128
parts_of(const ApikeyRate *rate, int64 tokens)
{
	int128		product = (int128) tokens * rate->window;
	int128		whole = divide(product, rate->tokens);
	int128		rest = product - whole * rate->tokens;

	return (whole << PARTS_BITS) +
		divide((rest << PARTS_BITS) + rate->tokens - 1, rate->tokens);
}

/* So many tokens, and no part of one, take that many parts. */
static int64
tokens_in(const ApikeyRate *rate, int128 parts)
{
	int128		whole = parts >> PARTS_BITS;
	int128		rest = parts - (whole << PARTS_BITS);

	return (int64) divide(whole * rate->tokens +
						  ((rest * rate->tokens) >> PARTS_BITS), rate->window);
}

/* As far as verifications move a limit. */
static int128
room_of(const ApikeyRate *rate)
{
	return ((int128) rate->window << PARTS_BITS) +
		Min(rate->tokens, PARTS_LET);
}

/* What came back before now is not saved up. */
static int128
read_position(const ApikeySlot *slot, uint64 arrival, int64 now)
{
	int128		position = ((int128) ((int64) arrival - now) << PARTS_BITS) -
		slot->arrival_rest;

	return Max(position, 0);
}

static void
write_arrival(ApikeySlot *slot, int128 position, int64 now)
{
	int128		ahead = (position + ((int64) 1 << PARTS_BITS) - 1) >> PARTS_BITS;

	pg_atomic_write_u64(&slot->arrival, (uint64) (now + (int64) ahead));
	slot->arrival_rest = (uint32) ((ahead << PARTS_BITS) - position);
}

static void
write_position(ApikeySlot *slot, const ApikeyRate *rate, int128 position,
			   int64 now)
{
	write_arrival(slot, position, now);
	if (!apikey_changes_made() || position > room_of(rate))
		slot->in_debt = position > room_of(rate);
}

/*
 * Reads where a locked limit is.  Others may have been here since the caller's
 * clock was read, so another one is, which tells before anything is put right.
 * "beyond" is what it is further ahead than it can be, and stays.
 */
static int128
get_position(ApikeySlot *slot, const ApikeyRate *rate, bool spends, int64 *now,
			 int128 *beyond)
{
	int128		most = room_of(rate);
	int128		position;
	int64		later;

	*beyond = 0;
	position = read_position(slot, pg_atomic_read_u64(&slot->arrival), *now);
	if (position <= most)
		return position;

	later = GetCurrentTimestamp() * APIKEY_LIMITER_UNITS;
	*now = Max(*now, later);
	position = read_position(slot, pg_atomic_read_u64(&slot->arrival), *now);
	most += slot->in_debt ? most : 0;
	if (position <= most)
		return position;
	if (spends && !apikey_changes_made())
	{
		write_position(slot, rate, most, *now);
		slot->arrival_era++;
	}
	else
		*beyond = position - most;
	return most;
}

/* When a position ahead of now is, in whole units. */
static int64
time_of(int128 position, int64 now)
{
	return now + (int64) ((position + ((int64) 1 << PARTS_BITS) - 1) >>
						  PARTS_BITS);
}

/* Before a time not all can be back, whatever is known here. */
void
apikey_limiter_not_before(ApikeySlot *slot, int64 full_at)
{
	SpinLockAcquire(&slot->mutex);
	if ((int64) pg_atomic_read_u64(&slot->arrival) < full_at)
	{
		pg_atomic_write_u64(&slot->arrival, (uint64) full_at);
		slot->arrival_rest = 0;
	}
	SpinLockRelease(&slot->mutex);
}

/* No more than that is left of it, for who has looked into the slot. */
void
apikey_limiter_look_before(const ApikeyRate *rate, int64 now, int64 full_at,
						   ApikeyRateState *state)
{
	int128		position = (int128) (full_at - now) << PARTS_BITS;
	int128		room = room_of(rate);
	int64		left = position >= room ? 0 :
		Min(tokens_in(rate, room - position), rate->tokens);

	state->remaining = Min(state->remaining, left);
	state->reset = Max(state->reset, full_at);
}

/*
 * Takes cost tokens of a limit, if they are there, and tells what is left.  A
 * limit that nobody has spent of is not there yet: it is made, or UNAVAILABLE.
 */
ApikeyLimitVerdict
apikey_limiter_take(const pg_uuid_t *id, ApikeySlotHint *hint, bool make,
					const ApikeyRate *rate, int64 now, int64 cost,
					ApikeyRateState *state)
{
	int128		room = room_of(rate);
	int128		parts = cost == 0 || cost > rate->tokens ? 0 :
		parts_of(rate, cost);
	ApikeySlot *slot = apikey_slot_seize(id, hint, make);
	int128		position;
	int128		beyond;
	bool		passed;

	if (slot == NULL)
		return APIKEY_LIMIT_UNAVAILABLE;
	position = get_position(slot, rate, cost > 0, &now, &beyond);
	passed = cost == 0 || (cost <= rate->tokens && position + parts <= room);
	if (passed && cost > 0)
	{
		position += parts;
		write_position(slot, rate, position, now);
	}
	state->era = slot->arrival_era;
	SpinLockRelease(&slot->mutex);
	state->remaining = position >= room ? 0 :
		Min(tokens_in(rate, room - position), rate->tokens);
	if (passed)
		state->reset = time_of(position, now);
	else
		state->reset = cost > rate->tokens ? 0 :
			time_of(position + parts - room, now);
	return passed ? APIKEY_LIMIT_PASSED : APIKEY_LIMIT_REACHED;
}

/*
 * Takes tokens that have been used, whether they are there or not, but for what
 * would be more than a window in debt; tells how many.  False where there is no
 * room for the limit.
 */
bool
apikey_limiter_charge(const pg_uuid_t *id, ApikeySlotHint *hint,
					  const ApikeyRate *rate, int64 now, int64 cost,
					  int64 *taken, uint8 *era)
{
	int128		most = 2 * room_of(rate);
	int64		wanted = Min(cost, 2 * rate->tokens);
	int128		parts = parts_of(rate, wanted);
	ApikeySlot *slot = apikey_slot_seize(id, hint, true);
	int128		position;
	int128		beyond;

	if (slot == NULL)
		return false;
	position = get_position(slot, rate, true, &now, &beyond);
	if (position + parts > most)
	{
		wanted = position >= most ? 0 :
			Min(wanted, tokens_in(rate, most - position));
		parts = parts_of(rate, wanted);
	}
	if (wanted > 0)
		write_position(slot, rate, position + beyond + parts, now);
	*era = slot->arrival_era;
	SpinLockRelease(&slot->mutex);
	*taken = wanted;
	return true;
}

/*
 * Moves a locked limit back by so much as has not come back by itself, which all has
 * at a time, in parts.  The clock is read now: while others had the limit, more has.
 */
static void
move_back(ApikeySlot *slot, int128 until)
{
	int64		now = GetCurrentTimestamp() * APIKEY_LIMITER_UNITS;
	int128		rest = until - ((int128) now << PARTS_BITS);
	int128		position = read_position(slot, pg_atomic_read_u64(&slot->arrival),
										 now);

	if (rest > 0)
		write_arrival(slot, Max(position - rest, 0), now);
}

/* Gives back what was taken of a limit in an era. */
static void
give_back(const pg_uuid_t *id, ApikeySlotHint *hint, uint8 era, int128 until)
{
	ApikeySlot *slot = apikey_slot_seize(id, hint, false);

	if (slot == NULL)
		return;					/* its database has been dropped */
	if (slot->arrival_era == era)
		move_back(slot, until);
	SpinLockRelease(&slot->mutex);
}

/* Gives back tokens that were taken at a time. */
void
apikey_limiter_return(const pg_uuid_t *id, ApikeySlotHint *hint, uint8 era,
					  const ApikeyRate *rate, int64 taken_at, int64 tokens)
{
	give_back(id, hint, era,
			  ((int128) taken_at << PARTS_BITS) + parts_of(rate, tokens));
}

/* Gives back what will have come back by itself at a time; 0: nothing. */
void
apikey_limiter_return_until(const pg_uuid_t *id, uint8 era, int64 until)
{
	if (until > 0)
		give_back(id, NULL, era, (int128) until << PARTS_BITS);
}

/*
 * How long so many tokens take to come back; rounded down, as no more is to be
 * given back than was taken, and no longer than all that can be out.
 */
int64
apikey_limiter_time(const ApikeyRate *rate, int64 tokens)
{
	tokens = Min(tokens, 2 * rate->tokens);
	return (int64) (parts_of(rate, tokens) >> PARTS_BITS);
}
