/*
 * lease.c
 *		Credits in shared memory: spending leases, asking for them, giving back.
 *
 * A lease is a number of credits that worker.c has taken out of an account's
 * row, and committed, before the first of them is spent here; so they can be
 * spent in read-only transactions, and a crash costs what was not spent yet.
 * They stand in the slot of the account, under its mutex.
 *
 * Who needs more than is there asks the worker and waits.  What a transaction
 * has spent goes back into the lease it was taken from when it, or the
 * subtransaction it was spent in, rolls back; so a lease has a number, which
 * changes when what was left of the lease before may not be spent any more.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "credit.h"
#include "usage.h"

#define ASKED_MAX		256		/* who finds no room asks again */
#define RECENT_SPENDS	8		/* looked at for one to add to */

/* How long it is believed that an account has no more. */
#define LEFT_KNOWN_FOR	(10 * USECS_PER_SEC)

typedef struct Shared
{
	slock_t		mutex;			/* guards all but the next two */
	ConditionVariable granted;
	pg_atomic_uint64 numbers;	/* of leases; given out once */
	Latch	   *launcher;
	Latch	   *worker;
	int			count;
	ApikeySlotKey asked[ASKED_MAX];
} Shared;

/* What else a commit means for a lease. */
typedef enum Effect
{
	EFFECT_NONE,
	EFFECT_MORE,				/* there is more in the row than was known */
	EFFECT_END					/* nothing of the lease is good any more */
} Effect;

/* What a transaction has done to a lease, as long as it may be undone. */
typedef struct Spend
{
	pg_uuid_t	account;
	uint64		number;			/* of the lease */
	int64		amount;			/* goes back into it on rollback */
	Effect		effect;
	int			level;			/* of the subtransaction */
} Spend;

static Shared *shared = NULL;
static Spend *spends = NULL;	/* in TopTransactionContext */
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
	pg_atomic_init_u64(&shared->numbers, (uint64) GetCurrentTimestamp());
	shared->launcher = shared->worker = NULL;
	shared->count = 0;
}

/* May a slot be given to another key?  Under its partition's lock. */
bool
apikey_lease_at_rest(ApikeySlot *slot, TimestampTz now)
{
	const ApikeyLease *lease = &slot->lease;

	return lease->unsettled == 0 &&
		(lease->available == 0 || lease->until <= now);
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
			spend->level == level &&
			spend->number == lease->number &&
			memcmp(&spend->account, account, sizeof(pg_uuid_t)) == 0)
		{
			spend->amount += amount;
			return;
		}
	}
	spend = &spends[spend_count++];
	spend->account = *account;
	spend->number = lease->number;
	spend->amount = amount;
	spend->effect = effect;
	spend->level = level;
	lease->unsettled++;
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
	lease->unsettled--;
	if (lease->number == spend->number && !committed)
		lease->available += spend->amount;
	if (spend->effect == EFFECT_END)
		lease->ending--;
	if (spend->effect == EFFECT_END && committed)
	{
		if (lease->number == spend->number || lease->doomed)
			lease->number = lease->available = 0;
		lease->ends++;
	}
	if (lease->ending == 0)
		lease->doomed = false;
	if (spend->effect != EFFECT_NONE && committed)
	{
		lease->left_at = 0;
		lease->grants++;
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

/* What a subtransaction spent is undone with it, or becomes its parent's. */
static void
on_subtransaction_end(SubXactEvent event,
					  SubTransactionId subid pg_attribute_unused(),
					  SubTransactionId parent pg_attribute_unused(),
					  void *arg pg_attribute_unused())
{
	int			level = GetCurrentTransactionNestLevel();
	int			kept = 0;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (int i = 0; i < spend_count; i++)
	{
		if (spends[i].level >= level && event == SUBXACT_EVENT_ABORT_SUB)
			settle_spend(&spends[i], false);
		else
		{
			spends[kept] = spends[i];
			spends[kept].level = Min(spends[i].level, level - 1);
			kept++;
		}
	}
	spend_count = kept;
}

/* Once, when the library is loaded. */
void
apikey_lease_init(void)
{
	RegisterXactCallback(on_transaction_end, NULL);
	RegisterSubXactCallback(on_subtransaction_end, NULL);
}

/*
 * Spends of an account's lease; cost 0 only asks.  "left" is what is left of
 * the account, or -1 where that is not known.  ASK where the worker has to say
 * first; UNAVAILABLE where there is no room for the account.
 */
ApikeyCreditVerdict
apikey_lease_spend(const pg_uuid_t *account, ApikeySlotHint *hint, int32 cost,
				   int64 *left)
{
	ApikeyCreditVerdict verdict = APIKEY_CREDIT_ASK;
	TimestampTz now = GetCurrentTimestamp();
	bool		low = false;
	ApikeyLease *lease;
	ApikeySlot *slot;
	LWLock	   *lock;

	*left = -1;
	reserve_spend();
	slot = open_slot(account, hint, &lock);
	if (slot == NULL)
		return APIKEY_CREDIT_UNAVAILABLE;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (lease->number != 0 && now < lease->until)
	{
		bool		known = lease->left_at != 0;

		if (lease->available >= cost)
		{
			verdict = APIKEY_CREDIT_SPENT;
			lease->available -= cost;
			lease->spent_at = now;
			if (cost > 0)
				record_spend(account, lease, cost, EFFECT_NONE);
			low = lease->available < lease->low && lease->wanted == 0 &&
				!(known && lease->left == 0);
		}
		else if (known && now - lease->left_at < LEFT_KNOWN_FOR &&
				 apikey_credits_sum(lease->available, lease->left) < cost)
			verdict = APIKEY_CREDIT_EXHAUSTED;
		*left = known ? apikey_credits_sum(lease->available, lease->left) : -1;
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	if (low)
		apikey_lease_ask(account, 1);
	return verdict;
}

/* Wakes the process that starts workers, and the worker, if there is one. */
void
apikey_lease_call(void)
{
	Latch	   *launcher;
	Latch	   *worker;

	SpinLockAcquire(&shared->mutex);
	launcher = shared->launcher;
	worker = shared->worker;
	SpinLockRelease(&shared->mutex);
	if (worker != NULL)
		SetLatch(worker);
	if (launcher != NULL)
		SetLatch(launcher);
}

/* Asks the worker for a lease of so much at least. */
void
apikey_lease_ask(const pg_uuid_t *account, int64 wanted)
{
	ApikeySlotKey key = {.database = MyDatabaseId, .id = *account};
	LWLock	   *lock;
	ApikeySlot *slot = open_slot(account, NULL, &lock);
	bool		asked = false;

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	slot->lease.wanted = Max(slot->lease.wanted, wanted);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count; i++)
		asked |= memcmp(&shared->asked[i], &key, sizeof(key)) == 0;
	if (!asked && shared->count < ASKED_MAX)
		shared->asked[shared->count++] = key;
	SpinLockRelease(&shared->mutex);
	apikey_lease_call();
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

/* Copies out an account's lease; all zero where it has none. */
void
apikey_lease_read(const pg_uuid_t *account, ApikeyLease *lease)
{
	LWLock	   *lock;
	ApikeySlot *slot = find_slot(account, &lock);

	memset(lease, 0, sizeof(*lease));
	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	*lease = slot->lease;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* What of an account is in memory; and a count of the leases it got. */
int64
apikey_lease_available(const pg_uuid_t *account, uint32 *granted)
{
	ApikeyLease lease;

	apikey_lease_read(account, &lease);
	*granted = lease.granted;
	return lease.number != 0 && GetCurrentTimestamp() < lease.until ?
		lease.available : 0;
}

/*
 * Takes all that is left of a lease: what was granted is about to be replaced,
 * or goes back into the account's row.  With the transaction's commit nothing
 * goes back into that lease; with its rollback all of it does.
 */
int64
apikey_lease_take_out(const pg_uuid_t *account)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		amount;
	LWLock	   *lock;
	ApikeySlot *slot;

	reserve_spend();
	slot = find_slot(account, &lock);
	if (slot == NULL)
		return 0;
	SpinLockAcquire(&slot->mutex);
	amount = slot->lease.available;
	slot->lease.available = 0;
	slot->lease.ending++;
	record_spend(account, &slot->lease, amount, EFFECT_END);
	if (now >= slot->lease.until || slot->lease.number == 0)
		amount = 0;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return amount;
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
	slot->lease.number = slot->lease.available = 0;
	slot->lease.ends++;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* An account's row gets more with the commit: what is left is not known. */
void
apikey_lease_granted_more(const pg_uuid_t *account)
{
	LWLock	   *lock;
	ApikeySlot *slot;

	reserve_spend();
	slot = find_slot(account, &lock);
	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	record_spend(account, &slot->lease, 0, EFFECT_MORE);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* The process that starts workers, or the worker, takes calls from here on. */
void
apikey_lease_serve(bool is_worker)
{
	SpinLockAcquire(&shared->mutex);
	if (is_worker)
		shared->worker = MyLatch;
	else
		shared->launcher = MyLatch;
	SpinLockRelease(&shared->mutex);
}

/* The databases in which somebody asks. */
List *
apikey_lease_databases(void)
{
	Oid			found[ASKED_MAX];
	int			count;
	List	   *databases = NIL;

	SpinLockAcquire(&shared->mutex);
	count = shared->count;
	for (int i = 0; i < count; i++)
		found[i] = shared->asked[i].database;
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < count; i++)
		databases = list_append_unique_oid(databases, found[i]);
	return databases;
}

/* The next account of this database for which somebody asks. */
bool
apikey_lease_next(pg_uuid_t *account)
{
	bool		found = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count && !found; i++)
	{
		if (shared->asked[i].database != MyDatabaseId)
			continue;
		*account = shared->asked[i].id;
		shared->asked[i] = shared->asked[--shared->count];
		found = true;
	}
	SpinLockRelease(&shared->mutex);
	return found;
}

/* Nothing can be had of an account now: whoever waits asks again. */
void
apikey_lease_refuse(Oid database, const pg_uuid_t *account)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(database, account, NULL, &lock);

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	slot->lease.wanted = 0;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* Drops what is asked for in a database that no worker can reach. */
void
apikey_lease_drop(Oid database)
{
	ApikeySlotKey asked[ASKED_MAX];
	int			count = 0;
	int			kept = 0;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count; i++)
	{
		if (shared->asked[i].database == database)
			asked[count++] = shared->asked[i];
		else
			shared->asked[kept++] = shared->asked[i];
	}
	shared->count = kept;
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < count; i++)
		apikey_lease_refuse(database, &asked[i].id);
}

/*
 * So much has been taken out of an account's row, and committed: to be added
 * to the lease that was seen while the row was locked or, fresh, to replace
 * it.  It is void where the lease has been ended since.
 */
void
apikey_lease_grant(const pg_uuid_t *account, const ApikeyLease *seen,
				   bool fresh, int64 amount, TimestampTz until, int64 left)
{
	LWLock	   *lock;
	ApikeySlot *slot = open_slot(account, NULL, &lock);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (lease->ends == seen->ends)
	{
		if (fresh)
		{
			lease->number = pg_atomic_add_fetch_u64(&shared->numbers, 1);
			lease->available = 0;
		}
		lease->available += amount;
		lease->doomed = lease->ending > 0;
		lease->low = (lease->available + 1) / 2;
		lease->until = until;
		lease->left = left;
		lease->left_at = lease->spent_at = GetCurrentTimestamp();
		if (lease->grants != seen->grants)
			lease->left_at = 0;
		lease->wanted = 0;
		lease->granted++;
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	ConditionVariableBroadcast(&shared->granted);
}

/* Has nothing been spent of a slot's lease since a time?  Without a lock. */
static bool
lease_idle(const ApikeySlot *slot, TimestampTz before)
{
	return slot->used && slot->lease.available > 0 &&
		slot->lease.unsettled == 0 && slot->lease.spent_at < before;
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
