/*
 * claim.c
 *		Claims of what has no row to be locked.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/inval.h"

#include "compat.h"
#include "store/store_internal.h"

static void
acquire(void *work)
{
	(void) LockAcquire(work, ExclusiveLock, false, false);
}

static void
set_tag(LOCKTAG *tag, const ApikeyTable *table, Oid number, uint16 part)
{
	SET_LOCKTAG_OBJECT(*tag, MyDatabaseId,
					   apikey_catalog_relation(table->relation), number, part);
}

/*
 * Claims what has no row to be locked, and is told by a number, for the
 * transaction; none but those who claim the same are kept waiting.
 */
void
apikey_claim(const ApikeyTable *table, Oid number, uint16 part)
{
	LOCKTAG		tag;

	set_tag(&tag, table, number, part);
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		apikey_holder_note_lock(&tag, ExclusiveLock);
		apikey_wait_bounded(table->name, acquire, &tag);
	}
	AcceptInvalidationMessages();
}

/* Ends a claim before the transaction. */
void
apikey_claim_end(const ApikeyTable *table, Oid number, uint16 part)
{
	LOCKTAG		tag;

	set_tag(&tag, table, number, part);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

/*
 * Claims it beside all others, whom nobody keeps waiting by that, and who are to
 * be found by it.
 */
void
apikey_claim_shared(const ApikeyTable *table, Oid number, uint16 part)
{
	LOCKTAG		tag;

	set_tag(&tag, table, number, part);
	(void) LockAcquire(&tag, AccessShareLock, false, false);
}

/* Ends that before the transaction. */
void
apikey_claim_shared_end(const ApikeyTable *table, Oid number, uint16 part)
{
	LOCKTAG		tag;

	set_tag(&tag, table, number, part);
	(void) LockRelease(&tag, AccessShareLock, false);
}

/* Does somebody else claim it? */
bool
apikey_claimed(const ApikeyTable *table, Oid number, uint16 part)
{
	LOCKTAG		tag;
	VirtualTransactionId *others;
	bool		claimed;

	set_tag(&tag, table, number, part);
	others = GetLockConflicts(&tag, AccessExclusiveLock, NULL);
	claimed = VirtualTransactionIdIsValid(*others);
	pfree(others);
	return claimed;
}

/* Which other transactions that have written something claim it: their ids. */
List *
apikey_claimants(const ApikeyTable *table, Oid number, uint16 part)
{
	VirtualTransactionId *others;
	List	   *found = NIL;
	LOCKTAG		tag;

	set_tag(&tag, table, number, part);
	others = GetLockConflicts(&tag, AccessExclusiveLock, NULL);
	for (VirtualTransactionId *one = others; VirtualTransactionIdIsValid(*one); one++)
	{
		PGPROC	   *proc = apikey_vxid_proc(*one);
		TransactionId id = proc != NULL &&
			apikey_proc_lxid(proc) == one->localTransactionId ? proc->xid :
			InvalidTransactionId;

		if (TransactionIdIsValid(id))
			found = lappend_oid(found, id);
	}
	pfree(others);
	return found;
}
