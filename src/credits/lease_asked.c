/*
 * lease_asked.c
 *		For which accounts somebody asks the worker, and waits.
 *
 * That is a worker here or, where this server is a member of a fleet, the one
 * that asks the primary.  No worker here is called for what is asked of the
 * primary alone.  Roles take turns: whoever asks for so much that it takes long
 * has its own keys wait, and room for others is left: see share.h.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "pgstat.h"
#include "storage/condition_variable.h"

#include "memory/memory.h"
#include "credits/credits_internal.h"

#define ASKED_MAX		4096	/* who finds no room asks again */
#define SERVED_MAX		16		/* roles that had their turn */

typedef struct Asking
{
	ApikeySlotKey key;
	Oid			role;			/* whose slot it is */
	bool		of_rate;		/* tokens are asked for: see shared_rate_member.c */
	bool		elsewhere;		/* who asked last asked the primary alone */
} Asking;

typedef struct Asked
{
	slock_t		mutex;			/* guards all but the next */
	ConditionVariable granted;
	int			count;
	Asking		asked[ASKED_MAX];	/* who asked first first */
	Oid			served[SERVED_MAX]; /* the last ones, in a ring */
	uint32		turn;			/* where the next stands in it */
} Asked;

static Asked *shared = NULL;

static void
make_memory(void)
{
	SpinLockInit(&shared->mutex);
	ConditionVariableInit(&shared->granted);
}

const ApikeyMemoryPart apikey_lease_asked_memory = {
	APIKEY_MEMORY_STRUCT("apikey leases asked", shared),
	.make = make_memory,
	.forget = apikey_lease_drop
};

/* Puts an account on the list of those that somebody asks for. */
static bool
enqueue(const Asking *asking, bool waiting)
{
	int			of_database = 0;
	int			of_role = 0;
	bool		asked = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count && !asked; i++)
	{
		Asking	   *other = &shared->asked[i];

		asked = memcmp(&other->key, &asking->key, sizeof(other->key)) == 0;
		if (asked)
			other->elsewhere = asking->elsewhere;
		of_database += other->key.database == asking->key.database;
		of_role += other->key.database == asking->key.database &&
			other->role == asking->role;
	}
	/* Half of the room is for those that wait. */
	if (!asked && (waiting || shared->count < ASKED_MAX / 2) &&
		apikey_share_leaves_room(ASKED_MAX, shared->count, of_database, of_role))
	{
		shared->asked[shared->count++] = *asking;
		asked = true;
	}
	SpinLockRelease(&shared->mutex);
	return asked;
}

/*
 * Says how much is wanted, at least and at most; 0 for nothing any more.  Fills
 * in whose it is, and whether it is a rate.
 */
static void
set_wanted(Asking *asking, int64 wanted, bool overdrawing)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_lease_find_slot(&asking->key.id, &lock);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	asking->of_rate = lease->of_rate;
	asking->role = apikey_slot_role(slot);
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
 * Calls who may answer: a member's worker, or one of our own; both where it is
 * not told which.
 */
static void
call_worker(ApikeyAnswer member)
{
	if (member != APIKEY_ANSWER_NO)
		apikey_fleet_wake();
	if (member != APIKEY_ANSWER_YES)
		apikey_seat_call(MyDatabaseId);
}

/* May who asks hope for an answer? */
bool
apikey_lease_answerable(void)
{
	ApikeyAnswer member = apikey_fleet_member_now();

	if (member != APIKEY_ANSWER_NO && apikey_fleet_connected(MyDatabaseId))
		return true;
	return member != APIKEY_ANSWER_YES && !RecoveryInProgress() &&
		apikey_seat_at_hand();
}

/*
 * Asks the worker for a lease of so much at least, for somebody who waits for
 * it, or has enough for now; or, overdrawing, of as much as there can be of it.
 */
void
apikey_lease_ask(const pg_uuid_t *account, int64 wanted, bool waiting,
				 bool overdrawing)
{
	ApikeyAnswer member = apikey_fleet_member_now();
	Asking		asking;

	memset(&asking, 0, sizeof(asking));
	asking.key.database = MyDatabaseId;
	asking.key.id = *account;
	/* The worker may answer as soon as it is on the list. */
	set_wanted(&asking, wanted, overdrawing);
	asking.elsewhere = asking.of_rate || member == APIKEY_ANSWER_YES;
	if (enqueue(&asking, waiting))
		call_worker(member);
	else if (!waiting)
		set_wanted(&asking, 0, false);
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

/* The databases in which somebody asks a worker here, or a lease is called back. */
List *
apikey_lease_databases(void)
{
	List	   *databases = NIL;
	Oid		   *found;
	int			count = 0;

	found = palloc(ASKED_MAX * sizeof(Oid));
	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count; i++)
	{
		if (!shared->asked[i].elsewhere)
			found[count++] = shared->asked[i].key.database;
	}
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < count; i++)
		databases = list_append_unique_oid(databases, found[i]);
	pfree(found);
	return list_concat_unique_oid(databases, apikey_called_back_databases());
}

static bool
is_asked(Oid database, bool here)
{
	bool		asked = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count && !asked; i++)
		asked = shared->asked[i].key.database == database &&
			!(here && shared->asked[i].elsewhere);
	SpinLockRelease(&shared->mutex);
	return asked;
}

/* Does somebody ask in a database? */
bool
apikey_lease_asked(Oid database)
{
	return is_asked(database, false);
}

/* The same, of a worker here, or is a lease called back? */
bool
apikey_lease_asked_here(Oid database)
{
	return is_asked(database, true) || apikey_called_back_waits(database);
}

/* Has a role had one of the last turns?  The mutex is held. */
static bool
was_served(Oid role)
{
	bool		served = false;

	for (int i = 0; i < SERVED_MAX && !served; i++)
		served = shared->served[i] == role;
	return served;
}

/*
 * Takes one of what is asked for in a database off the list: the first of a role
 * that had no turn, or the first.  The mutex is held.
 */
static bool
take_one(Oid database, bool of_rate, pg_uuid_t *id)
{
	int			first = -1;
	int			next = -1;

	for (int i = 0; i < shared->count && next < 0; i++)
	{
		const Asking *asking = &shared->asked[i];

		if (asking->key.database != database || asking->of_rate != of_rate)
			continue;
		if (first < 0)
			first = i;
		if (!was_served(asking->role))
			next = i;
	}
	if (first < 0)
		return false;
	/* All had: another round. */
	if (next < 0)
	{
		memset(shared->served, 0, sizeof(shared->served));
		next = first;
	}
	*id = shared->asked[next].key.id;
	shared->served[shared->turn++ % SERVED_MAX] = shared->asked[next].role;
	shared->count--;
	memmove(&shared->asked[next], &shared->asked[next + 1],
			(shared->count - next) * sizeof(Asking));
	return true;
}

static bool
among(const pg_uuid_t *ids, int count, const pg_uuid_t *id)
{
	bool		found = false;

	for (int i = 0; i < count && !found; i++)
		found = memcmp(&ids[i], id, sizeof(pg_uuid_t)) == 0;
	return found;
}

/*
 * Takes what is asked for in a database off the list, accounts or rates, beside so
 * many that are taken: one at a time, as who asks meanwhile spins.  So what was
 * taken may be asked for anew, and be on the list again, before the last is: none
 * is taken twice.
 */
static int
take_asked(Oid database, bool of_rate, pg_uuid_t *ids, int count, int most)
{
	bool		taken = true;

	while (taken && count < most)
	{
		pg_uuid_t	id;

		SpinLockAcquire(&shared->mutex);
		taken = take_one(database, of_rate, &id);
		SpinLockRelease(&shared->mutex);
		if (taken && !among(ids, count, &id))
			ids[count++] = id;
	}
	return count;
}

/* Is an account's lease, which was called back, out still? */
static bool
is_called_back(Oid database, const pg_uuid_t *account)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(database, account, NULL, &lock);
	bool		called_back;

	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	called_back = slot->lease.too_much;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return called_back;
}

/* Takes accounts whose leases are called back off their list. */
static int
take_called_back(Oid database, pg_uuid_t *ids, int count, int most)
{
	pg_uuid_t	id;

	while (count < most && apikey_called_back_take(database, &id, 1) > 0)
	{
		if (!among(ids, count, &id) && is_called_back(database, &id))
			ids[count++] = id;
	}
	return count;
}

/*
 * Takes the accounts of a database for which somebody asks off the list, of each
 * role those that asked first first, and those that are called back, of which one
 * comes first every other time: so many at most.
 */
int
apikey_lease_take_asked(Oid database, pg_uuid_t *accounts, int most)
{
	static bool called_back_first = false;
	int			count = 0;

	if (called_back_first)
		count = take_called_back(database, accounts, 0, 1);
	called_back_first = !called_back_first;
	count = take_asked(database, false, accounts, count, most);
	return take_called_back(database, accounts, count, most);
}

/* The same of rates. */
int
apikey_lease_take_asked_rates(Oid database, pg_uuid_t *limits, int most)
{
	return take_asked(database, true, limits, 0, most);
}

/*
 * Drops what is asked for in a database that no worker can reach, or whose primary
 * cannot be reached.
 */
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
