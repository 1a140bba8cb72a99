/*
 * sets.c
 *		Sets of a few entries in shared memory, of which each has a lock.
 *
 * What is counted by key and something else is looked for in one small set
 * under its spinlock, and what finds no room there is lost: see tally.c and
 * history.c.
 */
#include "postgres.h"

#include "storage/spin.h"

#include "memory/memory.h"

Size
apikey_sets_size(uint32 count, Size size)
{
	return mul_size(count, size);
}

/* Makes or finds sets, each of which begins with its lock and has nothing else. */
void *
apikey_sets_start(const char *name, uint32 count, Size size)
{
	bool		found;
	char	   *sets = apikey_memory_struct(name, mul_size(count, size), &found);

	if (found)
		return sets;
	memset(sets, 0, mul_size(count, size));
	for (uint32 i = 0; i < count; i++)
		SpinLockInit((slock_t *) (sets + i * size));
	return sets;
}
