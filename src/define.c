/*
 * define.c
 *		What the server is told of our settings, and what they may be.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "miscadmin.h"

#include "compat.h"
#include "text/text.h"
#include "store/store.h"
#include "secrets/secrets.h"
#include "keys/keys.h"

static bool
check_prefix(char **newval, void **extra pg_attribute_unused(),
			 GucSource source pg_attribute_unused())
{
	if (apikey_text_prefix_new(*newval, strlen(*newval)))
		return true;
	GUC_check_errdetail(APIKEY_PREFIX_RULE);
	return false;
}

/* Each role that may see settings would see a password in it. */
static bool
check_primary_conninfo(char **newval, void **extra pg_attribute_unused(),
					   GucSource source pg_attribute_unused())
{
	switch (apikey_conninfo_check(*newval))
	{
		case APIKEY_CONNINFO_OK:
			return true;
		case APIKEY_CONNINFO_BROKEN:
			GUC_check_errmsg("parameter \"apikey.primary_conninfo\" is no connection string");
			return false;
		case APIKEY_CONNINFO_SECRET:
			break;
	}
	GUC_check_errmsg("parameter \"apikey.primary_conninfo\" must not hold a password");
	GUC_check_errhint("Put the password into the file ~/.pgpass of the server's user, or into one that passfile names.");
	return false;
}

/* Who does not ask the primary cannot know how old what it has is. */
static bool
check_max_staleness(int *newval, void **extra pg_attribute_unused(),
					GucSource source pg_attribute_unused())
{
	if (*newval == 0 || apikey_fleet)
		return true;
	GUC_check_errdetail("\"apikey.fleet\" is off, or the library is not preloaded.");
	GUC_check_errhint("Set \"apikey.fleet\" to on, and restart the server.");
	return false;
}

/* It is shown, and its length is bounded where it is stored. */
static bool
check_server_name(char **newval, void **extra pg_attribute_unused(),
				  GucSource source pg_attribute_unused())
{
	size_t		len = strlen(*newval);

	for (size_t i = 0; i < len; i++)
	{
		if ((*newval)[i] < ' ' || (*newval)[i] > '~')
			return false;
	}
	return len <= 90;
}

/* What is beyond a new bound is not to stay. */
static void
assign_cache_bound(int newval pg_attribute_unused(),
				   void *extra pg_attribute_unused())
{
	apikey_changes_forget();
}

static void
assign_pepper_source(const char *newval pg_attribute_unused(),
				   void *extra pg_attribute_unused())
{
	apikey_pepper_forget();
}

static void
assign_import_secret_file(const char *newval pg_attribute_unused(),
						  void *extra pg_attribute_unused())
{
	apikey_secret_forget();
}

/* Could this be the name of a setting?  Those of others have a dot, as ours have. */
static bool
names_setting(const char *name)
{
	bool		begins = true;	/* what is before a dot, or behind it */
	bool		dotted = false;

	for (const char *at = name; *at != '\0'; at++)
	{
		unsigned char c = *at;

		if (c == '.' && !begins)
			begins = dotted = true;
		else if (c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
				 IS_HIGHBIT_SET(c) ||
				 (!begins && (c == '$' || (c >= '0' && c <= '9'))))
			begins = false;
		else
			return false;
	}
	return !begins && (dotted || apikey_find_setting(name) != NULL);
}

static bool defining = false;

/*
 * Refuses, to whoever sets it, what never leads to a subject.  A value that is
 * there when the library is loaded stays, and then nobody has a subject: to
 * refuse it would leave the setting empty, and each key with a subject to all of
 * its role.  So does one of the configuration's files, which part of the
 * processes would refuse.
 */
static bool
check_subject_setting(char **newval, void **extra pg_attribute_unused(),
					  GucSource source)
{
	const char *colon = strchr(*newval, ':');

	if (defining || InitializingParallelWorker ||
		(source != PGC_S_SESSION && source != PGC_S_TEST) ||
		(*newval)[0] == '\0')
		return true;
	if (names_setting(colon == NULL ? *newval :
					  pnstrdup(*newval, colon - *newval)) &&
		(colon == NULL || colon[1] != '\0'))
		return true;
	GUC_check_errdetail("It is the name of a setting, as in \"app.user_id\", or of one and a member of the JSON object that it holds, as in \"request.jwt.claims:sub\".");
	return false;
}

/* Whether subjects count decides what keys may do. */
static void
assign_subject_setting(const char *newval pg_attribute_unused(),
					   void *extra pg_attribute_unused())
{
	apikey_changes_forget();
}

/*
 * Where the library is loaded late, whoever connects can give a setting of a
 * superuser's in his connection's options: it is not accepted then, but it has
 * replaced the one of the configuration or the database.  So he does without
 * us.
 */
static void
refuse_connection_option(const char *name)
{
	struct config_generic *setting = apikey_find_setting(name);

	if (setting != NULL && setting->reset_source == PGC_S_CLIENT &&
		strcmp(GetConfigOption("is_superuser", false, false), "on") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to set parameter \"%s\"", name),
				 errdetail("It was given in the options of the connection.")));
}

/* Settings of keys, and of what is told of them. */
static void
define_keys(void)
{
	DefineCustomIntVariable("apikey.event_retention",
							"Time after which an event is removed.",
							"0 keeps all. Needs the library preloaded, or apikey.dynamic_shared_memory.",
							&apikey_event_retention, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.expiry_notice",
							"Time before a key expires at which an event tells so.",
							"0 tells nothing. Needs the library preloaded.",
							&apikey_expiry_notice, 7 * SECS_PER_DAY, 0,
							10 * 365 * SECS_PER_DAY,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.max_keys_per_role",
							"Sets how many live personal API keys a role may have.",
							"Zero is no bound.",
							&apikey_max_keys_per_role,
							0, 0, INT_MAX,
							PGC_SUSET,
							0, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.name_hold",
							"Time for which the name of a dropped organization is its former owners'.",
							"0 lets everybody have it at once.",
							&apikey_name_hold, 30 * SECS_PER_DAY, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable("apikey.notify",
							 "Sends NOTIFY apikey after the commit of each event.",
							 "Needs the library preloaded.",
							 &apikey_notify, false, PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("apikey.prefix",
							   "Prefix of keys created without one of their own.",
							   NULL, &apikey_prefix, "ak",
							   PGC_USERSET, 0, check_prefix, NULL, NULL);
	DefineCustomBoolVariable("apikey.redact",
							 "Masks API keys in the server's log and in pg_stat_activity.",
							 "Needs the library preloaded.",
							 &apikey_redact, true, PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("apikey.subject_setting",
							   "Setting that carries the application's user.",
							   "The name of a setting, or setting:member for a member of a JSON object; empty: only roles count.",
							   &apikey_subject_setting, "",
							   PGC_SUSET, 0, check_subject_setting,
							   assign_subject_setting, NULL);
}

/* Settings of what is kept in memory and counted there. */
static void
define_memory(void)
{
	DefineCustomIntVariable("apikey.cache_entries",
							"Most keys that a session remembers to have verified.",
							"0 remembers none.",
							&apikey_cache_entries, 100000, 0, 1000000,
							PGC_USERSET, 0, NULL, assign_cache_bound, NULL);
	DefineCustomIntVariable("apikey.cache_memory",
							"Most memory for the keys that a session remembers to have verified.",
							"0 remembers none.",
							&apikey_cache_memory, 8192, 0, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB,
							NULL, assign_cache_bound, NULL);
	DefineCustomIntVariable("apikey.credits_lease",
							"Most credits of a key that are in memory to be spent there.",
							"A crash costs as many at most. Needs the library preloaded.",
							&apikey_credits_lease, 1000, 1, 1000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("apikey.dynamic_shared_memory",
							 "Counts uses and holds rate limits of keys where the library is not preloaded.",
							 "From PostgreSQL 17 on.",
							 &apikey_dynamic_shared_memory, false, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.flush_interval",
							"Time between flushes of the use of keys to the tables.",
							"Needs the library preloaded, or apikey.dynamic_shared_memory.",
							&apikey_flush_interval, 10000, 100, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.history_days",
							"Days for which the use of keys is kept by the day.",
							"0 keeps none. Needs the library preloaded, or apikey.dynamic_shared_memory.",
							&apikey_history_days, 400, 0, 36500,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.history_hours",
							"Hours for which the use of keys is kept by the hour, before it is summed to days.",
							"0 keeps days only. Needs the library preloaded, or apikey.dynamic_shared_memory.",
							&apikey_history_hours, 168, 0, 87600,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.max_tracked_keys",
							"Most keys whose use is gathered in shared memory.",
							"Needs the library preloaded.",
							&apikey_max_tracked_keys, 100000, 16, 100000000,
							process_shared_preload_libraries_in_progress ?
							PGC_POSTMASTER : PGC_SIGHUP,
							0, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.usage_interval",
							"Least time between updates of a key's last use.",
							"Counts where uses are not counted in memory.",
							&apikey_usage_interval, 60, 0, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

/* Settings that name secrets. */
static void
define_secrets(void)
{
	DefineCustomStringVariable("apikey.import_secret_file",
							   "File of the secrets that imported keys of hmac-sha256 are keyed with.",
							   "One a line, as it is or after hex: or base64:. Empty: none.",
							   &apikey_import_secret_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY,
							   NULL, assign_import_secret_file, NULL);
	DefineCustomStringVariable("apikey.pepper_command",
							   "Shell command that prints what apikey.pepper_file would hold.",
							   "It is run by the server's user, and has ten seconds. Empty: none.",
							   &apikey_pepper_command, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY,
							   NULL, assign_pepper_source, NULL);
	DefineCustomStringVariable("apikey.pepper_file",
							   "File of the secrets that stored digests are keyed with.",
							   "One a line, of at least 32 bytes; the first is current, the others are still accepted. Empty: none.",
							   &apikey_pepper_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY,
							   NULL, assign_pepper_source, NULL);
}

/* Settings of requests by HTTP. */
static void
define_requests(void)
{
	DefineCustomStringVariable("apikey.request_owner",
							   "Role whose keys apikey_pre_request() accepts.",
							   "Its personal keys or, together with apikey.request_project, the keys there that it owns.",
							   &apikey_request_owner, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("apikey.request_project",
							   "Project, or organization, whose keys apikey_pre_request() accepts.",
							   "With neither this nor apikey.request_owner it accepts none.",
							   &apikey_request_project, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
}

/* Settings of servers that verify beside the primary. */
static void
define_fleet(void)
{
	DefineCustomBoolVariable("apikey.fleet",
							 "Makes a standby or subscriber report to its primary.",
							 "Needs the library preloaded.",
							 &apikey_fleet, false,
							 process_shared_preload_libraries_in_progress ?
							 PGC_POSTMASTER : PGC_SIGHUP,
							 GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.fleet_heartbeat",
							"Time between questions to the primary how far it is.",
							NULL,
							&apikey_fleet_heartbeat, 1000, 10, 60000,
							PGC_SIGHUP, GUC_UNIT_MS | GUC_SUPERUSER_ONLY,
							NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.fleet_interval",
							"Time between reports to the primary.",
							"0, or more than twice apikey.flush_interval, is that interval.",
							&apikey_fleet_interval, 0, 0, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS | GUC_SUPERUSER_ONLY,
							NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.fleet_timeout",
							"Time after which a primary that does not answer is given up.",
							NULL,
							&apikey_fleet_timeout, 10000, 100, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS | GUC_SUPERUSER_ONLY,
							NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.max_staleness",
							"Time after which what the primary has committed must be here for a key to be verified.",
							"0 is no bound. Needs apikey.fleet.",
							&apikey_max_staleness, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS | GUC_SUPERUSER_ONLY,
							check_max_staleness, NULL, NULL);
	DefineCustomStringVariable("apikey.primary_conninfo",
							   "Where the primary of the fleet is.",
							   "Without a password. Empty: as primary_conninfo says.",
							   &apikey_primary_conninfo, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_primary_conninfo, NULL, NULL);
	DefineCustomStringVariable("apikey.server_name",
							   "Name of this server among those that verify together.",
							   "Empty: cluster_name or, where that is empty, the host's name and the port.",
							   &apikey_server_name, "",
							   PGC_SIGHUP, 0, check_server_name, NULL, NULL);
	DefineCustomIntVariable("apikey.server_timeout",
							"Time without a report after which a server is told to be lost.",
							NULL,
							&apikey_server_timeout, 300, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

/* Tells the server of our settings, once, when the library is loaded. */
void
apikey_define_settings(void)
{
	/* All but those that everybody may set. */
	static const char *const guarded[] = {
		"apikey.credits_lease",
		"apikey.dynamic_shared_memory",
		"apikey.event_retention",
		"apikey.expiry_notice",
		"apikey.fleet",
		"apikey.fleet_heartbeat",
		"apikey.fleet_interval",
		"apikey.fleet_timeout",
		"apikey.flush_interval",
		"apikey.history_days",
		"apikey.history_hours",
		"apikey.import_secret_file",
		"apikey.max_keys_per_role",
		"apikey.max_staleness",
		"apikey.max_tracked_keys",
		"apikey.name_hold",
		"apikey.notify",
		"apikey.pepper_command",
		"apikey.pepper_file",
		"apikey.primary_conninfo",
		"apikey.redact",
		"apikey.request_owner",
		"apikey.request_project",
		"apikey.server_name",
		"apikey.server_timeout",
		"apikey.subject_setting",
		"apikey.usage_interval"
	};

	for (size_t i = 0; i < lengthof(guarded) &&
		 !process_shared_preload_libraries_in_progress; i++)
		refuse_connection_option(guarded[i]);
	defining = true;
	define_secrets();
	define_keys();
	define_memory();
	define_requests();
	define_fleet();
	defining = false;
	MarkGUCPrefixReserved("apikey");
}
