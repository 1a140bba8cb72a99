/*
 * resident.c
 *		A worker where the library is not preloaded.
 *
 * It carries what a database's sessions have gathered in memory into the tables,
 * each apikey.flush_interval: how long it stays, dynamic_worker.c says.  Nothing
 * that is in memory then outlives a stop.  So at a stop it waits until the sessions
 * have ended, breaks off nothing of that, and leaves all else; and it waits for
 * no standby, which may be gone already.
 *
 * It would stand in the way of DROP DATABASE and of copies: it goes when
 * somebody has the database locked and nobody else is there.
 */
#include "postgres.h"

#include "access/xact.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "worker/worker_internal.h"

#define LOOK_AROUND		100		/* milliseconds, between looks */
#define ENDING_MAX		(10 * USECS_PER_SEC)	/* for sessions to end */
#define TURN			(USECS_PER_SEC / 2)	/* while others wait */
#define PATIENCE		USECS_PER_SEC	/* for another process */
#define CONNECT_MAX		"3s"	/* while the database is locked */

/* What to do when there is something to do: always all there is, and then */
typedef enum Next
{
	STAY,
	HAND_OVER,
	LEAVE
} Next;

static TimestampTz end_of_turn = 0;
static TimestampTz ending_at = 0;	/* at a stop */
static TimestampTz starved_since = 0;	/* others wait, and get no process */

/* Databases that were dropped by somebody who does not know of us. */
static void
forget_dropped(void)
{
	List	   *databases = apikey_dynamic_databases();

	for (int i = 0; i < apikey_slot_count(); i++)
	{
		const ApikeySlot *slot = apikey_slot_at(i);

		if (slot->used)
			databases = list_append_unique_oid(databases, slot->key.database);
	}
	StartTransactionCommand();
	apikey_memory_forget_gone(databases);
	CommitTransactionCommand();
	list_free(databases);
}

/* Between two steps: is it somebody else's turn? */
static bool
must_yield(void)
{
	ApikeyDynamicLook look;

	if (ShutdownRequestPending)
		return false;
	apikey_dynamic_look(&look);
	return (look.others_wait && GetCurrentTimestamp() >= end_of_turn) ||
		(look.alone && apikey_worker_database_wanted());
}

/* Writes all there is; false where our tables are not here any more. */
static bool
serve(void)
{
	static uint32 turn = 0;
	ApikeyRound round = apikey_dynamic_serve();
	bool		more;

	forget_dropped();
	if (!apikey_worker_extension_here())
	{
		apikey_worker_forget_this();
		apikey_dynamic_served(&round, true, false, false);
		return false;
	}
	/* At a stop all is written, as for who waits. */
	if (ShutdownRequestPending && round.number == 0)
		round.number = PG_UINT64_MAX;
	apikey_stage_begin_dynamic();
	end_of_turn = GetCurrentTimestamp() + TURN;
	more = apikey_stage_go_round(turn++, &round, must_yield);
	apikey_dynamic_served(&round, apikey_stage_all_through(&round), more,
						  apikey_usage_waits());
	return true;
}

static TimestampTz
earlier(TimestampTz one, TimestampTz other)
{
	return one == 0 ? other : Min(one, other);
}

/* The server stops, or this worker is to end, once its sessions have. */
static bool
is_ending(const ApikeyDynamicLook *look, TimestampTz now, Next *next)
{
	ending_at = earlier(ending_at, now + ENDING_MAX);
	*next = look->alone || now >= ending_at ? LEAVE : STAY;
	return *next == LEAVE || look->asked;
}

/* Another database waits, and there is no other worker for it. */
static bool
is_wanted_elsewhere(const ApikeyDynamicLook *look, TimestampTz now, Next *next)
{
	starved_since = earlier(starved_since, now);
	*next = now >= starved_since + PATIENCE ? LEAVE : HAND_OVER;
	return *next == LEAVE || look->may_register;
}

/* Is there something to do now?  What is next then? */
static bool
is_something_to_do(const ApikeyDynamicLook *look, TimestampTz now, Next *next)
{
	if (ShutdownRequestPending)
		return is_ending(look, now, next);
	*next = LEAVE;
	if (look->alone && (!look->unwritten || apikey_worker_database_wanted()))
		return true;
	if (look->others_wait)
		return is_wanted_elsewhere(look, now, next);
	starved_since = 0;
	*next = STAY;
	return look->due;
}

/* Waits for something to do, and says what is next then. */
static Next
wait_for_work(void)
{
	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		ApikeyDynamicLook look;
		Next		next;
		long		timeout;

		apikey_dynamic_start();
		apikey_dynamic_look(&look);
		if (is_something_to_do(&look, now, &next))
			return next;
		timeout = Max(TimestampDifferenceMilliseconds(now, look.next_at),
					  LOOK_AROUND);
		if (look.alone || ShutdownRequestPending)
			timeout = LOOK_AROUND;
		apikey_dynamic_rest(timeout);
	}
}

void
apikey_resident_main(Datum arg pg_attribute_unused())
{
	uint32		number;
	Oid			database;
	Next		next;

	memcpy(&number, MyBgworkerEntry->bgw_extra, sizeof(number));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	/* From the start: what has been gathered already is to be written. */
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGINT, apikey_worker_on_interrupt);
	BackgroundWorkerUnblockSignals();
	database = apikey_dynamic_begin(number);
	if (!OidIsValid(database))
		proc_exit(0);
	/* Who has the database locked is not to keep this one from others. */
	SetConfigOption("lock_timeout", CONNECT_MAX, PGC_SUSET, PGC_S_OVERRIDE);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid,
											  BGWORKER_BYPASS_ALLOWCONN);
	apikey_dynamic_reached();
	apikey_worker_set_defaults();
	SetConfigOption("synchronous_commit", "local", PGC_SUSET, PGC_S_OVERRIDE);

	do
		next = wait_for_work();
	while (serve() && next != LEAVE &&
		   !(next == HAND_OVER && apikey_dynamic_hand_over()));
	proc_exit(0);
}
