/*
 * fleet.c
 *		What all processes know of this server's part in a fleet.
 *
 * A member verifies beside the primary: a standby, or a database that a
 * subscription brings the keys to.  Its worker, which speaks to the primary,
 * says here how it gets on.  The latch and the entries change under the mutex.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_subscription.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "memory/fleet.h"

typedef struct Shared
{
	slock_t		mutex;
	Latch	   *worker;			/* NULL: there is none */
} Shared;

static Shared *shared = NULL;
static bool subscribed = false;
static bool subscribed_known = false;

Size
apikey_fleet_size(void)
{
	return sizeof(Shared);
}

void
apikey_fleet_start(void)
{
	bool		found;

	shared = ShmemInitStruct("apikey fleet", sizeof(Shared), &found);
	if (found)
		return;
	memset(shared, 0, sizeof(Shared));
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

static void
forget_subscribed(Datum arg pg_attribute_unused(),
				  int cache pg_attribute_unused(),
				  uint32 hash pg_attribute_unused())
{
	subscribed_known = false;
}

/* Has this database a subscription? */
static bool
subscribes(void)
{
	static bool registered = false;
	Relation	rel;
	SysScanDesc scan;
	ScanKeyData key;

	if (subscribed_known)
		return subscribed;
	if (!registered)
		CacheRegisterSyscacheCallback(SUBSCRIPTIONOID, forget_subscribed,
									  (Datum) 0);
	registered = true;
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

/* Does this database verify beside a primary, and report to it? */
bool
apikey_fleet_member(void)
{
	if (!apikey_fleet || shared == NULL)
		return false;
	return RecoveryInProgress() ||
		(apikey_primary_conninfo[0] != '\0' && subscribes());
}
