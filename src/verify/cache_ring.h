/*
 * cache_ring.h
 *		The memory in which entries of cache.c are, and found.
 */
#ifndef APIKEY_CACHE_RING_H
#define APIKEY_CACHE_RING_H

#include "verify/cache_entry.h"

/* Where the number of a line is expected, from which on an entry is. */
#define APIKEY_CACHE_NOWHERE	PG_UINT32_MAX

typedef struct ApikeyCacheRing
{
	uint32	   *buckets;		/* the first in each */
	uint32		bucket_mask;
	char	   *lines;
	uint32		line_count;
	uint32		head;			/* where the next entry goes */
	uint32		tail;			/* the oldest entry */
	uint32		end;			/* where the tail goes back to 0 */
	uint32		count;			/* of entries, found or not */
	uint32		found;			/* of those that are */
	void	   *block;			/* NULL: there is none yet */
	Size		bytes;			/* that it takes of the memory */
	int			memory;			/* the setting it was made by */
} ApikeyCacheRing;

extern ApikeyCacheRing apikey_cache_ring;

static inline ApikeyCacheEntry *
apikey_cache_at(const ApikeyCacheRing *ring, uint32 line)
{
	return (ApikeyCacheEntry *) (ring->lines + (Size) line * APIKEY_CACHE_LINE);
}

static inline uint32 *
apikey_cache_bucket(Oid place)
{
	return &apikey_cache_ring.buckets[place & apikey_cache_ring.bucket_mask];
}

/*
 * Where an entry stands: a key's at its OID, a token's at a part of its proof
 * without the highest bit, which every key's has.  The OID of a relation that
 * changes may be a token's place: then it is looked up anew.
 */
static inline Oid
apikey_cache_place(bool of_token, const pg_uuid_t *id, const uint8 *proof)
{
	Oid			place;

	if (!of_token)
		return apikey_changes_token(id);
	memcpy(&place, proof, sizeof(place));
	return place & 0x7FFFFFFF;
}

extern void apikey_cache_hide(const ApikeyCacheEntry *entry);
extern void apikey_cache_hide_place(Oid place);
extern bool apikey_cache_make_room(const ApikeyCacheEntry *entry);
extern void apikey_cache_put(const ApikeyCacheEntry *entry);
extern void apikey_cache_reset(void);

#endif							/* APIKEY_CACHE_RING_H */
