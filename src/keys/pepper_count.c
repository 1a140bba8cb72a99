/*
 * pepper_count.c
 *		How many keys are keyed with which pepper, without counting each time.
 *
 * Counting reads every digest, so it is not for each look.  Where there are few
 * (SMALL_BLOCKS of them and of imported keys), they are counted, exactly.  Else
 * the last count is told, while it is less than a minute old, or a thousand
 * times as old as counting takes, where that is longer.  With the library
 * preloaded counts are in shared memory, and the worker counts anew in time, in
 * small steps, where somebody has asked within the hour: then nobody who asks
 * waits for it.  On a standby, and without the library preloaded, whoever finds
 * a count too old counts.  apikey_flush() has the worker count.
 *
 * A row that is written anew while the worker is between two steps may count
 * twice or not at all, until the next count.
 *
 * An imported key is keyed with the pepper of its own digest or, until it has
 * been verified, on the one that the imported hash is under.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "keys/keys.h"

#define DATABASES_MAX	64		/* others count at each look */
#define SMALL_BLOCKS	256
#define STEP_BLOCKS		512		/* in a transaction of the worker's */
#define TOLD_FOR		USECS_PER_MINUTE
#define TOLD_TIMES		1000	/* as long as counting took */
#define WANTED_FOR		USECS_PER_HOUR

/* A count that is under way: a step each, of whichever worker. */
typedef struct Going
{
	bool		begun;
	uint64		round;			/* of a flush, in which it began; 0: in none */
	int			table;			/* the next is of this one, */
	BlockNumber from;			/* from this block on */
	int64		took;
	ApikeyPepperCounts counts;
} Going;

/* A database's last count, and the next. */
typedef struct Entry
{
	Oid			database;		/* invalid: free */
	TimestampTz counted_at;		/* 0: never */
	TimestampTz wanted_at;
	int64		took;			/* microseconds */
	ApikeyPepperCounts counts;
	Going		going;
} Entry;

typedef struct Shared
{
	LWLock	   *lock;
	Entry		entries[DATABASES_MAX];
} Shared;

static Shared *shared = NULL;
static Entry own;				/* of this process, where nothing is shared */

static void
make_memory(void)
{
	shared->lock = apikey_memory_lock(APIKEY_MEMORY_COUNTS);
}

/* A database is gone, or our tables in it: there is nothing to be counted. */
static void
forget_database(Oid database)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < DATABASES_MAX; i++)
	{
		if (shared->entries[i].database == database)
			memset(&shared->entries[i], 0, sizeof(Entry));
	}
	LWLockRelease(shared->lock);
}

const ApikeyMemoryPart apikey_pepper_count_memory = {
	APIKEY_MEMORY_STRUCT("apikey pepper counts", shared),
	.make = make_memory,
	.forget = forget_database
};

/* This database's entry; the one asked for the longest ago is given to it. */
static Entry *
find_entry(void)
{
	Entry	   *oldest;

	if (shared == NULL)
		return &own;
	oldest = &shared->entries[0];
	for (int i = 0; i < DATABASES_MAX; i++)
	{
		Entry	   *entry = &shared->entries[i];

		if (entry->database == MyDatabaseId)
			return entry;
		if (entry->wanted_at < oldest->wanted_at)
			oldest = entry;
	}
	memset(oldest, 0, sizeof(Entry));
	oldest->database = MyDatabaseId;
	return oldest;
}

static void
lock_entries(LWLockMode mode)
{
	if (shared != NULL)
		LWLockAcquire(shared->lock, mode);
}

static void
unlock_entries(void)
{
	if (shared != NULL)
		LWLockRelease(shared->lock);
}

/* Is a count told no longer?  The clock may have been set back. */
static bool
too_old(const Entry *entry, TimestampTz now, int part)
{
	int64		told_for = Max(TOLD_FOR, TOLD_TIMES * entry->took) / part;

	return entry->counted_at == 0 || now < entry->counted_at ||
		now >= entry->counted_at + told_for;
}

static void
add(ApikeyPepperCounts *counts, int32 pepper)
{
	for (int i = 0; i < counts->count; i++)
	{
		if (counts->peppers[i].fingerprint == pepper)
		{
			counts->peppers[i].keys++;
			return;
		}
	}
	if (counts->count == APIKEY_PEPPERS_COUNTED)
	{
		counts->others++;
		return;
	}
	counts->peppers[counts->count].fingerprint = pepper;
	counts->peppers[counts->count++].keys = 1;
}

/* Adds a row's pepper: of the first of these columns that is not null. */
static void
add_row(ApikeyPepperCounts *counts, HeapTuple tuple, TupleDesc desc,
		const int *columns, int column_count)
{
	for (int i = 0; i < column_count; i++)
	{
		bool		isnull;
		Datum		pepper = heap_getattr(tuple, columns[i] + 1, desc, &isnull);

		if (!isnull)
		{
			add(counts, DatumGetInt32(pepper));
			return;
		}
	}
}

/* A table that is being counted, and where its peppers are. */
typedef struct Counted
{
	const ApikeyTable *table;
	int			columns[2];
	int			column_count;
} Counted;

static const Counted tables[] = {
	{&apikey_digest_table, {APIKEY_DIGEST_PEPPER}, 1},
	{&apikey_import_table, {APIKEY_IMPORT_PEPPER, APIKEY_IMPORT_FOREIGN_PEPPER}, 2}
};

/* Counts some blocks of a table; false where that was its end. */
static bool
count_blocks(ApikeyPepperCounts *counts, const Counted *counted,
			 BlockNumber from, BlockNumber most)
{
	Relation	rel = apikey_table_relation(counted->table, AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);
	Snapshot	snapshot = apikey_latest_snapshot();
	TableScanDesc scan;
	HeapTuple	tuple;

	if (from < blocks)
	{
		/* Not where another scan is: a part of the table. */
		scan = table_beginscan_strat(rel, snapshot, 0, NULL, true, false);
		heap_setscanlimits(scan, from, Min(most, blocks - from));
		while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		{
			CHECK_FOR_INTERRUPTS();
			add_row(counts, tuple, RelationGetDescr(rel), counted->columns,
					counted->column_count);
		}
		table_endscan(scan);
	}
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return from < blocks && most < blocks - from;
}

/* Are there so few that counting is as good as telling? */
static bool
are_few(void)
{
	BlockNumber blocks = 0;

	for (size_t i = 0; i < lengthof(tables); i++)
	{
		Relation	rel = apikey_table_relation(tables[i].table, AccessShareLock);

		blocks += RelationGetNumberOfBlocks(rel);
		table_close(rel, AccessShareLock);
	}
	return blocks <= SMALL_BLOCKS;
}

static void
keep(const ApikeyPepperCounts *counts, int64 took)
{
	Entry	   *entry;

	lock_entries(LW_EXCLUSIVE);
	entry = find_entry();
	entry->counts = *counts;
	entry->took = took;
	entry->counted_at = GetCurrentTimestamp();
	entry->going.begun = false;
	unlock_entries();
}

/* Counts all, for who asks. */
static void
count_all(ApikeyPepperCounts *counts)
{
	memset(counts, 0, sizeof(*counts));
	for (size_t i = 0; i < lengthof(tables); i++)
		(void) count_blocks(counts, &tables[i], 0, MaxBlockNumber);
}

/*
 * Tells how many keys are keyed with which pepper; false where that is not
 * known and would have to be counted, and the caller would rather not.
 */
bool
apikey_pepper_count(ApikeyPepperCounts *counts, bool at_any_cost)
{
	TimestampTz now = GetCurrentTimestamp();
	Entry	   *entry;
	bool		old;

	if (are_few())
	{
		count_all(counts);
		return true;
	}
	lock_entries(LW_EXCLUSIVE);
	entry = find_entry();
	entry->wanted_at = now;
	old = too_old(entry, now, 1);
	*counts = entry->counts;
	unlock_entries();
	if (!old || !at_any_cost)
		return !old;
	count_all(counts);
	keep(counts, GetCurrentTimestamp() - now);
	return true;
}

/* Is the worker to count for an entry? */
static bool
due(const Entry *entry, TimestampTz now)
{
	return OidIsValid(entry->database) && now < entry->wanted_at + WANTED_FOR &&
		too_old(entry, now, 2);
}

/* The databases where it is. */
List *
apikey_pepper_count_databases(void)
{
	TimestampTz now = GetCurrentTimestamp();
	List	   *databases = NIL;

	lock_entries(LW_SHARED);
	for (int i = 0; i < DATABASES_MAX; i++)
	{
		if (due(&shared->entries[i], now))
			databases = lappend_oid(databases, shared->entries[i].database);
	}
	unlock_entries();
	return databases;
}

/* This database's entry, if it has one. */
static Entry *
own_entry(void)
{
	for (int i = 0; i < DATABASES_MAX; i++)
	{
		if (shared->entries[i].database == MyDatabaseId)
			return &shared->entries[i];
	}
	return NULL;
}

/*
 * Takes up the count that is under way, or begins one where it is time, or where
 * a round of a flush waits for one and there has been one before; false for none.
 */
static bool
take_up(Going *going, uint64 round)
{
	Entry	   *entry;

	lock_entries(LW_EXCLUSIVE);
	entry = own_entry();
	going->begun = false;
	if (entry != NULL &&
		(!entry->going.begun || (round != 0 && entry->going.round != round)))
	{
		memset(&entry->going, 0, sizeof(entry->going));
		entry->going.round = round;
		entry->going.begun = due(entry, GetCurrentTimestamp()) ||
			(round != 0 && entry->counted_at != 0);
	}
	if (entry != NULL)
		*going = entry->going;
	unlock_entries();
	return going->begun;
}

/* Puts it down until its next step. */
static void
put_down(const Going *going)
{
	Entry	   *entry;

	lock_entries(LW_EXCLUSIVE);
	entry = own_entry();
	if (entry != NULL)
		entry->going = *going;
	unlock_entries();
}

/*
 * For the worker: counts a part, where it is time, or what has been counted
 * before is to be counted anew for a round of a flush; true while there is more.
 */
bool
apikey_pepper_count_step(uint64 round)
{
	TimestampTz begun = GetCurrentTimestamp();
	Going		going;

	if (!take_up(&going, round) || !apikey_step_begin())
		return false;
	if (count_blocks(&going.counts, &tables[going.table], going.from, STEP_BLOCKS))
		going.from += STEP_BLOCKS;
	else
	{
		going.table++;
		going.from = 0;
	}
	apikey_step_commit();
	going.took += Max(GetCurrentTimestamp() - begun, 0);
	if (going.table == (int) lengthof(tables))
		keep(&going.counts, going.took);
	else
		put_down(&going);
	return going.table < (int) lengthof(tables);
}
