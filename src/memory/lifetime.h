/*
 * lifetime.h
 *		Since when this server has known what was spent of shared rates.
 */
#ifndef APIKEY_LIFETIME_H
#define APIKEY_LIFETIME_H

#include "utils/timestamp.h"

#include "memory/memory.h"

extern const ApikeyMemoryPart apikey_lifetime_memory;

extern void apikey_lifetime_start(bool standby);
extern void apikey_lifetime_goes_on(void);
extern TimestampTz apikey_lifetime_began(void);

#endif							/* APIKEY_LIFETIME_H */
