/*
 * seed.h
 *		Places in shared memory that nobody can choose.
 */
#ifndef APIKEY_SEED_H
#define APIKEY_SEED_H

#include "memory/part.h"

/* seed.c */
extern const ApikeyMemoryPart apikey_seed_memory;
extern uint64 apikey_seeded_hash(const void *data, int len);

#endif							/* APIKEY_SEED_H */
