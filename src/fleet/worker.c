/*
 * worker.c
 *		The one worker of a member that speaks to the primary.
 *
 * It is there from consistency on, where apikey.fleet is on, and goes on after
 * a promotion: then it has nothing to do.  It is connected to no database, so
 * it stands in nobody's way; it reads what is shared by all.  If it ends, it is
 * started again.
 *
 * Each database has a link, which has its turn when a session asks, before all
 * others, or when something is due.  Connections are kept of the few for which
 * sessions asked last; the others rest, and connect for a turn.  Where somebody
 * keeps a connection from its database, it is looked at in passing.  Where the
 * primary has no extension in a database, there is no connection to keep.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "store/store.h"
#include "memory/memory.h"
#include "credits/credits.h"
#include "fleet/fleet.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define RESTARTED_AFTER	10		/* seconds */
#define LINKS_KEPT		8		/* connected between their turns */
#define CALLS_AT_ONCE	20		/* before others have their turn */
#define ARRIVES_WITHIN	20		/* milliseconds between looks at what arrives */
#define LOOKS_EVERY		10000	/* milliseconds, without anything to do */

static ApikeyLink *links = NULL;
static int	link_count = 0;
static int	link_room = 0;
static bool links_known = false;	/* those of the databases as they were listed */
static MemoryContext round_context = NULL;

/* Often enough that what is used is there within two flush intervals. */
static int
report_interval(void)
{
	return apikey_fleet_interval == 0 ? apikey_flush_interval :
		Min(apikey_fleet_interval, 2 * apikey_flush_interval);
}

/* Is a database of this server one that reports? */
static bool
reports(const ApikeyFleetDatabase *database)
{
	return RecoveryInProgress() ||
		(database->subscribed && apikey_primary_conninfo[0] != '\0');
}

/* A database has a link. */
static void
have_link(const ApikeyFleetDatabase *database)
{
	for (int i = 0; i < link_count; i++)
	{
		if (links[i].database.oid == database->oid)
		{
			links[i].database = *database;
			return;
		}
	}
	if (link_count == link_room)
	{
		link_room = Max(16, link_room * 2);
		links = links == NULL ?
			MemoryContextAlloc(TopMemoryContext, link_room * sizeof(ApikeyLink)) :
			repalloc(links, link_room * sizeof(ApikeyLink));
	}
	memset(&links[link_count], 0, sizeof(ApikeyLink));
	links[link_count++].database = *database;
}

static bool
is_reported(Oid database)
{
	const ApikeyFleetDatabase *listed;

	for (int i = 0; (listed = apikey_target_database(i)) != NULL; i++)
	{
		if (listed->oid == database)
			return reports(listed);
	}
	return false;
}

/* What is gone, or cannot be connected to, holds no link that others may need. */
static void
prune_links(void)
{
	for (int i = link_count - 1; i >= 0; i--)
	{
		Oid			database = links[i].database.oid;

		if (is_reported(database))
			continue;
		apikey_link_close(&links[i]);
		apikey_fleet_forget(database);
		apikey_leases_forget(database);
		links[i] = links[--link_count];
	}
}

/* Each database that reports has a link, and no other. */
static void
list_links(void)
{
	const ApikeyFleetDatabase *database;

	prune_links();
	for (int i = 0; (database = apikey_target_database(i)) != NULL; i++)
	{
		if (reports(database))
			have_link(database);
	}
	links_known = true;
}

static void
close_links(void)
{
	for (int i = 0; i < link_count; i++)
		apikey_link_close(&links[i]);
	link_count = 0;
	links_known = false;
}

/* Does a session ask the primary, or would it? */
static bool
is_asked(const ApikeyLink *link)
{
	return apikey_lease_asked(link->database.oid) ||
		apikey_fleet_wanted(link->database.oid);
}

static bool
any_is_asked(void)
{
	for (int i = 0; i < link_count; i++)
	{
		if (is_asked(&links[i]))
			return true;
	}
	return false;
}

/*
 * Tells of keys that were verified by a pepper of before; those beyond so many at
 * once, and all where a session asks, have their next turn.
 */
static bool
renew(ApikeyLink *link)
{
	bool		more = true;

	for (int i = 0; i < CALLS_AT_ONCE && more && !any_is_asked() &&
		 !ShutdownRequestPending; i++)
	{
		if (!apikey_link_renew(link, &more))
			return false;
		MemoryContextReset(round_context);
	}
	return true;
}

/*
 * Reports what a database has to tell, and what goes with it.  Where a session asks
 * meanwhile, that is first.
 */
static void
report(ApikeyLink *link)
{
	ApikeyReportEnd end = APIKEY_REPORT_MORE;

	for (int i = 0; i < CALLS_AT_ONCE && end == APIKEY_REPORT_MORE &&
		 !(i > 0 && any_is_asked()) && !ShutdownRequestPending; i++)
	{
		end = apikey_link_report(link);
		MemoryContextReset(round_context);
	}
	if (end == APIKEY_REPORT_FAILED)
		return;
	if (end == APIKEY_REPORT_AGAIN)
	{
		link->report_at = 0;
		return;
	}
	if (!(apikey_link_return(link, false) && renew(link)))
		return;
	/* Is that the primary still, and this server who it was?  It joins anew first. */
	if (end == APIKEY_REPORT_REFUSED)
		link->joined = false;
	link->report_at = end == APIKEY_REPORT_MORE ? 0 : apikey_tick() +
		(ApikeyTick) Max(report_interval(), link->again) * 1000;
}

/* A subscriber asks how fresh it is, often enough. */
static bool
beat(ApikeyLink *link)
{
	int			interval = apikey_fleet_heartbeat;

	if (RecoveryInProgress())
		return true;
	if (apikey_tick() >= link->beat_at)
	{
		if (apikey_max_staleness > 0)
			interval = Min(interval, apikey_max_staleness / 4 + 1);
		link->beat_at = apikey_tick() + (ApikeyTick) interval * 1000;
		if (!apikey_link_beat(link))
			return false;
	}
	apikey_link_look_at_beats(link);
	return true;
}

/* When a database has its turn. */
static ApikeyTick
due_at(const ApikeyLink *link)
{
	ApikeyTick	due = link->connecting || is_asked(link) ? 0 : link->report_at;

	if (!RecoveryInProgress())
		due = Min(due, link->beat_at);
	return Max(due, link->try_at);
}

/* Of too many that are connected the one rests for which nobody asked longest. */
static void
keep_few(ApikeyLink *last)
{
	ApikeyLink *resting = last;
	int			connected = 0;

	for (int i = 0; i < link_count; i++)
	{
		if (links[i].conn == NULL || links[i].connecting)
			continue;
		connected++;
		if (links[i].asked_at < resting->asked_at)
			resting = &links[i];
	}
	if (last->conn != NULL && !last->connecting && connected > LINKS_KEPT)
		apikey_link_rest(resting);
}

/* A database's turn: what is asked for in it, and what is due. */
static void
take_turn(ApikeyLink *link)
{
	ApikeyTick	now = apikey_tick();

	if (is_asked(link))
		link->asked_at = now;
	if (apikey_link_open(link) && apikey_link_join(link) &&
		apikey_link_lease(link) && apikey_link_take(link) && beat(link) &&
		now >= link->report_at)
		report(link);
	MemoryContextReset(round_context);
	keep_few(link);
}

/* Has it had its turn? */
static bool
serve(ApikeyLink *link)
{
	if (!reports(&link->database))
		return false;
	if (!RecoveryInProgress())
		apikey_link_look_at_beats(link);
	if (apikey_tick() < due_at(link))
		return false;
	take_turn(link);
	return true;
}

static void
serve_asked(void)
{
	for (int i = 0; i < link_count && !ShutdownRequestPending; i++)
	{
		if (is_asked(&links[i]))
			(void) serve(&links[i]);
	}
}

/* The server ends: what was leased and is not spent goes back. */
static void
return_all(void)
{
	for (int i = 0; i < link_count; i++)
	{
		if (apikey_link_known(&links[i]))
			(void) apikey_link_return(&links[i], true);
	}
	for (int i = 0; i < link_count; i++)
	{
		if (apikey_link_known(&links[i]) || !apikey_link_owes(&links[i]))
			continue;
		if (apikey_link_open(&links[i]) && apikey_link_join(&links[i]))
			(void) apikey_link_return(&links[i], true);
		apikey_link_close(&links[i]);
	}
}

/* Goes round the databases; returns how long there is nothing to do. */
static long
serve_all(void)
{
	int64		rest = LOOKS_EVERY;

	serve_asked();
	/* At a stop what is leased goes back, and there is little time. */
	for (int i = 0; i < link_count && !ShutdownRequestPending; i++)
	{
		if (serve(&links[i]))
			serve_asked();
	}
	for (int i = 0; i < link_count; i++)
	{
		int64		due = (int64) due_at(&links[i]) - (int64) apikey_tick();

		rest = Min(rest, due / 1000 + 1);
		if (links[i].beats > 0)
			rest = Min(rest, ARRIVES_WITHIN);
	}
	return Max(rest, 1);
}

/* Sleeps until there is something to do. */
static void
rest(long at_most)
{
	pgsocket	socket = PGINVALID_SOCKET;
	uint32		events = 0;
	long		timeout = RecoveryInProgress() ?
		apikey_pulse_wait(&socket, &events) : LOOKS_EVERY;

	events |= WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	(void) WaitLatchOrSocket(MyLatch, events, socket,
							 Min(timeout, at_most), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
worker_ends(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	apikey_fleet_set_latch(NULL);
}

static void
begin(const ApikeyWire *wire)
{
	apikey_pulse_begin(wire);
	apikey_link_begin(wire);
	apikey_join_begin(wire);
	apikey_report_begin(wire);
	apikey_refused_begin(wire);
	apikey_leases_begin(wire);
	apikey_beat_begin(wire);
	apikey_take_begin(wire);
	apikey_renew_begin(wire);
	round_context = AllocSetContextCreate(TopMemoryContext, "apikey fleet",
										  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(round_context);
	/* So that times are read there as they are meant here. */
	SetConfigOption("datestyle", "ISO", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("timezone", "UTC", PGC_SUSET, PGC_S_OVERRIDE);
}

void
apikey_fleet_main(Datum arg pg_attribute_unused())
{
	ApikeyWireGet get;
	bool		was_standby = false;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	get = (ApikeyWireGet) load_external_function("apikey_fleet",
												 "apikey_fleet_wire", true,
												 NULL);
	begin(get());
	before_shmem_exit(worker_ends, (Datum) 0);
	apikey_fleet_set_latch(MyLatch);
	pgstat_report_activity(STATE_IDLE, NULL);

	while (!ShutdownRequestPending)
	{
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			apikey_pulse_stop();
			close_links();
		}
		/* With a promotion there is nobody to report to any more. */
		if (was_standby && !RecoveryInProgress())
			close_links();
		was_standby = RecoveryInProgress();
		if ((was_standby || apikey_primary_conninfo[0] != '\0') &&
			(apikey_target_list() || !links_known))
			list_links();
		apikey_pulse_step();
		rest(serve_all());
	}
	return_all();
	close_links();
	apikey_pulse_stop();
	/* To be started again, unless the server ends. */
	proc_exit(1);
}

/* Once, while the library is being preloaded. */
void
apikey_fleet_init(void)
{
	BackgroundWorker worker = {0};

	if (!apikey_fleet || IsBinaryUpgrade)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = RESTARTED_AFTER;
	strlcpy(worker.bgw_library_name, "apikey", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "apikey_fleet_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "apikey fleet", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "apikey fleet", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
