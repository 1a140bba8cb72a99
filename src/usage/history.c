/*
 * history.c
 *		The use of keys by hours and days: uses, refusals by code, and what was
 *		spent by unit.
 *
 * Uses are those that the worker flushes.  Refusals and what is spent gather in
 * shared memory, in sets of a few counters; all of a key's are in one set.
 * Where a set is full, what finds no place in it is not told here.  The worker
 * writes a row a key and hour in use.
 *
 * Hours are kept for a while, and then summed to days.  A row's id is made of
 * what it is about, so that it is found by that, and two can never be made.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/shmem.h"

#include "store/store.h"
#include "memory/memory.h"
#include "keys/keys.h"
#include "usage/usage_internal.h"

#define WAYS			8		/* counters in a set */
#define SETS_AT_ONCE	2000	/* looked through in a step */
#define COUNTERS_AT_ONCE	250	/* written in a step */

/* What has gathered of a key: a refusal's code, or what is spent of a unit. */
typedef struct Counter
{
	Oid			database;		/* invalid: free */
	bool		of_unit;
	pg_uuid_t	key;
	char		name[APIKEY_UNIT_MAX + 1];
	int64		count;			/* below 0: more was given back */
} Counter;

typedef struct Set
{
	slock_t		mutex;
	int			used;			/* counters that are not free */
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

static bool
counter_is(const Counter *counter, Oid database, const pg_uuid_t *key,
		   bool of_unit, const char *name)
{
	return counter->database == database && counter->of_unit == of_unit &&
		memcmp(&counter->key, key, sizeof(pg_uuid_t)) == 0 &&
		strcmp(counter->name, name) == 0;
}

/* Adds to a counter; nothing here may fail. */
static void
add(Oid database, const pg_uuid_t *key, bool of_unit, const char *name,
	int64 amount)
{
	Set		   *set = &sets[hash_bytes(key->data, UUID_LEN) % set_count()];
	Counter    *free = NULL;
	Counter    *counter = NULL;

	SpinLockAcquire(&set->mutex);
	for (int i = 0; i < WAYS && counter == NULL; i++)
	{
		if (!OidIsValid(set->counters[i].database))
			free = &set->counters[i];
		else if (counter_is(&set->counters[i], database, key, of_unit, name))
			counter = &set->counters[i];
	}
	if (counter == NULL && free != NULL)
	{
		counter = free;
		counter->database = database;
		counter->of_unit = of_unit;
		counter->key = *key;
		strlcpy(counter->name, name, sizeof(counter->name));
		counter->count = 0;
		set->used++;
	}
	if (counter != NULL)
		counter->count = apikey_credits_sum(counter->count, amount);
	SpinLockRelease(&set->mutex);
}

/* A key was refused. */
void
apikey_history_denied(const pg_uuid_t *key, const char *code)
{
	if (sets != NULL && !apikey_history_off())
		add(MyDatabaseId, key, false, code, 1);
}

/* What a key has spent of a unit, or given back, is final. */
void
apikey_history_spent(Oid database, const pg_uuid_t *key, const char *unit,
					 int64 amount)
{
	if (amount != 0 && sets != NULL && !apikey_history_off())
		add(database, key, true, unit, amount);
}

/* Is there something of a database in a set?  Without a lock. */
static bool
set_has(const Set *set, Oid database)
{
	for (int i = 0; i < WAYS && set->used > 0; i++)
	{
		if (set->counters[i].database == database)
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
			Oid			database = sets[i].counters[way].database;

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
			if (set->counters[way].database == database)
			{
				set->counters[way].database = InvalidOid;
				set->used--;
			}
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
		if (set->counters[i].database == MyDatabaseId)
			counters[count++] = set->counters[i];
	}
	SpinLockRelease(&set->mutex);
	return count;
}

/* What was copied is written: the rest stays. */
static void
subtract(Set *set, const Counter *counters, int count)
{
	SpinLockAcquire(&set->mutex);
	for (int i = 0; i < count; i++)
	{
		for (int way = 0; way < WAYS; way++)
		{
			Counter    *counter = &set->counters[way];

			if (!counter_is(counter, counters[i].database, &counters[i].key,
							counters[i].of_unit, counters[i].name))
				continue;
			counter->count -= counters[i].count;
			if (counter->count == 0)
			{
				counter->database = InvalidOid;
				set->used--;
			}
		}
	}
	SpinLockRelease(&set->mutex);
}

/*
 * Writes what was copied.  A row that somebody has, for another server's report
 * perhaps, is not waited for: the counter stays for the next time.
 */
static void
write_counters(ApikeyWriter *writer, Counter *counters, int count)
{
	for (int i = 0; i < count; i++)
	{
		ApikeyHistoryCount counted = {
			.of_unit = counters[i].of_unit,
			.name = counters[i].name,
			.count = counters[i].count
		};
		List	   *counts = list_make1(&counted);
		ApikeyRow	key;

		/* Of a key that is gone nothing more is told. */
		if (apikey_history_change(writer, &counters[i].key, 0, counts) ||
			!apikey_key_fetch_latest(&counters[i].key, &key))
			continue;
		if (apikey_history_row_held(&key))
			counters[i].count = 0;
		else
			apikey_history_put(&key, 0, counts);
	}
}

/* What was copied out of a set. */
typedef struct Copied
{
	Set		   *set;
	int			count;
	Counter		counters[WAYS];
} Copied;

/*
 * For the worker: writes what has gathered in some of the sets, few enough
 * that others do not wait, in one transaction; true while there may be more.
 */
bool
apikey_history_write(bool first)
{
	static uint32 next = 0;
	Copied	   *copied = palloc(COUNTERS_AT_ONCE * sizeof(Copied));
	int			copies = 0;
	int			counters = 0;

	if (first)
		next = 0;
	for (int i = 0; i < SETS_AT_ONCE && next < set_count() &&
		 counters < COUNTERS_AT_ONCE; i++)
	{
		Set		   *set = &sets[next++];

		if (!set_has(set, MyDatabaseId))
			continue;
		copied[copies].set = set;
		copied[copies].count = copy_counters(set, copied[copies].counters);
		counters += copied[copies].count;
		copies += copied[copies].count > 0;
	}
	if (counters > 0 && apikey_step_begin())
	{
		ApikeyWriter *writer = apikey_table_open(&apikey_history_table);

		for (int i = 0; i < copies; i++)
			write_counters(writer, copied[i].counters, copied[i].count);
		apikey_table_close(writer);
		apikey_step_commit();
	}
	for (int i = 0; i < copies; i++)
		subtract(copied[i].set, copied[i].counters, copied[i].count);
	return next < set_count();
}

/* What a member reports: the batch's lock is held, see batch.c */

static void
move_counter(Set *set, Counter *counter, ApikeyBatch *batch)
{
	ApikeyBatchCount *count = &batch->counts[batch->count_count++];

	count->key = counter->key;
	count->of_unit = counter->of_unit;
	memcpy(count->name, counter->name, sizeof(count->name));
	count->count = counter->count;
	counter->database = InvalidOid;
	set->used--;
}

/* Moves what has gathered of a batch's database into it. */
void
apikey_history_move(ApikeyBatch *batch)
{
	for (uint32 i = 0; i < set_count() &&
		 batch->count_count + WAYS <= APIKEY_BATCH_COUNTS; i++)
	{
		Set		   *set = &sets[i];

		if (!set_has(set, batch->database))
			continue;
		SpinLockAcquire(&set->mutex);
		for (int way = 0; way < WAYS; way++)
		{
			if (set->counters[way].database == batch->database)
				move_counter(set, &set->counters[way], batch);
		}
		SpinLockRelease(&set->mutex);
	}
}

void
apikey_history_move_back(Oid database, const ApikeyBatchCount *count)
{
	add(database, &count->key, count->of_unit, count->name, count->count);
}
