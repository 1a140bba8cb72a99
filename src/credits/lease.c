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
 *		generation	raised when the account's credits are set, when its
 *					interval changes, and when it ends
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

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "credits/credit.h"
#include "usage/usage.h"

#define ASKED_MAX		1024	/* who finds no room asks again */
#define RECENT_SPENDS	8		/* looked at for one to add to */

/* How long it is believed that an account has no more. */
#define LEFT_KNOWN_FOR	(10 * USECS_PER_SEC)

typedef struct Shared
{
	slock_t		mutex;			/* guards all but the next two */
	ConditionVariable granted;
	pg_atomic_uint64 eras;		/* of leases; given out once */
	int			count;
	ApikeySlotKey asked[ASKED_MAX];
} Shared;

/* What else a commit means for a lease. */
typedef enum Effect
{
	EFFECT_NONE,
	EFFECT_CHANGE,				/* there is another amount in the row */
	EFFECT_END					/* nothing of the lease is good any more */
} Effect;

/* What a transaction has done to a lease, as long as it may be undone. */
typedef struct Spend
{
	pg_uuid_t	account;
	uint64		era;			/* of the lease */
	int64		amount;			/* goes back into it on rollback, */
	int64		back;			/* and this when it is committed */
	Effect		effect;
	int			level;			/* of the subtransaction */
} Spend;

static Shared *shared = NULL;
static Spend *spends = NULL;	/* in TopTransactionContext; levels rise */
static int	spend_count = 0;
static int	spend_room = 0;

Size
apikey_lease_size(void)
{
	return sizeof(Shared);
}

void
apikey_lease_start(void)
{
	bool		found;

	shared = ShmemInitStruct("apikey leases", sizeof(Shared), &found);
	if (found)
		return;
	SpinLockInit(&shared->mutex);
	ConditionVariableInit(&shared->granted);
	/* Not one that the file of the last run has. */
	pg_atomic_init_u64(&shared->eras, (uint64) GetCurrentTimestamp());
	shared->count = 0;
}

/* May a slot be given to another key?  Under its partition's lock. */
bool
apikey_lease_at_rest(ApikeySlot *slot, TimestampTz now)
{
	const ApikeyLease *lease = &slot->lease;

	return lease->unsettled == 0 && lease->offer.number == 0 &&
		(lease->available == 0 || lease->until <= now);
}

/*
 * What the file keeps of a lease is to be matched before it is spent.  Of an
 * offer nobody knows whether it is in the row: the lease is as well.
 */
void
apikey_lease_from_file(ApikeyLease *lease)
{
	lease->matched = false;
	lease->era = pg_atomic_add_fetch_u64(&shared->eras, 1);
	lease->left_at = 0;
	lease->unsettled = 0;
	lease->wanted_least = lease->wanted_most = 0;
	lease->overdrawing = lease->low_told = lease->exhausted_told = false;
}

static ApikeySlot *
open_slot(const pg_uuid_t *account, ApikeySlotHint *hint, LWLock **lock)
{
	return apikey_slot_open(MyDatabaseId, account, hint, lock);
}

static ApikeySlot *
find_slot(const pg_uuid_t *account, LWLock **lock)
{
	return shared == NULL ? NULL :
		apikey_slot_find(MyDatabaseId, account, NULL, lock);
}

/* Makes room for another spend, so that recording it cannot fail. */
static void
reserve_spend(void)
{
	if (spends == NULL)
	{
		spend_room = 16;
		spends = MemoryContextAlloc(TopTransactionContext,
									spend_room * sizeof(Spend));
	}
	else if (spend_count == spend_room)
	{
		spends = repalloc_huge(spends,
							   (Size) spend_room * 2 * sizeof(Spend));
		spend_room *= 2;
	}
}

/* Remembers what was taken; the slot's mutex is held, room reserved. */
static void
record_spend(const pg_uuid_t *account, ApikeyLease *lease, int64 amount,
			 Effect effect)
{
	int			level = GetCurrentTransactionNestLevel();
	Spend	   *spend;

	for (int i = spend_count - 1; i >= Max(0, spend_count - RECENT_SPENDS); i--)
	{
		spend = &spends[i];
		if (effect == EFFECT_NONE && spend->effect == effect &&
			spend->level == level && spend->era == lease->era &&
			memcmp(&spend->account, account, sizeof(pg_uuid_t)) == 0)
		{
			spend->amount += amount;
			return;
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
}

/* Nothing of a lease may be spent any more, nor go back into it. */
static void
end_lease(ApikeyLease *lease)
{
	lease->number = lease->available = 0;
	lease->matched = false;
	lease->era = pg_atomic_add_fetch_u64(&shared->eras, 1);
	lease->left_at = 0;
	lease->changes++;
}

/* An offer was committed: what it offers is in the lease. */
static void
take_offer(ApikeyLease *lease)
{
	if (lease->number == 0)
		lease->era = pg_atomic_add_fetch_u64(&shared->eras, 1);
	lease->number = lease->offer.number;
	lease->generation = lease->offer.generation;
	lease->available = apikey_credits_sum(lease->available,
										  lease->offer.amount);
	if (lease->until != lease->offer.until)
		lease->low_told = lease->exhausted_told = false;
	lease->until = lease->offer.until;
	lease->left = lease->offer.left;
	lease->offer.number = 0;
}

/*
 * Settles a lease with the row of its account, which is locked, or was read:
 * then the lease is a copy.
 */
static void
settle_lease(ApikeyLease *lease, const ApikeyLeaseRow *row)
{
	if (lease->offer.number != 0 && lease->offer.number == row->number)
	{
		take_offer(lease);
		lease->matched = false;
	}
	lease->offer.number = 0;
	if (lease->number != 0 &&
		(lease->number != row->number ||
		 lease->generation != row->generation || lease->until != row->until))
		end_lease(lease);
}

/* A spend is final, or undone. */
static void
settle_spend(const Spend *spend, bool committed)
{
	LWLock	   *lock;
	ApikeySlot *slot = find_slot(&spend->account, &lock);
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
	if (lease->era == spend->era && committed && spend->effect == EFFECT_END)
		end_lease(lease);
	if (spend->effect != EFFECT_NONE && committed)
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
known_to_lack(const ApikeyLease *lease, const ApikeySpending *spending,
			  TimestampTz now)
{
	if (lease->left_at == 0 || now - lease->left_at >= LEFT_KNOWN_FOR)
		return false;
	if (spending->charge)
		return lease->left + spending->overdraft <= 0;
	return apikey_credits_sum(lease->available, lease->left) < spending->cost;
}

/* Takes what a lease has; its slot's mutex is held. */
static ApikeyCreditVerdict
take_of_lease(ApikeyLease *lease, ApikeySpending *spending, TimestampTz now)
{
	ApikeyCreditVerdict verdict = APIKEY_CREDIT_ASK;

	if (spendable(lease, spending->charge) >= spending->cost)
	{
		verdict = APIKEY_CREDIT_SPENT;
		spending->taken = spending->cost;
	}
	else if (known_to_lack(lease, spending, now))
	{
		verdict = spending->charge ? APIKEY_CREDIT_SPENT :
			APIKEY_CREDIT_EXHAUSTED;
		spending->taken = spending->charge ? lease->available : 0;
	}
	if (spending->taken > 0)
	{
		lease->available -= spending->taken;
		record_spend(spending->account, lease, spending->taken, EFFECT_NONE);
	}
	if (verdict == APIKEY_CREDIT_SPENT)
		lease->spent_at = now;
	spending->known = lease->left_at != 0;
	spending->left = apikey_credits_sum(lease->available, lease->left);
	spending->until = lease->until;
	return verdict;
}

/*
 * Spends of an account's lease; cost 0 only asks.  ASK where the worker has to
 * say first; UNAVAILABLE where there is no room for the account.
 */
ApikeyCreditVerdict
apikey_lease_spend(ApikeySpending *spending)
{
	ApikeyCreditVerdict verdict = APIKEY_CREDIT_ASK;
	TimestampTz now = GetCurrentTimestamp();
	bool		low = false;
	ApikeyLease *lease;
	ApikeySlot *slot;
	LWLock	   *lock;

	spending->taken = 0;
	spending->known = spending->in_row = false;
	reserve_spend();
	slot = open_slot(spending->account, spending->hint, &lock);
	if (slot == NULL)
		return APIKEY_CREDIT_UNAVAILABLE;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (lease->matched && now < lease->until)
	{
		verdict = take_of_lease(lease, spending, now);
		low = verdict == APIKEY_CREDIT_SPENT &&
			lease->available < lease->low && lease->wanted_most == 0 &&
			!(spending->known && lease->left <= 0);
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	if (low)
		apikey_lease_ask(spending->account, 1, false, false);
	return verdict;
}

/* What this subtransaction has spent of a lease of an era; NULL for nothing. */
static Spend *
own_spend(const pg_uuid_t *account, uint64 era)
{
	int			level = GetCurrentTransactionNestLevel();

	for (int i = spend_count - 1; i >= 0 && spends[i].level >= level; i--)
	{
		if (spends[i].effect == EFFECT_NONE && spends[i].era == era &&
			memcmp(&spends[i].account, account, sizeof(pg_uuid_t)) == 0)
			return &spends[i];
	}
	return NULL;
}

/* Puts back so much of what it has spent; the slot's mutex is held. */
static int64
undo_own(const pg_uuid_t *account, ApikeyLease *lease, int64 amount)
{
	Spend	   *spend = own_spend(account, lease->era);

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
apikey_lease_unspend(const pg_uuid_t *account, int64 amount)
{
	LWLock	   *lock;
	ApikeySlot *slot = find_slot(account, &lock);

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	(void) undo_own(account, &slot->lease, amount);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/*
 * Gives back what has been spent of an account: what this subtransaction has
 * spent at once, the rest with the commit, as nobody may spend what comes back
 * and then does not.  False where there is no lease that it could go into.
 */
bool
apikey_lease_give_back(const pg_uuid_t *account, ApikeySlotHint *hint,
					   int64 amount)
{
	bool		open = false;
	LWLock	   *lock;
	ApikeySlot *slot;

	reserve_spend();
	slot = open_slot(account, hint, &lock);
	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	if (slot->lease.matched && GetCurrentTimestamp() < slot->lease.until)
	{
		open = true;
		amount -= undo_own(account, &slot->lease, amount);
		if (amount > 0)
		{
			record_spend(account, &slot->lease, 0, EFFECT_CHANGE);
			spends[spend_count - 1].back = amount;
		}
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return open;
}

/*
 * Has it been told in this period that an account is low, or exhausted?  It is
 * from now on.
 */
bool
apikey_lease_told(const pg_uuid_t *account, ApikeySlotHint *hint,
				  bool exhausted)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(MyDatabaseId, account, hint, &lock);
	bool	   *told;
	bool		before;

	if (slot == NULL)
		return true;
	told = exhausted ? &slot->lease.exhausted_told : &slot->lease.low_told;
	SpinLockAcquire(&slot->mutex);
	before = *told;
	*told = true;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return before;
}

/* Puts an account on the list of those that somebody asks for. */
static bool
enqueue(const ApikeySlotKey *key, bool waiting)
{
	bool		asked = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count && !asked; i++)
		asked = memcmp(&shared->asked[i], key, sizeof(*key)) == 0;
	/* Half of the room is for those that wait. */
	if (!asked && shared->count < (waiting ? ASKED_MAX : ASKED_MAX / 2))
	{
		shared->asked[shared->count++] = *key;
		asked = true;
	}
	SpinLockRelease(&shared->mutex);
	return asked;
}

/* Says how much is wanted, at least and at most; 0 for nothing any more. */
static void
set_wanted(const pg_uuid_t *account, int64 wanted, bool overdrawing)
{
	LWLock	   *lock;
	ApikeySlot *slot = find_slot(account, &lock);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (wanted == 0 || lease->wanted_least == 0)
		lease->wanted_least = lease->wanted_most = wanted;
	else
	{
		lease->wanted_least = Min(lease->wanted_least, wanted);
		lease->wanted_most = Max(lease->wanted_most, wanted);
	}
	lease->overdrawing = wanted > 0 && (lease->overdrawing || overdrawing);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/*
 * Asks the worker for a lease of so much at least, for somebody who waits for
 * it, or has enough for now; or, overdrawing, of as much as there can be of it.
 */
void
apikey_lease_ask(const pg_uuid_t *account, int64 wanted, bool waiting,
				 bool overdrawing)
{
	ApikeySlotKey key;

	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	key.id = *account;
	/* The worker may answer as soon as it is on the list. */
	set_wanted(account, wanted, overdrawing);
	if (enqueue(&key, waiting))
		apikey_worker_call(MyDatabaseId);
	else if (!waiting)
		set_wanted(account, 0, false);
}

/* Waiting for the worker: between the first and the last, any number. */
void
apikey_lease_prepare_to_wait(void)
{
	ConditionVariablePrepareToSleep(&shared->granted);
}

void
apikey_lease_wait(long milliseconds)
{
	(void) ConditionVariableTimedSleep(&shared->granted, milliseconds,
									   PG_WAIT_EXTENSION);
}

void
apikey_lease_end_wait(void)
{
	ConditionVariableCancelSleep();
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
	ApikeySlot *slot = find_slot(account, &lock);
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
	settle_lease(&lease, row);
	if (lease.number != 0 && GetCurrentTimestamp() < lease.until)
		*available = lease.available;
	return known;
}

/*
 * For the worker, which has the account's row locked: settles the lease, and
 * copies it out; false where there is no room for it.
 */
bool
apikey_lease_settle(const pg_uuid_t *account, const ApikeyLeaseRow *row,
					ApikeyLease *lease)
{
	LWLock	   *lock;
	ApikeySlot *slot = open_slot(account, NULL, &lock);

	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	settle_lease(&slot->lease, row);
	*lease = slot->lease;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return true;
}

/*
 * Makes an offer, before the row that has its number is committed.  With it
 * the slot stays.  False where there is no room.
 */
bool
apikey_lease_offer(const pg_uuid_t *account, const ApikeyOffer *offer)
{
	LWLock	   *lock;
	ApikeySlot *slot = open_slot(account, NULL, &lock);

	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	slot->lease.offer = *offer;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return true;
}

/*
 * The offer is committed: it may be spent.  Where somebody has locked the row
 * since, he has settled it.
 */
void
apikey_lease_accept(const pg_uuid_t *account, int64 number)
{
	LWLock	   *lock;
	ApikeySlot *slot = find_slot(account, &lock);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (lease->offer.number == number)
	{
		take_offer(lease);
		lease->matched = true;
		lease->low = lease->available / 2 + lease->available % 2;
		lease->left = lease->offer.left;
		lease->spent_at = GetCurrentTimestamp();
		lease->left_at = lease->changes == lease->offer.changes ?
			lease->spent_at : 0;
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* What is left in the row, where a lease needs no more of it. */
void
apikey_lease_tell_left(const pg_uuid_t *account, const ApikeyLease *seen,
					   int64 left)
{
	LWLock	   *lock;
	ApikeySlot *slot = find_slot(account, &lock);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (lease->era == seen->era && lease->changes == seen->changes)
	{
		lease->left = left;
		lease->left_at = GetCurrentTimestamp();
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* The worker has dealt with an account: whoever waits looks again. */
void
apikey_lease_answer(Oid database, const pg_uuid_t *account)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(database, account, NULL, &lock);

	if (slot != NULL)
	{
		SpinLockAcquire(&slot->mutex);
		slot->lease.wanted_least = slot->lease.wanted_most = 0;
		slot->lease.overdrawing = false;
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
	}
	ConditionVariableBroadcast(&shared->granted);
}

/* The era of an account's lease that this transaction has ended; 0 for none. */
static uint64
era_ended_here(const pg_uuid_t *account)
{
	for (int i = spend_count - 1; i >= 0; i--)
	{
		if (spends[i].effect == EFFECT_END &&
			memcmp(&spends[i].account, account, sizeof(pg_uuid_t)) == 0)
			return spends[i].era;
	}
	return 0;
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

	if (shared == NULL)
		return 0;
	reserve_spend();
	ended = era_ended_here(account);
	slot = find_slot(account, &lock);
	if (slot == NULL)
		return 0;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	/* What the row says now it does not say if we roll back. */
	if (ended == 0 || ended != lease->era)
	{
		settle_lease(lease, row);
		if (now < lease->until)
			amount = lease->available;
		record_spend(account, lease, lease->available,
					 end ? EFFECT_END : EFFECT_CHANGE);
		lease->available = 0;
		/* What the account has now, others cannot know before our commit. */
		lease->left_at = 0;
		lease->changes++;
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return amount;
}

/* Something happens to an account's lease with the commit. */
static void
note_effect(const pg_uuid_t *account, Effect effect)
{
	LWLock	   *lock;
	ApikeySlot *slot;

	if (shared == NULL)
		return;
	reserve_spend();
	slot = find_slot(account, &lock);
	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	record_spend(account, &slot->lease, 0, effect);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* An account's row gets another amount with the commit. */
void
apikey_lease_changed(const pg_uuid_t *account)
{
	note_effect(account, EFFECT_CHANGE);
}

/* An account ends with the commit; until then others spend of what is leased. */
void
apikey_lease_ending(const pg_uuid_t *account)
{
	note_effect(account, EFFECT_END);
}

/* An account is gone: so is what was leased of it. */
void
apikey_lease_void(const pg_uuid_t *account)
{
	LWLock	   *lock;
	ApikeySlot *slot = find_slot(account, &lock);

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	slot->lease.offer.number = 0;
	end_lease(&slot->lease);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* The databases in which somebody asks. */
List *
apikey_lease_databases(void)
{
	List	   *databases = NIL;
	Oid		   *found;
	int			count;

	found = palloc(ASKED_MAX * sizeof(Oid));
	SpinLockAcquire(&shared->mutex);
	count = shared->count;
	for (int i = 0; i < count; i++)
		found[i] = shared->asked[i].database;
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < count; i++)
		databases = list_append_unique_oid(databases, found[i]);
	pfree(found);
	return databases;
}

/* Does somebody ask in a database? */
bool
apikey_lease_asked(Oid database)
{
	bool		asked = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count && !asked; i++)
		asked = shared->asked[i].database == database;
	SpinLockRelease(&shared->mutex);
	return asked;
}

/*
 * Takes the accounts of a database for which somebody asks off the list, those
 * that asked first first; so many at most.
 */
int
apikey_lease_take_asked(Oid database, pg_uuid_t *accounts, int most)
{
	int			count = 0;
	int			kept = 0;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count; i++)
	{
		if (shared->asked[i].database == database && count < most)
			accounts[count++] = shared->asked[i].id;
		else
			shared->asked[kept++] = shared->asked[i];
	}
	shared->count = kept;
	SpinLockRelease(&shared->mutex);
	return count;
}

/* Drops what is asked for in a database that no worker can reach. */
void
apikey_lease_drop(Oid database)
{
	pg_uuid_t	accounts[64];
	int			count;

	do
	{
		count = apikey_lease_take_asked(database, accounts, lengthof(accounts));
		for (int i = 0; i < count; i++)
			apikey_lease_answer(database, &accounts[i]);
	} while (count == lengthof(accounts));
}

/*
 * Has nothing been spent of a slot's lease since a time, and is there something
 * to give back, or to be settled?  Without a lock.
 */
static bool
lease_idle(const ApikeySlot *slot, TimestampTz before)
{
	const ApikeyLease *lease = &slot->lease;

	return slot->used && lease->spent_at < before &&
		(lease->available > 0 || lease->offer.number != 0);
}

/* The databases of such. */
List *
apikey_lease_idle_databases(TimestampTz before)
{
	List	   *databases = NIL;

	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlot *slot = apikey_slot_at(i);

		if (lease_idle(slot, before))
			databases = list_append_unique_oid(databases, slot->key.database);
	}
	return databases;
}

/* Finds such an account of this database, from a slot's number on. */
bool
apikey_lease_next_idle(int *from, TimestampTz before, pg_uuid_t *account)
{
	while (*from < apikey_slot_count())
	{
		ApikeySlot *slot = apikey_slot_at((*from)++);

		/* Read without a lock: apikey_lease_take_out looks again. */
		*account = slot->key.id;
		if (slot->key.database == MyDatabaseId && lease_idle(slot, before))
			return true;
	}
	return false;
}
