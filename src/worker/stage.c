/*
 * stage.c
 *		What a worker does in its database: its stages, each done in steps.
 *
 * A step is a short transaction that waits for no row's lock.  An error ends
 * the step, and is told in the log, but not the worker nor the other stages.
 */
#include "postgres.h"

#include "access/xact.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "store/store.h"
#include "memory/memory.h"
#include "events/events.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "limits/limits.h"
#include "servers/servers.h"
#include "worker/worker_internal.h"

#define PROMPT_BATCH	8		/* leases before another look around */

/*
 * A stage of the work: a step of it says whether there may be more.
 */
typedef struct Stage
{
	const char *doing;
	bool		(*step) (void);
	bool		older;			/* with the SQL of 0.1.0, too */
	bool		primary;		/* of a member its primary does it */
	bool		dynamic;		/* without the library preloaded, too */
	bool		gathered;		/* of what is lost then at a stop */
} Stage;

static MemoryContext step_context = NULL;
static bool script_older = false;	/* here is the SQL of 0.1.0 still */
static bool member = true;		/* what is counted here goes to a primary, or may */
static bool unbroken = false;	/* each step is done to its end */

/* In a transaction: a worker has come to its database, which has this version of our SQL. */
void
apikey_stage_enter(bool older)
{
	script_older = older;
	if (step_context == NULL)
		step_context = AllocSetContextCreate(TopMemoryContext, "apikey worker",
											 ALLOCSET_DEFAULT_SIZES);
}

static void
add_stage(void *arg)
{
	errcontext("apikey worker: %s", (const char *) arg);
}

/* Takes a step.  An error in it is told, and ends it. */
static bool
take_step(const Stage *stage)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = add_stage,
		.arg = unconstify(char *, stage->doing)
	};
	volatile bool more = false;

	apikey_pass_begin_step();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	/* A transaction leaves another one behind. */
	MemoryContextSwitchTo(step_context);
	/* Between steps we end in peace. */
	if (!unbroken)
		pqsignal(SIGTERM, die);
	pgstat_report_activity(STATE_RUNNING, psprintf("apikey: %s", stage->doing));
	PG_TRY();
	{
		error_context_stack = &callback;
		more = stage->step();
		error_context_stack = callback.previous;
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		error_context_stack = callback.previous;
		AbortOutOfAnyTransaction();
		LWLockReleaseAll();
		FlushErrorState();
		apikey_pass_failed();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	CHECK_FOR_INTERRUPTS();
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	MemoryContextReset(step_context);
	return more;
}

static bool
look_step(void)
{
	StartTransactionCommand();
	member = apikey_fleet_worker_of_member();
	CommitTransactionCommand();
	return false;
}

/* Looks whether it does; an error in that leaves it as it was. */
void
apikey_stage_look(void)
{
	static const Stage looking = {"looking for its primary", look_step, true, false, false, false};

	if (apikey_preloaded())
		(void) take_step(&looking);
	else
		member = false;
}

/* The account of which somebody waits for a lease. */
static pg_uuid_t asked;

static bool
lease_step(void)
{
	apikey_credit_grant(&asked);
	return false;
}

static bool
notify_step(void)
{
	apikey_notify_send();
	return false;
}

/*
 * Does somebody ask in this database for what is given here?  One that asks may have
 * learned since that this is no member's.
 */
bool
apikey_stage_asked(void)
{
	if (!apikey_lease_asked_here(MyDatabaseId))
		return false;
	if (member)
		apikey_stage_look();
	/* What a member has leased goes back with its report. */
	if (member)
		apikey_called_back_drop(MyDatabaseId);
	return !member;
}

/* Tokens are asked of a primary: where there is none any more, nobody has them. */
static void
drop_rates(void)
{
	pg_uuid_t	limits[PROMPT_BATCH];
	int			count = apikey_lease_take_asked_rates(MyDatabaseId, limits,
													  PROMPT_BATCH);

	for (int i = 0; i < count; i++)
		apikey_lease_answer(MyDatabaseId, &limits[i]);
}

/*
 * Does what is waited for in this database: a part, where that is much.  Each lease
 * is a commit, so who is next is asked after each: it may be a role that has just
 * come.
 */
void
apikey_stage_be_prompt(void)
{
	static const Stage leasing = {"leasing credits", lease_step, false, false, false, false};
	static const Stage notifying = {"notifying", notify_step, false, false, false, false};

	/* A member's sessions ask the primary. */
	for (int i = 0; i < PROMPT_BATCH && !member &&
		 apikey_lease_take_asked(MyDatabaseId, &asked, 1) > 0; i++)
	{
		if (!script_older)
			(void) take_step(&leasing);
		/* Whatever came of it. */
		apikey_lease_answer(MyDatabaseId, &asked);
	}
	if (!member)
		drop_rates();
	if (apikey_notify_waiting(MyDatabaseId))
		(void) take_step(&notifying);
}

/* A step of a way through rows, whenever it is; true while there is more. */
static bool
table_step(ApikeyPassOver what, bool (*step) (ApikeyPass *pass))
{
	if (!apikey_step_begin())
		return false;
	(void) step(apikey_pass_take(what));
	apikey_step_commit();
	return apikey_pass_keep(what);
}

static bool
history_retain_step(void)
{
	return table_step(APIKEY_PASS_SUMS, apikey_history_retain);
}

static bool
deleted_step(void)
{
	return table_step(APIKEY_PASS_DELETED, apikey_deleted_forget);
}

static bool
write_digests(ApikeyPass *pass, bool first)
{
	return apikey_rehash_flush(first, &pass->number, member);
}

static bool
rehash_step(void)
{
	return apikey_gathered_step(APIKEY_PASS_DIGESTS, write_digests);
}

/* Who waits for a flush waits for a pass that has begun since, due or not. */
static void
visit_awaited(ApikeyVisitFor visit, ApikeyPassOver what)
{
	uint64		round = apikey_pass_awaited();
	const ApikeyPass *pass = apikey_pass_take(what);

	if (round != 0 && (!pass->begun || pass->round != round))
		apikey_stats_visit(visit, GetCurrentTimestamp());
}

/*
 * A step of a pass that is due, or that is under way; true while there is more.
 * What was asked for meanwhile may be behind the pass, which then begins anew in
 * the next turn.  So who goes on asking keeps nobody waiting.
 */
static bool
pass_step(ApikeyVisitFor visit, ApikeyPassOver what,
		  bool (*step) (ApikeyPass *pass, TimestampTz *again))
{
	TimestampTz again = GetCurrentTimestamp() + USECS_PER_MINUTE;
	TimestampTz next = DT_NOEND;
	bool		more = false;

	if (!apikey_stats_begin_visit(visit, again))
		return false;
	if (apikey_step_begin())
	{
		(void) step(apikey_pass_take(what), &next);
		apikey_step_commit();
		more = apikey_pass_keep(what);
	}
	apikey_stats_end_visit(visit, again, next);
	return more;
}

static bool
orphan_step(void)
{
	if (apikey_stats_orphans_left())
		apikey_stats_visit(APIKEY_VISIT_ORPHANS, GetCurrentTimestamp());
	else if (apikey_stats_visit_waits(APIKEY_VISIT_ORPHANS))
		visit_awaited(APIKEY_VISIT_ORPHANS, APIKEY_PASS_ORPHANS);
	return pass_step(APIKEY_VISIT_ORPHANS, APIKEY_PASS_ORPHANS,
					 apikey_orphan_revoke_found);
}

/* In each turn, asked for or not; what is asked for meanwhile is the next one's. */
static bool
settle_step(void)
{
	TimestampTz again = GetCurrentTimestamp() + USECS_PER_MINUTE;
	bool		due = apikey_stats_begin_visit(APIKEY_VISIT_SETTLE, again);
	bool		more = table_step(APIKEY_PASS_SETTLE, apikey_revocation_settle_found);

	if (due)
		apikey_stats_end_visit(APIKEY_VISIT_SETTLE, again, DT_NOEND);
	return more;
}

static bool
expiry_step(void)
{
	visit_awaited(APIKEY_VISIT_EXPIRY, APIKEY_PASS_EXPIRY);
	return pass_step(APIKEY_VISIT_EXPIRY, APIKEY_PASS_EXPIRY,
					 apikey_expiry_tell);
}

static bool
idle_step(void)
{
	visit_awaited(APIKEY_VISIT_IDLE, APIKEY_PASS_IDLE);
	return pass_step(APIKEY_VISIT_IDLE, APIKEY_PASS_IDLE, apikey_idle_step);
}

static bool
retain_step(void)
{
	return table_step(APIKEY_PASS_EVENTS, apikey_event_retain);
}

static bool
watch_step(void)
{
	bool		more = apikey_server_watch();

	return apikey_lease_forfeit_old() || more;
}

static bool
adopt_step(void)
{
	return apikey_lease_adopt_own();
}

/*
 * What is to be done before all else: what a server that has been promoted has
 * of the primary's leases is good until its accounts are leased anew.
 */
void
apikey_stage_adopt(void)
{
	static const Stage adopting = {"taking back its own leases", adopt_step, false, false, false, false};

	while (!script_older && take_step(&adopting))
		 /* more */ ;
}

static bool
count_step(void)
{
	return apikey_pepper_count_step(apikey_pass_awaited());
}

static const Stage stages[] = {
	{"writing the use of keys", apikey_gathered_uses, true, true, true, true},
	{"writing the events of refusals", apikey_gathered_denials, false, true, true, true},
	{"writing the events of limits", apikey_gathered_marks, false, true, false, false},
	{"writing the events of keys that were shown", apikey_gathered_reveals, false, false, false, false},
	{"writing the history of use", apikey_gathered_history, false, true, true, true},
	{"summing the history of use", history_retain_step, false, false, true, false},
	{"forgetting deleted keys", deleted_step, false, false, false, false},
	{"writing digests", rehash_step, false, false, false, false},
	{"revoking the keys of dropped roles", orphan_step, false, false, false, false},
	{"settling revocations", settle_step, false, false, false, false},
	{"telling of keys that expire", expiry_step, false, false, false, false},
	{"revoking idle keys", idle_step, false, true, false, false},
	{"removing events that are too old", retain_step, false, false, true, false},
	{"giving back credits", apikey_gathered_leases, false, true, false, false},
	{"watching the other servers", watch_step, false, true, false, false},
	{"counting the keys of peppers", count_step, false, false, false, false}
};

#define STAGES	((int) lengthof(stages))

StaticAssertDecl(lengthof(stages) <= 32, "each stage has a bit of a round");

/* What this server was to report when it was a standby comes before all else. */
static bool
promoted_step(void)
{
	if (apikey_step_begin())
	{
		apikey_server_settle_promoted();
		apikey_step_commit();
	}
	return false;
}

/* All of it is about to be done. */
void
apikey_stage_begin(void)
{
	static const Stage settling = {"settling reports", promoted_step, false, false, false, false};

	/* Each stage looks in each turn: what it cannot tell now asks for another. */
	(void) apikey_stats_begin_visit(APIKEY_VISIT_UNTOLD, DT_NOEND);
	apikey_stage_look();
	if (!member && !script_older)
		(void) take_step(&settling);
}

/* The same without the library preloaded, where nothing outlives a stop. */
void
apikey_stage_begin_dynamic(void)
{
	unbroken = true;
}

/*
 * Is a stage for the SQL that is here, and for what is in memory?  At a stop
 * that all of it does not outlive, what has gathered is all there is time for.
 */
static bool
stage_runs(const Stage *stage)
{
	return (apikey_preloaded() || stage->dynamic) &&
		(!script_older || stage->older) && !(member && stage->primary) &&
		!(unbroken && ShutdownRequestPending && !stage->gathered);
}

/* Does a round of a flush wait for a stage? */
static bool
awaits(const ApikeyRound *round, int number)
{
	return round->number != 0 && (round->through & (1U << number)) == 0 &&
		stage_runs(&stages[number]);
}

/* Has a round gone through all? */
bool
apikey_stage_all_through(const ApikeyRound *round)
{
	for (int i = 0; i < STAGES; i++)
	{
		if (awaits(round, i))
			return false;
	}
	return true;
}

/*
 * A step of a stage, also of what would wait where a round of a flush awaits it;
 * true where that was its end, and then also the round's.
 */
static bool
end_stage(int number, ApikeyRound *round)
{
	bool		awaited = awaits(round, number);
	bool		over;

	apikey_pass_await(awaited ? round->number : 0);
	over = !take_step(&stages[number]);
	if (over && awaited)
		round->through |= 1U << number;
	return over;
}

/*
 * Does all there is, a step of each stage in turn, from one of them on, until it
 * is to be left, which is asked after each step; true where something is left.
 * Of a round of a flush a stage begins that has not come to its end in it: so each
 * turn, however short, brings the round on.
 */
bool
apikey_stage_go_round(uint32 from, ApikeyRound *round, bool (*leave) (void))
{
	bool		done[STAGES] = {false};
	bool		more = true;
	bool		left = false;

	while (!apikey_stage_all_through(round) && !awaits(round, from % STAGES))
		from++;
	while (more && !left)
	{
		more = false;
		for (int i = 0; i < STAGES && !left; i++)
		{
			int			number = (i + from) % STAGES;

			if (done[number] || !stage_runs(&stages[number]))
				continue;
			done[number] = end_stage(number, round);
			more |= !done[number];
			left = leave();
		}
	}
	for (int i = 0; i < STAGES; i++)
		more |= !done[i] && stage_runs(&stages[i]);
	return more;
}
