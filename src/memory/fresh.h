/*
 * fresh.h
 *		How fresh what this server has of the primary's tables is.
 */
#ifndef APIKEY_FRESH_H
#define APIKEY_FRESH_H

#include "store/store.h"
#include "memory/part.h"
#include "memory/tick.h"

/* fresh.c */
extern const ApikeyMemoryPart apikey_fresh_memory;
extern void apikey_fresh_as_of(ApikeyTick tick);
extern void apikey_fresh_database_as_of(Oid database, ApikeyTick tick);
extern void apikey_fresh_beat_arrived(int64 number);
extern int64 apikey_fresh_beat_of(Oid database);
extern ApikeyTransactionPart apikey_fresh_transaction;
extern bool apikey_fresh(void);
extern int64 apikey_fresh_age_of(Oid database);

/* Is what is read here too old to decide by?  One comparison where it is off. */
static inline bool
apikey_stale(void)
{
	return apikey_max_staleness > 0 && !apikey_fresh();
}

#endif							/* APIKEY_FRESH_H */
