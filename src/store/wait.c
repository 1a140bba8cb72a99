/*
 * wait.c
 *		How long a change waits for somebody else's, and what is told of it then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/inval.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "store/store_internal.h"

#define WAIT_MAX	5000		/* milliseconds for rows, names and claims */

/*
 * All that a statement waits for is counted together: those who have what it
 * needs in turn hold it up no longer than one who has all of it.
 */
static TimestampTz statement = 0;	/* when it began */
static int64 waited = 0;		/* microseconds, of what is counted */
static TimestampTz since = 0;	/* until when that is */

/* Counts what has been waited since, if anything has. */
static void
count_waits(void)
{
	TimestampTz now;

	if (get_timeout_start_time(LOCK_TIMEOUT) < since)
		return;
	now = GetCurrentTimestamp();
	waited += Max(now - since, 0);
	since = now;
}

/* The next wait is no longer than what is left. */
static void
lower_timeout(void)
{
	int			left = (int) Max(WAIT_MAX - waited / 1000, 1);

	if (LockTimeout == 0 || LockTimeout > left)
		LockTimeout = left;
}

/*
 * A change that somebody else holds up ends before long: lock_timeout is never
 * longer than what the statement may wait yet.  Returns what it was.
 */
int
apikey_wait_begin(void)
{
	int			before = LockTimeout;

	if (GetCurrentStatementStartTimestamp() != statement)
	{
		statement = GetCurrentStatementStartTimestamp();
		waited = 0;
	}
	since = GetCurrentTimestamp();
	lower_timeout();
	return before;
}

/* Is to be called before each further wait until that ends. */
void
apikey_wait_again(void)
{
	count_waits();
	lower_timeout();
}

/* Ends what apikey_wait_begin began, with what that returned. */
void
apikey_wait_end(int before)
{
	count_waits();
	LockTimeout = before;
}

/*
 * Is to be called after an error, with what apikey_wait_begin returned: ends
 * the wait.  Was it too long for us, and not for the caller's own lock_timeout?
 */
bool
apikey_wait_failed(int before)
{
	bool		ours = LockTimeout != before;

	apikey_wait_end(before);
	return ours && geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* Raises that what a change of a table waited for has not ended. */
void
apikey_wait_refuse(const char *table)
{
	int			holder = apikey_holder();

	waited = 0;					/* whoever goes on may wait anew */
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
	apikey_wait_end(before);
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

/*
 * Waits, between apikey_wait_begin and its end, for the first of those who keep
 * a row from who wants to lock it; false where nobody is seen to.
 */
bool
apikey_wait_row(Relation rel, const ItemPointerData *where, LockTupleMode mode)
{
	TransactionId other = apikey_row_holder(rel, where, mode);

	apikey_wait_again();
	if (!TransactionIdIsValid(other))
		return false;
	apikey_holder_wait(other);
	return true;
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
