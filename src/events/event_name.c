/*
 * event_name.c
 *		What events are called.
 */
#include "postgres.h"

#include "events/events_internal.h"

static const char *const event_names[] = {
	[APIKEY_EVENT_CREATED] = "created",
	[APIKEY_EVENT_UPDATED] = "updated",
	[APIKEY_EVENT_RENAMED] = "renamed",
	[APIKEY_EVENT_DISABLED] = "disabled",
	[APIKEY_EVENT_ENABLED] = "enabled",
	[APIKEY_EVENT_REVOKED] = "revoked",
	[APIKEY_EVENT_DELETED] = "deleted",
	[APIKEY_EVENT_ROTATED] = "rotated",
	[APIKEY_EVENT_REVEALED] = "revealed",
	[APIKEY_EVENT_IMPORTED] = "imported",
	[APIKEY_EVENT_REHASHED] = "rehashed",
	[APIKEY_EVENT_DENIED] = "denied",
	[APIKEY_EVENT_EXPIRING] = "expiring",
	[APIKEY_EVENT_TRANSFERRED] = "transferred",
	[APIKEY_EVENT_MEMBER_ADDED] = "member_added",
	[APIKEY_EVENT_MEMBER_REMOVED] = "member_removed",
	[APIKEY_EVENT_ORGANIZATION_CREATED] = "organization_created",
	[APIKEY_EVENT_ORGANIZATION_DROPPED] = "organization_dropped",
	[APIKEY_EVENT_PROJECT_CREATED] = "project_created",
	[APIKEY_EVENT_PROJECT_UPDATED] = "project_updated",
	[APIKEY_EVENT_PROJECT_DROPPED] = "project_dropped",
	[APIKEY_EVENT_MEMBER_CHANGED] = "member_changed",
	[APIKEY_EVENT_PROJECT_APPLIED] = "project_applied",
	[APIKEY_EVENT_GRANTED] = "granted",
	[APIKEY_EVENT_UNGRANTED] = "ungranted",
	[APIKEY_EVENT_LIMIT_SET] = "limit_set",
	[APIKEY_EVENT_LIMIT_DROPPED] = "limit_dropped",
	[APIKEY_EVENT_LIMIT_LOW] = "limit_low",
	[APIKEY_EVENT_LIMIT_EXHAUSTED] = "limit_exhausted",
	[APIKEY_EVENT_OVERDRAWN] = "overdrawn",
	[APIKEY_EVENT_SERVER_JOINED] = "server_joined",
	[APIKEY_EVENT_SERVER_LOST] = "server_lost",
	[APIKEY_EVENT_SERVER_FORGOTTEN] = "server_forgotten",
	[APIKEY_EVENT_IDLE] = "idle"
};

const char *
apikey_event_name(ApikeyEvent event)
{
	return event_names[event];
}
