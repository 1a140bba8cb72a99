/*
 * fleet.c
 *		What all processes know of this server's part in a fleet.
 *
 * A member verifies beside the primary: a standby, or a database that a
 * subscription brings the keys to.  Its worker, which speaks to the primary,
 * says here how it gets on, and sessions say where they would ask the primary,
 * if it could be reached.  The latch and the entries change under the mutex.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/spin.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define DATABASES_MAX	64
#define LOOK_AGAIN		USECS_PER_MINUTE	/* at what could not be told */

/* How the worker gets on with a database; a session writes "wanted" alone. */
typedef struct Entry
{
	Oid			database;		/* invalid: free */
	ApikeyTick	until;			/* the primary can be asked; 0: it cannot */
	bool		own;			/* where the primary should be, we are */
	bool		failed;			/* it has not joined since it failed */
	bool		wanted;			/* somebody would have asked */
} Entry;

typedef struct Shared
{
	slock_t		mutex;
	Latch	   *worker;			/* NULL: there is none */
	Entry		entries[DATABASES_MAX];
} Shared;

static Shared *shared = NULL;

static void
make_memory(void)
{
	SpinLockInit(&shared->mutex);
}

void
apikey_fleet_set_latch(Latch *latch)
{
	SpinLockAcquire(&shared->mutex);
	shared->worker = latch;
	SpinLockRelease(&shared->mutex);
}

/* There is something for the worker to ask for. */
void
apikey_fleet_wake(void)
{
	Latch	   *latch;

	SpinLockAcquire(&shared->mutex);
	latch = shared->worker;
	SpinLockRelease(&shared->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

static Entry *
find_entry(Oid database)
{
	for (int i = 0; i < DATABASES_MAX; i++)
	{
		if (shared->entries[i].database == database)
			return &shared->entries[i];
	}
	return NULL;
}

/*
 * A database's, made where it has none.  There may be many databases that fail,
 * as nobody is let into them: those give way.  The mutex is held.
 */
static Entry *
make_entry(Oid database)
{
	Entry	   *entry = find_entry(database);

	if (entry == NULL)
		entry = find_entry(InvalidOid);
	for (int i = 0; i < DATABASES_MAX && entry == NULL; i++)
	{
		const Entry *other = &shared->entries[i];

		if (other->until == 0 && !other->own && !other->wanted)
			entry = &shared->entries[i];
	}
	if (entry != NULL && entry->database != database)
	{
		memset(entry, 0, sizeof(Entry));
		entry->database = database;
	}
	return entry;
}

/* What is told of a database, and whether there is a worker; nothing: all false. */
static Entry
read_entry(Oid database, bool *worker)
{
	const Entry *entry;
	Entry		copy = {0};

	SpinLockAcquire(&shared->mutex);
	entry = find_entry(database);
	if (entry != NULL)
		copy = *entry;
	*worker = shared->worker != NULL;
	SpinLockRelease(&shared->mutex);
	return copy;
}

/* For the worker: how it gets on with a database, which it has just tried. */
void
apikey_fleet_tell(Oid database, ApikeyTick until, bool own)
{
	Entry	   *entry;

	SpinLockAcquire(&shared->mutex);
	entry = until > 0 || own ? make_entry(database) : find_entry(database);
	if (entry != NULL)
	{
		entry->until = until;
		entry->own = own;
		entry->failed &= until == 0;
		entry->wanted = false;
	}
	SpinLockRelease(&shared->mutex);
}

/* For the worker: what it has told the primary, or asked it, has failed. */
void
apikey_fleet_fail(Oid database)
{
	Entry	   *entry;

	SpinLockAcquire(&shared->mutex);
	entry = make_entry(database);
	if (entry != NULL)
		entry->failed = true;
	SpinLockRelease(&shared->mutex);
}

/* A database is gone, or cannot be connected to: nothing is told of it. */
void
apikey_fleet_forget(Oid database)
{
	Entry	   *entry;

	SpinLockAcquire(&shared->mutex);
	entry = find_entry(database);
	if (entry != NULL)
		memset(entry, 0, sizeof(Entry));
	SpinLockRelease(&shared->mutex);
}

const ApikeyMemoryPart apikey_fleet_memory = {
	APIKEY_MEMORY_STRUCT("apikey fleet", shared),
	.make = make_memory,
	.forget = apikey_fleet_forget
};

/* Is a database cut off from the primary, as far as the worker has found? */
bool
apikey_fleet_cut_off(Oid database)
{
	bool		worker;

	return shared != NULL && (read_entry(database, &worker).failed || !worker);
}

/*
 * May who waits for the primary's answer hope for one?  If not, the worker is
 * told to try: who asks next may.
 */
bool
apikey_fleet_connected(Oid database)
{
	ApikeyTick	now = apikey_tick();
	bool		connected = false;
	bool		call = false;
	Latch	   *worker;
	Entry	   *entry;

	if (shared == NULL)
		return false;
	SpinLockAcquire(&shared->mutex);
	worker = shared->worker;
	entry = worker == NULL ? NULL : make_entry(database);
	if (entry != NULL)
	{
		connected = now < entry->until;
		call = !connected && !entry->wanted;
		entry->wanted = !connected;
	}
	SpinLockRelease(&shared->mutex);
	if (call)
		SetLatch(worker);
	return connected;
}

/* For the worker: has it been told to try, and has not yet? */
bool
apikey_fleet_wanted(Oid database)
{
	bool		worker;

	return read_entry(database, &worker).wanted;
}

/* Does apikey.primary_conninfo lead to this server itself? */
static bool
leads_here(Oid database)
{
	bool		worker;

	return read_entry(database, &worker).own;
}

/* Do this database's keys come from a primary elsewhere? */
static ApikeyAnswer
subscriber(ApikeyAnswer subscribes)
{
	if (subscribes != APIKEY_ANSWER_NO && shared != NULL &&
		leads_here(MyDatabaseId))
		return APIKEY_ANSWER_NO;
	return subscribes;
}

/* May they be about to, as somebody subscribes? */
static bool
may_subscribe(void)
{
	return apikey_primary_conninfo[0] != '\0' && !RecoveryInProgress();
}

/* Do they, or cannot that be told now? */
bool
apikey_fleet_subscriber(bool *told)
{
	ApikeyAnswer result = !may_subscribe() ? APIKEY_ANSWER_NO :
		subscriber(apikey_subscription_here(true));

	*told = result != APIKEY_ANSWER_NONE;
	return result != APIKEY_ANSWER_NO;
}

/* Does this database verify beside a primary?  Somebody looks whether it subscribes. */
static ApikeyAnswer
member(ApikeyAnswer (*looking) (void))
{
	if (!apikey_fleet || shared == NULL)
		return APIKEY_ANSWER_NO;
	if (RecoveryInProgress())
		return APIKEY_ANSWER_YES;
	return !may_subscribe() ? APIKEY_ANSWER_NO : subscriber(looking());
}

static ApikeyAnswer
look_at_once(void)
{
	return apikey_subscription_here(false);
}

static ApikeyAnswer
look(void)
{
	return apikey_subscription_here(true);
}

/* Does this database verify beside a primary, and report to it?  Nobody is waited for. */
ApikeyAnswer
apikey_fleet_member_now(void)
{
	return member(look_at_once);
}

/* The same, or may it? */
bool
apikey_fleet_member(void)
{
	return apikey_fleet_member_now() != APIKEY_ANSWER_NO;
}

/* Where something cannot be told the worker comes again, for what it leaves undone. */
static ApikeyAnswer
or_again(ApikeyAnswer result)
{
	if (result == APIKEY_ANSWER_NONE)
		apikey_stats_visit(APIKEY_VISIT_UNTOLD,
						   GetCurrentTimestamp() + LOOK_AGAIN);
	return result;
}

/* The same for a worker: it is no primary's where nothing is known of it. */
bool
apikey_fleet_worker_of_member(void)
{
	return or_again(member(apikey_subscription_last)) != APIKEY_ANSWER_NO;
}

/*
 * Do the rows of a table of ours come by a subscription?  They do not where this
 * database has none, whoever keeps us from what says of which tables.
 */
ApikeyAnswer
apikey_fleet_arrives(ApikeyRelation table)
{
	if (apikey_subscription_last() == APIKEY_ANSWER_NO)
		return APIKEY_ANSWER_NO;
	return or_again(apikey_subscription_of(table, true));
}

/* Is what servers share in limits kept elsewhere, or may it be, member or not? */
bool
apikey_fleet_limits_elsewhere(void)
{
	return RecoveryInProgress() || member(look) != APIKEY_ANSWER_NO ||
		apikey_subscription_of_limits(true) != APIKEY_ANSWER_NO;
}
