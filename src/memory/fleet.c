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

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_subscription_rel.h"
#include "miscadmin.h"
#include "storage/spin.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define DATABASES_MAX	64

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
static bool subscribed = false;
static bool subscribed_known = false;
static bool limits_arrive = false;
static bool limits_arrive_known = false;

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

static void
forget_subscribed(Datum arg pg_attribute_unused(),
				  int cache pg_attribute_unused(),
				  uint32 hash pg_attribute_unused())
{
	subscribed_known = false;
	limits_arrive_known = false;
}

/* Once a process: what is remembered of subscriptions is to be forgotten. */
static void
watch_subscriptions(void)
{
	static bool registered = false;

	if (registered)
		return;
	CacheRegisterSyscacheCallback(SUBSCRIPTIONOID, forget_subscribed, (Datum) 0);
	CacheRegisterSyscacheCallback(SUBSCRIPTIONRELMAP, forget_subscribed,
								  (Datum) 0);
	registered = true;
}

/* Has this database a subscription? */
static bool
subscribes(void)
{
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;

	if (subscribed_known)
		return subscribed;
	watch_subscriptions();
	subscribed_known = true;
	ScanKeyInit(&key, Anum_pg_subscription_subdbid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(MyDatabaseId));
	rel = table_open(SubscriptionRelationId, AccessShareLock);
	scan = systable_beginscan(rel, SubscriptionNameIndexId, true, NULL, 1,
							  &key);
	subscribed = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return subscribed;
}

/* Do the rows of a table of ours come by a subscription? */
bool
apikey_fleet_arrives(ApikeyRelation table)
{
	Relation	rel = table_open(SubscriptionRelRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	bool		found;

	ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid,
				BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(apikey_catalog_relation(table)));
	scan = systable_beginscan(rel, SubscriptionRelSrrelidSrsubidIndexId, true,
							  NULL, 1, &key);
	found = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* The same of limits, for who asks often. */
static bool
limits_are_elsewhere(void)
{
	if (limits_arrive_known)
		return limits_arrive;
	watch_subscriptions();
	limits_arrive_known = true;
	limits_arrive = apikey_fleet_arrives(APIKEY_REL_LIMIT);
	return limits_arrive;
}

/* Do this database's keys come from a primary elsewhere? */
bool
apikey_fleet_subscriber(void)
{
	return apikey_primary_conninfo[0] != '\0' && !RecoveryInProgress() &&
		subscribes() && (shared == NULL || !leads_here(MyDatabaseId));
}

/* Does this database verify beside a primary, and report to it? */
bool
apikey_fleet_member(void)
{
	return apikey_fleet && shared != NULL &&
		(RecoveryInProgress() || apikey_fleet_subscriber());
}

/* Is what servers share in limits kept elsewhere, member or not? */
bool
apikey_fleet_limits_elsewhere(void)
{
	return RecoveryInProgress() || apikey_fleet_member() ||
		limits_are_elsewhere();
}
