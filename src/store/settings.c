/*
 * settings.c
 *		The settings, as they are now; define.c tells the server of them.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "store/store.h"

int			apikey_cache_entries = 100000;
int			apikey_cache_memory = 8192;
int			apikey_credits_lease = 1000;
bool		apikey_dynamic_shared_memory = false;
int			apikey_event_retention = 0;
int			apikey_expiry_notice = 7 * SECS_PER_DAY;
bool		apikey_fleet = false;
int			apikey_fleet_heartbeat = 1000;
int			apikey_fleet_interval = 0;
int			apikey_fleet_timeout = 10000;
int			apikey_flush_interval = 10000;
int			apikey_history_days = 400;
int			apikey_history_hours = 168;
int			apikey_name_hold = 30 * SECS_PER_DAY;
bool		apikey_notify = false;
int			apikey_max_staleness = 0;
int			apikey_max_tracked_keys = 100000;
int			apikey_usage_interval = 60;
char	   *apikey_pepper_command = NULL;
char	   *apikey_pepper_file = NULL;
char	   *apikey_prefix = NULL;
char	   *apikey_primary_conninfo = NULL;
bool		apikey_redact = true;
char	   *apikey_request_owner = NULL;
char	   *apikey_request_project = NULL;
char	   *apikey_server_name = NULL;
int			apikey_server_timeout = 300;
char	   *apikey_subject_setting = NULL;
