/*
 * servers_internal.h
 *		What stays within servers/.
 */
#ifndef APIKEY_SERVERS_INTERNAL_H
#define APIKEY_SERVERS_INTERNAL_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "events/events.h"
#include "servers/servers.h"

/* lease_grant.c */
extern bool apikey_lease_adopt(const ApikeyRow *lease);

/* server.c */
extern void apikey_server_tell(ApikeyEvent event, const ApikeyRow *server);

/* server_join.c */
extern text *apikey_server_free_name(const text *wanted, const pg_uuid_t *id);

/* replicas.c */

/* Are all uses of keys known here? */
typedef enum ApikeyUsesKnown
{
	APIKEY_USES_KNOWN,			/* up to a time */
	APIKEY_USES_UNSEEN,			/* somebody is there who tells of none */
	APIKEY_USES_ELSEWHERE,		/* the keys are a publisher's */
	APIKEY_USES_UNTOLD			/* they may be: that cannot be told now */
} ApikeyUsesKnown;

/* replicas.c */
extern ApikeyUsesKnown apikey_uses_known(TimestampTz *until);

/* idle_due.c */
extern void apikey_idle_take_later(TimestampTz *since, const ApikeyRow *row,
								   int column);
extern TimestampTz apikey_idle_and_max(TimestampTz time,
									   const ApikeyRow *project);
extern TimestampTz apikey_idle_since(const ApikeyRow *project,
									 const ApikeyRow *key,
									 const ApikeyRow *use);
extern void apikey_idle_fetch_use(const pg_uuid_t *key, Snapshot snapshot,
								  ApikeyRow *use);
extern void apikey_idle_fetch_use_latest(const pg_uuid_t *key, ApikeyRow *use);
extern TimestampTz apikey_idle_first_due_at(const ApikeyRow *project,
											TimestampTz since);
extern TimestampTz apikey_idle_none_due_before(const ApikeyRow *project,
											   TimestampTz since);
extern TimestampTz apikey_idle_due_at(const ApikeyRow *project,
									  const ApikeyRow *use, TimestampTz since);
extern TimestampTz apikey_idle_since_with_replaced(const ApikeyRow *project,
												   const ApikeyRow *key,
												   const ApikeyRow *use);

/* idle_setting.c */
extern bool apikey_idle_keep_setting(ApikeyRow *project);
extern int64 apikey_idle_move_wait(const ApikeyRow *project, TimestampTz now);
extern bool apikey_idle_behind(const ApikeyRow *project, TimestampTz time);
extern bool apikey_idle_move_on(ApikeyRow *project, TimestampTz time);

#endif							/* APIKEY_SERVERS_INTERNAL_H */
