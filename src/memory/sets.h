/*
 * sets.h
 *		Sets of a few entries in shared memory, of which each has a lock.
 */
#ifndef APIKEY_SETS_H
#define APIKEY_SETS_H

/* Whose an entry is: the role that owns its key; no database: it is free. */
typedef struct ApikeySetOwner
{
	Oid			database;
	Oid			role;
} ApikeySetOwner;

/* sets.c */
extern Size apikey_sets_size(uint32 count, Size size);
extern void *apikey_sets_start(const char *name, uint32 count, Size size);
extern bool apikey_sets_same(const ApikeySetOwner *one,
							 const ApikeySetOwner *other);
extern ApikeySetOwner apikey_sets_giver(const ApikeySetOwner *owners, int count,
										const ApikeySetOwner *owner);

#endif							/* APIKEY_SETS_H */
