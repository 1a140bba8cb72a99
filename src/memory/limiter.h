/*
 * limiter.h
 *		How many pass in how long.
 */
#ifndef APIKEY_LIMITER_H
#define APIKEY_LIMITER_H

#include "memory/slot.h"

/* Time in the limiter is in nanoseconds: this many to a microsecond. */
#define APIKEY_LIMITER_UNITS	1000

/* So many tokens in so long: the time in the limiter's units. */
typedef struct ApikeyRate
{
	int64		tokens;
	int64		window;
} ApikeyRate;

/* What is left of it, and when this cost passes or, if it did, all is back. */
typedef struct ApikeyRateState
{
	int64		remaining;
	int64		reset;			/* 0: never */
	uint8		era;			/* another one: nothing goes back into it */
} ApikeyRateState;

typedef enum ApikeyLimitVerdict
{
	APIKEY_LIMIT_PASSED,
	APIKEY_LIMIT_REACHED,
	APIKEY_LIMIT_UNAVAILABLE
} ApikeyLimitVerdict;

/* limiter.c */
extern ApikeyLimitVerdict apikey_limiter_take(const pg_uuid_t *id,
											  ApikeySlotHint *hint, bool make,
											  const ApikeyRate *rate,
											  int64 now, int64 cost,
											  ApikeyRateState *state);
extern void apikey_limiter_not_before(ApikeySlot *slot, int64 full_at);
extern void apikey_limiter_look_before(const ApikeyRate *rate, int64 now,
									   int64 full_at, ApikeyRateState *state);
extern bool apikey_limiter_charge(const pg_uuid_t *id, ApikeySlotHint *hint,
								  const ApikeyRate *rate, int64 now,
								  int64 cost, int64 *taken, uint8 *era);
extern void apikey_limiter_return(const pg_uuid_t *id, ApikeySlotHint *hint,
								  uint8 era, const ApikeyRate *rate,
								  int64 taken_at, int64 tokens);
extern void apikey_limiter_return_until(const pg_uuid_t *id, uint8 era,
										int64 until);
extern int64 apikey_limiter_time(const ApikeyRate *rate, int64 tokens);

#endif							/* APIKEY_LIMITER_H */
