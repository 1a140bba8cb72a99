/*
 * settings.h
 *		The settings, as they are now.
 */
#ifndef APIKEY_SETTINGS_H
#define APIKEY_SETTINGS_H

extern int	apikey_cache_entries;
extern int	apikey_cache_memory;
extern int	apikey_credits_lease;
extern bool apikey_dynamic_shared_memory;
extern int	apikey_event_retention;
extern int	apikey_expiry_notice;
extern bool apikey_fleet;
extern int	apikey_fleet_heartbeat;
extern int	apikey_fleet_interval;
extern int	apikey_fleet_timeout;
extern int	apikey_flush_interval;
extern int	apikey_history_days;
extern int	apikey_history_hours;
extern int	apikey_name_hold;
extern bool apikey_notify;
extern int	apikey_max_staleness;
extern int	apikey_max_tracked_keys;
extern int	apikey_usage_interval;
extern char *apikey_pepper_command;
extern char *apikey_pepper_file;
extern char *apikey_prefix;
extern char *apikey_primary_conninfo;
extern bool apikey_redact;
extern char *apikey_request_owner;
extern char *apikey_request_project;
extern char *apikey_server_name;
extern int	apikey_server_timeout;
extern char *apikey_subject_setting;

/* src/define.c */
extern void apikey_define_settings(void);

#endif							/* APIKEY_SETTINGS_H */
