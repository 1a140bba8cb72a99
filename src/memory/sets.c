/*
 * sets.c
 *		Sets of a few entries in shared memory, of which each has a lock.
 *
 * What is counted by key and something else is looked for in one small set
 * under its spinlock, and what finds no room there is lost: see tally.c and
 * history.c.  In which set that is, nobody can choose: see seed.c.  A full set
 * is shared out as all of memory is: see share.c.  So who has a few entries
 * keeps them, however many another one has.
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

bool
apikey_sets_same(const ApikeySetOwner *one, const ApikeySetOwner *other)
{
	return one->database == other->database && one->role == other->role;
}

/* How many entries are somebody's, or are in somebody's database. */
static int
count_of(const ApikeySetOwner *owners, int count, const ApikeySetOwner *owner,
		 bool whole)
{
	int			result = 0;

	for (int i = 0; i < count; i++)
		result += whole ? owners[i].database == owner->database :
			apikey_sets_same(&owners[i], owner);
	return result;
}

/* Who has the most in a database or, with none, whose database has the most. */
static ApikeySetOwner
greatest(const ApikeySetOwner *owners, int count, Oid database)
{
	bool		whole = !OidIsValid(database);
	ApikeySetOwner result = {0};
	int			most = 0;

	for (int i = 0; i < count; i++)
	{
		int			has = whole || owners[i].database == database ?
			count_of(owners, count, &owners[i], whole) : 0;

		if (has > most)
		{
			most = has;
			result = owners[i];
		}
	}
	return result;
}

/*
 * Who has to give up an entry of a full set to somebody: who has more or, where
 * nobody has, that one itself; no database: nobody has to.
 */
ApikeySetOwner
apikey_sets_giver(const ApikeySetOwner *owners, int count,
				  const ApikeySetOwner *owner)
{
	const ApikeySetOwner nobody = {0};
	ApikeySetOwner most = greatest(owners, count, InvalidOid);

	if (count_of(owners, count, &most, true) >
		count_of(owners, count, owner, true) + 1)
		return greatest(owners, count, most.database);
	most = greatest(owners, count, owner->database);
	if (count_of(owners, count, &most, false) >
		count_of(owners, count, owner, false) + 1)
		return most;
	return count_of(owners, count, owner, false) > 0 ? *owner : nobody;
}
