/*
 * servers.h
 *		The door of servers/: the other servers that verify, and what is decided by
 *		what all of them have told.
 */
#ifndef APIKEY_SERVERS_H
#define APIKEY_SERVERS_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "servers/lease_grant.h"
#include "servers/report.h"
#include "servers/server.h"

/* server_lease.c */
extern int64 apikey_server_lease_forfeit(const pg_uuid_t *server);
extern char *apikey_server_lease_json(const pg_uuid_t *server);
extern char *apikey_server_own_lease_json(void);

/* idle.c */
extern ApikeyTransactionPart apikey_idle_transaction;
extern void apikey_idle_set(ApikeyRow *project);
extern void apikey_idle_look_soon(void);
extern bool apikey_idle_step(ApikeyPass *pass, TimestampTz *again);

#endif							/* APIKEY_SERVERS_H */
