/*
 * lease_rest.c
 *		Whether a slot can go, for the lease that is in it.
 *
 * What a transaction has spent of a lease may come back into it as long as that
 * is open: so long the slot is pinned, and nobody can be given it.  Of each
 * process the first pins are free; those beyond are counted, each slot once, of
 * whose it is, and are bounded: see share.c.
 *
 * A prepared transaction pins nothing, but where it has an account's row, what is
 * leased cannot go back.  Its slots stay counted until somebody has the row.
 *
 * What a lease has that is out, the worker alone gives back: slots with such, or
 * pinned ones, are counted as well, and bounded, and can be called back.
 */
#include "postgres.h"

#include "memory/memory_internal.h"

#define ASKED_KEPT	USECS_PER_MINUTE

/* What a lease has of pins. */
#define PIN_COUNTED		1
#define PIN_PREPARED	2		/* somebody who is prepared has the row */
#define PINS			(PIN_COUNTED | PIN_PREPARED)
#define LEASE_COUNTED	4		/* it is out, or pinned; kept beside them */

/*
 * Is something offered?  What the primary was asked for and has not answered
 * for long keeps no slot.
 */
static bool
offer_out(const ApikeyOffer *offer, TimestampTz now)
{
	return offer->number != 0 &&
		(offer->generation != APIKEY_ASKED_OF_PRIMARY ||
		 now < offer->until + ASKED_KEPT);
}

/* May a slot be given to another key?  Under its partition's lock. */
bool
apikey_lease_at_rest(ApikeySlot *slot, TimestampTz now)
{
	const ApikeyLease *lease = &slot->lease;

	return lease->unsettled == 0 && !offer_out(&lease->offer, now) &&
		(lease->available == 0 || lease->until <= now);
}

/* Has a process that has noted so much no free pin any more? */
static bool
is_counted(int noted)
{
	static int	free_pins = -1;

	if (free_pins < 0)
		free_pins = apikey_share_free_pins();
	return noted >= free_pins;
}

/* May a process pin a slot, whose mutex is held, that has noted so much? */
bool
apikey_lease_may_pin(const ApikeySlot *slot, int noted)
{
	return !is_counted(noted) || (slot->lease.pins & PINS) != 0 ||
		apikey_share_may_pin(slot->holder);
}

/* A slot, whose mutex is held, is not pinned. */
static void
forget_pins(ApikeySlot *slot)
{
	if ((slot->lease.pins & PINS) != 0)
		apikey_share_unpin(slot->holder);
	slot->lease.pins &= ~PINS;
}

/* It is not at rest for its lease. */
static void
count_lease(ApikeySlot *slot)
{
	if ((slot->lease.pins & LEASE_COUNTED) == 0)
		apikey_share_lease(slot->holder);
	slot->lease.pins |= LEASE_COUNTED;
}

static void
count_pin(ApikeySlot *slot)
{
	if ((slot->lease.pins & PINS) == 0)
		apikey_share_pin(slot->holder);
	slot->lease.pins |= PIN_COUNTED;
}

/* It does. */
void
apikey_lease_pin(ApikeySlot *slot, int noted)
{
	if (is_counted(noted))
		count_pin(slot);
	slot->lease.unsettled++;
	count_lease(slot);
}

/* One that has pinned it does no more; the mutex is held. */
void
apikey_lease_unpin(ApikeySlot *slot)
{
	if (slot->lease.unsettled > 0)
		slot->lease.unsettled--;
	if (slot->lease.unsettled == 0 && (slot->lease.pins & PIN_PREPARED) == 0)
		forget_pins(slot);
}

/* Who has the account's row is prepared. */
void
apikey_lease_row_prepared(ApikeySlot *slot)
{
	count_pin(slot);
	slot->lease.pins |= PIN_PREPARED;
}

/* We have it, so nobody else has; the mutex is held. */
void
apikey_lease_row_free(ApikeySlot *slot)
{
	slot->lease.pins &= ~PIN_PREPARED;
	if (slot->lease.unsettled == 0)
		forget_pins(slot);
}

/* A slot is nobody's any more; the mutex is held. */
void
apikey_lease_forget(ApikeySlot *slot)
{
	forget_pins(slot);
	if ((slot->lease.pins & LEASE_COUNTED) != 0)
		apikey_share_unlease(slot->holder);
	slot->lease.pins = 0;
}

/* May a slot, whose mutex is held, have a lease? */
bool
apikey_lease_may_be_out(const ApikeySlot *slot, TimestampTz now)
{
	return (slot->lease.pins & LEASE_COUNTED) != 0 ||
		apikey_share_may_lease(slot->holder, now);
}

/*
 * After what has been done to a lease: it is counted as long as the slot is not at
 * rest for it, whatever the time; tokens of a rate are none.  The mutex is held.
 */
void
apikey_lease_count(ApikeySlot *slot)
{
	const ApikeyLease *lease = &slot->lease;

	if (!lease->of_rate && (lease->unsettled > 0 || lease->offer.number != 0 ||
							lease->available != 0))
		count_lease(slot);
	else if ((lease->pins & LEASE_COUNTED) != 0)
	{
		apikey_share_unlease(slot->holder);
		slot->lease.pins &= ~LEASE_COUNTED;
	}
}

/*
 * A lease is to go back into its row, even if it is spent of meanwhile, and the
 * worker is called for it; what is the primary's is returned with the next report.
 * False where there is none, or an open transaction keeps it; tokens of a rate are
 * good for a moment only.  Nothing is locked.
 */
bool
apikey_lease_call_back(ApikeySlot *slot)
{
	ApikeyLease *lease = &slot->lease;
	ApikeySlotKey key;
	bool		out;
	bool		listed;

	SpinLockAcquire(&slot->mutex);
	key = slot->key;
	out = slot->used && !lease->of_rate && lease->available > 0 &&
		lease->unsettled == 0;
	listed = out && !lease->too_much && !lease->fleet;
	lease->too_much |= out;
	SpinLockRelease(&slot->mutex);
	if (listed)
		apikey_called_back_add(&key);
	return out;
}
