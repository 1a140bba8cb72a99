/*
 * verdicts.c
 *		How often each verdict was given, counted by each process for itself.
 *
 * A counter that all processes write is a line of the processor's cache that
 * they take from one another.  So each process has lines of its own, by its
 * number, and nobody else adds to them.  What it has counted stays there when it
 * ends, however that is.  The next of that number adds to it; or, where it counts
 * to another total, carries it to the first one before.  What is told is a total
 * with what stands in all lines that belong to it.
 *
 * The lock, which the caller names, guards whose the lines are.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"

#include "compat.h"
#include "memory/memory_internal.h"

typedef union ProcessVerdicts
{
	struct
	{
		int64		total;		/* what it adds to, from here; 0: nothing */
		pg_atomic_uint64 codes[APIKEY_VERDICTS];
	};
	char		lines[2 * PG_CACHE_LINE_SIZE];
} ProcessVerdicts;

static ProcessVerdicts *processes = NULL;

static Size
memory_size(void)
{
	return mul_size(MaxBackends, sizeof(ProcessVerdicts));
}

static void
start_memory(void)
{
	bool		found;

	processes = apikey_memory_struct("apikey verdicts", memory_size(), &found);
	if (found)
		return;
	for (int i = 0; i < MaxBackends; i++)
	{
		processes[i].total = 0;
		for (int code = 0; code < APIKEY_VERDICTS; code++)
			pg_atomic_init_u64(&processes[i].codes[code], 0);
	}
}

const ApikeyMemoryPart apikey_verdicts_memory = {
	.size = memory_size,
	.start = start_memory,
	.dynamic = true
};

/* Where a total is: the same for all processes, which an address need not be. */
static int64
place_of(const pg_atomic_uint64 *total)
{
	return (const char *) total - (const char *) processes;
}

/* What this process counts is part of a total from now on. */
static void
count_to(ProcessVerdicts *process, pg_atomic_uint64 *total, LWLock *lock)
{
	LWLockAcquire(lock, LW_EXCLUSIVE);
	for (int code = 0; code < APIKEY_VERDICTS; code++)
	{
		if (process->total != 0)
			pg_atomic_fetch_add_u64((pg_atomic_uint64 *) ((char *) processes + process->total) + code,
									pg_atomic_read_u64(&process->codes[code]));
		pg_atomic_write_u64(&process->codes[code], 0);
	}
	process->total = place_of(total);
	LWLockRelease(lock);
}

/* Counts a verdict to a total. */
void
apikey_verdicts_count(pg_atomic_uint64 *total, ApikeyCode code, LWLock *lock)
{
	ProcessVerdicts *process = &processes[apikey_process_number()];

	if (process->total != place_of(total))
		count_to(process, total, lock);
	pg_atomic_write_u64(&process->codes[code],
						pg_atomic_read_u64(&process->codes[code]) + 1);
}

/* Reads a total. */
void
apikey_verdicts_read(pg_atomic_uint64 *total, uint64 *codes, LWLock *lock)
{
	LWLockAcquire(lock, LW_SHARED);
	for (int code = 0; code < APIKEY_VERDICTS; code++)
	{
		codes[code] = pg_atomic_read_u64(&total[code]);
		for (int i = 0; i < MaxBackends; i++)
		{
			if (processes[i].total == place_of(total))
				codes[code] += pg_atomic_read_u64(&processes[i].codes[code]);
		}
	}
	LWLockRelease(lock);
}

/* A total begins at 0; its lock is held exclusively. */
void
apikey_verdicts_clear(pg_atomic_uint64 *total)
{
	for (int code = 0; code < APIKEY_VERDICTS; code++)
		pg_atomic_write_u64(&total[code], 0);
	for (int i = 0; i < MaxBackends; i++)
	{
		if (processes[i].total == place_of(total))
			processes[i].total = 0;
	}
}
