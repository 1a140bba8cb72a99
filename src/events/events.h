/*
 * events.h
 *		The door of events/: the trail, and notifications.
 */
#ifndef APIKEY_EVENTS_H
#define APIKEY_EVENTS_H

#include "nodes/pg_list.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"

/* The columns of apikey_event, in their order there. */
typedef enum ApikeyEventColumn
{
	EVENT_ID,
	EVENT_AT,
	EVENT_EVENT,
	EVENT_KEY_ID,
	EVENT_KEY_NAME,
	EVENT_KEY_OWNER,
	EVENT_KEY_SUBJECT,
	EVENT_PLACE,
	EVENT_ORGANIZATION,
	EVENT_PROJECT,
	EVENT_ACTOR,
	EVENT_ACTOR_OID,			/* null: only rows of 0.1.0 have it */
	EVENT_ACTOR_SUBJECT,
	EVENT_CLIENT_ADDR,
	EVENT_DETAIL,
	EVENT_KEY_OWNER_NAME
} ApikeyEventColumn;

/* event.c */
extern const ApikeyTable apikey_event_table;
extern bool apikey_event_own(const ApikeyRow *event);

typedef enum ApikeyEvent
{
	APIKEY_EVENT_CREATED,
	APIKEY_EVENT_UPDATED,
	APIKEY_EVENT_RENAMED,
	APIKEY_EVENT_DISABLED,
	APIKEY_EVENT_ENABLED,
	APIKEY_EVENT_REVOKED,
	APIKEY_EVENT_DELETED,
	APIKEY_EVENT_ROTATED,
	APIKEY_EVENT_REVEALED,
	APIKEY_EVENT_IMPORTED,
	APIKEY_EVENT_REHASHED,
	APIKEY_EVENT_DENIED,
	APIKEY_EVENT_EXPIRING,
	APIKEY_EVENT_TRANSFERRED,
	APIKEY_EVENT_MEMBER_ADDED,
	APIKEY_EVENT_MEMBER_REMOVED,
	APIKEY_EVENT_ORGANIZATION_CREATED,
	APIKEY_EVENT_ORGANIZATION_DROPPED,
	APIKEY_EVENT_PROJECT_CREATED,
	APIKEY_EVENT_PROJECT_UPDATED,
	APIKEY_EVENT_PROJECT_DROPPED,
	APIKEY_EVENT_MEMBER_CHANGED,
	APIKEY_EVENT_PROJECT_APPLIED,
	APIKEY_EVENT_GRANTED,
	APIKEY_EVENT_UNGRANTED,
	APIKEY_EVENT_LIMIT_SET,
	APIKEY_EVENT_LIMIT_DROPPED,
	APIKEY_EVENT_LIMIT_LOW,
	APIKEY_EVENT_LIMIT_EXHAUSTED,
	APIKEY_EVENT_OVERDRAWN,
	APIKEY_EVENT_SERVER_JOINED,
	APIKEY_EVENT_SERVER_LOST,
	APIKEY_EVENT_SERVER_FORGOTTEN,
	APIKEY_EVENT_IDLE
} ApikeyEvent;

extern bool apikey_event_owned(Oid owner, const text *owner_name,
							   const text *subject, const pg_uuid_t *id);
extern bool apikey_event_unfit(Oid owner, const text *owner_name);
extern char *apikey_event_handed(const ApikeyRow *before,
								 const ApikeyRow *key);
extern void apikey_event_key(const ApikeyRow *key, ApikeyEvent event,
							 const char *detail);
extern void apikey_event_denied(const ApikeyRow *key, Oid actor, text *subject,
								inet *client_addr, const char *detail);
extern void apikey_event_denied_by(const ApikeyRow *key, text *actor,
								   inet *client_addr, const char *detail);
extern inet *apikey_event_client_addr(void);
extern void apikey_event_change(ApikeyEvent event, const char *detail);
extern void apikey_event_subject(Oid owner, const text *subject,
								 ApikeyEvent event, const char *detail);
extern bool apikey_event_writable(void);
extern void apikey_event_require_removable(void);
extern uint64 apikey_event_purge(TimestampTz before);
extern bool apikey_event_retain(ApikeyPass *pass);
extern void apikey_event_tenant(const ApikeyTenant *tenant, ApikeyEvent event,
								const char *detail);
extern void apikey_event_member(const ApikeyTenant *tenant, ApikeyEvent event,
								Oid member, const text *subject,
								ApikeyRole role, ApikeyRole before);

/* event_revealed.c */
extern void apikey_event_revealed(const pg_uuid_t *id, Oid actor,
								  const text *actor_name, text *subject,
								  inet *client_addr, const char *detail);

/* notify.c */
extern const ApikeyMemoryPart apikey_notify_memory;

/* What this server has to notify, and what it did not. */
typedef struct ApikeyNotices
{
	int			waiting;		/* in this database */
	int64		dropped;		/* in any, since the start */
	TimestampTz dropped_at;		/* the last time; 0: never */
} ApikeyNotices;

extern void apikey_notify_read(ApikeyNotices *notices);
extern ApikeyTransactionPart apikey_notify_transaction;
extern List *apikey_notify_databases(void);
extern void apikey_notify_drop(Oid database);
extern bool apikey_notify_waiting(Oid database);
extern void apikey_notify_send(void);

#endif							/* APIKEY_EVENTS_H */
