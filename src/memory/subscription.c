/*
 * subscription.c
 *		Whether this database, or a table of ours, gets its rows by a subscription.
 *
 * Each process remembers what it has read, until a message tells of another
 * subscription: what came while it read is not remembered.  Anybody can keep us
 * from these catalogs, as from tables: see lock.c.  Then it cannot be told, and
 * whoever asks has to do without.
 *
 * A worker is new in its database each time, and has to go on.  So all databases
 * that subscribe stand in shared memory, with how many messages of a subscription
 * any process had been told of before they were read: what was read last is good
 * until the next one.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_subscription_rel.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/sinval.h"
#include "storage/spin.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define DATABASES_MAX	64		/* of more nothing is known that is not read */

typedef struct Shared
{
	pg_atomic_uint64 messages;	/* of subscriptions, of all processes together */
	slock_t		mutex;			/* guards the rest */
	uint64		as_of;			/* how many these were */
	int			count;
	Oid			databases[DATABASES_MAX];
} Shared;

/* What a process remembers. */
typedef struct Remembered
{
	bool		known;
	bool		yes;
} Remembered;

static Shared *shared = NULL;
static Remembered here;
static Remembered limits;

/* A subscription has changed; hash 0: or whatever else, as messages are lost. */
static void
forget(Datum arg pg_attribute_unused(), int cache, uint32 hash)
{
	here.known = limits.known = false;
	if (shared != NULL && cache == SUBSCRIPTIONOID && hash != 0)
		pg_atomic_fetch_add_u64(&shared->messages, 1);
}

/*
 * Once a process; where the library is preloaded once for all, so that whoever is
 * told of a subscription first tells the others.
 */
static void
watch(void)
{
	static bool registered = false;

	if (registered)
		return;
	CacheRegisterSyscacheCallback(SUBSCRIPTIONOID, forget, (Datum) 0);
	CacheRegisterSyscacheCallback(SUBSCRIPTIONRELMAP, forget, (Datum) 0);
	registered = true;
}

static void
make_memory(void)
{
	pg_atomic_init_u64(&shared->messages, 1);
	SpinLockInit(&shared->mutex);
	watch();
}

const ApikeyMemoryPart apikey_subscription_memory = {
	APIKEY_MEMORY_STRUCT("apikey subscriptions", shared),
	.make = make_memory
};

static ApikeyAnswer
answer(bool yes)
{
	return yes ? APIKEY_ANSWER_YES : APIKEY_ANSWER_NO;
}

/* The databases that subscribe are known to all, as of so many messages. */
static void
publish(const List *databases, uint64 as_of)
{
	ListCell   *cell;

	if (shared == NULL || list_length(databases) > DATABASES_MAX)
		return;
	SpinLockAcquire(&shared->mutex);
	shared->as_of = as_of;
	shared->count = 0;
	foreach(cell, databases)
		shared->databases[shared->count++] = lfirst_oid(cell);
	SpinLockRelease(&shared->mutex);
}

/*
 * Reads which databases subscribe; false where somebody keeps us from that.  It
 * is a catalog of few rows, which all databases share.
 */
bool
apikey_subscription_read(bool wait, List **databases)
{
	uint64		as_of = shared == NULL ? 0 :
		pg_atomic_read_u64(&shared->messages);
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	*databases = NIL;
	if (!apikey_system_lock("pg_subscription", SubscriptionRelationId, wait))
		return false;
	rel = table_open(SubscriptionRelationId, NoLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		*databases = list_append_unique_oid(*databases,
											((Form_pg_subscription) GETSTRUCT(tuple))->subdbid);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	publish(*databases, as_of);
	return true;
}

/*
 * What is remembered, or else read: it is known once it has been read, and only
 * if no message came meanwhile.
 */
static ApikeyAnswer
remember(Remembered *what, ApikeyAnswer (*read) (bool wait), bool wait)
{
	ApikeyAnswer result;
	uint64		messages;

	if (what->known)
		return answer(what->yes);
	watch();
	AcceptInvalidationMessages();
	messages = SharedInvalidMessageCounter;
	result = read(wait);
	if (result == APIKEY_ANSWER_NONE)
		return APIKEY_ANSWER_NONE;
	what->yes = result == APIKEY_ANSWER_YES;
	what->known = messages == SharedInvalidMessageCounter;
	return result;
}

static ApikeyAnswer
read_here(bool wait)
{
	ApikeyAnswer result;
	List	   *databases;

	if (!apikey_subscription_read(wait, &databases))
		return APIKEY_ANSWER_NONE;
	result = answer(list_member_oid(databases, MyDatabaseId));
	list_free(databases);
	return result;
}

/* Has this database a subscription? */
ApikeyAnswer
apikey_subscription_here(bool wait)
{
	return remember(&here, read_here, wait);
}

/*
 * The same for a worker, which does not wait for it: what was read last, by any
 * process, where no subscription has changed since.
 */
ApikeyAnswer
apikey_subscription_last(void)
{
	ApikeyAnswer result = apikey_subscription_here(false);
	bool		listed = false;

	if (result != APIKEY_ANSWER_NONE || shared == NULL)
		return result;
	SpinLockAcquire(&shared->mutex);
	if (shared->as_of == pg_atomic_read_u64(&shared->messages))
	{
		for (int i = 0; i < shared->count && !listed; i++)
			listed = shared->databases[i] == MyDatabaseId;
		result = answer(listed);
	}
	SpinLockRelease(&shared->mutex);
	return result;
}

/* Do the rows of a table of ours come by a subscription? */
ApikeyAnswer
apikey_subscription_of(ApikeyRelation table, bool wait)
{
	Oid			relid = apikey_catalog_relation(table);
	ApikeyAnswer result;
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;

	if (!OidIsValid(relid) ||
		!apikey_system_lock("pg_subscription_rel", SubscriptionRelRelationId,
							wait))
		return APIKEY_ANSWER_NONE;
	if (!apikey_system_lock("pg_subscription_rel",
							SubscriptionRelSrrelidSrsubidIndexId, wait))
	{
		apikey_system_unlock(SubscriptionRelRelationId);
		return APIKEY_ANSWER_NONE;
	}
	ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid,
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	rel = table_open(SubscriptionRelRelationId, NoLock);
	scan = systable_beginscan(rel, SubscriptionRelSrrelidSrsubidIndexId, true,
							  NULL, 1, &key);
	result = answer(HeapTupleIsValid(systable_getnext(scan)));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	apikey_system_unlock(SubscriptionRelSrrelidSrsubidIndexId);
	return result;
}

static ApikeyAnswer
read_of_limits(bool wait)
{
	return apikey_subscription_of(APIKEY_REL_LIMIT, wait);
}

/* The same of limits, for who asks often. */
ApikeyAnswer
apikey_subscription_of_limits(bool wait)
{
	return remember(&limits, read_of_limits, wait);
}
