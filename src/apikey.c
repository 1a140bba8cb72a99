/*
 * apikey.c
 *		Loading the library: its settings.
 */
#include "postgres.h"

#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "servers/server.h"

#include "apikey.h"
#include "compat.h"
#include "memory/complaint.h"
#include "memory/fleet.h"
#include "memory/batch.h"
#include "memory/fresh.h"
#include "memory/lifetime.h"
#include "text/conninfo.h"
#include "credits/credit.h"
#include "fleet/member.h"
#include "keys/foreign.h"
#include "keys/pepper_count.h"
#include "limits/mark.h"
#include "limits/tally.h"
#include "memory/complaint.h"
#include "secrets/source.h"
#include "usage/history.h"
#include "verify/identity.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;


static object_access_hook_type previous_object_access = NULL;

/* Who has something to do at the end of a transaction, in this order. */
static ApikeyTransactionPart *const transaction_parts[] = {
	&apikey_fresh_transaction,
	&apikey_identity_transaction,
	&apikey_ended_transaction,
	&apikey_notify_transaction,
	&apikey_idle_transaction,
	&apikey_expiry_transaction,
	&apikey_revocation_transaction,
	&apikey_retire_transaction,
	&apikey_tally_transaction,
	&apikey_spend_transaction,
	&apikey_account_transaction,
	&apikey_changes_transaction
};

/* Who has something in shared memory. */
static const ApikeyMemoryPart *const memory_parts[] = {
	&apikey_complaint_memory,
	&apikey_stats_memory,
	&apikey_lease_memory,
	&apikey_lease_asked_memory,
	&apikey_notify_memory,
	&apikey_share_memory,
	&apikey_seat_memory,
	&apikey_mark_memory,
	&apikey_history_memory,
	&apikey_tally_memory,
	&apikey_server_id_memory,
	&apikey_batch_memory,
	&apikey_fleet_memory,
	&apikey_fresh_memory,
	&apikey_lifetime_memory,
	&apikey_rehash_memory,
	&apikey_pepper_count_memory,
	&apikey_vault_memory,
	&apikey_slot_memory,
	&apikey_slot_file_memory,
	&apikey_pepper_memory
};

/* Who has something of a key beside its rows. */
static const ApikeyKeyPart *const key_parts[] = {
	&apikey_account_of_key,
	&apikey_limit_of_key
};

void		_PG_init(void);

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

/*
 * What is dropped has nothing in shared memory any more, and what is new is to
 * be looked into.  The hook comes before it is known whether it may be, so it
 * only notes which.
 */
static void
on_database_or_extension(ObjectAccessType access, Oid classId, Oid objectId)
{
	if (!apikey_usage_shared())
		return;
	if (access == OAT_DROP && classId == DatabaseRelationId)
		apikey_ended_database(objectId);
	else if (access == OAT_POST_CREATE && classId == DatabaseRelationId)
		apikey_begun_extension(objectId);
	else if (access == OAT_DROP && classId == ExtensionRelationId &&
			 objectId == get_extension_oid("apikey", true))
		apikey_ended_extension();
	/* Which one is not to be seen yet: any is worth a look. */
	else if (access == OAT_POST_CREATE && classId == ExtensionRelationId)
		apikey_begun_extension(MyDatabaseId);
}

/* Keys of a role that is dropped end with it. */
static void
on_object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId,
				 void *arg)
{
	if (previous_object_access)
		previous_object_access(access, classId, objectId, subId, arg);
	if (subId == 0)
		on_database_or_extension(access, classId, objectId);
	if (access == OAT_POST_ALTER && classId == ExtensionRelationId &&
		objectId == get_extension_oid("apikey", true))
		apikey_grant_follow_owner();
	if (access == OAT_DROP && classId == AuthIdRelationId)
		apikey_retire_role();
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

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
	{
		refuse_connection_option("apikey.import_secret_file");
		refuse_connection_option("apikey.max_staleness");
		refuse_connection_option("apikey.pepper_command");
		refuse_connection_option("apikey.name_hold");
		refuse_connection_option("apikey.pepper_file");
		refuse_connection_option("apikey.request_owner");
		refuse_connection_option("apikey.request_project");
		refuse_connection_option("apikey.subject_setting");
	}
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
	DefineCustomIntVariable("apikey.event_retention",
							"Time after which an event is removed.",
							"0 keeps all. Needs the library preloaded.",
							&apikey_event_retention, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.expiry_notice",
							"Time before a key expires at which an event tells so.",
							"0 tells nothing. Needs the library preloaded.",
							&apikey_expiry_notice, 7 * SECS_PER_DAY, 0,
							10 * 365 * SECS_PER_DAY,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
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
	DefineCustomIntVariable("apikey.flush_interval",
							"Time between flushes of the use of keys to the tables.",
							"Needs the library preloaded.",
							&apikey_flush_interval, 10000, 100, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.history_days",
							"Days for which the use of keys is kept by the day.",
							"0 keeps none. Needs the library preloaded.",
							&apikey_history_days, 400, 0, 36500,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.history_hours",
							"Hours for which the use of keys is kept by the hour, before it is summed to days.",
							"0 keeps days only. Needs the library preloaded.",
							&apikey_history_hours, 168, 0, 87600,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("apikey.import_secret_file",
							   "File of the secrets that imported keys of hmac-sha256 are keyed with.",
							   "One a line, as it is or after hex: or base64:. Empty: none.",
							   &apikey_import_secret_file, "",
							   PGC_SUSET, GUC_SUPERUSER_ONLY,
							   NULL, assign_import_secret_file, NULL);
	DefineCustomIntVariable("apikey.max_keys_per_role",
							"Sets how many live personal API keys a role may have.",
							"Zero is no bound.",
							&apikey_max_keys_per_role,
							0, 0, INT_MAX,
							PGC_SUSET,
							0, NULL, NULL, NULL);
	DefineCustomIntVariable("apikey.max_staleness",
							"Time after which what the primary has committed must be here for a key to be verified.",
							"0 is no bound. Needs apikey.fleet.",
							&apikey_max_staleness, 0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_MS | GUC_SUPERUSER_ONLY,
							check_max_staleness, NULL, NULL);
	DefineCustomIntVariable("apikey.max_tracked_keys",
							"Most keys whose use is gathered in shared memory.",
							"Needs the library preloaded.",
							&apikey_max_tracked_keys, 100000, 16, 100000000,
							process_shared_preload_libraries_in_progress ?
							PGC_POSTMASTER : PGC_SIGHUP,
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
	DefineCustomStringVariable("apikey.prefix",
							   "Prefix of keys created without one of their own.",
							   NULL, &apikey_prefix, "ak",
							   PGC_USERSET, 0, check_prefix, NULL, NULL);
	DefineCustomStringVariable("apikey.primary_conninfo",
							   "Where the primary of the fleet is.",
							   "Without a password. Empty: as primary_conninfo says.",
							   &apikey_primary_conninfo, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_primary_conninfo, NULL, NULL);
	DefineCustomBoolVariable("apikey.redact",
							 "Masks API keys in the server's log and in pg_stat_activity.",
							 "Needs the library preloaded.",
							 &apikey_redact, true, PGC_SUSET, 0,
							 NULL, NULL, NULL);
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
	DefineCustomStringVariable("apikey.subject_setting",
							   "Setting that carries the application's user.",
							   "The name of a setting, or setting:member for a member of a JSON object; empty: only roles count.",
							   &apikey_subject_setting, "",
							   PGC_SUSET, 0, NULL, assign_subject_setting,
							   NULL);
	DefineCustomIntVariable("apikey.usage_interval",
							"Least time between updates of a key's last use.",
							"Counts where the library is not preloaded.",
							&apikey_usage_interval, 60, 0, 86400,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	MarkGUCPrefixReserved("apikey");
	apikey_complaint_init();
	apikey_changes_init();
	apikey_cache_init();
	apikey_key_init(key_parts, lengthof(key_parts));
	apikey_transaction_init(transaction_parts, lengthof(transaction_parts));
	apikey_instead_init();
	if (process_shared_preload_libraries_in_progress)
	{
		apikey_redact_init();
		apikey_memory_init(memory_parts, lengthof(memory_parts));
		apikey_keeper_init();
		apikey_launcher_init();
		apikey_fleet_init();
	}
	previous_object_access = object_access_hook;
	object_access_hook = on_object_access;
}
