/*
 * health.c
 *		Whether all that a server needs to verify keys is as it should be.
 *
 * Each check is a row, and raises nothing: what it meets that is broken is what
 * it tells.  A check reads what is in memory and in the system's catalogs, and
 * of the keys no more than a bounded number of rows, so that it may be asked
 * for each few seconds, whatever the number of keys.  It waits for nobody who
 * has a table locked, but for a moment.
 *
 * "critical": keys are refused that should be valid, or cannot be revoked.
 * "warning": something is lost, late, or will be critical.  Each has a hint.
 * With "ok" a hint is advice: nothing is wrong, but may be meant otherwise.
 */
#include "postgres.h"

#include "access/xlogrecovery.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"
#include "servers/servers.h"
#include "sql/health.h"

#define SERVED_WITHIN	USECS_PER_MINUTE	/* or three flush intervals */
#define REPLAYED_WITHIN	(30 * USECS_PER_SEC)
#define DROPPED_WITHIN	USECS_PER_HOUR
#define LOCK_WAIT		"100ms" /* for who has a table locked */

static const char *const severity_names[] = {
	[APIKEY_HEALTH_OK] = "ok",
	[APIKEY_HEALTH_WARN] = "warning",
	[APIKEY_HEALTH_CRITICAL] = "critical"
};

static void
check_preloaded(ApikeyFinding *finding)
{
	if (apikey_preloaded())
		apikey_health_find(finding, APIKEY_HEALTH_OK, "yes", NULL);
	else if (apikey_usage_shared())
		apikey_health_find(finding, APIKEY_HEALTH_WARN, "no, use is counted",
						   "Add \"apikey\" to \"shared_preload_libraries\", and restart the server: without it only rate_limit is held, credits are spent in their rows, no key is masked in the log, and nothing of keys that expire, are idle or had a dropped role is done.");
	else
		apikey_health_find(finding, APIKEY_HEALTH_WARN, "no",
						   "Add \"apikey\" to \"shared_preload_libraries\", and restart the server: without it keys with a rate limit are refused, and use is not counted.");
}

/* Is there something of this server's that no worker can be asked about? */
static const char *
no_worker_here(void)
{
	if (!apikey_preloaded() && !apikey_usage_shared())
		return "not preloaded";
	return RecoveryInProgress() ? "standby" : NULL;
}

static void
check_worker(ApikeyFinding *finding)
{
	const char *none = no_worker_here();

	if (none != NULL)
		apikey_health_find(finding, APIKEY_HEALTH_OK, pstrdup(none), NULL);
	else if (!apikey_preloaded())
		apikey_health_find(finding, APIKEY_HEALTH_OK,
						   pstrdup(apikey_dynamic_state()), NULL);
	else if (apikey_seat_at_hand())
		apikey_health_find(finding, APIKEY_HEALTH_OK, "running", NULL);
	else if (apikey_seat_launched())
		apikey_health_find(finding, APIKEY_HEALTH_CRITICAL, "no worker process is free",
						   "Raise \"max_worker_processes\", and restart the server: keys with credits are refused.");
	else
		apikey_health_find(finding, APIKEY_HEALTH_CRITICAL, "not running",
						   "See the server's log for why \"apikey launcher\" ended, or was not started for want of \"max_worker_processes\": keys with credits are refused, and use is not written.");
}

static char *
time_text(TimestampTz time)
{
	return time == 0 ? "never" : pstrdup(timestamptz_to_str(time));
}

static void
check_flush(ApikeyFinding *finding)
{
	const char *none = no_worker_here();
	TimestampTz waiting = none != NULL ? 0 : apikey_stats_waiting_since();
	int64		within = Max(SERVED_WITHIN, 3 * (int64) apikey_flush_interval * 1000);
	ApikeyStats stats;

	if (none != NULL)
		apikey_health_find(finding, APIKEY_HEALTH_OK, pstrdup(none), NULL);
	else if (waiting != 0 && GetCurrentTimestamp() - waiting > within)
		apikey_health_find(finding, APIKEY_HEALTH_WARN, psprintf("waiting since %s", time_text(waiting)),
						   "See the server's log for \"apikey worker\", and whether another session holds a lock on the extension's tables: uses, events and revocations of dropped roles' keys wait to be written.");
	else
	{
		apikey_stats_read_times(&stats);
		apikey_health_find(finding, APIKEY_HEALTH_OK, time_text(stats.last_flush_at), NULL);
	}
}

static int
pepper_number(void)
{
	int			count = 0;

	while (apikey_pepper_nth(count) != NULL)
		count++;
	return count - 1;			/* the last is the empty one */
}

static void
check_pepper(ApikeyFinding *finding)
{
	if (!apikey_pepper_usable())
		apikey_health_find(finding, APIKEY_HEALTH_CRITICAL, "cannot be used",
						   "See the server's log for why; mend the file of \"apikey.pepper_file\", or what \"apikey.pepper_command\" prints, and reload the configuration: every key is unavailable.");
	else if (!apikey_pepper_configured())
		apikey_health_find(finding, APIKEY_HEALTH_OK, "none",
						   "Set \"apikey.pepper_file\" or \"apikey.pepper_command\", the same on each server, and reload the configuration: with a pepper a copy of the tables tests and forges no key made from then on; tokens, and keys that can be shown again, need one.");
	else
		apikey_health_find(finding, APIKEY_HEALTH_OK, psprintf("%d usable", pepper_number()), NULL);
}

/* Keys that are keyed with a pepper that is not here. */
static void
check_peppers(ApikeyFinding *finding)
{
	ApikeyPepperCounts counts;
	int64		lost = 0;

	if (!apikey_pepper_usable())
		apikey_health_find(finding, APIKEY_HEALTH_CRITICAL, "cannot be used", "See \"pepper\".");
	else if (!apikey_pepper_count(&counts, false))
		apikey_health_find(finding, APIKEY_HEALTH_OK, "not counted", NULL);
	else
	{
		for (int i = 0; i < counts.count; i++)
		{
			if (apikey_pepper_find(counts.peppers[i].fingerprint) == NULL)
				lost += counts.peppers[i].keys;
		}
		apikey_health_find(finding, lost > 0 ? APIKEY_HEALTH_CRITICAL : APIKEY_HEALTH_OK,
						   psprintf(INT64_FORMAT " keys without theirs", lost),
						   lost > 0 ? "Add the pepper back, below the current one, and reload the configuration; the view apikey_peppers has its fingerprint: these keys are unavailable." : NULL);
	}
}

static void
check_version(ApikeyFinding *finding)
{
	char	   *version = NULL;
	Oid			schema;

	(void) apikey_extension_find("apikey", &schema, &version);
	if (version != NULL && strcmp(version, APIKEY_VERSION) == 0)
		apikey_health_find(finding, APIKEY_HEALTH_OK, version, NULL);
	else
		apikey_health_find(finding, APIKEY_HEALTH_WARN, psprintf("SQL %s, library %s", version, APIKEY_VERSION),
						   "Where the library is newer, run \"ALTER EXTENSION apikey UPDATE\"; where it is older, install the newer one and restart the server.");
}

/* It is so where nothing of ours was loaded when the owner changed. */
static void
check_owner(ApikeyFinding *finding)
{
	StringInfoData grants;
	Oid			owner;
	Oid			schema;
	char	   *version;
	List	   *lacking = apikey_grant_lacking(&owner);
	char	   *name = text_to_cstring(apikey_role_name_text(owner, NULL));
	ListCell   *cell;

	if (lacking == NIL)
	{
		apikey_health_find(finding, APIKEY_HEALTH_OK, name, NULL);
		return;
	}
	(void) apikey_extension_find("apikey", &schema, &version);
	initStringInfo(&grants);
	foreach(cell, lacking)
		appendStringInfo(&grants, "%s %s('%s', %s)", grants.len == 0 ? "SELECT" : ",",
						 quote_qualified_identifier(get_namespace_name(schema), "apikey_grant"),
						 (char *) lfirst(cell),
						 quote_literal_cstr(quote_identifier(name)));
	apikey_health_find(finding, APIKEY_HEALTH_WARN,
					   psprintf("%s may not do what the extension's owner may", name),
					   psprintf("The extension has got this owner where the library was not loaded. Run, as the owner or a superuser: %s", grants.data));
}

static void
check_slots(ApikeyFinding *finding)
{
	const char *hint;
	int			used;

	if (!apikey_usage_shared())
	{
		apikey_health_find(finding, APIKEY_HEALTH_OK, "not preloaded", NULL);
		return;
	}
	hint = apikey_preloaded() ?
		"Raise \"apikey.max_tracked_keys\", and restart the server: keys with a rate limit or credits may be refused for want of a slot." :
		"Add \"apikey\" to \"shared_preload_libraries\", and restart the server: keys with a rate limit may be refused for want of a slot.";
	used = apikey_slot_used(InvalidOid);
	apikey_health_find(finding, used >= apikey_slot_count() ? APIKEY_HEALTH_WARN : APIKEY_HEALTH_OK,
					   psprintf("%d of %d, %d of this database", used, apikey_slot_count(),
								apikey_slot_used(MyDatabaseId)),
					   used >= apikey_slot_count() ? hint : NULL);
}

/* Reads without a lock: it is a figure of a moment. */
static void
check_leases(ApikeyFinding *finding)
{
	int			leases = 0;
	int64		credits = 0;

	for (int i = 0; apikey_preloaded() && i < apikey_slot_count(); i++)
	{
		const ApikeySlot *slot = apikey_slot_at(i);

		if (!slot->used || slot->key.database != MyDatabaseId ||
			slot->lease.number == 0)
			continue;
		leases++;
		credits = apikey_credits_sum(credits, slot->lease.available);
	}
	apikey_health_find(finding, APIKEY_HEALTH_OK, psprintf("%d leases, " INT64_FORMAT " credits", leases,
														   credits), NULL);
}

/* How many servers there are, and of how many nothing is heard. */
typedef struct ServersSeen
{
	int			servers;
	int			silent;
} ServersSeen;

static bool
see_server(const ApikeyRow *server, void *state)
{
	ServersSeen *seen = state;

	seen->servers++;
	seen->silent += !apikey_same_text(apikey_row_text(server, SERVER_KIND),
									  cstring_to_text(APIKEY_SERVER_PRIMARY)) &&
		apikey_server_silent(server, GetCurrentTimestamp());
	return true;
}

static void
check_servers(ApikeyFinding *finding)
{
	ServersSeen seen = {0};

	if (apikey_fleet_member_now() == APIKEY_ANSWER_YES &&
		apikey_fleet_cut_off(MyDatabaseId))
	{
		apikey_health_find(finding, APIKEY_HEALTH_WARN, "this server does not reach the primary",
						   "See this server's log for why: what is used here is not reported, and what is not leased yet is \"unavailable\".");
		return;
	}
	apikey_server_walk(see_server, &seen);
	apikey_health_find(finding, seen.silent > 0 ? APIKEY_HEALTH_WARN : APIKEY_HEALTH_OK,
					   psprintf("%d, of which %d are silent", seen.servers, seen.silent),
					   seen.silent > 0 ?
					   "See apikey_servers for which; see that it reaches the primary by \"apikey.primary_conninfo\" or, where it is gone, call apikey_server_forget(): its uses are not reported, and what was leased to it is kept." : NULL);
}

static void
check_notices(ApikeyFinding *finding)
{
	ApikeyNotices notices = {0};
	bool		lately;

	if (apikey_preloaded())
		apikey_notify_read(&notices);
	lately = notices.dropped_at != 0 &&
		GetCurrentTimestamp() - notices.dropped_at < DROPPED_WITHIN;
	apikey_health_find(finding, lately ? APIKEY_HEALTH_WARN : APIKEY_HEALTH_OK,
					   psprintf("%d waiting, " INT64_FORMAT " dropped", notices.waiting,
								notices.dropped),
					   lately ? "Whoever listens has to read what is new in apikey_events: within the last hour not every event was notified." : NULL);
}

/* How far a standby is behind with what it has received. */
static void
check_replay(ApikeyFinding *finding)
{
	TimestampTz last = GetLatestXTime();
	int64		behind;

	if (apikey_stale())
	{
		apikey_health_find(finding, APIKEY_HEALTH_CRITICAL, "not known to be fresh enough",
						   "Each key is \"unavailable\" here: see that replication goes on and that this server reaches the primary, or raise \"apikey.max_staleness\".");
		return;
	}
	if (!RecoveryInProgress())
	{
		apikey_health_find(finding, APIKEY_HEALTH_OK, "primary", NULL);
		return;
	}
	behind = last == 0 ||
		GetXLogReplayRecPtr(NULL) >= GetWalRcvFlushRecPtr(NULL, NULL) ? 0 :
		GetCurrentTimestamp() - last;
	apikey_health_find(finding, behind > REPLAYED_WITHIN ? APIKEY_HEALTH_WARN : APIKEY_HEALTH_OK,
					   psprintf(INT64_FORMAT " s behind", behind / USECS_PER_SEC),
					   behind > REPLAYED_WITHIN ?
					   "Switch \"hot_standby_feedback\" on, or lower \"max_standby_streaming_delay\": a revoked key is accepted here until its revocation is replayed." : NULL);
}

/* The checks, and what to do where one meets an error. */
static const struct Check
{
	const char *name;
	void		(*run) (ApikeyFinding *finding);
	const char *hint;
}			checks[] = {
	{"preloaded", check_preloaded, NULL},
	{"worker", check_worker, NULL},
	{"flush", check_flush, NULL},
	{"pepper", check_pepper, NULL},
	{"peppers", check_peppers, NULL},
	{"version", check_version, NULL},
	{"owner", check_owner, NULL},
	{"slots", check_slots, NULL},
	{"leases", check_leases, NULL},
	{"notices", check_notices, NULL},
	{"servers", check_servers, NULL},
	{"indexes", apikey_check_indexes, NULL},
	{"triggers", apikey_check_triggers, NULL},
	{"roles", apikey_check_roles, NULL},
	{"subjects", apikey_check_subjects, NULL},
	{"citus", apikey_check_citus, "Keep the tables of extension \"apikey\" local to the node that verifies."},
	{"publications", apikey_check_publications, "Take the row filter and the column list out of the publication, or run, as a superuser, ALTER TABLE ... REPLICA IDENTITY FULL for the table: no key can be revoked."},
	{"replay", check_replay, NULL}
};

/* Takes an error for what a check has found. */
static void
find_error(ApikeyFinding *finding, const struct Check *check,
		   const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		apikey_health_find(finding, APIKEY_HEALTH_WARN, "a table is locked",
						   "Another session holds a lock on a table of the extension, see pg_locks: who verifies or changes keys may have to wait for it.");
	else
		apikey_health_find(finding, APIKEY_HEALTH_CRITICAL, error->message,
						   error->hint != NULL ? error->hint :
						   check->hint != NULL ? check->hint : "See the server's log.");
}

/* A check that is made, and what it finds. */
typedef struct Checking
{
	const struct Check *check;
	ApikeyFinding *finding;
} Checking;

static void
make_check(void *work)
{
	Checking   *checking = work;

	checking->check->run(checking->finding);
}

/* Runs a check, in a subtransaction of its own.  To be cancelled is no finding. */
static void
run_check(const struct Check *check, ApikeyFinding *finding)
{
	Checking	checking = {check, finding};
	ErrorData  *error;

	if (!apikey_attempt_told(make_check, &checking, &error))
		find_error(finding, check, error);
}

/*
 * apikey_health() returns setof (name text, severity text, value text,
 *								  hint text)
 *		For whom the statistics are.
 */
PG_FUNCTION_INFO_V1(apikey_health);
Datum
apikey_health(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	int			level = NewGUCNestLevel();

	InitMaterializedSRF(fcinfo, 0);
	(void) set_config_option("lock_timeout", LOCK_WAIT, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	for (size_t i = 0; i < lengthof(checks); i++)
	{
		ApikeyFinding finding = {0};
		Datum		values[4];
		bool		nulls[4] = {false};

		run_check(&checks[i], &finding);
		values[0] = CStringGetTextDatum(checks[i].name);
		values[1] = CStringGetTextDatum(severity_names[finding.severity]);
		values[2] = CStringGetTextDatum(finding.value);
		nulls[3] = finding.hint == NULL;
		values[3] = nulls[3] ? (Datum) 0 : CStringGetTextDatum(finding.hint);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	AtEOXact_GUC(true, level);
	PG_RETURN_NULL();
}
