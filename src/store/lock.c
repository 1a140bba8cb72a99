/*
 * lock.c
 *		Locking our tables, their indexes and sequences, and how long that is
 *		waited for.
 *
 * Nobody needs a right to keep others from a table: PostgreSQL queues for the
 * lock of a CREATE RULE before it looks whose the table is, and whoever comes
 * later queues behind that, as long as anybody has the table in any lock.  So a
 * verification waits 100 ms in all, and then cannot tell; any other call as long
 * as for rows, and then raises whom it has waited for.  What nobody keeps us
 * from is locked as by any query, at the same price.
 *
 * A worker of logical replication waits as it does for what it writes to: it
 * would only begin anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/catalog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "replication/logicalworker.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "store/store_internal.h"

/* What is to be locked. */
typedef struct Wanted
{
	const char *name;
	Oid			relid;
	LOCKMODE	mode;
	bool		may_fail;		/* a verification does without it */
} Wanted;

static void
acquire(void *work)
{
	const Wanted *wanted = work;

	LockRelationOid(wanted->relid, wanted->mode);
}

static void
refuse(const void *about)
{
	const Wanted *wanted = about;
	LOCKTAG		tag;
	int			holder;

	SET_LOCKTAG_RELATION(tag, IsSharedRelation(wanted->relid) ? InvalidOid :
						 MyDatabaseId, wanted->relid);
	apikey_holder_note_lock(&tag, wanted->mode);
	holder = apikey_holder();
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not lock \"%s\" while somebody else has it locked, or waits to lock it",
					wanted->name),
			 holder == 0 ? 0 :
			 errdetail("Process %d has what is waited for.", holder),
			 errhint("Try again when that transaction has ended.")));
}

/*
 * A lock that a subtransaction has left to its transaction is made that of the
 * statement, or whatever runs now, which may give it back.
 */
static void
take_over(Wanted *wanted)
{
	ResourceOwner owner = CurrentResourceOwner;

	acquire(wanted);
	CurrentResourceOwner = CurTransactionResourceOwner;
	UnlockRelationOid(wanted->relid, wanted->mode);
	CurrentResourceOwner = owner;
}

/*
 * Waits for a lock as long as a verification may yet; false where it is not to be
 * had.  It is waited for in the queue, so that a VACUUM that cuts off a table's
 * end sees that somebody waits, and leaves off.
 */
static bool
lock_soon(Wanted *wanted)
{
	TimestampTz until = apikey_verification_until();
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
													   until);
	int			before = LockTimeout;
	volatile bool locked = false;

	/* Nor can a subtransaction begin in a parallel query. */
	if (left <= 0 || IsInParallelMode())
		return false;
	if (LockTimeout == 0 || LockTimeout > left)
		LockTimeout = (int) left;
	PG_TRY();
	{
		locked = apikey_attempt_alone(acquire, wanted);
	}
	PG_FINALLY();
	{
		LockTimeout = before;
	}
	PG_END_TRY();
	if (locked)
		take_over(wanted);
	return locked;
}

/* Locks what somebody keeps us from; false where it is passed over. */
static bool
lock_kept(Wanted *wanted)
{
	if (IsLogicalWorker())
		acquire(wanted);
	else if (!apikey_verifying())
		apikey_wait_else(acquire, wanted, refuse, wanted);	/* as for rows */
	else if (!lock_soon(wanted))
	{
		if (apikey_lenient_miss_held(wanted->name) || wanted->may_fail)
			return false;
		refuse(wanted);
	}
	return true;
}

/*
 * Locks a relation of ours, which is told as of a name.  False, for whoever
 * reads leniently, where somebody keeps us from it.
 */
bool
apikey_relation_lock(const char *name, Oid relid, LOCKMODE mode)
{
	return ConditionalLockRelationOid(relid, mode) ||
		lock_kept(&(Wanted) {name, relid, mode, false});
}

/* Are we a worker of this library's, which waits for nobody? */
static bool
in_own_worker(void)
{
	return MyBgworkerEntry != NULL &&
		strcmp(MyBgworkerEntry->bgw_library_name, "apikey") == 0;
}

/*
 * Locks a catalog of the server's, or an index of it, to be read, which no
 * statement would for itself; false where somebody keeps us from it, and whoever
 * reads has to do without: a worker, a verification, and who does not wait.
 */
bool
apikey_system_lock(const char *name, Oid relid, bool wait)
{
	if (ConditionalLockRelationOid(relid, AccessShareLock))
		return true;
	return wait && !in_own_worker() &&
		lock_kept(&(Wanted) {name, relid, AccessShareLock, true});
}

void
apikey_system_unlock(Oid relid)
{
	UnlockRelationOid(relid, AccessShareLock);
}
