/*
 * history.c
 *		The use of keys by hours and days: uses, refusals by code, and what was
 *		spent by unit.
 *
 * Uses are those that the worker flushes.  Refusals and what is spent gather in
 * shared memory, in sets of a few counters; all of a key's are in one set.
 * Where a set is full, what finds no place in it is not told here, nor is what
 * has to give its place to who has fewer.  The worker writes a row a key and
 * hour in use.
 *
 * Hours are kept for a while, and then summed to days.  A row's id is made of
 * what it is about, so that it is found by that, and two can never be made.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "store/store.h"
#include "memory/memory.h"
#include "keys/keys.h"
#include "usage/usage_internal.h"

#define WAYS			8		/* counters in a set */
#define SETS_AT_ONCE	2000	/* looked through in a step */

/* What has gathered of a key: a refusal's code, or what is spent of a unit. */
typedef struct Counter
{
	bool		of_unit;
	pg_uuid_t	key;
	uint32		number;			/* of its making, in the set */
	char		name[APIKEY_UNIT_MAX + 1];
	int64		count;			/* below 0: more was given back */
} Counter;

typedef struct Set
{
	slock_t		mutex;
	int			used;			/* counters that are not free */
	uint32		made;			/* as often one was */
	ApikeySetOwner owners[WAYS];	/* of the counters, by their places */
	Counter		counters[WAYS];
} Set;

static Set *sets = NULL;

static uint32
set_count(void)
{
	return (uint32) Max(apikey_memory_keys / 16, 16);
}

static Size
memory_size(void)
{
	return apikey_sets_size(set_count(), sizeof(Set));
}

static void
start_memory(void)
{
	sets = apikey_sets_start("apikey history", set_count(), sizeof(Set));
}

const ApikeyMemoryPart apikey_history_memory = {
	.size = memory_size,
	.start = start_memory,
	.forget = apikey_history_drop,
	.dynamic = true
};

/* Frees a counter of a locked set. */
static void
free_counter(Set *set, int way)
{
	set->owners[way].database = InvalidOid;
	set->used--;
}

/* Where a key's counter is in a locked set; -1: nowhere. */
static int
find_counter(const Set *set, Oid database, const pg_uuid_t *key, bool of_unit,
			 const char *name)
{
	for (int i = 0; i < WAYS; i++)
	{
		const Counter *counter = &set->counters[i];

		if (set->owners[i].database == database &&
			counter->of_unit == of_unit &&
			memcmp(&counter->key, key, sizeof(pg_uuid_t)) == 0 &&
			strcmp(counter->name, name) == 0)
			return i;
	}
	return -1;
}

/* Where a set has room for another counter of somebody; -1: nowhere. */
static int
find_room(const Set *set, const ApikeySetOwner *owner)
{
	ApikeySetOwner giver;
	int			least = -1;

	for (int i = 0; i < WAYS; i++)
	{
		if (!OidIsValid(set->owners[i].database))
			return i;
	}
	giver = apikey_sets_giver(set->owners, WAYS, owner);
	if (apikey_sets_same(&giver, owner))
		return -1;
	for (int i = 0; i < WAYS; i++)
	{
		if (apikey_sets_same(&set->owners[i], &giver) &&
			(least < 0 || set->counters[i].count < set->counters[least].count))
			least = i;
	}
	return least;
}

/* Makes a counter in a locked set, which has none of that; -1 for no room. */
static int
make_counter(Set *set, const ApikeySetOwner *owner, const pg_uuid_t *key,
			 bool of_unit, const char *name)
{
	int			way = find_room(set, owner);
	Counter    *counter;

	if (way < 0)
		return -1;
	counter = &set->counters[way];
	if (!OidIsValid(set->owners[way].database))
		set->used++;
	set->owners[way] = *owner;
	counter->of_unit = of_unit;
	counter->key = *key;
	counter->number = ++set->made;
	strlcpy(counter->name, name, sizeof(counter->name));
	counter->count = 0;
	return way;
}

/* Adds to a counter of a key, charged to a role; nothing here may fail. */
static void
add(Oid database, Oid role, const pg_uuid_t *key, bool of_unit,
	const char *name, int64 amount)
{
	ApikeySlotKey of_key = {.database = database, .id = *key};
	ApikeySetOwner owner = {.database = database, .role = role};
	Set		   *set = &sets[apikey_seeded_hash(&of_key, sizeof(of_key)) %
							set_count()];
	int			way;

	SpinLockAcquire(&set->mutex);
	way = find_counter(set, database, key, of_unit, name);
	if (way < 0)
		way = make_counter(set, &owner, key, of_unit, name);
	if (way >= 0)
		set->counters[way].count =
			apikey_credits_sum(set->counters[way].count, amount);
	SpinLockRelease(&set->mutex);
}

/* A key that is charged to a role was refused. */
void
apikey_history_denied(const pg_uuid_t *key, Oid role, const char *code)
{
	if (sets != NULL && !apikey_history_off())
		add(MyDatabaseId, role, key, false, code, 1);
}

/* What a key has spent of a unit, or given back, is final. */
void
apikey_history_spent(const pg_uuid_t *key, Oid role, const char *unit,
					 int64 amount)
{
	if (amount != 0 && sets != NULL && !apikey_history_off())
		add(MyDatabaseId, role, key, true, unit, amount);
}

/* Is there something of a database in a set?  Without a lock. */
static bool
set_has(const Set *set, Oid database)
{
	for (int i = 0; i < WAYS && set->used > 0; i++)
	{
		if (set->owners[i].database == database)
			return true;
	}
	return false;
}

/* Has a database something to write? */
bool
apikey_history_waits(Oid database)
{
	for (uint32 i = 0; i < set_count(); i++)
	{
		if (set_has(&sets[i], database))
			return true;
	}
	return false;
}

/* The databases with something to write. */
List *
apikey_history_databases(void)
{
	List	   *databases = NIL;

	for (uint32 i = 0; i < set_count(); i++)
	{
		for (int way = 0; way < WAYS && sets[i].used > 0; way++)
		{
			Oid			database = sets[i].owners[way].database;

			if (OidIsValid(database))
				databases = list_append_unique_oid(databases, database);
		}
	}
	return databases;
}

/* A database is gone. */
void
apikey_history_drop(Oid database)
{
	if (sets == NULL)
		return;
	for (uint32 i = 0; i < set_count(); i++)
	{
		Set		   *set = &sets[i];

		if (!set_has(set, database))
			continue;
		SpinLockAcquire(&set->mutex);
		for (int way = 0; way < WAYS; way++)
		{
			if (set->owners[way].database == database)
				free_counter(set, way);
		}
		SpinLockRelease(&set->mutex);
	}
}

/* Copies out what a set has of this database. */
static int
copy_counters(Set *set, Counter *counters)
{
	int			count = 0;

	SpinLockAcquire(&set->mutex);
	for (int i = 0; i < WAYS; i++)
	{
		if (set->owners[i].database == MyDatabaseId)
			counters[count++] = set->counters[i];
	}
	SpinLockRelease(&set->mutex);
	return count;
}

/*
 * What was copied is written: the rest stays, and so does a counter that was made
 * anew meanwhile.
 */
static void
subtract(Set *set, const Counter *counters, int count)
{
	SpinLockAcquire(&set->mutex);
	for (int i = 0; i < count; i++)
	{
		int			way = find_counter(set, MyDatabaseId, &counters[i].key,
									   counters[i].of_unit, counters[i].name);

		if (way < 0 || set->counters[way].number != counters[i].number)
			continue;
		set->counters[way].count -= counters[i].count;
		if (set->counters[way].count == 0)
			free_counter(set, way);
	}
	SpinLockRelease(&set->mutex);
}

/*
 * Writes what was copied.  A row that somebody has, for another server's report
 * perhaps, is not waited for: the counter stays for the next time.
 */
static void
write_counter(void *item, void *state)
{
	Counter    *counter = item;
	ApikeyWriter *writer = state;
	ApikeyHistoryCount counted = {
		.of_unit = counter->of_unit,
		.name = counter->name,
		.count = counter->count
	};
	List	   *counts = list_make1(&counted);
	ApikeyRow	key;
	bool		deleted;

	/* Of a key that is gone nothing more is told. */
	if (counter->count == 0 ||
		!apikey_history_key(&counter->key, &key, &deleted) ||
		apikey_history_change(writer, &key, 0, counts) || deleted)
		return;
	if (apikey_history_row_held(&key))
		counter->count = 0;
	else
		apikey_history_put(&key, 0, counts);
}

static void
write_counters(List *counters, void *state pg_attribute_unused())
{
	ApikeyWriter *writer = apikey_table_open(&apikey_history_table);

	apikey_turns_each(counters, write_counter, writer);
	apikey_table_close(writer);
}

/* What was copied out of a set. */
typedef struct Copied
{
	Set		   *set;
	int			count;
	Counter		counters[WAYS];
} Copied;

/* Writes what was copied out of some sets; what fails stays. */
static void
write_copied(Copied *copied, int copies)
{
	List	   *counters = NIL;
	ListCell   *cell;

	for (int i = 0; i < copies; i++)
	{
		for (int j = 0; j < copied[i].count; j++)
			counters = lappend(counters, &copied[i].counters[j]);
	}
	counters = apikey_attempt_each(write_counters, counters, NULL);
	foreach(cell, counters)
		((Counter *) lfirst(cell))->count = 0;
}

/*
 * For the worker: writes what has gathered in some of the sets, few enough
 * that others do not wait, in one transaction; true while there may be more.
 */
bool
apikey_history_write(int *next)
{
	Copied	   *copied = palloc(APIKEY_STEP_CHANGES * sizeof(Copied));
	int			copies = 0;
	int			counters = 0;

	for (int i = 0; i < SETS_AT_ONCE && (uint32) *next < set_count() &&
		 counters < APIKEY_STEP_CHANGES; i++)
	{
		Set		   *set = &sets[(*next)++];

		if (!set_has(set, MyDatabaseId))
			continue;
		copied[copies].set = set;
		copied[copies].count = copy_counters(set, copied[copies].counters);
		counters += copied[copies].count;
		copies += copied[copies].count > 0;
	}
	if (counters > 0 && apikey_step_begin())
	{
		write_copied(copied, copies);
		apikey_step_commit();
	}
	for (int i = 0; i < copies; i++)
		subtract(copied[i].set, copied[i].counters, copied[i].count);
	return (uint32) *next < set_count();
}

/* What a member reports: the batch's lock is held, see batch.c */

/* Of a counter no more than is told at once; the rest stays. */
static void
move_counter(Set *set, int way, ApikeyBatch *batch)
{
	Counter    *counter = &set->counters[way];
	ApikeyBatchCount *count = &batch->counts[batch->count_count++];

	count->key = counter->key;
	count->role = set->owners[way].role;
	count->of_unit = counter->of_unit;
	memcpy(count->name, counter->name, sizeof(count->name));
	count->count = Max(Min(counter->count, APIKEY_COUNT_MOST), -APIKEY_COUNT_MOST);
	counter->count -= count->count;
	if (counter->count == 0)
		free_counter(set, way);
}

/*
 * Moves what has gathered of a batch's database into it, from a set's number on,
 * which moves to where the next batch has to begin; true while there may be more.
 */
bool
apikey_history_move(ApikeyBatch *batch, uint32 *from)
{
	for (; *from < set_count() &&
		 batch->count_count + WAYS <= APIKEY_BATCH_COUNTS; (*from)++)
	{
		Set		   *set = &sets[*from];

		if (!set_has(set, batch->database))
			continue;
		SpinLockAcquire(&set->mutex);
		for (int way = 0; way < WAYS; way++)
		{
			if (set->owners[way].database == batch->database)
				move_counter(set, way, batch);
		}
		SpinLockRelease(&set->mutex);
	}
	return *from < set_count();
}

void
apikey_history_move_back(Oid database, const ApikeyBatchCount *count)
{
	add(database, count->role, &count->key, count->of_unit, count->name,
		count->count);
}
