/*
 * lifetime.h
 *		Since when this server has known what was spent of shared rates.
 */
#ifndef APIKEY_LIFETIME_H
#define APIKEY_LIFETIME_H

#include "utils/timestamp.h"

#include "memory/part.h"

/* lifetime.c */
extern const ApikeyMemoryPart apikey_lifetime_memory;
extern TimestampTz apikey_lifetime_began(void);
extern int64 apikey_lifetime_number(void);

#endif							/* APIKEY_LIFETIME_H */
