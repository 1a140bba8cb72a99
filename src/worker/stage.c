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

#define FLUSH_BATCH		250		/* keys in a step: two small rows of each */
#define PROMPT_BATCH	8		/* leases before another look around */

/*
 * A stage of the work: a step of it, the first or a later one, says whether
 * there may be more.
 */
typedef struct Stage
{
	const char *doing;
	bool		(*step) (bool first);
	bool		older;			/* with the SQL of 0.1.0, too */
	bool		primary;		/* of a member its primary does it */
	bool		dynamic;		/* without the library preloaded, too */
	bool		gathered;		/* of what is lost then at a stop */
} Stage;

static MemoryContext step_context = NULL;
static bool script_older = false;	/* here is the SQL of 0.1.0 still */
static bool member = false;		/* what is counted here goes to a primary */
static bool flush_all = false;	/* on request: also what would wait */
static bool unbroken = false;	/* each step is done to its end */

/* In a transaction: a worker has come to its database, which has this version of our SQL. */
void
apikey_stage_enter(bool older)
{
	script_older = older;
	member = apikey_fleet_member();
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
take_step(const Stage *stage, bool first)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = add_stage,
		.arg = unconstify(char *, stage->doing)
	};
	volatile bool more = false;

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
		more = stage->step(first);
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

/* Leases are given to those that asked first; the others wait a moment. */
static pg_uuid_t asked[PROMPT_BATCH];
static int	asked_count = 0;

static bool
lease_step(bool first pg_attribute_unused())
{
	if (asked_count == 0)
		return false;
	apikey_credit_grant(&asked[--asked_count]);
	return asked_count > 0;
}

static bool
notify_step(bool first pg_attribute_unused())
{
	(void) apikey_notify_send();
	return false;
}

/* Does what is waited for in this database: a part, where that is much. */
void
apikey_stage_be_prompt(void)
{
	static const Stage leasing = {"leasing credits", lease_step, false, false, false, false};
	static const Stage notifying = {"notifying", notify_step, false, false, false, false};

	/* A member's sessions ask the primary. */
	asked_count = member ? 0 :
		apikey_lease_take_asked(MyDatabaseId, asked, PROMPT_BATCH);
	while (asked_count > 0)
	{
		pg_uuid_t	account = asked[asked_count - 1];

		if (script_older)
			asked_count--;
		else
			(void) take_step(&leasing, true);
		/* Whatever came of it. */
		apikey_lease_answer(MyDatabaseId, &account);
	}
	if (apikey_notify_waiting(MyDatabaseId))
		(void) take_step(&notifying, true);
}

static int64
sum_of_uses(const List *uses)
{
	int64		sum = 0;
	ListCell   *cell;

	foreach(cell, uses)
		sum += (int64) ((const ApikeyCollectedUse *) lfirst(cell))->use.uses;
	return sum;
}

/*
 * Writes some of what has gathered.  The flush has ended when all slots were
 * looked at, and not before: what was counted before the last flush ended is
 * in the tables when the next one has.
 */
static bool
flush_step(bool first)
{
	static int	from = 0;
	static bool begun = false;
	int64		flush = GetCurrentTimestamp();	/* another one each time */
	List	   *uses;
	bool		more;

	if (first)
		from = 0;
	uses = apikey_usage_collect(&from, FLUSH_BATCH, flush);
	begun |= uses != NIL;
	more = list_length(uses) == FLUSH_BATCH;
	/* Collected outside the transaction, to be there after its commit. */
	if (uses != NIL && apikey_step_begin())
	{
		uses = apikey_flush_write(uses, flush);
		if (apikey_preloaded() && !apikey_catalog()->first_script)
			apikey_server_count_own(sum_of_uses(uses));
		apikey_step_commit();
	}
	apikey_usage_flushed(uses, flush);
	if (begun && !more)
	{
		apikey_stats_flushed();
		begun = false;
	}
	return more;
}

static bool
denial_step(bool first)
{
	return apikey_denial_tell(first, flush_all);
}

static bool
mark_step(bool first)
{
	return apikey_mark_tell(first);
}

static bool
reveal_step(bool first pg_attribute_unused())
{
	return apikey_reveal_write();
}

static bool
history_step(bool first)
{
	return apikey_history_write(first);
}

static bool
history_retain_step(bool first pg_attribute_unused())
{
	return apikey_history_retain();
}

static bool
deleted_step(bool first pg_attribute_unused())
{
	return apikey_deleted_forget();
}

static bool
rehash_step(bool first)
{
	return apikey_rehash_flush(first, member);
}

/*
 * A step of a pass that is due, or that is under way; true while there is more.
 * What was asked for meanwhile may be behind the pass, which then begins anew: in
 * this round where it had begun before, so that a round has one whole pass, and
 * otherwise in the next.  So who goes on asking keeps nobody waiting.
 */
static bool
pass_step(ApikeyVisitFor visit, ApikeyPassOver what, bool first,
		  bool (*step) (ApikeyPass *pass, TimestampTz *again))
{
	static bool begun_here[APIKEY_VISITS];
	TimestampTz again = GetCurrentTimestamp() + USECS_PER_MINUTE;
	TimestampTz next = DT_NOEND;
	bool		more = false;

	if (first)
		begun_here[visit] = false;
	if (!apikey_stats_begin_visit(visit, again))
		return false;
	if (apikey_step_begin())
	{
		ApikeyPass *pass = apikey_pass_take(what);

		begun_here[visit] |= !pass->begun;
		more = step(pass, &next) && (pass->begun || !begun_here[visit]);
		apikey_step_commit();
		apikey_pass_keep(what);
	}
	apikey_stats_end_visit(visit, again, next);
	return more;
}

static bool
orphan_step(bool first)
{
	if (apikey_stats_orphans_left() ||
		(first && flush_all && apikey_stats_visit_waits(APIKEY_VISIT_ORPHANS)))
		apikey_stats_visit(APIKEY_VISIT_ORPHANS, GetCurrentTimestamp());
	return pass_step(APIKEY_VISIT_ORPHANS, APIKEY_PASS_ORPHANS, first,
					 apikey_orphan_revoke_found);
}

static bool
settle_step(bool first pg_attribute_unused())
{
	bool		more;

	if (!apikey_step_begin())
		return false;
	more = apikey_revocation_settle_found(apikey_pass_take(APIKEY_PASS_SETTLE));
	apikey_step_commit();
	apikey_pass_keep(APIKEY_PASS_SETTLE);
	return more;
}

static bool
expiry_step(bool first)
{
	if (first && flush_all)
		apikey_stats_visit(APIKEY_VISIT_EXPIRY, GetCurrentTimestamp());
	return pass_step(APIKEY_VISIT_EXPIRY, APIKEY_PASS_EXPIRY, first,
					 apikey_expiry_tell);
}

static bool
idle_step(bool first)
{
	if (first && flush_all)
		apikey_stats_visit(APIKEY_VISIT_IDLE, GetCurrentTimestamp());
	return pass_step(APIKEY_VISIT_IDLE, APIKEY_PASS_IDLE, first,
					 apikey_idle_step);
}

static bool
retain_step(bool first)
{
	bool		more;

	if (apikey_event_retention == 0 || !apikey_step_begin())
		return false;
	more = apikey_event_retain(first);
	apikey_step_commit();
	return more;
}

static bool
watch_step(bool first pg_attribute_unused())
{
	bool		more = apikey_server_watch();

	return apikey_lease_forfeit_old() || more;
}

static bool
adopt_step(bool first pg_attribute_unused())
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

	while (!script_older && take_step(&adopting, true))
		 /* more */ ;
}

static bool
return_step(bool first)
{
	return apikey_credit_return(first, flush_all);
}

static bool
count_step(bool first)
{
	return apikey_pepper_count_step(first, flush_all);
}

static const Stage stages[] = {
	{"writing the use of keys", flush_step, true, true, true, true},
	{"writing the events of refusals", denial_step, false, true, true, true},
	{"writing the events of limits", mark_step, false, true, false, false},
	{"writing the events of keys that were shown", reveal_step, false, false, false, false},
	{"writing the history of use", history_step, false, true, true, true},
	{"summing the history of use", history_retain_step, false, false, true, false},
	{"forgetting deleted keys", deleted_step, false, false, false, false},
	{"writing digests", rehash_step, false, false, false, false},
	{"revoking the keys of dropped roles", orphan_step, false, false, false, false},
	{"settling revocations", settle_step, false, false, false, false},
	{"telling of keys that expire", expiry_step, false, false, false, false},
	{"revoking idle keys", idle_step, false, true, false, false},
	{"removing events that are too old", retain_step, false, false, true, false},
	{"giving back credits", return_step, false, true, false, false},
	{"watching the other servers", watch_step, false, true, false, false},
	{"counting the keys of peppers", count_step, false, false, false, false}
};

#define STAGES	((int) lengthof(stages))

/* What this server was to report when it was a standby comes before all else. */
static bool
promoted_step(bool first pg_attribute_unused())
{
	if (apikey_step_begin())
	{
		apikey_server_settle_promoted();
		apikey_step_commit();
	}
	return false;
}

/* All of it is about to be done: on request, also what would wait. */
void
apikey_stage_begin(bool on_request)
{
	static const Stage settling = {"settling reports", promoted_step, false, false, false, false};

	flush_all = on_request;
	StartTransactionCommand();
	member = apikey_fleet_member();
	CommitTransactionCommand();
	if (!member && !script_older)
		(void) take_step(&settling, true);
}

/* The same without the library preloaded, where nothing outlives a stop. */
void
apikey_stage_begin_dynamic(bool all)
{
	unbroken = true;
	flush_all = all;
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

/*
 * Does all there is, a step of each stage in turn, from one of them on, until it
 * is to be left, which is asked after each step; true where something is left.
 */
bool
apikey_stage_go_round(uint32 from, bool (*leave) (void))
{
	bool		done[STAGES] = {false};
	bool		more = true;
	bool		left = false;

	for (bool first = true; more && !left; first = false)
	{
		more = false;
		for (int i = 0; i < STAGES && !left; i++)
		{
			const Stage *stage = &stages[(i + from) % STAGES];
			bool	   *over = &done[(i + from) % STAGES];

			if (*over || !stage_runs(stage))
				continue;
			*over = !take_step(stage, first);
			more |= !*over;
			left = leave();
		}
	}
	for (int i = 0; i < STAGES; i++)
		more |= !done[i] && stage_runs(&stages[i]);
	return more;
}
