/*
 * fleet.h
 *		A server that verifies beside the primary: what all processes know of it.
 */
#ifndef APIKEY_FLEET_H
#define APIKEY_FLEET_H

#include "storage/latch.h"

#include "store/store.h"
#include "memory/part.h"
#include "memory/tick.h"

/* What is asked of the server's catalogs; none where somebody keeps us from them. */
typedef enum ApikeyAnswer
{
	APIKEY_ANSWER_NONE,
	APIKEY_ANSWER_NO,
	APIKEY_ANSWER_YES
} ApikeyAnswer;

/* subscription.c */
extern const ApikeyMemoryPart apikey_subscription_memory;
extern bool apikey_subscription_read(bool wait, List **databases);

/* fleet.c: what all processes know of this server's part */
extern const ApikeyMemoryPart apikey_fleet_memory;
extern ApikeyAnswer apikey_fleet_member_now(void);
extern bool apikey_fleet_member(void);
extern bool apikey_fleet_worker_of_member(void);
extern ApikeyAnswer apikey_fleet_arrives(ApikeyRelation table);
extern bool apikey_fleet_limits_elsewhere(void);
extern bool apikey_fleet_connected(Oid database);
extern bool apikey_fleet_wanted(Oid database);
extern void apikey_fleet_tell(Oid database, ApikeyTick until, bool own);
extern void apikey_fleet_fail(Oid database);
extern void apikey_fleet_forget(Oid database);
extern bool apikey_fleet_cut_off(Oid database);
extern void apikey_fleet_wake(void);
extern void apikey_fleet_set_latch(Latch *latch);

#endif							/* APIKEY_FLEET_H */
