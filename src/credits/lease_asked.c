/*
 * lease_asked.c
 *		For which accounts somebody asks the worker, and waits.
 *
 * That is a worker here or, where this server is a member of a fleet, the one
 * that asks the primary.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "pgstat.h"
#include "storage/condition_variable.h"
#include "storage/shmem.h"

#include "memory/memory.h"
#include "credits/credits_internal.h"

#define ASKED_MAX		1024	/* who finds no room asks again */

typedef struct Asked
{
	slock_t		mutex;			/* guards all but the next */
	ConditionVariable granted;
	int			count;
	ApikeySlotKey asked[ASKED_MAX];
	bool		of_rate[ASKED_MAX]; /* tokens are asked for: see shared_rate_member.c */
} Asked;

static Asked *shared = NULL;

static Size
memory_size(void)
{
	return sizeof(Asked);
}

static void
start_memory(void)
{
	bool		found;

	shared = ShmemInitStruct("apikey leases asked", sizeof(Asked), &found);
	if (found)
		return;
	SpinLockInit(&shared->mutex);
	ConditionVariableInit(&shared->granted);
	shared->count = 0;
}

const ApikeyMemoryPart apikey_lease_asked_memory = {
	.size = memory_size,
	.start = start_memory,
	.forget = apikey_lease_drop
};

/* Puts an account on the list of those that somebody asks for. */
static bool
enqueue(const ApikeySlotKey *key, bool waiting, bool of_rate)
{
	bool		asked = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count && !asked; i++)
		asked = memcmp(&shared->asked[i], key, sizeof(*key)) == 0;
	/* Half of the room is for those that wait. */
	if (!asked && shared->count < (waiting ? ASKED_MAX : ASKED_MAX / 2))
	{
		shared->of_rate[shared->count] = of_rate;
		shared->asked[shared->count++] = *key;
		asked = true;
	}
	SpinLockRelease(&shared->mutex);
	return asked;
}

/*
 * Says how much is wanted, at least and at most; 0 for nothing any more.  Is it
 * of a rate?
 */
static bool
set_wanted(const pg_uuid_t *account, int64 wanted, bool overdrawing)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_lease_find_slot(account, &lock);
	ApikeyLease *lease;
	bool		of_rate;

	if (slot == NULL)
		return false;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	of_rate = lease->of_rate;
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
	return of_rate;
}

/* Calls who may answer: a member's worker, or one of our own. */
static void
call_worker(void)
{
	if (apikey_fleet_member())
		apikey_fleet_wake();
	else
		apikey_seat_call(MyDatabaseId);
}

/* May who asks hope for an answer? */
bool
apikey_lease_answerable(void)
{
	if (apikey_fleet_member())
		return apikey_fleet_connected(MyDatabaseId);
	return !RecoveryInProgress() && apikey_seat_at_hand();
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
	bool		of_rate;

	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	key.id = *account;
	/* The worker may answer as soon as it is on the list. */
	of_rate = set_wanted(account, wanted, overdrawing);
	if (enqueue(&key, waiting, of_rate))
		call_worker();
	else if (!waiting)
		(void) set_wanted(account, 0, false);
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

/* Takes what is asked for in a database off the list, accounts or rates. */
static int
take_asked(Oid database, bool of_rate, pg_uuid_t *ids, int most)
{
	int			count = 0;
	int			kept = 0;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count; i++)
	{
		if (shared->asked[i].database == database &&
			shared->of_rate[i] == of_rate && count < most)
			ids[count++] = shared->asked[i].id;
		else
		{
			shared->of_rate[kept] = shared->of_rate[i];
			shared->asked[kept++] = shared->asked[i];
		}
	}
	shared->count = kept;
	SpinLockRelease(&shared->mutex);
	return count;
}

/*
 * Takes the accounts of a database for which somebody asks off the list, those
 * that asked first first; so many at most.
 */
int
apikey_lease_take_asked(Oid database, pg_uuid_t *accounts, int most)
{
	return take_asked(database, false, accounts, most);
}

/* The same of rates. */
int
apikey_lease_take_asked_rates(Oid database, pg_uuid_t *limits, int most)
{
	return take_asked(database, true, limits, most);
}

/* Drops what is asked for in a database that no worker can reach. */
void
apikey_lease_drop(Oid database)
{
	pg_uuid_t	ids[64];
	int			count;

	do
	{
		count = apikey_lease_take_asked(database, ids, lengthof(ids) / 2);
		count += apikey_lease_take_asked_rates(database, ids + count,
											   lengthof(ids) / 2);
		for (int i = 0; i < count; i++)
			apikey_lease_answer(database, &ids[i]);
	} while (count >= (int) lengthof(ids) / 2);
}
