/*
 * spend.c
 *		What transactions have done to leases, as long as it may be undone.
 */
#include "postgres.h"

#include "access/xact.h"

#include "store/store.h"
#include "memory/memory.h"
#include "credits/credits.h"
#include "credits/spend.h"

#define RECENT_SPENDS	8		/* looked at for one to add to */

/* What this transaction has noted, and how many. */
#define spends			((ApikeySpend *) apikey_spend_transaction.noted)
#define spend_count		(apikey_spend_transaction.count)

/* Makes room for another spend, so that recording it cannot fail. */
void
apikey_spend_reserve(void)
{
	apikey_transaction_reserve(&apikey_spend_transaction);
}

/* May this transaction pin a slot, whose mutex is held? */
bool
apikey_spend_may_pin(const ApikeySlot *slot)
{
	return apikey_lease_may_pin(slot, spend_count);
}

/*
 * Remembers what is being taken; the slot's mutex is held, room reserved.  NULL
 * where the slot cannot be pinned.
 */
ApikeySpend *
apikey_spend_record(const pg_uuid_t *account, const ApikeySlotHint *hint,
					ApikeySlot *slot, int64 amount,
					ApikeySpendEffect effect, ApikeySpendPin pin)
{
	int			level = GetCurrentTransactionNestLevel();
	const ApikeyLease *lease = &slot->lease;
	ApikeySpend *spend;

	for (int i = spend_count - 1; i >= Max(0, spend_count - RECENT_SPENDS); i--)
	{
		spend = &spends[i];
		if (effect == APIKEY_SPEND_ONLY && spend->effect == effect &&
			spend->noted.level == level && spend->era == lease->era &&
			memcmp(&spend->account, account, sizeof(pg_uuid_t)) == 0)
		{
			spend->amount += amount;
			return spend;
		}
	}
	if (pin == APIKEY_PIN_BOUNDED && !apikey_spend_may_pin(slot))
		return NULL;
	if (pin != APIKEY_PIN_NONE)
		apikey_lease_pin(slot, spend_count);
	spend = apikey_transaction_note(&apikey_spend_transaction);
	spend->account = *account;
	if (hint != NULL)
		spend->hint = *hint;
	spend->era = lease->era;
	spend->amount = amount;
	spend->effect = effect;
	spend->pins = pin != APIKEY_PIN_NONE;
	return spend;
}

/* A spend is final, or undone. */
static void
settle_spend(void *noted, ApikeyEnd end)
{
	ApikeySpend *spend = noted;
	bool		committed = end != APIKEY_END_ROLLBACK;
	ApikeySlot *slot = apikey_slot_seize(&spend->account, &spend->hint, false);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	if (spend->pins && spend->effect == APIKEY_SPEND_HOLDS &&
		end == APIKEY_END_PREPARE &&
		(lease->available > 0 || lease->unsettled > 1))
		apikey_lease_row_prepared(slot);
	if (spend->pins)
		apikey_lease_unpin(slot);
	if (lease->era == spend->era)
		lease->available = apikey_credits_sum(lease->available,
											  committed ? spend->back :
											  spend->amount);
	if (lease->available > apikey_credits_lease)
		lease->too_much = true;
	if (lease->era == spend->era && committed && spend->effect == APIKEY_SPEND_ENDS)
		apikey_lease_end(lease);
	if (committed && (spend->effect == APIKEY_SPEND_CHANGES ||
					  spend->effect == APIKEY_SPEND_ENDS))
	{
		lease->left_at = 0;
		lease->changes++;
		lease->low_told = lease->exhausted_told = false;
	}
	SpinLockRelease(&slot->mutex);
}

ApikeyTransactionPart apikey_spend_transaction = {
	.size = sizeof(ApikeySpend),
	.settle = settle_spend
};

/* What this subtransaction has spent of a lease of an era; NULL for nothing. */
ApikeySpend *
apikey_spend_own(const pg_uuid_t *account, uint64 era)
{
	int			level = GetCurrentTransactionNestLevel();

	for (int i = spend_count - 1; i >= 0 && spends[i].noted.level >= level; i--)
	{
		if (spends[i].effect == APIKEY_SPEND_ONLY && spends[i].era == era &&
			memcmp(&spends[i].account, account, sizeof(pg_uuid_t)) == 0)
			return &spends[i];
	}
	return NULL;
}

/* The era of an account's lease that this transaction has ended; 0 for none. */
uint64
apikey_spend_era_ended(const pg_uuid_t *account)
{
	for (int i = spend_count - 1; i >= 0; i--)
	{
		if (spends[i].effect == APIKEY_SPEND_ENDS &&
			memcmp(&spends[i].account, account, sizeof(pg_uuid_t)) == 0)
			return spends[i].era;
	}
	return 0;
}
