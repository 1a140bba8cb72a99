/*
 * wait.c
 *		How long a change waits for somebody else's, and what is told of it then.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/inval.h"

#include "compat.h"
#include "store/store_internal.h"

#define WAIT_MAX	5000		/* milliseconds for a row, a name, or a claim */

/*
 * A change that somebody else holds up ends before long: lock_timeout is never
 * longer than this while it waits.  Returns what it was.
 */
int
apikey_wait_begin(void)
{
	int			before = LockTimeout;

	if (before == 0 || before > WAIT_MAX)
		LockTimeout = WAIT_MAX;
	return before;
}

/*
 * Is to be called after an error, with what apikey_wait_begin returned: ends
 * the wait.  Was it too long for us, and not for the caller's own lock_timeout?
 */
bool
apikey_wait_failed(int before)
{
	bool		ours = LockTimeout != before;

	LockTimeout = before;
	return ours && geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* Raises that what a change of a table waited for has not ended. */
void
apikey_wait_refuse(const char *table)
{
	int			holder = apikey_holder();

	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not change table \"%s\" while somebody else does",
					table),
			 holder == 0 ? 0 :
			 errdetail("Process %d has what is waited for.", holder),
			 errhint("Try again when that transaction has ended. To revoke, disable or delete an API key waits for nobody.")));
}

/* Runs a work on a table in which nothing is waited for longer than that. */
void
apikey_wait_bounded(const char *table, ApikeyWork run, void *work)
{
	MemoryContext context = CurrentMemoryContext;
	int			before = apikey_wait_begin();

	PG_TRY();
	{
		run(work);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		if (!apikey_wait_failed(before))
			PG_RE_THROW();
		FlushErrorState();
		apikey_wait_refuse(table);
	}
	PG_END_TRY();
	LockTimeout = before;
}

static void
wait_for(void *work)
{
	apikey_holder_wait(*(TransactionId *) work);
}

/*
 * Waits for a transaction that has written a row which one of ours may not stand
 * beside, as for an equal one in a unique index, or which we are to change.
 */
void
apikey_wait(const char *table, TransactionId other)
{
	apikey_wait_bounded(table, wait_for, &other);
}

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
