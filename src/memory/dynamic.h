/*
 * dynamic.h
 *		Shared memory where the library is not preloaded.
 */
#ifndef APIKEY_DYNAMIC_H
#define APIKEY_DYNAMIC_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "memory/part.h"
#include "memory/seat.h"

/* What a worker sees of its database, and of others. */
typedef struct ApikeyDynamicLook
{
	bool		alone;			/* no session is here */
	bool		unwritten;		/* something is to be written */
	bool		asked;			/* somebody waits for it */
	bool		due;			/* its time has come */
	bool		others_wait;	/* whose time has come, and no worker does */
	bool		may_register;	/* a worker process may be had */
	TimestampTz next_at;		/* one of these may change then */
} ApikeyDynamicLook;

/* dynamic_turn.c */
extern void apikey_dynamic_start(void);

/* dynamic.c */
extern const ApikeyMemoryPart apikey_dynamic_memory;
extern bool apikey_dynamic_attach(void);
extern List *apikey_dynamic_databases(void);

/* dynamic_worker.c */
extern void apikey_dynamic_call(void);
extern const char *apikey_dynamic_state(void);
extern void apikey_dynamic_flush(void);
extern Oid	apikey_dynamic_begin(uint32 number);
extern void apikey_dynamic_rest(long timeout);
extern void apikey_dynamic_reached(void);
extern void apikey_dynamic_look(ApikeyDynamicLook *look);
extern ApikeyRound apikey_dynamic_serve(void);
extern void apikey_dynamic_served(const ApikeyRound *round, bool all,
								  bool broken_off, bool left);
extern bool apikey_dynamic_hand_over(void);

#endif							/* APIKEY_DYNAMIC_H */
