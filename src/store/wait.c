/*
 * wait.c
 *		How long a change waits for somebody else's, and what is told of it then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "store/store_internal.h"

#define WAIT_MAX	5000		/* milliseconds for rows, names and claims */
#define BRIEF_MAX	50			/* milliseconds, of a call that others wait for */
#define TICK		100			/* milliseconds */

/*
 * All that a statement waits for is counted together: those who have what it
 * needs in turn hold it up no longer than one who has all of it.
 *
 * The server waits for several in turn, too, for each of them lock_timeout anew:
 * so it does for all who give a name of a unique index and take it back.  So
 * what that timeout is, is lowered at each tick of a timer to what is left.  A
 * tick ends no wait: the server does, by what the timeout was when it began.
 */
static TimestampTz statement = 0;	/* when it began */
static int	most = WAIT_MAX;	/* milliseconds that it may wait */
static int64 waited = 0;		/* microseconds, of what is counted */
static TimestampTz since = 0;	/* until when that is */
static int	depth = 0;			/* how many have begun, one within the other */
static bool refused = false;	/* a wait was too long, and is being told */

/* Are these being changed, so that a tick finds what does not fit? */
static volatile sig_atomic_t changing = false;

/* Microseconds waited until now, with those that are not counted yet. */
static int64
waited_until(TimestampTz now)
{
	if (get_timeout_start_time(LOCK_TIMEOUT) < since)
		return waited;
	return waited + Max(now - since, 0);
}

/* Counts what has been waited since, if anything has. */
static void
count_waits(TimestampTz now)
{
	int64		until = waited_until(now);

	if (until == waited)
		return;
	waited = until;
	since = now;
}

/*
 * The next wait is no longer than what is left; of a verification, which may write
 * what it has used, no longer than that may wait.
 */
static void
lower_timeout(TimestampTz now)
{
	int			left = (int) Max(most - waited_until(now) / 1000, 1);

	if (apikey_verifying())
		left = (int) Max(Min(left, TimestampDifferenceMilliseconds(now,
																   apikey_verification_until())),
						 1);
	if (LockTimeout == 0 || LockTimeout > left)
		LockTimeout = left;
}

/* The timer's, within a signal's handler. */
static void
tick(void)
{
	if (depth > 0 && !changing)
		lower_timeout(GetCurrentTimestamp());
}

/* The timer, which a process registers once. */
static TimeoutId
ticks(void)
{
	static TimeoutId timer;
	static bool registered = false;

	if (!registered)
		timer = RegisterTimeout(USER_TIMEOUT, tick);
	registered = true;
	return timer;
}

/* What is counted begins anew with a statement. */
static void
look_at_statement(void)
{
	if (GetCurrentStatementStartTimestamp() == statement)
		return;
	statement = GetCurrentStatementStartTimestamp();
	waited = 0;
	most = WAIT_MAX;
}

/* The statement is one for which others wait, who are served after it. */
void
apikey_wait_briefly(void)
{
	look_at_statement();
	most = BRIEF_MAX;
}

/*
 * Waits for a moment, after which what somebody has is asked for again: that counts
 * as any wait.  False where the statement may wait no longer.
 */
bool
apikey_wait_moment(long milliseconds)
{
	TimestampTz begun = GetCurrentTimestamp();

	Assert(depth == 0);
	look_at_statement();
	if (waited >= most * INT64CONST(1000))
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	waited += Max(GetCurrentTimestamp() - begun, 0);
	return true;
}

/*
 * A change that somebody else holds up ends before long: lock_timeout is never
 * longer than what the statement may wait yet.  Returns what it was.
 */
int
apikey_wait_begin(void)
{
	int			before = LockTimeout;
	TimestampTz now = GetCurrentTimestamp();

	changing = true;
	refused = false;
	look_at_statement();
	if (depth > 0)
		count_waits(now);
	since = now;
	lower_timeout(now);
	depth++;
	changing = false;
	if (depth == 1)
		enable_timeout_every(ticks(), TimestampTzPlusMilliseconds(now, TICK),
							 TICK);
	return before;
}

/* Is to be called before each further wait until that ends. */
void
apikey_wait_again(void)
{
	TimestampTz now = GetCurrentTimestamp();

	changing = true;
	count_waits(now);
	lower_timeout(now);
	changing = false;
}

/* Ends what apikey_wait_begin began, with what that returned. */
void
apikey_wait_end(int before)
{
	TimestampTz now = GetCurrentTimestamp();

	changing = true;
	count_waits(now);
	LockTimeout = before;
	if (--depth > 0)
		lower_timeout(now);
	changing = false;
	if (depth == 0)
		disable_timeout(ticks(), false);
}

/*
 * Is to be called after an error, with what apikey_wait_begin returned: ends
 * the wait.  Was it too long for us, and not for the caller's own lock_timeout?
 * Then it is to be refused; whoever goes on may wait anew.  What one within has
 * refused is not refused again.
 */
bool
apikey_wait_failed(int before)
{
	apikey_wait_end(before);
	if (refused || geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE ||
		(before != 0 && waited < most * INT64CONST(1000)))
		return false;
	refused = true;
	waited = 0;
	return true;
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

/*
 * Runs a work in which nothing is waited for longer than that; refuse raises,
 * about something, that it was.
 */
void
apikey_wait_else(ApikeyWork run, void *work, ApikeyRefusal refuse,
				 const void *about)
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
		refuse(about);
	}
	PG_END_TRY();
	apikey_wait_end(before);
}

static void
refuse_change(const void *table)
{
	apikey_wait_refuse(table);
}

/* The same on a table. */
void
apikey_wait_bounded(const char *table, ApikeyWork run, void *work)
{
	apikey_wait_else(run, work, refuse_change, table);
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
