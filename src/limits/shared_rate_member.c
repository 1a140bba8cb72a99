/*
 * shared_rate_member.c
 *		Rates that several servers share, on one that is not the primary: tokens
 *		of the primary.
 *
 * They stand where else the lease of an account does, in the slot of the limit,
 * under its mutex:
 *
 *		available	tokens that are not spent
 *		until		they are good; or, with left_at, so long there are none
 *		left		tokens that came last, of which "low" are spent
 *		changes		counts answers
 *
 * What is spent of them does not come back with a rollback, nor by a charge.  New
 * ones take the place of those that are left, which are good for less time; none
 * of those comes back then.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "memory/memory.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "limits/limits_internal.h"

#define GOOD_FOR		USECS_PER_SEC
#define WAIT_STEP		20		/* milliseconds; then the primary is asked again */

/* Spends of the tokens that are here; the slot's mutex is held. */
static ApikeyCreditVerdict
spend_tokens(ApikeyLease *tokens, int64 cost, TimestampTz now,
			 ApikeyBoundState *state)
{
	tokens->of_rate = true;
	if (now >= tokens->until)
		return APIKEY_CREDIT_ASK;
	if (tokens->left_at != 0)
	{
		state->known = true;
		state->remaining = 0;
		state->resets_at = tokens->until;
		return APIKEY_CREDIT_EXHAUSTED;
	}
	if (tokens->available < cost)
		return APIKEY_CREDIT_ASK;
	tokens->available -= cost;
	tokens->low += cost;
	tokens->spent_at = now;
	state->era = tokens->changes;
	return APIKEY_CREDIT_SPENT;
}

static ApikeyCreditVerdict
try_to_spend(ApikeyBound *bound, ApikeySlotHint *hint, int64 cost,
			 ApikeyBoundState *state)
{
	TimestampTz now = GetCurrentTimestamp();
	LWLock	   *lock;
	ApikeySlot *slot = !apikey_preloaded() ? NULL :
		apikey_slot_open(MyDatabaseId, &bound->id, hint, &lock);
	ApikeyCreditVerdict verdict;

	if (slot == NULL)
		return APIKEY_CREDIT_UNAVAILABLE;
	SpinLockAcquire(&slot->mutex);
	verdict = spend_tokens(&slot->lease, cost, now, state);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return verdict;
}

static void
begin_waiting(TimestampTz *wait_until)
{
	if (*wait_until == 0)
		*wait_until = apikey_verification_until();
}

/* Spends of a shared rate: tokens of the primary; 0 asks nobody. */
ApikeyLimitVerdict
apikey_shared_rate_spend(ApikeyBound *bound, ApikeySlotHint *hint, int64 cost,
						 TimestampTz *wait_until, ApikeyBoundState *state)
{
	ApikeyCreditVerdict verdict;

	if (cost == 0)
		return apikey_fleet_connected(MyDatabaseId) ? APIKEY_LIMIT_PASSED :
			APIKEY_LIMIT_UNAVAILABLE;
	if (cost > bound->rate.tokens)
	{
		state->known = true;
		return APIKEY_LIMIT_REACHED;
	}
	verdict = try_to_spend(bound, hint, cost, state);
	if (verdict == APIKEY_CREDIT_ASK && apikey_fleet_connected(MyDatabaseId))
	{
		begin_waiting(wait_until);
		apikey_lease_prepare_to_wait();
		while ((verdict = try_to_spend(bound, hint, cost, state)) == APIKEY_CREDIT_ASK &&
			   GetCurrentTimestamp() < *wait_until &&
			   apikey_fleet_connected(MyDatabaseId))
		{
			apikey_lease_ask(&bound->id, cost, true, false);
			apikey_lease_wait(WAIT_STEP);
		}
		apikey_lease_end_wait();
	}
	if (verdict == APIKEY_CREDIT_SPENT)
		return APIKEY_LIMIT_PASSED;
	return verdict == APIKEY_CREDIT_EXHAUSTED ? APIKEY_LIMIT_REACHED :
		APIKEY_LIMIT_UNAVAILABLE;
}

/* Puts back what was spent just now, as something else was refused. */
void
apikey_shared_rate_unspend(ApikeyBound *bound, ApikeySlotHint *hint, int64 cost,
						   const ApikeyBoundState *state)
{
	TimestampTz now = GetCurrentTimestamp();
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(MyDatabaseId, &bound->id, hint, &lock);

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	if (now < slot->lease.until && slot->lease.changes == state->era)
	{
		slot->lease.available += cost;
		slot->lease.low -= cost;
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* How often the primary has answered about a limit; 0 without a slot. */
static uint32
answers(ApikeyBound *bound)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_open(MyDatabaseId, &bound->id, &bound->hint,
										&lock);
	uint32		changes;

	if (slot == NULL)
		return 0;
	SpinLockAcquire(&slot->mutex);
	slot->lease.of_rate = true;
	changes = slot->lease.changes;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return changes;
}

/* Takes what the primary has let through; false where there is nothing of it. */
static bool
take_charged(ApikeyBound *bound, int64 cost, int64 *taken)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(MyDatabaseId, &bound->id, &bound->hint,
										&lock);
	bool		refused;

	*taken = 0;
	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	refused = slot->lease.left_at != 0;
	if (!refused)
		*taken = Min(cost, slot->lease.available);
	slot->lease.available -= *taken;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return refused || *taken > 0;
}

/*
 * Spends what has been used already, into debt; tells how much of it.  False
 * where the primary does not answer.  It is asked again only where somebody
 * else has taken what it answered.
 */
bool
apikey_shared_rate_charge(ApikeyBound *bound, int64 cost,
						  TimestampTz *wait_until, int64 *taken)
{
	uint32		seen = answers(bound);
	bool		asked = false;
	bool		done = false;

	if (!apikey_fleet_connected(MyDatabaseId))
		return false;
	begin_waiting(wait_until);
	apikey_lease_prepare_to_wait();
	while (!done && GetCurrentTimestamp() < *wait_until &&
		   apikey_fleet_connected(MyDatabaseId))
	{
		uint32		now;

		if (!asked)
			apikey_lease_ask(&bound->id, cost, true, true);
		asked = true;
		apikey_lease_wait(WAIT_STEP);
		now = answers(bound);
		if (now != seen)
		{
			done = take_charged(bound, cost, taken);
			asked = false;
		}
		seen = now;
	}
	apikey_lease_end_wait();
	return done;
}

/*
 * How many are asked for: as many as were spent of the last, or twice as many
 * where these were not enough.  The slot's mutex is held.
 */
static void
fill_take(const ApikeyLease *tokens, ApikeyFleetTake *take)
{
	int64		required = tokens->low >= tokens->left ?
		apikey_credits_sum(tokens->low, tokens->low) : tokens->low;

	take->least = Max(tokens->wanted_least, 1);
	take->most = Max(Max(tokens->wanted_most, required), take->least);
	take->charging = tokens->overdrawing;
	if (take->charging)
		take->least = take->most = Max(tokens->wanted_most, 1);
}

/* Takes limits of a database off the list of those that somebody asks for. */
int
apikey_fleet_rate_asked(Oid database, ApikeyFleetTake *takes, int most)
{
	int			asked = 0;
	pg_uuid_t  *limits = palloc(most * sizeof(pg_uuid_t));
	/* Before any is looked at: whoever waits may ask anew. */
	int			count = apikey_lease_take_asked_rates(database, limits, most);

	for (int i = 0; i < count; i++)
	{
		LWLock	   *lock;
		ApikeySlot *slot = apikey_slot_find(database, &limits[i], NULL, &lock);
		bool		wanted;

		if (slot == NULL)
			continue;
		takes[asked].limit = limits[i];
		SpinLockAcquire(&slot->mutex);
		/* Who asked may have been answered meanwhile. */
		wanted = slot->lease.wanted_most > 0;
		fill_take(&slot->lease, &takes[asked]);
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
		asked += wanted;
	}
	pfree(limits);
	return asked;
}

/* The primary has answered about a limit what it was asked at a time. */
void
apikey_fleet_rate_answered(Oid database, const ApikeyFleetTaken *taken,
						   TimestampTz sent_at)
{
	TimestampTz now = GetCurrentTimestamp();
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(database, &taken->limit, NULL, &lock);
	ApikeyLease *tokens;

	if (slot != NULL)
	{
		tokens = &slot->lease;
		SpinLockAcquire(&slot->mutex);
		tokens->of_rate = true;
		tokens->available = taken->granted;
		tokens->left = taken->granted;
		tokens->left_at = taken->granted > 0 ? 0 : now;
		tokens->until = taken->granted > 0 ? sent_at + GOOD_FOR :
			TimestampTzPlusMilliseconds(now, taken->wait < 0 ? 1000 : taken->wait);
		tokens->low = 0;
		tokens->changes++;
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
	}
	apikey_lease_answer(database, &taken->limit);
}

/* It has not answered: who waits looks again, and may ask again. */
void
apikey_fleet_rate_unanswered(Oid database, const pg_uuid_t *limit)
{
	apikey_lease_answer(database, limit);
}
