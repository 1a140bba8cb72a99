/*
 * cache_ring.c
 *		The memory in which entries of cache.c are, and found.
 *
 * All is in one block, which begins small and grows, a few times at most, up to
 * what apikey.cache_memory says, less what a session remembers of our tables'
 * catalogs; what of it no entry has been in yet takes no memory of the system's,
 * while smaller blocks that were given back would stay the process's: the
 * buckets, which lead to entries by their places, and behind them a ring of
 * entries in the order in which they came.  An entry is copied to the ring's
 * head.  Where there is no room, the oldest one goes, or moves to the head if it
 * has been used since it was the oldest before.
 *
 *		0 .... tail >>>> entries >>>> head .... line_count
 *		0 >>>> head .... tail >>>> entries >>>> end .... line_count
 *
 * An entry that is not to be found any more stays where it is until it is the
 * oldest: whoever holds it may go on reading it until something is stored.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "verify/cache_ring.h"

#define BLOCK_FIRST		(32 * (Size) 1024)
#define BLOCK_GROWTH	16
#define BLOCK_MAX		((Size) 1 << 36)	/* a number of a line is 32 bits */
#define CONTEXT_BYTES	2048	/* a context has so much beside a block */
#define BUCKET_BYTES	240		/* of memory for each bucket */
#define CATALOGS		50		/* this part is for the tables' catalogs: of 8 MB
								 * 164 kB, which is what was measured */
#define NOWHERE			APIKEY_CACHE_NOWHERE

static uint32 no_bucket = NOWHERE;
static const ApikeyCacheRing no_ring = {.buckets = &no_bucket, .end = NOWHERE};

ApikeyCacheRing apikey_cache_ring = {.buckets = &no_bucket, .end = NOWHERE};
static ApikeyCacheRing *const ring = &apikey_cache_ring;
static MemoryContext ring_context = NULL;

static Oid
place_of_entry(const ApikeyCacheEntry *entry)
{
	return apikey_cache_place(entry->of_token, &entry->id, entry->proof);
}

/* The entry that a link leads to is found no more. */
static void
unlink_at(uint32 *link)
{
	ApikeyCacheEntry *entry = apikey_cache_at(ring, *link);

	*link = entry->next;
	entry->found = false;
	ring->found--;
}

/* What leads to an entry that is found. */
static uint32 *
link_to(const ApikeyCacheEntry *entry)
{
	uint32	   *link = apikey_cache_bucket(place_of_entry(entry));

	while (apikey_cache_at(ring, *link) != entry)
		link = &apikey_cache_at(ring, *link)->next;
	return link;
}

/* An entry is found no more. */
void
apikey_cache_hide(const ApikeyCacheEntry *entry)
{
	unlink_at(link_to(entry));
}

/* Nor is any that stands at a place. */
void
apikey_cache_hide_place(Oid place)
{
	uint32	   *link = apikey_cache_bucket(place);

	while (*link != NOWHERE)
	{
		if (place_of_entry(apikey_cache_at(ring, *link)) == place)
			unlink_at(link);
		else
			link = &apikey_cache_at(ring, *link)->next;
	}
}

/* Copies an entry to the head, where there is room for it. */
static ApikeyCacheEntry *
put_at_head(const ApikeyCacheEntry *entry)
{
	uint32		lines = apikey_cache_lines(entry);
	ApikeyCacheEntry *copy = memmove(apikey_cache_at(ring, ring->head), entry,
									 (Size) lines * APIKEY_CACHE_LINE);

	ring->head += lines;
	ring->count++;
	return copy;
}

/* The same of one that is found from now on. */
void
apikey_cache_put(const ApikeyCacheEntry *entry)
{
	uint32		line = ring->head;
	ApikeyCacheEntry *copy = put_at_head(entry);
	uint32	   *bucket = apikey_cache_bucket(place_of_entry(copy));

	copy->found = true;
	copy->next = *bucket;
	*bucket = line;
	ring->found++;
}

/* Memory for so much; NULL where there is none to be had. */
static void *
allocate(Size bytes)
{
	if (ring_context == NULL)
		ring_context = AllocSetContextCreate(TopMemoryContext,
											 "apikey verified keys",
											 ALLOCSET_SMALL_SIZES);
	return MemoryContextAllocExtended(ring_context, bytes,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
}

/* Begins an empty ring in a block. */
static void
begin_ring(void *block, Size bytes)
{
	Size		buckets = pg_prevpower2_size_t(bytes / BUCKET_BYTES);

	*ring = no_ring;
	ring->block = ring->buckets = block;
	ring->bytes = bytes;
	ring->memory = apikey_cache_memory;
	ring->bucket_mask = buckets - 1;
	memset(ring->buckets, 0xFF, buckets * sizeof(uint32));	/* NOWHERE */
	ring->lines = (char *) TYPEALIGN(APIKEY_CACHE_LINE,
									 ring->buckets + buckets);
	ring->line_count = ((char *) block + bytes - CONTEXT_BYTES - ring->lines) /
		APIKEY_CACHE_LINE;
}

/* Moves what is found to a larger block; false where there is none. */
static bool
grow(void)
{
	ApikeyCacheRing old = *ring;
	Size		memory = (Size) apikey_cache_memory * 1024;
	Size		most = Min(memory - memory / CATALOGS, BLOCK_MAX);
	Size		bytes = Min(Max(BLOCK_FIRST, BLOCK_GROWTH * ring->bytes), most);
	void	   *block;

	if (bytes <= ring->bytes || bytes < 2 * CONTEXT_BYTES)
		return false;
	block = allocate(bytes - CONTEXT_BYTES);
	if (block == NULL)
		return false;
	begin_ring(block, bytes);
	for (uint32 line = old.tail; old.count > 0; old.count--)
	{
		ApikeyCacheEntry *entry;

		if (line == old.end)
			line = 0;
		entry = apikey_cache_at(&old, line);
		if (entry->found)
			apikey_cache_put(entry);
		line += apikey_cache_lines(entry);
	}
	if (old.block != NULL)
		pfree(old.block);
	return true;
}

/* Are so many lines free at the head, which may go back to the beginning? */
static bool
has_lines(uint32 lines)
{
	if (ring->count == 0)
	{
		ring->head = ring->tail = 0;
		ring->end = NOWHERE;
	}
	if (ring->end != NOWHERE)
		return ring->tail - ring->head >= lines;
	if (ring->line_count - ring->head >= lines)
		return true;
	if (ring->tail < lines)
		return false;
	ring->end = ring->head;
	ring->head = 0;
	return true;
}

/* The oldest entry goes, or moves to the head, which has room for it then. */
static void
pass_oldest(void)
{
	ApikeyCacheEntry *entry = apikey_cache_at(ring, ring->tail);
	uint32	   *link = entry->found ? link_to(entry) : NULL;

	ring->count--;
	ring->tail += apikey_cache_lines(entry);
	if (ring->tail == ring->end)
	{
		ring->tail = 0;
		ring->end = NOWHERE;
	}
	if (link == NULL)
		return;
	if (!entry->used || !has_lines(apikey_cache_lines(entry)))
	{
		unlink_at(link);
		return;
	}
	entry->used = false;
	*link = ring->head;
	put_at_head(entry);
}

/* Forgets all. */
void
apikey_cache_reset(void)
{
	if (ring->block != NULL)
		pfree(ring->block);
	*ring = no_ring;
}

/* Makes room for an entry; false where there can be none. */
bool
apikey_cache_make_room(const ApikeyCacheEntry *entry)
{
	uint32		lines = apikey_cache_lines(entry);

	if (ring->memory != apikey_cache_memory)
		apikey_cache_reset();
	while (lines > ring->line_count)
	{
		if (!grow())
			return false;
	}
	while (ring->found >= (uint32) apikey_cache_entries || !has_lines(lines))
	{
		if (ring->found >= (uint32) apikey_cache_entries || !grow())
			pass_oldest();
	}
	return true;
}
