/*
 * usage.c
 *		Counts and last use of keys, gathered in shared memory.
 *
 * With the library preloaded, each key that is verified has a slot, found by a
 * hash table keyed by database and key.  A slot's counters are atomic, so that
 * the hot path takes its partition's lock shared only.
 *
 * Locks: a slot's key and the hash table's entry change under the exclusive
 * lock of the key's partition; "control" guards the stack of free slots and is
 * taken last.  A slot that has something to flush, or whose limiter has not all
 * back, is never reused; where no slot can be, a use is counted as not
 * attributed and a limit cannot be held.
 *
 * At a clean shutdown the postmaster writes all slots to a file, which the
 * next start reads and removes, as pg_stat_statements does.
 */
#include "postgres.h"

#include <sys/socket.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "usage.h"

#define PARTITIONS		16
#define DATABASES_MAX	1024	/* more are counted together */
#define VICTIMS_MAX		1024	/* slots looked at to make room for a key */
#define DUMP_FILE		PGSTAT_STAT_PERMANENT_DIRECTORY "/apikey.stat"
#define DUMP_MAGIC		0x41504B31	/* "APK1" */

typedef struct SlotKey
{
	Oid			database;
	pg_uuid_t	id;
} SlotKey;

typedef struct SlotEntry
{
	SlotKey		key;			/* hash key */
	int			slot;
} SlotEntry;

typedef struct Slot
{
	SlotKey		key;
	bool		used;
	pg_atomic_uint64 uses;
	pg_atomic_uint64 denials;
	pg_atomic_uint64 last_used_at;
	pg_atomic_uint64 arrival;	/* the limiter's state: see limiter.c */
	slock_t		mutex;			/* guards the address */
	bool		has_addr;
	inet_struct addr;
} Slot;

/* What is told of a database by the view apikey_stats. */
typedef struct DatabaseStats
{
	Oid			database;		/* hash key */
	pg_atomic_uint64 codes[APIKEY_CODE_VALID + 1];
	pg_atomic_uint64 evictions;
	pg_atomic_uint64 not_attributed;
	pg_atomic_uint64 last_flush_at;
} DatabaseStats;

typedef struct Shared
{
	LWLock	   *control;
	LWLockPadded *partitions;
	TimestampTz since;
	pg_atomic_uint32 clock;		/* where the next search for a victim begins */
	int			free_count;
	int			free[FLEXIBLE_ARRAY_MEMBER];	/* stack of free slots */
} Shared;

static Shared *shared = NULL;
static Slot *slots = NULL;
static HTAB *slot_table = NULL;
static HTAB *stats_table = NULL;
static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

/* Has the library been preloaded, so that there is shared memory? */
bool
apikey_usage_shared(void)
{
	return shared != NULL;
}

static Size
shared_size(void)
{
	return add_size(offsetof(Shared, free),
					mul_size(apikey_max_tracked_keys, sizeof(int)));
}

static void
request_memory(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(shared_size());
	RequestAddinShmemSpace(mul_size(apikey_max_tracked_keys, sizeof(Slot)));
	RequestAddinShmemSpace(hash_estimate_size(apikey_max_tracked_keys,
											  sizeof(SlotEntry)));
	RequestAddinShmemSpace(hash_estimate_size(DATABASES_MAX,
											  sizeof(DatabaseStats)));
	RequestNamedLWLockTranche("apikey", PARTITIONS + 1);
}

static LWLock *
partition_lock(uint32 hash)
{
	return &shared->partitions[hash % PARTITIONS].lock;
}

static void
init_slot(Slot *slot)
{
	pg_atomic_init_u64(&slot->uses, 0);
	pg_atomic_init_u64(&slot->denials, 0);
	pg_atomic_init_u64(&slot->last_used_at, 0);
	pg_atomic_init_u64(&slot->arrival, 0);
	SpinLockInit(&slot->mutex);
	slot->has_addr = false;
	slot->used = false;
}

/* Is there nothing to flush? */
static bool
slot_flushed(Slot *slot)
{
	return pg_atomic_read_u64(&slot->uses) == 0 &&
		pg_atomic_read_u64(&slot->denials) == 0;
}

/* Is nothing lost with the slot: is it flushed, and has all come back? */
static bool
slot_at_rest(Slot *slot)
{
	return slot_flushed(slot) &&
		(int64) pg_atomic_read_u64(&slot->arrival) <=
		GetCurrentTimestamp() * APIKEY_LIMITER_UNITS;
}

/* The statistics of a database; of the entry for all others beyond a number. */
static DatabaseStats *
database_stats(Oid database)
{
	DatabaseStats *stats;
	bool		found;

	LWLockAcquire(shared->control, LW_SHARED);
	stats = hash_search(stats_table, &database, HASH_FIND, NULL);
	LWLockRelease(shared->control);
	if (stats != NULL)
		return stats;

	LWLockAcquire(shared->control, LW_EXCLUSIVE);
	if (hash_get_num_entries(stats_table) >= DATABASES_MAX - 1)
		database = InvalidOid;
	stats = hash_search(stats_table, &database, HASH_ENTER, &found);
	if (!found)
	{
		for (int i = 0; i <= APIKEY_CODE_VALID; i++)
			pg_atomic_init_u64(&stats->codes[i], 0);
		pg_atomic_init_u64(&stats->evictions, 0);
		pg_atomic_init_u64(&stats->not_attributed, 0);
		pg_atomic_init_u64(&stats->last_flush_at, 0);
	}
	LWLockRelease(shared->control);
	return stats;
}

static DatabaseStats *
my_stats(void)
{
	static DatabaseStats *mine = NULL;

	if (mine == NULL)
		mine = database_stats(MyDatabaseId);
	return mine;
}

/* Takes a slot from the stack; -1 where none is free. */
static int
pop_free_slot(void)
{
	int			slot = -1;

	LWLockAcquire(shared->control, LW_EXCLUSIVE);
	if (shared->free_count > 0)
		slot = shared->free[--shared->free_count];
	LWLockRelease(shared->control);
	return slot;
}

static void
push_free_slot(int slot)
{
	LWLockAcquire(shared->control, LW_EXCLUSIVE);
	shared->free[shared->free_count++] = slot;
	LWLockRelease(shared->control);
}

/* Frees a slot if it still is that key's and has nothing to flush. */
static bool
evict_slot(int number, const SlotKey *key, bool even_unflushed)
{
	Slot	   *slot = &slots[number];
	uint32		hash = get_hash_value(slot_table, key);
	bool		evicted = false;

	LWLockAcquire(partition_lock(hash), LW_EXCLUSIVE);
	if (slot->used && memcmp(&slot->key, key, sizeof(SlotKey)) == 0 &&
		(even_unflushed || slot_at_rest(slot)))
	{
		hash_search_with_hash_value(slot_table, key, hash, HASH_REMOVE, NULL);
		init_slot(slot);
		evicted = true;
	}
	LWLockRelease(partition_lock(hash));
	if (evicted)
		push_free_slot(number);
	return evicted;
}

/* Frees the next slot that can be, round the clock; gives up after a while. */
static bool
evict_some_slot(void)
{
	for (int i = 0; i < Min(apikey_max_tracked_keys, VICTIMS_MAX); i++)
	{
		int			number = pg_atomic_fetch_add_u32(&shared->clock, 1) %
			apikey_max_tracked_keys;
		SlotKey		key = slots[number].key;

		/* Read without a lock: evict_slot looks again. */
		if (slots[number].used && slot_at_rest(&slots[number]) &&
			evict_slot(number, &key, false))
		{
			pg_atomic_fetch_add_u64(&my_stats()->evictions, 1);
			return true;
		}
	}
	return false;
}

/* Finds a key's slot, its partition locked shared; NULL where it has none. */
static Slot *
find_slot(const SlotKey *key, LWLock **lock)
{
	uint32		hash = get_hash_value(slot_table, key);
	SlotEntry  *entry;

	*lock = partition_lock(hash);
	LWLockAcquire(*lock, LW_SHARED);
	entry = hash_search_with_hash_value(slot_table, key, hash, HASH_FIND, NULL);
	if (entry != NULL)
		return &slots[entry->slot];
	LWLockRelease(*lock);
	return NULL;
}

/* Gives a key a slot; false where there is no room. */
static bool
make_slot(const SlotKey *key)
{
	uint32		hash = get_hash_value(slot_table, key);
	int			number = pop_free_slot();
	SlotEntry  *entry;
	bool		found;

	while (number < 0)
	{
		if (!evict_some_slot())
			return false;
		number = pop_free_slot();
	}

	LWLockAcquire(partition_lock(hash), LW_EXCLUSIVE);
	entry = hash_search_with_hash_value(slot_table, key, hash, HASH_ENTER_NULL,
										&found);
	if (entry != NULL && !found)
	{
		entry->slot = number;
		init_slot(&slots[number]);
		slots[number].key = *key;
		slots[number].used = true;
	}
	LWLockRelease(partition_lock(hash));
	if (entry == NULL || found)
		push_free_slot(number);
	return entry != NULL;
}

static void
note_use(Slot *slot, inet *client_addr, TimestampTz now)
{
	pg_atomic_fetch_add_u64(&slot->uses, 1);
	pg_atomic_write_u64(&slot->last_used_at, (uint64) now);
	if (client_addr != NULL)
	{
		SpinLockAcquire(&slot->mutex);
		memcpy(&slot->addr, VARDATA_ANY(client_addr),
			   VARSIZE_ANY_EXHDR(client_addr));
		slot->has_addr = true;
		SpinLockRelease(&slot->mutex);
	}
}

/*
 * Counts a verdict: for the database and, where the secret matched (id is
 * given), for the key.  A valid verification that spends nothing is not
 * counted as a use.
 */
void
apikey_usage_note(ApikeyCode code, const pg_uuid_t *id, inet *client_addr,
				  bool counts, TimestampTz now)
{
	SlotKey		key;
	LWLock	   *lock;
	Slot	   *slot;

	if (shared == NULL)
		return;
	pg_atomic_fetch_add_u64(&my_stats()->codes[code], 1);
	if (id == NULL || (code == APIKEY_CODE_VALID && !counts))
		return;

	key.database = MyDatabaseId;
	key.id = *id;
	while ((slot = find_slot(&key, &lock)) == NULL)
	{
		if (!make_slot(&key))
		{
			pg_atomic_fetch_add_u64(&my_stats()->not_attributed, 1);
			return;
		}
	}
	if (code == APIKEY_CODE_VALID)
		note_use(slot, client_addr, now);
	else
		pg_atomic_fetch_add_u64(&slot->denials, 1);
	LWLockRelease(lock);
}

/*
 * Spends of a key's limit, where it can be: not without shared memory, and not
 * where there is no room for another key.
 */
ApikeyLimitVerdict
apikey_usage_limit(const pg_uuid_t *id, const ApikeyLimit *limit, int32 cost,
				   TimestampTz now, ApikeyLimitState *state)
{
	SlotKey		key;
	LWLock	   *lock;
	Slot	   *slot;
	bool		passed;

	if (shared == NULL)
		return APIKEY_LIMIT_UNAVAILABLE;
	key.database = MyDatabaseId;
	key.id = *id;
	while ((slot = find_slot(&key, &lock)) == NULL)
	{
		if (!make_slot(&key))
			return APIKEY_LIMIT_UNAVAILABLE;
	}
	passed = apikey_limiter_take(&slot->arrival, limit,
								 now * APIKEY_LIMITER_UNITS, cost, state);
	LWLockRelease(lock);
	return passed ? APIKEY_LIMIT_PASSED : APIKEY_LIMIT_REACHED;
}

static void
read_slot(Slot *slot, ApikeyUse *use)
{
	use->database = slot->key.database;
	use->id = slot->key.id;
	use->uses = pg_atomic_read_u64(&slot->uses);
	use->denials = pg_atomic_read_u64(&slot->denials);
	use->last_used_at = (TimestampTz) pg_atomic_read_u64(&slot->last_used_at);
	use->arrival = pg_atomic_read_u64(&slot->arrival);
	SpinLockAcquire(&slot->mutex);
	use->has_addr = slot->has_addr;
	use->addr = slot->addr;
	SpinLockRelease(&slot->mutex);
}

/* The address of a last use as an inet. */
Datum
apikey_usage_addr(const ApikeyUse *use)
{
	inet	   *addr = palloc0(sizeof(inet));

	addr->inet_data = use->addr;
	SET_INET_VARSIZE(addr);
	return InetPGetDatum(addr);
}

/* What a key of this database has that is not flushed; false for nothing. */
bool
apikey_usage_pending(const pg_uuid_t *id, ApikeyUse *use)
{
	SlotKey		key;
	LWLock	   *lock;
	Slot	   *slot;

	if (shared == NULL)
		return false;
	key.database = MyDatabaseId;
	key.id = *id;
	slot = find_slot(&key, &lock);
	if (slot == NULL)
		return false;
	read_slot(slot, use);
	LWLockRelease(lock);
	return true;
}

/* The slots that have something to flush, of one database or, with 0, all. */
List *
apikey_usage_collect(Oid database)
{
	List	   *uses = NIL;

	for (int i = 0; i < apikey_max_tracked_keys; i++)
	{
		SlotKey		key = slots[i].key;
		ApikeyUse  *use;
		LWLock	   *lock;
		Slot	   *slot;

		CHECK_FOR_INTERRUPTS();
		if (!slots[i].used || slot_flushed(&slots[i]) ||
			(OidIsValid(database) && key.database != database))
			continue;
		slot = find_slot(&key, &lock);
		if (slot == NULL)
			continue;
		use = palloc(sizeof(ApikeyUse));
		read_slot(slot, use);
		LWLockRelease(lock);
		uses = lappend(uses, use);
	}
	return uses;
}

/* The databases with something to flush. */
List *
apikey_usage_databases(void)
{
	List	   *databases = NIL;

	for (int i = 0; i < apikey_max_tracked_keys; i++)
	{
		if (slots[i].used && !slot_flushed(&slots[i]))
			databases = list_append_unique_oid(databases,
											   slots[i].key.database);
	}
	return databases;
}

/* What has been collected is in the tables now, committed. */
void
apikey_usage_flushed(const List *uses)
{
	ListCell   *cell;

	foreach(cell, uses)
	{
		ApikeyUse  *use = lfirst(cell);
		SlotKey		key = {.database = use->database, .id = use->id};
		LWLock	   *lock;
		Slot	   *slot = find_slot(&key, &lock);

		if (slot == NULL)
			continue;
		pg_atomic_fetch_sub_u64(&slot->uses, use->uses);
		pg_atomic_fetch_sub_u64(&slot->denials, use->denials);
		LWLockRelease(lock);
	}
	pg_atomic_write_u64(&my_stats()->last_flush_at,
						(uint64) GetCurrentTimestamp());
}

/* What is told of the current database; false where nothing is counted. */
bool
apikey_usage_stats(ApikeyStats *result)
{
	DatabaseStats *stats;

	memset(result, 0, sizeof(*result));
	if (shared == NULL)
		return false;
	stats = my_stats();
	result->since = shared->since;
	for (int i = 0; i <= APIKEY_CODE_VALID; i++)
		result->codes[i] = pg_atomic_read_u64(&stats->codes[i]);
	for (int i = 0; i < apikey_max_tracked_keys; i++)
	{
		if (slots[i].used && slots[i].key.database == MyDatabaseId)
			result->tracked_keys++;
	}
	result->evictions = pg_atomic_read_u64(&stats->evictions);
	result->not_attributed = pg_atomic_read_u64(&stats->not_attributed);
	result->last_flush_at =
		(TimestampTz) pg_atomic_read_u64(&stats->last_flush_at);
	return true;
}

/* A database is being dropped: nobody will flush what it has. */
void
apikey_usage_forget_database(Oid database)
{
	if (shared == NULL)
		return;
	for (int i = 0; i < apikey_max_tracked_keys; i++)
	{
		SlotKey		key = slots[i].key;

		if (slots[i].used && key.database == database)
			evict_slot(i, &key, true);
	}
}

/* Writes what is pending to a file, when the postmaster ends in peace. */
static void
dump_slots(int code, Datum arg pg_attribute_unused())
{
	FILE	   *file;
	uint32		magic = DUMP_MAGIC;
	bool		written;

	if (code != 0 || shared == NULL)
		return;
	file = AllocateFile(DUMP_FILE ".tmp", PG_BINARY_W);
	written = file != NULL && fwrite(&magic, sizeof(magic), 1, file) == 1;
	for (int i = 0; written && i < apikey_max_tracked_keys; i++)
	{
		ApikeyUse	use;

		if (!slots[i].used || slot_at_rest(&slots[i]))
			continue;
		memset(&use, 0, sizeof(use));
		read_slot(&slots[i], &use);
		written = fwrite(&use, sizeof(use), 1, file) == 1;
	}
	if (file != NULL && FreeFile(file) != 0)
		written = false;
	if (written)
		(void) durable_rename(DUMP_FILE ".tmp", DUMP_FILE, LOG);
	else
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", DUMP_FILE ".tmp")));
		unlink(DUMP_FILE ".tmp");
	}
}

/* Reads that file, if there is one, into the empty slots, and removes it. */
static void
load_slots(void)
{
	FILE	   *file = AllocateFile(DUMP_FILE, PG_BINARY_R);
	uint32		magic;
	ApikeyUse	use;

	if (file == NULL)
		return;
	if (fread(&magic, sizeof(magic), 1, file) == 1 && magic == DUMP_MAGIC)
	{
		while (shared->free_count > 0 &&
			   fread(&use, sizeof(use), 1, file) == 1)
		{
			SlotKey		key = {.database = use.database, .id = use.id};
			SlotEntry  *entry = hash_search(slot_table, &key, HASH_ENTER, NULL);
			Slot	   *slot;

			entry->slot = shared->free[--shared->free_count];
			slot = &slots[entry->slot];
			slot->key = key;
			slot->used = true;
			pg_atomic_write_u64(&slot->uses, use.uses);
			pg_atomic_write_u64(&slot->denials, use.denials);
			pg_atomic_write_u64(&slot->last_used_at, (uint64) use.last_used_at);
			pg_atomic_write_u64(&slot->arrival, use.arrival);
			slot->has_addr = use.has_addr;
			slot->addr = use.addr;
		}
	}
	FreeFile(file);
	unlink(DUMP_FILE);
}

static void
start_memory(void)
{
	HASHCTL		slot_control = {
		.keysize = sizeof(SlotKey),
		.entrysize = sizeof(SlotEntry),
		.num_partitions = PARTITIONS
	};
	HASHCTL		stats_control = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(DatabaseStats)
	};
	bool		found;

	if (previous_startup)
		previous_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("apikey", shared_size(), &found);
	slots = ShmemInitStruct("apikey slots",
							mul_size(apikey_max_tracked_keys, sizeof(Slot)),
							&found);
	slot_table = ShmemInitHash("apikey slot table", apikey_max_tracked_keys,
							   apikey_max_tracked_keys, &slot_control,
							   HASH_ELEM | HASH_BLOBS | HASH_PARTITION);
	stats_table = ShmemInitHash("apikey statistics", 16, DATABASES_MAX,
								&stats_control, HASH_ELEM | HASH_BLOBS);
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche("apikey");

		shared->control = &locks[0].lock;
		shared->partitions = &locks[1];
		shared->since = GetCurrentTimestamp();
		pg_atomic_init_u32(&shared->clock, 0);
		shared->free_count = apikey_max_tracked_keys;
		for (int i = 0; i < apikey_max_tracked_keys; i++)
		{
			memset(&slots[i].key, 0, sizeof(SlotKey));
			init_slot(&slots[i]);
			shared->free[i] = apikey_max_tracked_keys - 1 - i;
		}
		load_slots();
	}
	LWLockRelease(AddinShmemInitLock);
	if (!IsUnderPostmaster)
		on_shmem_exit(dump_slots, (Datum) 0);
}

/* Once, while the library is being preloaded. */
void
apikey_usage_init(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}
