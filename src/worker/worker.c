/*
 * worker.c
 *		A worker: what it does in its database, how long it stays, and when it
 *		leaves.
 *
 * The launcher says which worker goes where.  Workers sit on a few seats of
 * shared memory: at most APIKEY_SEATS of them, each in another database as a
 * rule.
 *
 *		EMPTY -> STARTING -> WAITING -> CALLED -> WORKING -> LEAVING -> EMPTY
 *
 * The launcher starts and calls; the rest is the worker's.  All of it changes
 * under the mutex.  Each start has a number of its own: who finds another one
 * on its seat, as its launcher has ended, leaves it alone.
 *
 * What somebody waits for, leases and notifications, is prompt: it comes before
 * and between the steps of everything else, in this database and in others.
 * All other work is done in steps, each a short transaction that waits for no
 * row's lock, and each kind of it, a stage, in turn.  An error ends the step,
 * and is told in the log, but not the worker nor the other stages.  A worker
 * leaves as soon as another database waits and there is no other to go there;
 * what it leaves behind is done when the others have had their turn.  Who waits
 * in apikey_flush() waits for a way of each stage that has begun since, in
 * whichever of these turns it ends.
 *
 * A worker stays for a moment where calls come.  It would stand in the way of
 * DROP DATABASE and of copies: it goes when somebody has the database locked.
 * On a standby all that waits.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "compat.h"
#include "store/store.h"
#include "memory/memory.h"
#include "events/events.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "worker/worker_internal.h"

#define LINGER_MAX		1000	/* milliseconds without a call */
#define TURN			(USECS_PER_SEC / 2)	/* while others are to be flushed */

/* The worker's seat. */
static ApikeySeat *my_seat = NULL;
static uint32 my_number = 0;
static TimestampTz end_of_turn = DT_NOEND;

/*
 * Each database that can be connected to is to be visited.  One that has gone
 * where nobody could tell, as on a standby, is forgotten.
 */
static void
list_databases(void)
{
	List	   *due = apikey_due_databases();	/* before: all of these have been there */
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		/* A limit of -2 marks one whose DROP was broken off. */
		if (database->datallowconn && database->datconnlimit >= -1)
			apikey_stats_add_database(database->oid);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	apikey_memory_forget_gone(due);
	CommitTransactionCommand();
}

/* Has the database got us, and of which version? */
bool
apikey_worker_extension_here(void)
{
	if (!apikey_step_begin())
		return false;
	apikey_stage_enter(apikey_catalog()->first_script);
	apikey_step_commit();
	apikey_stage_look();
	return true;
}

/* Does somebody want to drop, rename or copy this database? */
bool
apikey_worker_database_wanted(void)
{
	bool		wanted;

	StartTransactionCommand();
	wanted = apikey_reach_is_locked(MyDatabaseId);
	CommitTransactionCommand();
	return wanted;
}

/* Is there a reason to leave before all is done? */
static bool
must_leave(void)
{
	bool		over = GetCurrentTimestamp() >= end_of_turn;
	bool		must = ShutdownRequestPending || apikey_worker_configured_anew();

	SpinLockAcquire(&apikey_seats->mutex);
	must |= apikey_seats->others_wait ||
		(apikey_seats->others_flush && over);
	SpinLockRelease(&apikey_seats->mutex);
	return must || apikey_worker_database_wanted();
}

/* A turn is over, and all of the round may be. */
static void
end_flush(bool more, const ApikeyRound *round, bool all)
{
	apikey_seat_end_turn(round, all);
	SpinLockAcquire(&apikey_seats->mutex);
	my_seat->flush = false;
	my_seat->more = more;
	SpinLockRelease(&apikey_seats->mutex);
	apikey_seat_wake_launcher();
}

static uint32
next_turn(void)
{
	uint32		turn;

	SpinLockAcquire(&apikey_seats->mutex);
	turn = apikey_seats->turns++;
	SpinLockRelease(&apikey_seats->mutex);
	return turn;
}

/* Between two steps: what is prompt comes first. */
static bool
leave_between(void)
{
	apikey_stage_be_prompt();
	return must_leave();
}

/* Does all there is, and what is prompt between. */
static void
do_all(void)
{
	ApikeyRound round = apikey_seat_round();
	uint32		turn = next_turn();
	bool		more;

	apikey_stage_begin();
	end_of_turn = GetCurrentTimestamp() + TURN;
	more = apikey_stage_go_round(turn, &round, leave_between);
	end_of_turn = DT_NOEND;
	if (!more)
		apikey_stats_served();
	end_flush(more, &round, apikey_stage_all_through(&round));
}

/* Leaves the database, unless there is something to be done. */
static bool
leave(bool in_any_case)
{
	bool		left;

	SpinLockAcquire(&apikey_seats->mutex);
	left = in_any_case || !my_seat->flush;
	if (left)
	{
		my_seat->state = APIKEY_SEAT_LEAVING;
		my_seat->more |= my_seat->flush;
		my_seat->flush = false;
	}
	SpinLockRelease(&apikey_seats->mutex);
	return left;
}

/* Is something to be done here? */
static bool
called(void)
{
	return my_seat->flush || apikey_stage_asked() ||
		apikey_notify_waiting(MyDatabaseId);
}

/* Stays for a moment; false when it is over. */
static bool
linger(void)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  LINGER_MAX);

	while (!must_leave())
	{
		if (called())
			return true;
		if (GetCurrentTimestamp() >= end)
			return !leave(false);
		pgstat_report_activity(STATE_IDLE, NULL);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 APIKEY_LOOK_AROUND, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return !leave(true);
}

/*
 * There is nothing of ours in this database, or of a version that only another
 * library knows: it is not visited again, nobody waits there, but what was
 * gathered of the latter is kept.
 */
void
apikey_worker_forget_this(void)
{
	StartTransactionCommand();
	if (OidIsValid(get_extension_oid("apikey", true)))
	{
		apikey_stats_rest_database(MyDatabaseId);
		apikey_lease_drop(MyDatabaseId);
		apikey_notify_drop(MyDatabaseId);
	}
	else
		apikey_ended_found();
	CommitTransactionCommand();
}

/* What a worker does in its database. */
static void
work(void)
{
	apikey_worker_set_defaults();
	apikey_worker_set_commit();
	if (!apikey_worker_extension_here())
	{
		ApikeyRound round = apikey_seat_round();

		apikey_worker_forget_this();
		end_flush(false, &round, true);
		return;
	}
	apikey_stage_adopt();
	do
	{
		apikey_stage_be_prompt();
		if (my_seat->flush)
			do_all();
	} while (linger() && apikey_worker_extension_here());
}

/* The worker ends, and its seat is free, if it still is its own. */
static void
give_up_seat(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	SpinLockAcquire(&apikey_seats->mutex);
	if (my_seat->number == my_number)
	{
		my_seat->state = APIKEY_SEAT_EMPTY;
		my_seat->latch = NULL;
	}
	SpinLockRelease(&apikey_seats->mutex);
}

/* Goes from one state to the next; false where the seat is another's. */
static bool
advance(ApikeySeatState from, ApikeySeatState to)
{
	bool		mine;

	SpinLockAcquire(&apikey_seats->mutex);
	mine = my_seat->number == my_number && my_seat->state == from;
	if (mine)
	{
		my_seat->state = to;
		my_seat->latch = MyLatch;
		my_seat->reached = to == APIKEY_SEAT_WORKING;
	}
	SpinLockRelease(&apikey_seats->mutex);
	if (mine)
		apikey_seat_wake_launcher();
	return mine;
}

/* Waits for the launcher's call; false where there will be none. */
static bool
wait_for_call(void)
{
	ApikeySeatState state = APIKEY_SEAT_WAITING;

	if (!advance(APIKEY_SEAT_STARTING, APIKEY_SEAT_WAITING))
		return false;
	while (state == APIKEY_SEAT_WAITING && !ShutdownRequestPending)
	{
		SpinLockAcquire(&apikey_seats->mutex);
		state = my_seat->number == my_number ? my_seat->state : APIKEY_SEAT_EMPTY;
		SpinLockRelease(&apikey_seats->mutex);
		if (state != APIKEY_SEAT_WAITING)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return state == APIKEY_SEAT_CALLED && !ShutdownRequestPending;
}

/*
 * By SIGINT the server says that a lock was waited for long enough.  Whoever
 * else sends one is not heard: a lease that did not get to a standby must not
 * be handed out.
 */
void
apikey_worker_on_interrupt(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (get_timeout_indicator(LOCK_TIMEOUT, false))
	{
		QueryCancelPending = true;
		InterruptPending = true;
		SetLatch(MyLatch);
	}
	errno = save_errno;
}

void
apikey_flush_main(Datum arg)
{
	my_seat = &apikey_seats->seats[DatumGetInt32(arg)];
	memcpy(&my_number, MyBgworkerEntry->bgw_extra, sizeof(my_number));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, apikey_worker_on_interrupt);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(give_up_seat, (Datum) 0);
	if (!wait_for_call())
		proc_exit(0);

	apikey_worker_take_configuration();
	/* It may have to wait for somebody who changes the database. */
	pqsignal(SIGTERM, die);
	if (!OidIsValid(my_seat->database))
	{
		BackgroundWorkerInitializeConnection(NULL, NULL, 0);
		(void) advance(APIKEY_SEAT_CALLED, APIKEY_SEAT_WORKING);
		list_databases();
	}
	else
	{
		BackgroundWorkerInitializeConnectionByOid(my_seat->database, InvalidOid,
												  BGWORKER_BYPASS_ALLOWCONN);
		(void) advance(APIKEY_SEAT_CALLED, APIKEY_SEAT_WORKING);
		pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
		work();
	}
	proc_exit(0);
}
