/*
 * tally.h
 *		What keys have spent of limits, and may give back.
 */
#ifndef APIKEY_TALLY_H
#define APIKEY_TALLY_H

#include "utils/uuid.h"

#include "limits/limits.h"

/* tally.c */
extern void apikey_tally_tag(const pg_uuid_t *key, const pg_uuid_t *limit,
							 ApikeyTallyTag *tag);

/* done.c */
extern void apikey_tally_begin(void);
extern void apikey_tally_spent(const ApikeyVerdict *verdict,
							   const ApikeyBound *bound,
							   const ApikeyBoundState *state, int64 amount);
extern void apikey_tally_unit(const pg_uuid_t *key, const ApikeyBound *bound,
							  int64 amount);
extern int64 apikey_tally_take(const pg_uuid_t *key, const ApikeyBound *bound,
							   const ApikeyBoundState *state, int64 amount,
							   int64 *of_row);
extern void apikey_tally_give_back_rate(const pg_uuid_t *key,
										const ApikeyBound *bound,
										const ApikeyRateState *rate,
										int64 amount);
extern void apikey_tally_rate_charged(const ApikeyVerdict *verdict,
									  const ApikeyBound *bound,
									  const ApikeyBoundState *state,
									  int64 taken);
extern void apikey_tally_dropped(const pg_uuid_t *key,
								 const ApikeyBound *bound, int64 dropped);

#endif							/* APIKEY_TALLY_H */
