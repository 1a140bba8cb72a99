/*
 * dynamic_internal.h
 *		What the segment of dynamic.c begins with.
 */
#ifndef APIKEY_DYNAMIC_INTERNAL_H
#define APIKEY_DYNAMIC_INTERNAL_H

#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "memory/part.h"
#include "memory/seat.h"

#define APIKEY_DYNAMIC_WORKERS	16	/* at a time, however many are allowed */

/* A worker's seat: see dynamic_worker.c. */
typedef enum ApikeyDynamicState
{
	APIKEY_DYNAMIC_NONE,		/* nobody has it */
	APIKEY_DYNAMIC_STARTING,
	APIKEY_DYNAMIC_CHOOSING,	/* a database */
	APIKEY_DYNAMIC_SERVING		/* one */
} ApikeyDynamicState;

typedef struct ApikeyDynamicSeat
{
	ApikeyDynamicState state;
	uint32		number;			/* of the start; 0: none */
	TimestampTz again_at;		/* STARTING: it is given up */
	pid_t		pid;			/* who has it, or had it last */
	Latch	   *latch;			/* from CHOOSING on */
} ApikeyDynamicSeat;

/* A database with sessions that have the segment, or with something unwritten. */
typedef struct ApikeyDynamicPlace
{
	Oid			database;		/* invalid: free */
	int			sessions;
	bool		dirty;			/* something may be unwritten */
	bool		tried;			/* a worker could not write it */
	bool		refused;		/* the last one did not get there */
	bool		later;			/* one has left: the next comes when it is due */
	bool		reached;		/* its worker is in the database */
	uint32		number;			/* of its worker's start; 0: none */
	TimestampTz due_at;			/* a worker is to serve it, if at all */
	uint64		asked;			/* how often for a flush */
	uint64		done;
	ApikeyRound round;			/* that has begun, by the number of requests */
} ApikeyDynamicPlace;

typedef struct ApikeyDynamic
{
	bool		ready;			/* all of the segment has been made */
	int			tranche;
	LWLockPadded locks[APIKEY_MEMORY_LOCKS];
	LWLockPadded lock;			/* guards what follows, and is taken last */
	uint32		starts;
	TimestampTz again_at;		/* a worker process may be had */
	TimestampTz told_at;		/* the log, that none can be */
	ApikeyDynamicSeat seats[APIKEY_DYNAMIC_WORKERS];
	int			used;			/* places from this number on never were */
	ApikeyDynamicPlace places[FLEXIBLE_ARRAY_MEMBER];
} ApikeyDynamic;

/* dynamic_turn.c */
extern ApikeyDynamic *apikey_dynamic;
extern ApikeyDynamicPlace *apikey_dynamic_place;	/* this process's */
extern void apikey_dynamic_lock(void);
extern void apikey_dynamic_unlock(void);
extern int	apikey_dynamic_bound(void);
extern TimestampTz apikey_dynamic_due_at(const ApikeyDynamicPlace *place,
										 TimestampTz now);
extern bool apikey_dynamic_due(const ApikeyDynamicPlace *place, TimestampTz now);
extern void apikey_dynamic_want(ApikeyDynamicPlace *place, TimestampTz at);
extern TimestampTz apikey_dynamic_next_time(TimestampTz now);
extern ApikeyDynamicPlace *apikey_dynamic_first(TimestampTz now);
extern int	apikey_dynamic_surplus(TimestampTz now, bool due);
extern void apikey_dynamic_vacate(ApikeyDynamicPlace *place);
extern bool apikey_dynamic_may_register(TimestampTz now);
extern uint32 apikey_dynamic_take(ApikeyDynamicSeat *seat, TimestampTz now);
extern bool apikey_dynamic_register(uint32 number, TimestampTz now);

/* dynamic.c */
extern bool apikey_dynamic_map(bool session);

#endif							/* APIKEY_DYNAMIC_INTERNAL_H */
