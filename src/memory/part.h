/*
 * part.h
 *		The parts of shared memory.
 */
#ifndef APIKEY_PART_H
#define APIKEY_PART_H

#include "nodes/pg_list.h"
#include "storage/lwlock.h"

#define APIKEY_SLOT_PARTITIONS	16

/* The locks of the tranche "apikey", by their numbers. */
typedef enum ApikeyMemoryLock
{
	APIKEY_MEMORY_CONTROL,		/* see slot.h */
	APIKEY_MEMORY_STATS,
	APIKEY_MEMORY_NOTICES,
	APIKEY_MEMORY_REHASH,
	APIKEY_MEMORY_COUNTS,
	APIKEY_MEMORY_VAULT,
	APIKEY_MEMORY_BATCH,
	APIKEY_MEMORY_ASKERS,
	APIKEY_MEMORY_MARKS,
	APIKEY_MEMORY_REVEALS,
	APIKEY_MEMORY_PASSES,
	APIKEY_MEMORY_PARTITIONS,	/* the first of them */
	APIKEY_MEMORY_LOCKS = APIKEY_MEMORY_PARTITIONS + APIKEY_SLOT_PARTITIONS
} ApikeyMemoryLock;

/*
 * One of those who have something in it: a struct of a known size, which is found
 * or made, of zeros, or what it finds or makes itself.
 */
typedef struct ApikeyMemoryPart
{
	const char *name;			/* of its struct; or NULL, then not the next three */
	Size		struct_size;
	void	  **place;			/* what is to point to it */
	void		(*make) (void);	/* what is not zeros, the first time; or NULL */
	Size		(*size) (void);	/* without a struct; or NULL */
	void		(*start) (void);	/* in each process that starts it; or NULL */
	void		(*forget) (Oid database);	/* that is dropped; or NULL */
	void		(*ready) (void);	/* when all is there; or NULL */
	bool		dynamic;		/* also where the library is not preloaded */
} ApikeyMemoryPart;

/* Such a struct, by the variable that is to point to it. */
#define APIKEY_MEMORY_STRUCT(name_, pointer) \
	.name = (name_), \
	.struct_size = sizeof(*(pointer)), \
	.place = (void **) &(pointer)

/* memory.c */
extern int	apikey_memory_keys;
extern void apikey_memory_init(const ApikeyMemoryPart *const *parts,
							   int count);
extern bool apikey_preloaded(void);
extern void *apikey_memory_struct(const char *name, Size size, bool *found);
extern LWLock *apikey_memory_lock(int number);
extern void apikey_memory_forget_database(Oid database);

/* gone.c */
extern void apikey_memory_forget_gone(const List *databases);

#endif							/* APIKEY_PART_H */
