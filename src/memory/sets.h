/*
 * sets.h
 *		Sets of a few entries in shared memory, of which each has a lock.
 */
#ifndef APIKEY_SETS_H
#define APIKEY_SETS_H

/* sets.c */
extern Size apikey_sets_size(uint32 count, Size size);
extern void *apikey_sets_start(const char *name, uint32 count, Size size);

#endif							/* APIKEY_SETS_H */
