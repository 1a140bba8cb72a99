/*
 * spend.c
 *		What transactions have done to leases, as long as it may be undone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "credits/spend.h"

#define RECENT_SPENDS	8		/* looked at for one to add to */

static ApikeySpend *spends = NULL;	/* in TopTransactionContext; levels rise */
static int	spend_count = 0;
static int	spend_room = 0;

/* Makes room for another spend, so that recording it cannot fail. */
void
apikey_spend_reserve(void)
{
	if (spends == NULL)
	{
		spend_room = 16;
		spends = MemoryContextAlloc(TopTransactionContext,
									spend_room * sizeof(ApikeySpend));
	}
	else if (spend_count == spend_room)
	{
		spends = repalloc_huge(spends,
							   (Size) spend_room * 2 * sizeof(ApikeySpend));
		spend_room *= 2;
	}
}

/* Remembers what was taken; the slot's mutex is held, room reserved. */
ApikeySpend *
apikey_spend_record(const pg_uuid_t *account, ApikeyLease *lease, int64 amount,
			 ApikeySpendEffect effect)
{
	int			level = GetCurrentTransactionNestLevel();
	ApikeySpend *spend;

	for (int i = spend_count - 1; i >= Max(0, spend_count - RECENT_SPENDS); i--)
	{
		spend = &spends[i];
		if (effect == APIKEY_SPEND_ONLY && spend->effect == effect &&
			spend->level == level && spend->era == lease->era &&
			memcmp(&spend->account, account, sizeof(pg_uuid_t)) == 0)
		{
			spend->amount += amount;
			return spend;
		}
	}
	spend = &spends[spend_count++];
	spend->account = *account;
	spend->era = lease->era;
	spend->amount = amount;
	spend->back = 0;
	spend->effect = effect;
	spend->level = level;
	lease->unsettled++;
	return spend;
}

/* A spend is final, or undone. */
static void
settle_spend(const ApikeySpend *spend, bool committed)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_lease_find_slot(&spend->account, &lock);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (lease->unsettled > 0)
		lease->unsettled--;
	if (lease->era == spend->era)
		lease->available = apikey_credits_sum(lease->available,
											  committed ? spend->back :
											  spend->amount);
	if (lease->era == spend->era && committed && spend->effect == APIKEY_SPEND_ENDS)
		apikey_lease_end(lease);
	if (spend->effect != APIKEY_SPEND_ONLY && committed)
	{
		lease->left_at = 0;
		lease->changes++;
		lease->low_told = lease->exhausted_told = false;
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

static void
settle_all(bool committed)
{
	for (int i = 0; i < spend_count; i++)
		settle_spend(&spends[i], committed);
	spends = NULL;
	spend_count = 0;
}

static void
on_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_PARALLEL_COMMIT:
			settle_all(true);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			settle_all(false);
			break;
		default:
			break;
	}
}

/*
 * What a subtransaction spent is undone with it, or becomes its parent's.  It
 * stands at the end: what its parents spent was spent before.
 */
static void
on_subtransaction_end(SubXactEvent event,
					  SubTransactionId subid pg_attribute_unused(),
					  SubTransactionId parent pg_attribute_unused(),
					  void *arg pg_attribute_unused())
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (spend_count > 0 && spends[spend_count - 1].level >= level)
			settle_spend(&spends[--spend_count], false);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = spend_count - 1; i >= 0 && spends[i].level >= level; i--)
			spends[i].level = level - 1;
	}
}

/* Once, when the library is loaded. */
void
apikey_lease_init(void)
{
	RegisterXactCallback(on_transaction_end, NULL);
	RegisterSubXactCallback(on_subtransaction_end, NULL);
}

/* What this subtransaction has spent of a lease of an era; NULL for nothing. */
ApikeySpend *
apikey_spend_own(const pg_uuid_t *account, uint64 era)
{
	int			level = GetCurrentTransactionNestLevel();

	for (int i = spend_count - 1; i >= 0 && spends[i].level >= level; i--)
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
