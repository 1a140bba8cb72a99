/*
 * tally.c
 *		What keys have spent of limits, and may give back.
 *
 * A key may give back what it has spent of a limit in its present period, and
 * no more: else whoever shares a limit could refill it.  How much that is
 * stands in shared memory, in sets of a few tallies; all of a key's are in one
 * set.  Where a set is full the tally that is worth least makes way.  A tally
 * that is lost, with that or with the server, gives nothing back.
 *
 * Of a quota or balance a tally is a number, which holds to the period's end.
 * Of a rate, which comes back by itself, it is a time like the limiter's own,
 * when all would be back if nobody else had taken any: what is given back is
 * the rest of that time.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/shmem.h"

#include "store/store.h"
#include "memory/memory.h"
#include "limits/done.h"
#include "limits/limits.h"

#define WAYS		16			/* tallies in a set */

typedef struct Tally
{
	uint64		key;			/* what stands for key and limit; 0: free */
	uint64		limit;
	int64		spent;			/* and not got back; of a rate 0 */
	int64		until;			/* the period's end; of a rate, in the
								 * limiter's units, when all is back */
} Tally;

typedef struct Set
{
	slock_t		mutex;
	Tally		tallies[WAYS];
} Set;

static Set *sets = NULL;

static uint32
set_count(void)
{
	return (uint32) Max(apikey_max_tracked_keys / 8, 16);
}

static Size
memory_size(void)
{
	return apikey_sets_size(set_count(), sizeof(Set));
}

static void
start_memory(void)
{
	sets = apikey_sets_start("apikey tallies", set_count(), sizeof(Set));
}

const ApikeyMemoryPart apikey_tally_memory = {
	.size = memory_size,
	.start = start_memory
};

/* What stands for a key of this database; never 0. */
static uint64
key_tag(const pg_uuid_t *key)
{
	return hash_bytes_extended(key->data, UUID_LEN, MyDatabaseId) | 1;
}

static uint64
limit_tag(const pg_uuid_t *limit)
{
	return hash_bytes_extended(limit->data, UUID_LEN, 0);
}

static Set *
set_of(uint64 key)
{
	return &sets[(uint32) (key >> 32) % set_count()];
}

/* A tally in a locked set; NULL where there is none. */
static Tally *
find_tally(Set *set, uint64 key, uint64 limit)
{
	for (int i = 0; i < WAYS; i++)
	{
		if (set->tallies[i].key == key && set->tallies[i].limit == limit)
			return &set->tallies[i];
	}
	return NULL;
}

/* The same, made where there is none. */
static Tally *
make_tally(Set *set, uint64 key, uint64 limit)
{
	Tally	   *tally = find_tally(set, key, limit);
	Tally	   *least = &set->tallies[0];

	if (tally != NULL)
		return tally;
	for (int i = 0; i < WAYS; i++)
	{
		tally = &set->tallies[i];
		if (tally->key == 0)
		{
			least = tally;
			break;
		}
		if (tally->spent < least->spent)
			least = tally;
	}
	memset(least, 0, sizeof(*least));
	least->key = key;
	least->limit = limit;
	return least;
}

int64
apikey_tally_now(const ApikeyLimitDone *what)
{
	return GetCurrentTimestamp() * (what->of_rate ? APIKEY_LIMITER_UNITS : 1);
}

/* What a tally holds still; of a rate a time. */
static int64
held_by(const Tally *tally, const ApikeyLimitDone *what, int64 now)
{
	if (what->of_rate)
		return Max(tally->until - now, 0);
	return tally->until == what->until ? tally->spent : 0;
}

/* Takes at most so much out of a tally; returns how much. */
int64
apikey_tally_take_out(const ApikeyLimitDone *what, int64 amount)
{
	uint64		key = key_tag(&what->key);
	Set		   *set = set_of(key);
	int64		now = apikey_tally_now(what);
	int64		taken = 0;
	Tally	   *tally;

	SpinLockAcquire(&set->mutex);
	tally = find_tally(set, key, limit_tag(&what->limit));
	if (tally != NULL)
	{
		taken = Min(amount, held_by(tally, what, now));
		if (what->of_rate)
			tally->until -= taken;
		else
			tally->spent -= taken;
	}
	SpinLockRelease(&set->mutex);
	return taken;
}

/* Adds to what a key has spent of a limit; nothing here may fail. */
void
apikey_tally_add(const ApikeyLimitDone *what, int64 amount)
{
	uint64		key = key_tag(&what->key);
	Set		   *set = set_of(key);
	int64		now = apikey_tally_now(what);
	Tally	   *tally;

	if (amount <= 0 || (!what->of_rate && what->until <= now))
		return;
	SpinLockAcquire(&set->mutex);
	tally = make_tally(set, key, limit_tag(&what->limit));
	if (what->of_rate)
		tally->until = Max(tally->until, what->began) + amount;
	else
	{
		tally->spent = apikey_credits_sum(held_by(tally, what, now), amount);
		tally->until = what->until;
	}
	SpinLockRelease(&set->mutex);
}
