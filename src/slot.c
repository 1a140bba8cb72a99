/*
 * slot.c
 *		The slots of shared memory: who has which, and their file.
 *
 * A slot that has something to flush, whose limiter has not all back, or
 * whose lease is not at rest, is never reused; where no slot can be, a use is
 * counted as not attributed and a limit cannot be held.
 *
 * At a clean shutdown the postmaster writes all slots to a file, which the
 * next start reads and removes, as pg_stat_statements does.
 */
#include "postgres.h"

#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "slot.h"
#include "usage.h"

#define PARTITIONS		16
#define VICTIMS_MAX		1024	/* slots looked at to make room for a key */
#define DUMP_FILE		PGSTAT_STAT_PERMANENT_DIRECTORY "/apikey.stat"
#define DUMP_MAGIC		0x41504B35	/* "APK5" */

typedef struct SlotEntry
{
	ApikeySlotKey key;			/* hash key */
	int			slot;
} SlotEntry;

typedef struct Shared
{
	LWLock	   *control;
	LWLockPadded *partitions;
	pg_atomic_uint32 clock;		/* where the next search for a victim begins */
	int			free_count;
	int			free[FLEXIBLE_ARRAY_MEMBER];	/* stack of free slots */
} Shared;

/* What the file keeps of a slot. */
typedef struct DumpedSlot
{
	ApikeyUse	use;
	ApikeyDenial denial;
	ApikeyLease lease;
} DumpedSlot;

static Shared *shared = NULL;
static ApikeySlot *slots = NULL;
static HTAB *slot_table = NULL;
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
	RequestAddinShmemSpace(mul_size(apikey_max_tracked_keys,
									sizeof(ApikeySlot)));
	RequestAddinShmemSpace(hash_estimate_size(apikey_max_tracked_keys,
											  sizeof(SlotEntry)));
	RequestAddinShmemSpace(apikey_stats_size());
	RequestAddinShmemSpace(apikey_lease_size());
	RequestAddinShmemSpace(apikey_notify_size());
	RequestAddinShmemSpace(apikey_worker_size());
	RequestNamedLWLockTranche("apikey", PARTITIONS + 1);
}

static LWLock *
partition_lock(uint32 hash)
{
	return &shared->partitions[hash % PARTITIONS].lock;
}

static void
init_slot(ApikeySlot *slot)
{
	pg_atomic_init_u64(&slot->uses, 0);
	pg_atomic_init_u64(&slot->denials, 0);
	pg_atomic_init_u64(&slot->last_used_at, 0);
	pg_atomic_init_u64(&slot->arrival, 0);
	SpinLockInit(&slot->mutex);
	slot->has_addr = false;
	memset(&slot->flush, 0, sizeof(slot->flush));
	memset(&slot->denial, 0, sizeof(slot->denial));
	memset(&slot->lease, 0, sizeof(slot->lease));
	slot->used = false;
}

/* Is there nothing to flush? */
bool
apikey_slot_flushed(ApikeySlot *slot)
{
	return pg_atomic_read_u64(&slot->uses) == 0 &&
		pg_atomic_read_u64(&slot->denials) == 0;
}

/* Is nothing lost with the slot? */
static bool
slot_at_rest(ApikeySlot *slot)
{
	TimestampTz now = GetCurrentTimestamp();

	return apikey_slot_flushed(slot) &&
		(int64) pg_atomic_read_u64(&slot->arrival) <=
		now * APIKEY_LIMITER_UNITS &&
		apikey_denial_at_rest(slot) && apikey_lease_at_rest(slot, now);
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

/* Frees a slot if it still is that key's and at rest. */
static bool
evict_slot(int number, const ApikeySlotKey *key, bool even_busy)
{
	ApikeySlot *slot = &slots[number];
	uint32		hash = get_hash_value(slot_table, key);
	bool		evicted = false;

	LWLockAcquire(partition_lock(hash), LW_EXCLUSIVE);
	if (slot->used && memcmp(&slot->key, key, sizeof(ApikeySlotKey)) == 0 &&
		(even_busy || slot_at_rest(slot)))
	{
		hash_search_with_hash_value(slot_table, key, hash, HASH_REMOVE, NULL);
		/* Who holds a hint and our lock must not find the old key again. */
		memset(&slot->key, 0, sizeof(ApikeySlotKey));
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
		ApikeySlotKey key = slots[number].key;

		/* Read without a lock: evict_slot looks again. */
		if (slots[number].used && slot_at_rest(&slots[number]) &&
			evict_slot(number, &key, false))
		{
			apikey_stats_evicted();
			return true;
		}
	}
	return false;
}

/* The number of slots, and each, to be looked through without a lock. */
int
apikey_slot_count(void)
{
	return shared == NULL ? 0 : apikey_max_tracked_keys;
}

ApikeySlot *
apikey_slot_at(int number)
{
	return &slots[number];
}

static bool
slot_has_key(const ApikeySlot *slot, const ApikeySlotKey *key)
{
	return slot->used && memcmp(&slot->key, key, sizeof(ApikeySlotKey)) == 0;
}

/*
 * Finds a key's slot, its partition locked shared for the caller to release;
 * NULL where it has none.  A hint saves the search where it is right.
 */
ApikeySlot *
apikey_slot_find(Oid database, const pg_uuid_t *id, ApikeySlotHint *hint,
				 LWLock **lock)
{
	ApikeySlotKey key = {.database = database, .id = *id};
	bool		hinted = hint != NULL && hint->known;
	uint32		hash = hinted ? hint->hash : get_hash_value(slot_table, &key);
	SlotEntry  *entry;

	*lock = partition_lock(hash);
	LWLockAcquire(*lock, LW_SHARED);
	if (hinted && slot_has_key(&slots[hint->number], &key))
		return &slots[hint->number];
	entry = hash_search_with_hash_value(slot_table, &key, hash, HASH_FIND,
										NULL);
	if (entry == NULL)
	{
		LWLockRelease(*lock);
		return NULL;
	}
	if (hint != NULL)
	{
		hint->hash = hash;
		hint->number = entry->slot;
		hint->known = true;
	}
	return &slots[entry->slot];
}

/* Gives a key a slot; false where there is no room. */
static bool
make_slot(const ApikeySlotKey *key)
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

/* The same, of a key that need not have one yet; NULL where there is no room. */
ApikeySlot *
apikey_slot_open(Oid database, const pg_uuid_t *id, ApikeySlotHint *hint,
				 LWLock **lock)
{
	ApikeySlotKey key = {.database = database, .id = *id};
	ApikeySlot *slot;

	while ((slot = apikey_slot_find(database, id, hint, lock)) == NULL)
	{
		if (!make_slot(&key))
			return NULL;
	}
	return slot;
}

/* A database is being dropped: nobody will flush what it has. */
void
apikey_slot_forget_database(Oid database)
{
	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlotKey key = slots[i].key;

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
		DumpedSlot	dumped;

		if (!slots[i].used || slot_at_rest(&slots[i]))
			continue;
		memset(&dumped, 0, sizeof(dumped));
		apikey_usage_read(&slots[i], &dumped.use);
		dumped.denial = slots[i].denial;
		dumped.lease = slots[i].lease;
		written = fwrite(&dumped, sizeof(dumped), 1, file) == 1;
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

/* Takes the next free slot for what the file has. */
static void
load_slot(const DumpedSlot *dumped)
{
	ApikeySlotKey key = {.database = dumped->use.database, .id = dumped->use.id};
	SlotEntry  *entry = hash_search(slot_table, &key, HASH_ENTER, NULL);
	ApikeySlot *slot;

	entry->slot = shared->free[--shared->free_count];
	slot = &slots[entry->slot];
	slot->key = key;
	slot->used = true;
	pg_atomic_write_u64(&slot->uses, dumped->use.uses);
	pg_atomic_write_u64(&slot->denials, dumped->use.denials);
	pg_atomic_write_u64(&slot->last_used_at,
						(uint64) dumped->use.last_used_at);
	pg_atomic_write_u64(&slot->arrival, dumped->use.arrival);
	slot->has_addr = dumped->use.has_addr;
	slot->addr = dumped->use.addr;
	slot->denial = dumped->denial;
	slot->lease = dumped->lease;
	apikey_lease_from_file(&slot->lease);
}

/*
 * Reads that file, if there is one, into the empty slots.  It is removed
 * before anything of it is used: leases must not be spent twice.
 */
static void
load_slots(void)
{
	FILE	   *file = AllocateFile(DUMP_FILE, PG_BINARY_R);
	uint32		magic;
	DumpedSlot	dumped;

	if (file == NULL)
		return;
	if (durable_unlink(DUMP_FILE, LOG) == 0 &&
		fread(&magic, sizeof(magic), 1, file) == 1 && magic == DUMP_MAGIC)
	{
		while (shared->free_count > 0 &&
			   fread(&dumped, sizeof(dumped), 1, file) == 1)
			load_slot(&dumped);
		if (fread(&dumped, sizeof(dumped), 1, file) == 1)
			ereport(LOG,
					(errmsg("what was pending of some API keys is lost"),
					 errhint("\"apikey.max_tracked_keys\" is less than it was.")));
	}
	FreeFile(file);
}

static void
start_memory(void)
{
	HASHCTL		control = {
		.keysize = sizeof(ApikeySlotKey),
		.entrysize = sizeof(SlotEntry),
		.num_partitions = PARTITIONS
	};
	LWLockPadded *locks;
	bool		found;

	if (previous_startup)
		previous_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	locks = GetNamedLWLockTranche("apikey");
	apikey_stats_start(&locks[0].lock);
	apikey_lease_start();
	apikey_notify_start();
	apikey_worker_start();
	shared = ShmemInitStruct("apikey", shared_size(), &found);
	slots = ShmemInitStruct("apikey slots",
							mul_size(apikey_max_tracked_keys,
									 sizeof(ApikeySlot)),
							&found);
	slot_table = apikey_shmem_hash("apikey slot table",
								   apikey_max_tracked_keys, &control,
								   HASH_ELEM | HASH_BLOBS | HASH_PARTITION);
	if (!found)
	{
		shared->control = &locks[0].lock;
		shared->partitions = &locks[1];
		pg_atomic_init_u32(&shared->clock, 0);
		shared->free_count = apikey_max_tracked_keys;
		for (int i = 0; i < apikey_max_tracked_keys; i++)
		{
			memset(&slots[i].key, 0, sizeof(ApikeySlotKey));
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
apikey_slot_init(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}
