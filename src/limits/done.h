/*
 * done.h
 *		What a transaction has done to limits, as long as it may be undone.
 */
#ifndef APIKEY_DONE_H
#define APIKEY_DONE_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "limits/bound.h"

typedef enum ApikeyLimitDoneKind
{
	APIKEY_DONE_TALLY,					/* spent, or taken out of the tally */
	APIKEY_DONE_RATE,					/* what is given back to a rate */
	APIKEY_DONE_DROPPED,				/* what a charge could not take */
	APIKEY_DONE_UNIT,					/* spent of a unit, for the history */
	APIKEY_DONE_SETTLED					/* a tally that is final */
} ApikeyLimitDoneKind;

/*
 * What a transaction has done, as long as it may be undone.  Of a rate, which comes
 * back by itself meanwhile, what may be given back is the time when all of that has;
 * but what is spent is a length of time, from when it began on.
 */
typedef struct ApikeyLimitDone
{
	ApikeyNoted noted;
	ApikeyLimitDoneKind kind;
	pg_uuid_t	key;
	pg_uuid_t	limit;
	ApikeyTallyTag tag;			/* of both, and of the limit's era */
	Oid			charged;		/* the key is to it */
	char		unit[APIKEY_UNIT_MAX + 1];
	bool		of_rate;
	uint8		era;			/* of a rate: see limiter.c */
	TimestampTz until;			/* the period's end; of a rate 0 */
	int64		began;			/* of a rate, when what is out was spent first */
	int64		pending;		/* happens with the commit */
	int64		in_row;			/* of that: spent in the account's row */
	int64		undo;			/* happens with the rollback */
	uint64		place;			/* of what was dropped: see mark.c */
	bool		superseded;		/* there is a later note of the same */
} ApikeyLimitDone;

/* tally.c */
extern int64 apikey_tally_take_out(const ApikeyLimitDone *what, int64 amount);
extern void apikey_tally_put_back(const ApikeyLimitDone *what);
extern void apikey_tally_settle(ApikeyLimitDone *list, int count,
								bool prepared);

#endif							/* APIKEY_DONE_H */
