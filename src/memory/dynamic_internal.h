/*
 * dynamic_internal.h
 *		What the segment of dynamic.c begins with.
 */
#ifndef APIKEY_DYNAMIC_INTERNAL_H
#define APIKEY_DYNAMIC_INTERNAL_H

#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "memory/part.h"

#define APIKEY_DYNAMIC_DATABASES	64	/* in which something is gathered */

typedef enum ApikeyDynamicState
{
	APIKEY_DYNAMIC_NONE,		/* no worker */
	APIKEY_DYNAMIC_STARTING,
	APIKEY_DYNAMIC_WORKING
} ApikeyDynamicState;

/* A database's sessions that have the segment, and its worker. */
typedef struct ApikeyDynamicPlace
{
	Oid			database;		/* invalid: free */
	int			sessions;
	uint32		changes;		/* how often one came or went */
	ApikeyDynamicState state;
	uint32		number;			/* of the worker's start */
	TimestampTz again_at;		/* another one may be started */
	Latch	   *worker;
	uint64		asked;			/* how often for a flush */
	uint64		done;
} ApikeyDynamicPlace;

typedef struct ApikeyDynamic
{
	bool		ready;			/* all of the segment has been made */
	int			tranche;
	slock_t		mutex;			/* guards what follows */
	uint32		starts;
	ApikeyDynamicPlace places[APIKEY_DYNAMIC_DATABASES];
	LWLockPadded locks[APIKEY_MEMORY_LOCKS];
} ApikeyDynamic;

/* dynamic.c */
extern ApikeyDynamic *apikey_dynamic;
extern ApikeyDynamicPlace *apikey_dynamic_place;	/* this database's */
extern bool apikey_dynamic_map(bool session);
extern void apikey_dynamic_vacate(ApikeyDynamicPlace *place);

#endif							/* APIKEY_DYNAMIC_INTERNAL_H */
