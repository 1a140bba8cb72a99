/*
 * pepper_count.h
 *		How many keys are keyed with which pepper.
 */
#ifndef APIKEY_PEPPER_COUNT_H
#define APIKEY_PEPPER_COUNT_H

#include "nodes/pg_list.h"

#include "memory/memory.h"

#define APIKEY_PEPPERS_COUNTED	64

typedef struct ApikeyPepperCounts
{
	int			count;
	int64		others;			/* keys of more peppers than these */
	struct
	{
		int32		fingerprint;
		int64		keys;
	}			peppers[APIKEY_PEPPERS_COUNTED];
} ApikeyPepperCounts;

/* pepper_count.c */
extern const ApikeyMemoryPart apikey_pepper_count_memory;
extern bool apikey_pepper_count(ApikeyPepperCounts *counts, bool at_any_cost);
extern List *apikey_pepper_count_databases(void);
extern bool apikey_pepper_count_step(uint64 round);

#endif							/* APIKEY_PEPPER_COUNT_H */
