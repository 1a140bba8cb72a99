/*
 * lease_rest.c
 *		Whether a slot can go, for the lease that is in it.
 */
#include "postgres.h"

#include "memory/memory_internal.h"

#define ASKED_KEPT	USECS_PER_MINUTE

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
