/*
 * spend.h
 *		What a transaction has done to leases.
 */
#ifndef APIKEY_SPEND_H
#define APIKEY_SPEND_H

#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"

/* What else a commit means for a lease. */
typedef enum ApikeySpendEffect
{
	APIKEY_SPEND_ONLY,
	APIKEY_SPEND_CHANGES,		/* there is another amount in the row */
	APIKEY_SPEND_ENDS,			/* nothing of the lease is good any more */
	APIKEY_SPEND_HOLDS			/* nothing: the row is locked until then */
} ApikeySpendEffect;

/* Does the slot stay until then? */
typedef enum ApikeySpendPin
{
	APIKEY_PIN_NONE,			/* nothing comes back */
	APIKEY_PIN_BOUNDED,			/* if there is room for who has it */
	APIKEY_PIN_ALWAYS
} ApikeySpendPin;

/* What a transaction has done to a lease, as long as it may be undone. */
typedef struct ApikeySpend
{
	ApikeyNoted noted;
	pg_uuid_t	account;
	ApikeySlotHint hint;
	uint64		era;			/* of the lease */
	int64		amount;			/* goes back into it on rollback, */
	int64		back;			/* and this when it is committed, */
	int64		back_of_row;	/* of which this had been spent in the row */
	ApikeySpendEffect effect;
	bool		pins;			/* the slot */
} ApikeySpend;

/* spend.c */
extern void apikey_spend_reserve(void);
extern bool apikey_spend_may_pin(const ApikeySlot *slot);
extern ApikeySpend *apikey_spend_record(const pg_uuid_t *account,
										const ApikeySlotHint *hint,
										ApikeySlot *slot, int64 amount,
										ApikeySpendEffect effect,
										ApikeySpendPin pin);
extern ApikeySpend *apikey_spend_own(const pg_uuid_t *account, uint64 era);
extern uint64 apikey_spend_era_ended(const pg_uuid_t *account);
extern bool apikey_spend_next_taken_out(int *from, pg_uuid_t *account);

#endif							/* APIKEY_SPEND_H */
