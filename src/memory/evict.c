/*
 * evict.c
 *		Which slot is given up, where none is free.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/pg_prng.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define REST_LOOKED_AT	1024	/* slots, to find one at rest */
#define OWN_LOOKED_AT	16384	/* the same, to find one of a role's */
#define GIVEN_LOOKED_AT	4096	/* of a holder's, to find the one to take, */
#define GIVEN_COMPARED	16		/* or so many that can be taken */
#define GIVEN_TRIES		8		/* it has changed meanwhile */

/* Calls a lease back where its holder has more of them than it may. */
static bool
call_back_beyond(ApikeySlot *slot, TimestampTz now)
{
	int			holder = slot->holder;

	return holder >= 0 && apikey_share_leases_beyond(holder, now) > 0 &&
		apikey_lease_call_back(slot);
}

/*
 * Takes the next slot of a holder, or of whichever, with which no more is lost than
 * so much, round the clock; gives up after a while, with -1.  On the way a lease is
 * called back, if there is one to be.
 */
static int
take_next(int holder, int64 loss, TimestampTz now)
{
	int			looked_at = Min(apikey_memory_keys,
								holder < 0 ? REST_LOOKED_AT : OWN_LOOKED_AT);
	bool		called_back = false;

	for (int i = 0; i < looked_at; i++)
	{
		int			number = apikey_slot_next();
		ApikeySlot *slot = apikey_slot_at(number);
		int64		this;

		if (i == looked_at / 2)
			apikey_share_scarce(now);
		/* Read without a lock: apikey_slot_evict looks again. */
		if (!slot->used || (holder >= 0 && slot->holder != holder))
			continue;
		this = apikey_slot_loss(slot, now);
		if (this <= loss && apikey_slot_evict(number, holder, loss, now))
			return number;
		if (this == APIKEY_LOSS_LEASE && !called_back)
			called_back = call_back_beyond(slot, now);
	}
	return -1;
}

/*
 * Takes the next slot in hand that is at rest; -1 where none is found.  Counts of a
 * standby that reports to nobody are nothing that is lost.
 */
int
apikey_evict_resting(TimestampTz now)
{
	return take_next(-1, RecoveryInProgress() && !apikey_fleet ?
					 APIKEY_LOSS_COUNTS : APIKEY_LOSS_NONE, now);
}

/*
 * The same of a role's own slots, on a member in recovery, whatever they have of
 * counts: so it goes on limiting where it cannot tell of these.
 */
int
apikey_evict_own_counts(Oid database, Oid role, TimestampTz now)
{
	int			holder = RecoveryInProgress() && apikey_fleet ?
		apikey_share_holder(database, role) : -1;

	return holder < 0 ? -1 : take_next(holder, APIKEY_LOSS_COUNTS, now);
}

/*
 * Of a holder's slots, some found at random, the one that is least missed; -1
 * where none can be taken.  "loss" comes as APIKEY_LOSS_LEASE.  Leases that it has
 * beyond what it may are called back on the way, and one at least: it has a slot less.
 */
static int
least_missed(int holder, TimestampTz now, int64 *loss)
{
	int			start = (int) pg_prng_uint64_range(&pg_global_prng_state, 0,
												   apikey_memory_keys - 1);
	int			beyond = Max(apikey_share_leases_beyond(holder, now), 1);
	int			least = -1;
	int			compared = 0;

	for (int i = 0; i < apikey_memory_keys && compared < GIVEN_COMPARED &&
		 (i < GIVEN_LOOKED_AT || compared == 0); i++)
	{
		int			number = (start + i) % apikey_memory_keys;
		ApikeySlot *slot = apikey_slot_at(number);
		int64		this;

		if (!slot->used || slot->holder != holder)
			continue;
		this = apikey_slot_loss(slot, now);
		if (this == APIKEY_LOSS_LEASE)
			beyond -= beyond > 0 && apikey_lease_call_back(slot) ? 1 : 0;
		else
		{
			compared++;
			if (this < *loss)
			{
				least = number;
				*loss = this;
			}
		}
	}
	return least;
}

/*
 * Takes a slot in hand of who has more than a role; -1 where nobody has, or what
 * they have cannot be taken.
 */
int
apikey_evict_given(Oid database, Oid role, TimestampTz now)
{
	ApikeyStuck stuck = {0};

	for (int i = 0; i < GIVEN_TRIES; i++)
	{
		int64		loss = APIKEY_LOSS_LEASE;
		int			giver;
		int			number;

		giver = apikey_share_giver(database, role, &stuck);
		if (giver < 0)
			break;
		number = least_missed(giver, now, &loss);
		if (number < 0)
		{
			if (stuck.count == APIKEY_STUCK_MAX)
				break;
			stuck.holders[stuck.count++] = giver;
		}
		else if (apikey_slot_evict(number, giver, loss, now))
			return number;
	}
	return -1;
}
