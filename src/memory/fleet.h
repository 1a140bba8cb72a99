/*
 * fleet.h
 *		A server that verifies beside the primary: what all processes know of it.
 */
#ifndef APIKEY_FLEET_H
#define APIKEY_FLEET_H

#include "storage/latch.h"

#include "memory/fresh.h"

/* Settings, in apikey.c. */
extern bool apikey_fleet;
extern char *apikey_primary_conninfo;
extern char *apikey_server_name;
extern int	apikey_fleet_interval;
extern int	apikey_fleet_heartbeat;
extern int	apikey_fleet_timeout;

/* fleet.c: what all processes know of this server's part */
extern Size apikey_fleet_size(void);
extern void apikey_fleet_start(void);
extern bool apikey_fleet_member(void);
extern bool apikey_fleet_subscriber(void);
extern bool apikey_fleet_connected(Oid database);
extern void apikey_fleet_tell(Oid database, bool joined, bool own);
extern void apikey_fleet_wake(void);
extern void apikey_fleet_set_latch(Latch *latch);

#endif							/* APIKEY_FLEET_H */
