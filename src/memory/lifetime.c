/*
 * lifetime.c
 *		Since when this server has known what was spent of shared rates.
 *
 * The primary alone hands out the tokens of a rate that servers share.  What it
 * had handed out before a crash, or the primary before it, is not known: so from
 * then on a shared rate begins with nothing, and fills as it always does.  Only
 * a clean stop of a primary leaves all of it behind, and its next start goes on.
 *
 *		UNKNOWN	a standby: when it is promoted is known when it is asked next,
 *				which is not before
 *		since	a time
 *
 * Of a limit that is made in this lifetime all is known, so its row tells of it,
 * by a number that is drawn by lot: clocks are set back, and those of two servers
 * differ.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "port/atomics.h"
#include "storage/shmem.h"

#include "memory/memory_internal.h"

#define UNKNOWN		PG_INT64_MAX

typedef struct Shared
{
	pg_atomic_uint64 since;
	int64		number;
} Shared;

static Shared *shared = NULL;

static Size
memory_size(void)
{
	return sizeof(Shared);
}

/* Its room; slot_file.c starts it, which knows what server this is. */
const ApikeyMemoryPart apikey_lifetime_memory = {.size = memory_size};

void
apikey_lifetime_start(bool standby)
{
	bool		found;

	shared = ShmemInitStruct("apikey lifetime", sizeof(Shared), &found);
	if (found)
		return;
	pg_atomic_init_u64(&shared->since,
					   standby ? UNKNOWN : (uint64) GetCurrentTimestamp());
	if (!pg_strong_random(&shared->number, sizeof(shared->number)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
}

/* What the file keeps of it. */
void
apikey_lifetime_keep(uint64 *since, int64 *number)
{
	*since = pg_atomic_read_u64(&shared->since);
	*number = shared->number;
}

/*
 * A primary goes on where it was stopped in peace.  One that was promoted and
 * never asked has handed out nothing until now.
 */
void
apikey_lifetime_goes_on(uint64 since, int64 number)
{
	if (since != UNKNOWN)
		pg_atomic_write_u64(&shared->since, since);
	shared->number = number;
}

int64
apikey_lifetime_number(void)
{
	return shared->number;
}

/* For the primary. */
TimestampTz
apikey_lifetime_began(void)
{
	uint64		since = pg_atomic_read_u64(&shared->since);

	if (since != UNKNOWN)
		return (TimestampTz) since;
	if (RecoveryInProgress())
		return DT_NOEND;
	/* Who is first says when. */
	if (pg_atomic_compare_exchange_u64(&shared->since, &since,
									   (uint64) GetCurrentTimestamp()))
		since = pg_atomic_read_u64(&shared->since);
	return (TimestampTz) since;
}
