/*
 * shared_rate.h
 *		Rates that several servers share.
 */
#ifndef APIKEY_SHARED_RATE_H
#define APIKEY_SHARED_RATE_H

#include "limits/bound.h"

/* What the primary is asked for: arguments of apikey_server_take. */
typedef struct ApikeyFleetTake
{
	pg_uuid_t	limit;
	int64		least;
	int64		most;
	bool		charging;
} ApikeyFleetTake;

/* On the primary. */
extern void apikey_shared_rate_fill(ApikeyBound *bound, ApikeySlotHint *hint);
extern int64 apikey_shared_rate_hand_out(const ApikeyFleetTake *take,
										 int64 *wait);

#endif							/* APIKEY_SHARED_RATE_H */
