/*
 * limits_internal.h
 *		What stays within limits/.
 */
#ifndef APIKEY_LIMITS_INTERNAL_H
#define APIKEY_LIMITS_INTERNAL_H

#include "access/skey.h"
#include "lib/stringinfo.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "limits/limits.h"

/* Its own rate_limit and credits, and so many a holder. */
#define APIKEY_BOUNDS_MAX	(2 + 5 * 8)

/* Whose a limit is, in the order in which they refuse. */
typedef enum ApikeyBoundHolder
{
	APIKEY_HOLDER_KEY,
	APIKEY_HOLDER_SUBJECT,
	APIKEY_HOLDER_PROJECT,
	APIKEY_HOLDER_ORGANIZATION
} ApikeyBoundHolder;

/* bound_read.c */
extern void apikey_bound_set_from_limit(ApikeyBound *bound,
										const ApikeyRow *limit);
extern void apikey_bound_of_limit(ApikeyBound *bound, const ApikeyRow *limit);

/* bound.c */
extern void apikey_bound_ask(const ApikeyBound *bound, TimestampTz now,
							 ApikeyBoundState *state);

/* mark_tell.c */
extern void apikey_mark_bounds(const ApikeyVerdict *verdict, ApikeyCode code);

/* limit.c */
extern bool apikey_limit_any(void);
extern const char *apikey_limit_kind_name(ApikeyLimitKind kind);
extern const char *apikey_limit_holder_name(const ApikeyRow *limit);
extern void apikey_limit_scan(const ApikeyLimitHolder *holder,
							  ApikeyVisit visit, void *state);
extern void apikey_limit_period(const ApikeyRow *limit, TimestampTz now,
								TimestampTz *begin, TimestampTz *end);
extern int	apikey_limit_find_kind(const text *name);
extern int64 apikey_limit_number(const ApikeyRow *row, int column);
extern void apikey_limit_scan_key(ScanKey key, int column,
								  const pg_uuid_t *value);

/* limit_tell.c */
extern char *apikey_limit_detail(const ApikeyRow *limit);
extern void apikey_limit_detail_begin(StringInfo json, const ApikeyRow *limit);

/* limit_set.c */
extern void apikey_limit_drop_of_tenant(const pg_uuid_t *organization,
										const pg_uuid_t *project);

/* shared_rate.c */
/* On the primary. */
extern int64 apikey_shared_rate_lifetime(void);
extern void apikey_shared_rate_fill(ApikeyBound *bound, ApikeySlotHint *hint);
extern void apikey_shared_rate_look(const ApikeyBound *bound, TimestampTz now,
									ApikeyRateState *state);

/* shared_rate_member.c */
/* On a member. */
extern ApikeyLimitVerdict apikey_shared_rate_spend(ApikeyBound *bound,
												   ApikeySlotHint *hint,
												   int64 cost,
												   TimestampTz *wait_until,
												   ApikeyBoundState *state);
extern void apikey_shared_rate_unspend(ApikeyBound *bound,
									   ApikeySlotHint *hint, int64 cost,
									   const ApikeyBoundState *state);
extern bool apikey_shared_rate_charge(ApikeyBound *bound, int64 cost,
									  TimestampTz *wait_until, int64 *taken);

/* costs.c */
extern int64 apikey_costs_of(Jsonb *costs, const char *unit);

#endif							/* APIKEY_LIMITS_INTERNAL_H */
