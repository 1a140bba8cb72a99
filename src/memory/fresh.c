/*
 * fresh.c
 *		How fresh what this server has of the primary's tables is.
 *
 * A member of a fleet is fresh as of a time when all that the primary had
 * committed by then is replayed here: pulse.c finds that out, and keeps the
 * time in a word of shared memory.  Where that is longer ago than
 * apikey.max_staleness, and before it is known at all, nothing is decided by
 * what is read here.  The primary is fresh at all times.
 *
 * The time is this machine's own, since its start: no clock of another is
 * compared with it, and nobody sets it back.
 */
#include "postgres.h"

#include <time.h>

#include "access/xlog.h"
#include "port/atomics.h"
#include "storage/shmem.h"

#include "memory/fresh.h"

/* Where there is one, a clock that goes on while the machine sleeps. */
#ifdef CLOCK_BOOTTIME
#define TICKS	CLOCK_BOOTTIME
#else
#define TICKS	CLOCK_MONOTONIC
#endif

typedef struct Shared
{
	pg_atomic_uint64 as_of;		/* an ApikeyTick */
} Shared;

static Shared *shared = NULL;

Size
apikey_fresh_size(void)
{
	return sizeof(Shared);
}

void
apikey_fresh_start(void)
{
	bool		found;

	shared = ShmemInitStruct("apikey freshness", sizeof(Shared), &found);
	if (!found)
		pg_atomic_init_u64(&shared->as_of, 0);
}

ApikeyTick
apikey_tick(void)
{
	struct timespec now;

	(void) clock_gettime(TICKS, &now);
	return (ApikeyTick) now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000 + 1;
}

/* All that was committed on the primary at that time is here. */
void
apikey_fresh_as_of(ApikeyTick tick)
{
	if (tick > pg_atomic_read_u64(&shared->as_of))
		pg_atomic_write_u64(&shared->as_of, tick);
}

/* How long ago that is, in microseconds; below 0: it is not known. */
int64
apikey_fresh_age(void)
{
	ApikeyTick	as_of;

	if (!RecoveryInProgress())
		return 0;
	if (shared == NULL)
		return -1;
	as_of = pg_atomic_read_u64(&shared->as_of);
	return as_of == 0 ? -1 : (int64) (apikey_tick() - as_of);
}

/* Is it as fresh as it has to be? */
bool
apikey_fresh(void)
{
	int64		age = apikey_fresh_age();

	return age >= 0 && age <= (int64) apikey_max_staleness * 1000;
}
