/*
 * spend.c
 *		What transactions have done to leases, as long as it may be undone.
 *
 * What a transaction has spent of a lease is final when it is prepared: nobody
 * tells us what becomes of it then.  Its rows are as they were if it is rolled
 * back, so whatever rests on them is done by PREPARE only as far as it is right
 * either way.  What it had spent in a row does not come back into a lease; and a
 * lease that it has taken into the row and ended is to be matched: it counts if
 * its number is in the row when somebody has that.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"

#include "store/store.h"
#include "memory/memory.h"
#include "credits/credits.h"
#include "credits/spend.h"

/* What this transaction has noted, and how many. */
#define spends			((ApikeySpend *) apikey_spend_transaction.noted)
#define spend_count		(apikey_spend_transaction.count)

/*
 * Of each lease the last note of what was spent, or of an effect, is looked for with
 * a slot's mutex held.
 */
static uint32
hash_note(const void *like)
{
	const ApikeySpend *spend = like;

	return hash_bytes(spend->account.data, UUID_LEN) ^
		hash_bytes_uint32((uint32) spend->era) ^
		hash_bytes_uint32((uint32) spend->effect);
}

static bool
same_note(const void *noted, const void *like)
{
	const ApikeySpend *one = noted;
	const ApikeySpend *other = like;

	return one->effect == other->effect && one->era == other->era &&
		memcmp(&one->account, &other->account, sizeof(pg_uuid_t)) == 0;
}

static ApikeyLastNotes last = {
	.part = &apikey_spend_transaction,
	.few = 16,
	.hash = hash_note,
	.same = same_note
};

/* Makes room for another spend, so that recording it cannot fail. */
void
apikey_spend_reserve(void)
{
	apikey_last_notes_reserve(&last);
}

/* The last note of an effect on a lease, where notes have places. */
static pg_noinline ApikeySpend *
find_placed(const pg_uuid_t *account, uint64 era, ApikeySpendEffect effect)
{
	ApikeySpend like = {.account = *account, .era = era, .effect = effect};
	int			number = apikey_last_note(&last, &like);

	return number == 0 ? NULL : &spends[number - 1];
}

/* The same, however few notes there are; NULL for none. */
static ApikeySpend *
find_last(const pg_uuid_t *account, uint64 era, ApikeySpendEffect effect)
{
	if (last.numbers != NULL)
		return find_placed(account, era, effect);
	for (int i = spend_count - 1; i >= 0; i--)
	{
		if (spends[i].effect == effect && spends[i].era == era &&
			memcmp(&spends[i].account, account, sizeof(pg_uuid_t)) == 0)
			return &spends[i];
	}
	return NULL;
}

/* What this subtransaction has spent of a lease of an era; NULL for nothing. */
ApikeySpend *
apikey_spend_own(const pg_uuid_t *account, uint64 era)
{
	ApikeySpend *spend = find_last(account, era, APIKEY_SPEND_ONLY);

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
 * The note that another one would add nothing to but its amount; NULL for none.
 * What is spent may come back with its subtransaction.  That a row is locked, or
 * has another amount, is noted where it stands already, of whichever level: that
 * ends no sooner.  What is given back is noted by itself.
 */
static ApikeySpend *
find_noted(const pg_uuid_t *account, const ApikeyLease *lease, int64 amount,
		   ApikeySpendEffect effect, ApikeySpendPin pin)
{
	ApikeySpend *spend;

	if (effect == APIKEY_SPEND_ONLY)
		return apikey_spend_own(account, lease->era);
	if (amount != 0 || (effect != APIKEY_SPEND_HOLDS && pin != APIKEY_PIN_NONE))
		return NULL;
	spend = find_last(account, lease->era, effect);
	return spend != NULL && spend->back == 0 ? spend : NULL;
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
	ApikeySpend *spend = find_noted(account, lease, amount, effect, pin);

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
	apikey_last_notes_add(&last, spend);
	return spend;
}

/* Has a transaction that is being prepared taken out a lease, and ended it? */
static bool
ended_prepared(const ApikeySpend *spend, ApikeyEnd end)
{
	return end == APIKEY_END_PREPARE &&
		(spend->effect == APIKEY_SPEND_ENDS ||
		 (spend->effect == APIKEY_SPEND_CHANGES && spend->amount > 0 &&
		  apikey_spend_era_ended(&spend->account) == spend->era));
}

/* How much comes back into the lease. */
static int64
comes_back(const ApikeySpend *spend, ApikeyEnd end, bool ended)
{
	if (end == APIKEY_END_ROLLBACK)
		return spend->amount;
	if (end == APIKEY_END_COMMIT)
		return spend->back;
	return apikey_credits_sum(spend->back - spend->back_of_row,
							  ended ? spend->amount : 0);
}

/* A spend is final, or undone. */
static void
settle_spend(void *noted, ApikeyEnd end)
{
	ApikeySpend *spend = noted;
	bool		committed = end != APIKEY_END_ROLLBACK;
	bool		ended = ended_prepared(spend, end);
	ApikeySlot *slot = apikey_slot_seize(&spend->account, &spend->hint, false);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	if (spend->pins && end == APIKEY_END_PREPARE &&
		(ended || (spend->effect == APIKEY_SPEND_HOLDS &&
				   (lease->available > 0 || lease->unsettled > 1))))
		apikey_lease_row_prepared(slot);
	if (spend->pins)
		apikey_lease_unpin(slot);
	if (lease->era == spend->era)
		lease->available = apikey_credits_sum(lease->available,
											  comes_back(spend, end, ended));
	if (lease->available > apikey_credits_lease)
		lease->too_much = true;
	if (lease->era == spend->era && ended)
		lease->matched = false;
	else if (lease->era == spend->era && committed &&
			 spend->effect == APIKEY_SPEND_ENDS)
		apikey_lease_end(lease);
	if (committed && (spend->effect == APIKEY_SPEND_CHANGES ||
					  spend->effect == APIKEY_SPEND_ENDS))
	{
		lease->left_at = 0;
		lease->changes++;
		/* What has been told in this period stays so, whatever is given back. */
		if (spend->back == 0)
			lease->low_told = lease->exhausted_told = false;
	}
	apikey_lease_count(slot);
	SpinLockRelease(&slot->mutex);
}

static void
forget_spend(const void *noted)
{
	apikey_last_notes_undo(&last, noted);
}

static void
forget_last(ApikeyEnd end pg_attribute_unused())
{
	last.numbers = NULL;
}

ApikeyTransactionPart apikey_spend_transaction = {
	.size = sizeof(ApikeySpend),
	.settle = settle_spend,
	.leave = forget_spend,
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

/*
 * Finds an account whose lease this transaction has taken out and not ended, from
 * a note's number on.
 */
bool
apikey_spend_next_taken_out(int *from, pg_uuid_t *account)
{
	while (*from < spend_count)
	{
		const ApikeySpend *spend = &spends[(*from)++];

		*account = spend->account;
		if (spend->effect == APIKEY_SPEND_CHANGES && spend->amount > 0 &&
			apikey_spend_era_ended(account) != spend->era)
			return true;
	}
	return false;
}
