/*
 * spend.c
 *		What transactions have done to leases, as long as it may be undone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "store/store.h"
#include "memory/memory.h"
#include "credits/credits.h"
#include "credits/spend.h"

/* What this transaction has noted, and how many. */
#define spends			((ApikeySpend *) apikey_spend_transaction.noted)
#define spend_count		(apikey_spend_transaction.count)

/*
 * Where the last note of what was spent of a lease is, by account and era: the
 * note's number, from 1 on, and 0 for none.  It is looked for with a slot's mutex
 * held, for which others spin; so however many notes there are, that takes no
 * longer.  There are twice as many places as there is room for notes.  What goes
 * first is what came last, so a place that is free ends a search.  Few notes, as
 * most transactions have, are looked through as they are.
 */
#define FEW_SPENDS		16

static int *last = NULL;		/* in TopTransactionContext */
static uint32 last_mask = 0;

static int *
last_of(const pg_uuid_t *account, uint64 era)
{
	uint32		place = hash_bytes(account->data, UUID_LEN) ^
		hash_bytes_uint32((uint32) era);

	for (;; place++)
	{
		int		   *number = &last[place & last_mask];
		const ApikeySpend *spend;

		if (*number == 0)
			return number;
		spend = &spends[*number - 1];
		if (spend->era == era &&
			memcmp(&spend->account, account, sizeof(pg_uuid_t)) == 0)
			return number;
	}
}

/* A note of what was spent is the last one of its lease. */
static void
link_spend(ApikeySpend *spend)
{
	int		   *number = last_of(&spend->account, spend->era);

	spend->before = *number;
	*number = (int) (spend - spends) + 1;
}

/* Makes room for another spend, so that recording it cannot fail. */
void
apikey_spend_reserve(void)
{
	uint32		needed;

	apikey_transaction_reserve(&apikey_spend_transaction);
	if (last == NULL && spend_count < FEW_SPENDS)
		return;
	needed = pg_nextpower2_32(2 * (uint32) apikey_spend_transaction.room);
	if (last != NULL && last_mask >= needed - 1)
		return;
	/* Where there is no memory for it, the rest is undone without it. */
	if (last != NULL)
		pfree(last);
	last = NULL;
	last = MemoryContextAllocExtended(TopTransactionContext,
									  (Size) needed * sizeof(int),
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	last_mask = needed - 1;
	for (int i = 0; i < spend_count; i++)
	{
		if (spends[i].effect == APIKEY_SPEND_ONLY)
			link_spend(&spends[i]);
	}
}

/* The last note of what was spent of a lease of an era; NULL for none. */
static ApikeySpend *
find_last(const pg_uuid_t *account, uint64 era)
{
	if (last != NULL)
	{
		int			number = *last_of(account, era);

		return number == 0 ? NULL : &spends[number - 1];
	}
	for (int i = spend_count - 1; i >= 0; i--)
	{
		if (spends[i].effect == APIKEY_SPEND_ONLY && spends[i].era == era &&
			memcmp(&spends[i].account, account, sizeof(pg_uuid_t)) == 0)
			return &spends[i];
	}
	return NULL;
}

/* What this subtransaction has spent of a lease of an era; NULL for nothing. */
ApikeySpend *
apikey_spend_own(const pg_uuid_t *account, uint64 era)
{
	ApikeySpend *spend = find_last(account, era);

	return spend != NULL &&
		spend->noted.level >= GetCurrentTransactionNestLevel() ? spend : NULL;
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
	const ApikeyLease *lease = &slot->lease;
	ApikeySpend *spend = effect != APIKEY_SPEND_ONLY ? NULL :
		apikey_spend_own(account, lease->era);

	if (spend != NULL)
	{
		spend->amount += amount;
		return spend;
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
	if (effect == APIKEY_SPEND_ONLY && last != NULL)
		link_spend(spend);
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

	/* It is off the list with its subtransaction. */
	if (last != NULL && spend->effect == APIKEY_SPEND_ONLY &&
		spend - spends == spend_count)
		*last_of(&spend->account, spend->era) = spend->before;
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

static void
forget_last(ApikeyEnd end pg_attribute_unused())
{
	last = NULL;
}

ApikeyTransactionPart apikey_spend_transaction = {
	.size = sizeof(ApikeySpend),
	.settle = settle_spend,
	.end = forget_last
};

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
