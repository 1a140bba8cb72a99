/*
 * seed.c
 *		Places in shared memory that nobody can choose.
 *
 * Where something stands in shared memory is computed from what roles know: the
 * ids of keys and limits.  Whoever could compute it, too, would pick the few of
 * its own keys that stand where another's does.  So all hashes are keyed with a
 * random number that each start of the server draws, and nobody is told.  The
 * rounds of multiplication behind are for whoever sees which of its keys meet:
 * from that the first number is not to be found out.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/pg_prng.h"

#include "memory/memory_internal.h"

typedef struct Seed
{
	uint64		first;
	uint64		second;			/* odd, as a factor is that loses nothing */
} Seed;

/* This process's copy, from when it has shared memory. */
static Seed seed;

static Size
memory_size(void)
{
	return sizeof(Seed);
}

/* Without random values it is one that can be guessed: no reason to fail. */
static void
make_seed(Seed *made)
{
	if (!pg_strong_random(made, sizeof(*made)))
	{
		made->first = pg_prng_uint64(&pg_global_prng_state);
		made->second = pg_prng_uint64(&pg_global_prng_state);
	}
	made->second |= 1;
}

static void
start_memory(void)
{
	bool		found;
	Seed	   *shared = apikey_memory_struct("apikey seed", sizeof(Seed), &found);

	if (!found)
		make_seed(shared);
	seed = *shared;
}

/* The first of all parts: others look for places as soon as they start. */
const ApikeyMemoryPart apikey_seed_memory = {
	.size = memory_size,
	.start = start_memory,
	.dynamic = true
};

/* For a place in shared memory; nothing of it may be kept for the next start. */
uint64
apikey_seeded_hash(const void *data, int len)
{
	uint64		hash = hash_bytes_extended(data, len, seed.first);

	hash = (hash ^ (hash >> 32)) * seed.second;
	hash = (hash ^ (hash >> 29)) * seed.second;
	return hash ^ (hash >> 32);
}
