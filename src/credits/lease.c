/*
 * lease.c
 *		Leases: credits in shared memory, spent there without writing.
 *
 * A lease is a number of credits that a worker has taken out of an account's
 * row, and committed, before the first of them is spent here; so they can be
 * spent in read-only transactions, and a crash costs what was not spent yet.
 * What an account is of, a key or anything else, is not known here: it has an
 * id, by which its slot is found, and a row that has these columns:
 *
 *		generation	another one when the account begins, when its credits are
 *					set, and when its interval changes
 *		lease		the number of the lease that is out; null for none
 *		leased		what was in it when the row was last written
 *
 * One memory at most may spend what is out of an account: the one that holds
 * the number that stands in the row.  Each time a worker writes a lease into
 * the row it takes another number, which is random.  So neither a copy of the
 * data directory, nor a standby, nor a server that was the primary before,
 * holds the number any more once another has gone on with the account.
 *
 *		NONE		number is 0: nothing may be spent
 *		OPEN		number, and matched: may be spent until "until"
 *		UNMATCHED	number, but not matched: it came from the file of the
 *					last run, or its worker has died; nothing may be spent
 *
 *				+------ settled: the row has another number <-------+
 *				v													|
 *		  NONE or OPEN or UNMATCHED --- offer, row written ---> (the same,
 *		   ^  ^		^												and offer)
 *		   |  |		|												|	|
 *		   |  |		+--- worker has died; settled: UNMATCHED <------+	|
 *		   |  +------ commit, accept: OPEN <----------------------------+
 *		   |
 *		   +--- taken out, commit: NONE		(rollback: as it was)
 *		   +--- refilled, voided: NONE
 *
 * Offers are made, and leases taken out, by who has the account's row locked.
 * It settles first what the memory says with what the row says: an offer whose
 * number is in the row was committed, any other was not; a lease whose number
 * is not in the row is nothing.  Then no order of commits, callbacks and deaths
 * matters.  Only the numbers of the row decide, so a lease of a file or of a
 * worker that died is not lost where the row still has it.
 *
 * An account may be overdrawn for charges: its row is below zero then by what
 * of the lease is a debt, and no verification spends that.
 *
 * Who needs more than is there asks the worker and waits.  What a transaction
 * has spent goes back into the lease when it, or the subtransaction it was
 * spent in, rolls back, if the lease is of the same era: that changes when what
 * was left of the lease before may not be spent any more.
 *
 * All of a lease stands in the slot of the account, under the slot's mutex.
 */
#include "postgres.h"

#include "pgstat.h"

#include "memory/memory.h"
#include "credits/credits_internal.h"
#include "credits/spend.h"

/* How long it is believed that an account has no more. */
#define LEFT_KNOWN_FOR	(10 * USECS_PER_SEC)

/*
 * How much of a lease may be spent.  What is in it of an account that has been
 * overdrawn for it is for charges alone.
 */
static int64
spendable(const ApikeyLease *lease, bool charge)
{
	return charge || lease->left >= 0 ? lease->available :
		lease->available + lease->left;
}

/* Is it known that an account has less than that, if it has nothing to add? */
static bool
known_to_lack(const ApikeyLease *lease, const ApikeySpending *spending)
{
	if (lease->left_at == 0 || spending->now - lease->left_at >= LEFT_KNOWN_FOR)
		return false;
	if (spending->charge)
		return apikey_credits_sum(lease->left, spending->overdraft) <= 0;
	return apikey_credits_sum(lease->available, lease->left) < spending->cost;
}

/* Takes what a lease has; its slot's mutex is held. */
static ApikeyCreditVerdict
take_of_lease(ApikeySlot *slot, ApikeySpending *spending)
{
	ApikeyCreditVerdict verdict = APIKEY_CREDIT_ASK;
	ApikeyLease *lease = &slot->lease;

	if (spendable(lease, spending->charge) >= spending->cost)
	{
		verdict = APIKEY_CREDIT_SPENT;
		spending->taken = spending->cost;
	}
	else if (known_to_lack(lease, spending))
	{
		verdict = spending->charge ? APIKEY_CREDIT_SPENT :
			APIKEY_CREDIT_EXHAUSTED;
		spending->taken = spending->charge ? lease->available : 0;
	}
	if (spending->taken > 0 &&
		apikey_spend_record(spending->account, spending->hint, slot, spending->taken,
							APIKEY_SPEND_ONLY, APIKEY_PIN_BOUNDED) == NULL)
	{
		spending->taken = 0;
		return APIKEY_CREDIT_UNAVAILABLE;
	}
	lease->available -= spending->taken;
	if (verdict == APIKEY_CREDIT_SPENT)
		lease->spent_at = spending->now;
	spending->known = lease->left_at != 0;
	spending->left = apikey_credits_sum(lease->available, lease->left);
	spending->until = lease->until;
	spending->generation = lease->generation;
	return verdict;
}

/*
 * Spends of an account's lease; cost 0 only asks.  ASK where the worker has to
 * say first; UNAVAILABLE where there is no room for the account, or what may
 * come back, or is leased, holds as much of it as it may.
 */
ApikeyCreditVerdict
apikey_lease_spend(ApikeySpending *spending)
{
	ApikeyCreditVerdict verdict = APIKEY_CREDIT_ASK;
	bool		low = false;
	ApikeyLease *lease;
	ApikeySlot *slot;

	spending->taken = 0;
	spending->known = spending->in_row = false;
	apikey_spend_reserve();
	slot = apikey_slot_seize(spending->account, spending->hint, true);
	if (slot == NULL)
		return APIKEY_CREDIT_UNAVAILABLE;
	lease = &slot->lease;
	if (lease->matched && spending->now < lease->until)
	{
		verdict = take_of_lease(slot, spending);
		low = verdict == APIKEY_CREDIT_SPENT &&
			lease->available < lease->low && lease->wanted_most == 0 &&
			!(spending->known && lease->left <= 0);
	}
	/* Nothing is leased that could not be spent, or that there is no room for. */
	if (verdict == APIKEY_CREDIT_ASK &&
		!(apikey_spend_may_pin(slot) &&
		  apikey_lease_may_be_out(slot, spending->now)))
		verdict = APIKEY_CREDIT_UNAVAILABLE;
	SpinLockRelease(&slot->mutex);
	if (low)
		apikey_lease_ask(spending->account, 1, false, false);
	return verdict;
}

/* Puts back so much of what it has spent; the slot's mutex is held. */
static int64
undo_own(const pg_uuid_t *account, ApikeyLease *lease, int64 amount)
{
	ApikeySpend *spend = apikey_spend_own(account, lease->era);

	if (spend == NULL)
		return 0;
	amount = Min(amount, spend->amount);
	spend->amount -= amount;
	lease->available = apikey_credits_sum(lease->available, amount);
	return amount;
}

/*
 * Puts back what was spent just now, as something else was refused.  Where the
 * lease has ended since, it is lost with it.
 */
void
apikey_lease_unspend(const ApikeySpending *spending)
{
	ApikeySlot *slot = apikey_slot_seize(spending->account, spending->hint,
										 false);

	if (slot == NULL)
		return;
	(void) undo_own(spending->account, &slot->lease, spending->taken);
	SpinLockRelease(&slot->mutex);
}

/* Is a lease of the period and generation of an account that a spend is of? */
static bool
same_period(const ApikeyLease *lease, const ApikeySpending *spending)
{
	return lease->until == spending->until &&
		lease->generation == spending->generation;
}

/*
 * Gives back what has been spent of an account: what this subtransaction has
 * spent of the lease at once, the rest with the commit, as nobody may spend what
 * comes back and then does not.  False where there is no lease that it could go into: of
 * another period, or of credits that were set anew, that is none.
 */
bool
apikey_lease_give_back(const ApikeySpending *spending)
{
	const pg_uuid_t *account = spending->account;
	int64		amount = spending->cost;
	TimestampTz now = GetCurrentTimestamp();
	bool		open = false;
	LWLock	   *lock;
	ApikeySlot *slot;

	apikey_spend_reserve();
	slot = apikey_lease_open_slot(account, spending->hint, &lock);
	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	if (slot->lease.matched && now < slot->lease.until &&
		same_period(&slot->lease, spending))
	{
		ApikeySpend *own = apikey_spend_own(account, slot->lease.era);
		int64		undone = own == NULL ? 0 :
			Min(amount - spending->of_row, own->amount);
		ApikeySpend *spend = NULL;

		/* All of it or nothing: who is told false asks for all of it again. */
		if (amount > undone)
			spend = apikey_spend_record(account, spending->hint, slot, 0,
										APIKEY_SPEND_CHANGES, APIKEY_PIN_BOUNDED);
		open = amount == undone || spend != NULL;
		if (open)
			(void) undo_own(account, &slot->lease, undone);
		if (spend != NULL)
		{
			spend->back = amount - undone;
			spend->back_of_row = spending->of_row;
		}
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return open;
}

/*
 * That an account is low, or exhausted, has been told in this period, or stands on
 * the list of what is to be told; or it does not.  Returns whether it did before:
 * where nobody here knows, its row does.
 */
bool
apikey_lease_tell(Oid database, const pg_uuid_t *account, ApikeySlotHint *hint,
				  bool exhausted, bool now)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(database, account, hint, &lock);
	bool	   *told;
	bool		before;

	if (slot == NULL)
		return false;
	told = exhausted ? &slot->lease.exhausted_told : &slot->lease.low_told;
	SpinLockAcquire(&slot->mutex);
	before = *told;
	*told = now;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return before;
}

/*
 * What of an account is in memory, for who has read its row: false where that
 * may have been written since.
 */
bool
apikey_lease_state(const pg_uuid_t *account, const ApikeyLeaseRow *row,
				   int64 *available)
{
	ApikeyLease lease;
	LWLock	   *lock;
	ApikeySlot *slot = apikey_lease_find_slot(account, &lock);
	bool		known;

	*available = 0;
	if (slot == NULL)
		return true;
	SpinLockAcquire(&slot->mutex);
	lease = slot->lease;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);

	known = !lease.matched || lease.number == row->number ||
		lease.offer.number == row->number;
	apikey_lease_settle_with(&lease, row);
	if (lease.number != 0 && GetCurrentTimestamp() < lease.until)
		*available = lease.available;
	return known;
}

/*
 * Takes all that is left of a lease, to go into the account's row, which is
 * locked; 0 where nothing is.  With the transaction's rollback it comes back.
 * With its commit the lease ends, or else is empty: then what others have
 * spent of it may still come back, and the row keeps its number.
 */
int64
apikey_lease_take_out(const pg_uuid_t *account, const ApikeyLeaseRow *row,
					  bool end)
{
	TimestampTz now = GetCurrentTimestamp();
	ApikeyLease *lease;
	int64		amount = 0;
	uint64		ended;
	LWLock	   *lock;
	ApikeySlot *slot;

	if (!apikey_preloaded())
		return 0;
	apikey_spend_reserve();
	ended = apikey_spend_era_ended(account);
	slot = apikey_lease_find_slot(account, &lock);
	if (slot == NULL)
		return 0;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	apikey_lease_row_free(slot);
	/* What the row says now it does not say if we roll back. */
	if (ended == 0 || ended != lease->era)
	{
		apikey_lease_settle_with(lease, row);
		if (now < lease->until)
			amount = lease->available;
		(void) apikey_spend_record(account, NULL, slot, lease->available,
								   end ? APIKEY_SPEND_ENDS : APIKEY_SPEND_CHANGES,
								   lease->available > 0 ? APIKEY_PIN_ALWAYS :
								   APIKEY_PIN_NONE);
		lease->available = 0;
		lease->too_much = false;
		/* What the account has now, others cannot know before our commit. */
		lease->left_at = 0;
		lease->changes++;
	}
	apikey_lease_count(slot);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return amount;
}

/* Something happens to an account's lease with the commit. */
static void
note_effect(const pg_uuid_t *account, ApikeySpendEffect effect)
{
	LWLock	   *lock;
	ApikeySlot *slot;

	if (!apikey_preloaded())
		return;
	apikey_spend_reserve();
	slot = apikey_lease_find_slot(account, &lock);
	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	(void) apikey_spend_record(account, NULL, slot, 0, effect, APIKEY_PIN_NONE);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/*
 * An account's row is locked for as long as this transaction is open, and what is
 * leased of it, or comes back, cannot go into the row meanwhile: so the slot is
 * pinned.  False where it cannot be.
 */
bool
apikey_lease_hold(const pg_uuid_t *account)
{
	bool		held = true;
	LWLock	   *lock;
	ApikeySlot *slot;

	if (!apikey_preloaded())
		return true;
	apikey_spend_reserve();
	slot = apikey_lease_find_slot(account, &lock);
	if (slot == NULL)
		return true;
	SpinLockAcquire(&slot->mutex);
	if (slot->lease.available > 0 || slot->lease.unsettled > 0 ||
		slot->lease.offer.number != 0)
		held = apikey_spend_record(account, NULL, slot, 0, APIKEY_SPEND_HOLDS,
								   APIKEY_PIN_BOUNDED) != NULL;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return held;
}

/* An account's row gets another amount with the commit. */
void
apikey_lease_changed(const pg_uuid_t *account)
{
	note_effect(account, APIKEY_SPEND_CHANGES);
}

/* An account ends with the commit; until then others spend of what is leased. */
void
apikey_lease_ending(const pg_uuid_t *account)
{
	note_effect(account, APIKEY_SPEND_ENDS);
}

/* An account is gone: so is what was leased of it. */
void
apikey_lease_void(const pg_uuid_t *account)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_lease_find_slot(account, &lock);

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	slot->lease.offer.number = 0;
	apikey_lease_end(&slot->lease);
	apikey_lease_count(slot);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}
