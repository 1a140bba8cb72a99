/*
 * bound.h
 *		What a key is bound by: its own limits and those of its holders.
 */
#ifndef APIKEY_BOUND_H
#define APIKEY_BOUND_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "limits/verdict.h"

/* What stands for a key, and for a limit, in the tallies; see tally.c. */
typedef struct ApikeyTallyTag
{
	uint64		key;
	uint64		limit;
} ApikeyTallyTag;

/* One limit that a key is bound by; see bound.c for their order. */
typedef struct ApikeyBound
{
	pg_uuid_t	id;				/* of its slot and account */
	uint8		holder;			/* ApikeyBoundHolder */
	uint8		kind;			/* ApikeyLimitKind */
	uint8		rank;			/* within a holder */
	bool		short_form;		/* the key's rate_limit or credits */
	bool		of_requests;
	bool		shared;			/* a rate of all servers together */
	bool		has_lifetime;
	bool		first_of_unit;	/* in the list */
	char		unit[APIKEY_UNIT_MAX + 1];
	Oid			charged;		/* the key is to it, in the list */
	int64		amount;			/* of the short form's credits: not known */
	int64		overdraft;
	bool		periodic;		/* what follows is a period */
	Interval	period;
	TimestampTz starts_at;
	ApikeyRate	rate;			/* of a rate */
	int64		lifetime;		/* in which it was made: see shared_rate.c */
	ApikeyTallyTag tag;			/* of the key, in the list */
	ApikeySlotHint hint;
} ApikeyBound;

/* All of a key, in one piece of memory. */
typedef struct ApikeyBounds
{
	int			count;
	bool		more;			/* than are looked at: nothing is decided */
	bool		far;			/* the key's own are too far away: nor is it, but
								 * for one that has ended */
	ApikeyBound list[FLEXIBLE_ARRAY_MEMBER];
} ApikeyBounds;

#define APIKEY_BOUNDS_BYTES(count) \
	(offsetof(ApikeyBounds, list) + (count) * sizeof(ApikeyBound))

/* What is left of one. */
typedef struct ApikeyBoundState
{
	bool		known;
	int64		remaining;
	TimestampTz resets_at;		/* 0: never */
	int64		era;			/* a rate's, or the account's generation; another
								 * one: nothing goes back into it */
	bool		in_row;			/* what was spent was, in the account's row */
} ApikeyBoundState;

/* bound_read.c */
extern ApikeyBounds *apikey_bounds_read(const ApikeyRow *key,
										const ApikeyTenant *tenant);
extern const ApikeyRate *apikey_bounds_own_rate(const ApikeyBounds *bounds);

/* bound.c */
extern ApikeyCode apikey_bounds_spend(ApikeyVerdict *verdict,
									  const ApikeyRequirements *required);
extern void apikey_bound_look(const ApikeyRow *limit, ApikeyBoundState *state);

/* bound_json.c */
extern char *apikey_bound_json(const ApikeyVerdict *verdict, int number);
extern char *apikey_bounds_json(const ApikeyVerdict *verdict);

/* charge.c */
extern void apikey_charge_key(ApikeyVerdict *verdict, Jsonb *costs);

#endif							/* APIKEY_BOUND_H */
