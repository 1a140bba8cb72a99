/*
 * slot.c
 *		The slots of shared memory: who has which, and who gives one up.
 *
 * A slot is at rest when nothing is lost with it: it has nothing to flush and
 * no refusal to tell, its limiter has all back, and no lease is out.  Where no
 * slot is free, one at rest is taken, whosever it is.  Where none is found, who
 * has less than others takes one of theirs: see share.c.  So a limit is never
 * forgotten to make room for its own role's keys, nor for anybody's who has as
 * much.  What is taken then is what is least missed, of some found at random:
 * those that hold up the longest are the last to be, and nobody can choose.
 *
 * What is counted has its share of the slots as limits have.  In recovery nothing
 * can be flushed: there, counts keep no slot from being taken or, on a member of a
 * fleet, none of the same role's.  They go to what is not attributed.
 *
 * Where no slot can be had, a use is counted as not attributed, and a limit
 * cannot be held.
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define PARTITIONS		APIKEY_SLOT_PARTITIONS

typedef struct Shared
{
	pg_atomic_uint32 clock;		/* where the next search for rest begins */
	int			free;			/* the first on the stack; -1: none */
	int			buckets[FLEXIBLE_ARRAY_MEMBER]; /* the first in each; -1: none */
} Shared;

/*
 * Whole lines of the processor's cache, so that none is of two keys.  With its
 * bucket and its part of the shares, a key takes 343 bytes at most.
 */
StaticAssertDecl(sizeof(ApikeySlot) == 320, "a slot has grown");

static Shared *shared = NULL;
static ApikeySlot *slots = NULL;
static LWLock *control = NULL;
static LWLockPadded *partitions = NULL;

/*
 * Are there slots?  Where the library is not preloaded there may be from now
 * on, so this is not to be asked with a lock held, or at a transaction's end.
 */
bool
apikey_usage_shared(void)
{
	return shared != NULL || apikey_dynamic_attach();
}

/* Each partition has as many, one for a slot. */
static int
buckets_of_partition(void)
{
	return (apikey_memory_keys + PARTITIONS - 1) / PARTITIONS;
}

static Size
shared_size(void)
{
	return add_size(offsetof(Shared, buckets),
					mul_size(PARTITIONS,
							 mul_size(buckets_of_partition(), sizeof(int))));
}

static uint32
hash_key(const ApikeySlotKey *key)
{
	return (uint32) apikey_seeded_hash(key, sizeof(ApikeySlotKey));
}

static int *
bucket_of(uint32 hash)
{
	return &shared->buckets[hash % PARTITIONS * buckets_of_partition() +
							hash / PARTITIONS % buckets_of_partition()];
}

static LWLock *
partition_lock(uint32 hash)
{
	return &partitions[hash % PARTITIONS].lock;
}

/* The number of a key's slot, whose partition is locked; -1 for none. */
static int
find_number(const ApikeySlotKey *key, uint32 hash)
{
	int			number = *bucket_of(hash);

	while (number >= 0 && !apikey_slot_has_key(&slots[number], key))
		number = slots[number].next;
	return number;
}

/* Makes a slot in hand a key's, whose partition is locked exclusively. */
static void
key_slot(int number, const ApikeySlotKey *key, uint32 hash)
{
	ApikeySlot *slot = &slots[number];

	pg_atomic_write_u64(&slot->uses, 0);
	pg_atomic_write_u64(&slot->denials, 0);
	pg_atomic_write_u64(&slot->last_used_at, 0);
	pg_atomic_write_u64(&slot->arrival, 0);
	slot->ended = slot->has_addr = false;
	slot->flush_done = slot->of_project = false;
	slot->arrival_rest = 0;
	slot->in_debt = 0;
	slot->arrival_era = pg_prng_uint32(&pg_global_prng_state);
	memset(&slot->rows, 0, sizeof(slot->rows));
	slot->whose = 0;
	memset(&slot->flush, 0, sizeof(slot->flush));
	memset(&slot->denial, 0, sizeof(slot->denial));
	memset(&slot->lease, 0, sizeof(slot->lease));
	slot->next = *bucket_of(hash);
	*bucket_of(hash) = number;
	SpinLockAcquire(&slot->mutex);
	slot->key = *key;
	slot->used = true;
	SpinLockRelease(&slot->mutex);
}

/*
 * Takes a slot from its key, whose partition is locked exclusively, if it is
 * that key's and no more is lost with it than so much.
 */
static bool
unkey_slot(int number, const ApikeySlotKey *key, uint32 hash, int64 loss,
		   TimestampTz now)
{
	ApikeySlot *slot = &slots[number];
	int		   *link = bucket_of(hash);
	bool		unkeyed;

	SpinLockAcquire(&slot->mutex);
	unkeyed = apikey_slot_has_key(slot, key) &&
		apikey_slot_loss(slot, now) <= loss;
	if (unkeyed)
	{
		apikey_lease_forget(slot);
		/* Who holds a hint must not find the old key again. */
		slot->used = false;
		memset(&slot->key, 0, sizeof(ApikeySlotKey));
	}
	SpinLockRelease(&slot->mutex);
	if (!unkeyed)
		return false;
	while (*link != number)
		link = &slots[*link].next;
	*link = slot->next;
	return true;
}

/* Takes a free slot in hand, for a role; -1 where there is none. */
int
apikey_slot_take_free(Oid database, Oid role)
{
	int			number;

	LWLockAcquire(control, LW_EXCLUSIVE);
	number = shared->free;
	if (number >= 0)
	{
		shared->free = slots[number].next;
		slots[number].holder = apikey_share_charge(database, role);
	}
	LWLockRelease(control);
	return number;
}

/* Gives back a slot that was in hand. */
static void
free_slot(int number)
{
	LWLockAcquire(control, LW_EXCLUSIVE);
	apikey_share_discharge(slots[number].holder);
	slots[number].holder = -1;
	slots[number].next = shared->free;
	shared->free = number;
	LWLockRelease(control);
}

/* Is there nothing to flush? */
bool
apikey_slot_flushed(ApikeySlot *slot)
{
	return pg_atomic_read_u64(&slot->uses) == 0 &&
		pg_atomic_read_u64(&slot->denials) == 0;
}

/* Whose a slot is; its partition is locked, or its mutex held. */
Oid
apikey_slot_role(const ApikeySlot *slot)
{
	return apikey_share_role(slot->holder);
}

/* How much is lost with a slot, as it seems where it is not locked. */
int64
apikey_slot_loss(ApikeySlot *slot, TimestampTz now)
{
	int64		arrival = (int64) pg_atomic_read_u64(&slot->arrival);

	if (!apikey_lease_at_rest(slot, now))
		return APIKEY_LOSS_LEASE;
	if (arrival > now * APIKEY_LIMITER_UNITS)
		return APIKEY_LOSS_COUNTS + (arrival - now * APIKEY_LIMITER_UNITS);
	return apikey_slot_flushed(slot) && slot->denial.count == 0 ?
		APIKEY_LOSS_NONE : APIKEY_LOSS_COUNTS;
}

/* Is nothing lost with a slot? */
bool
apikey_slot_at_rest(ApikeySlot *slot, TimestampTz now)
{
	return apikey_slot_loss(slot, now) == APIKEY_LOSS_NONE;
}

/*
 * What counts of a slot that is given up are told of nowhere; a flush that is
 * on its way may yet tell of its part.
 */
static uint64
lost_counts(ApikeySlot *slot)
{
	uint64		counts = pg_atomic_read_u64(&slot->uses) +
		pg_atomic_read_u64(&slot->denials);

	if (slot->flush.number != 0 && slot->flush.number != APIKEY_FLUSH_KEPT &&
		!slot->flush_done)
		counts -= Min(counts, (uint64) slot->flush.uses + slot->flush.denials);
	return counts;
}

/*
 * Takes a slot in hand that is still that key's, if no more is lost with it
 * than so much.  Of a holder it may be any; -1: of whichever.
 */
bool
apikey_slot_evict(int number, int holder, int64 loss, TimestampTz now)
{
	ApikeySlot *slot = &slots[number];
	ApikeySlotKey key = slot->key;
	uint32		hash = hash_key(&key);
	uint64		counts = 0;
	bool		of_project = false;
	bool		evicted;

	LWLockAcquire(partition_lock(hash), LW_EXCLUSIVE);
	evicted = (holder < 0 || slot->holder == holder) &&
		unkey_slot(number, &key, hash, loss, now);
	if (evicted)
	{
		counts = lost_counts(slot);
		of_project = slot->of_project;
	}
	LWLockRelease(partition_lock(hash));
	if (evicted)
		apikey_stats_evicted(key.database, counts, of_project);
	return evicted;
}

/* The next slot round the clock. */
int
apikey_slot_next(void)
{
	return pg_atomic_fetch_add_u32(&shared->clock, 1) % apikey_memory_keys;
}

/* A slot that was taken of another holder is a role's. */
void
apikey_slot_charge(int number, Oid database, Oid role)
{
	LWLockAcquire(control, LW_EXCLUSIVE);
	apikey_share_discharge(slots[number].holder);
	slots[number].holder = apikey_share_charge(database, role);
	LWLockRelease(control);
}

/* Gives a slot in hand to a key, unless that has got one meanwhile. */
void
apikey_slot_give(int number, const ApikeySlotKey *key)
{
	uint32		hash = hash_key(key);
	bool		found;

	LWLockAcquire(partition_lock(hash), LW_EXCLUSIVE);
	found = find_number(key, hash) >= 0;
	if (!found)
		key_slot(number, key, hash);
	LWLockRelease(partition_lock(hash));
	if (found)
		free_slot(number);
}

/* The number of slots, and each, to be looked through without a lock. */
int
apikey_slot_count(void)
{
	return shared == NULL ? 0 : apikey_memory_keys;
}

ApikeySlot *
apikey_slot_at(int number)
{
	return &slots[number];
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
	bool		hinted = hint != NULL && hint->place > 0;
	uint32		hash = hinted ? hint->hash : hash_key(&key);
	int			number;

	*lock = partition_lock(hash);
	LWLockAcquire(*lock, LW_SHARED);
	if (hinted && apikey_slot_has_key(&slots[hint->place - 1], &key))
		return &slots[hint->place - 1];
	number = find_number(&key, hash);
	if (number < 0)
	{
		LWLockRelease(*lock);
		return NULL;
	}
	if (hint != NULL)
	{
		hint->hash = hash;
		hint->place = number + 1;
	}
	return &slots[number];
}

/*
 * While shared memory is being made: an empty slot for what the file has of a
 * key; NULL where there is no room, or the key has one already.
 */
ApikeySlot *
apikey_slot_restore(const ApikeySlotKey *key, Oid owner)
{
	uint32		hash = hash_key(key);
	int			number;

	if (find_number(key, hash) >= 0)
		return NULL;
	number = apikey_slot_take_free(key->database, owner);
	if (number < 0)
		return NULL;
	key_slot(number, key, hash);
	return &slots[number];
}

/* Frees a key's slot: at rest only, or whatever is in it. */
static void
drop_slot(const ApikeySlotKey *key, bool even_busy)
{
	uint32		hash = hash_key(key);
	bool		dropped;
	int			number;

	LWLockAcquire(partition_lock(hash), LW_EXCLUSIVE);
	number = find_number(key, hash);
	dropped = number >= 0 &&
		unkey_slot(number, key, hash,
				   even_busy ? APIKEY_LOSS_LEASE : APIKEY_LOSS_NONE,
				   GetCurrentTimestamp());
	LWLockRelease(partition_lock(hash));
	if (dropped)
		free_slot(number);
}

/*
 * A key has ended for good: its limit holds nothing up any more, and its slot
 * is free as soon as what it has is flushed; of a key that is gone at once.
 */
void
apikey_slot_end(Oid database, const pg_uuid_t *id, bool gone)
{
	ApikeySlotKey key = {.database = database, .id = *id};
	LWLock	   *lock;
	ApikeySlot *slot;

	if (shared == NULL)
		return;
	if (!gone && (slot = apikey_slot_find(database, id, NULL, &lock)) != NULL)
	{
		SpinLockAcquire(&slot->mutex);
		pg_atomic_write_u64(&slot->arrival, 0);
		slot->ended = true;
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
	}
	drop_slot(&key, gone);
}

/* A database is being dropped, or our tables in it. */
void
apikey_slot_forget_database(Oid database)
{
	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlotKey key = slots[i].key;

		if (slots[i].used && key.database == database)
			drop_slot(&key, true);
	}
}

/* How many slots are used in a database, or in all. */
int
apikey_slot_used(Oid database)
{
	int			count;

	LWLockAcquire(control, LW_SHARED);
	count = apikey_share_count(database);
	LWLockRelease(control);
	if (count >= 0)
		return count;
	count = 0;
	for (int i = 0; i < apikey_memory_keys; i++)
		count += slots[i].used && slots[i].key.database == database;
	return count;
}

/* Makes shared memory empty. */
static void
make_slots(void)
{
	pg_atomic_init_u32(&shared->clock, 0);
	shared->free = -1;
	for (int i = 0; i < PARTITIONS * buckets_of_partition(); i++)
		shared->buckets[i] = -1;
	for (int i = apikey_memory_keys - 1; i >= 0; i--)
	{
		memset(&slots[i], 0, sizeof(ApikeySlot));
		SpinLockInit(&slots[i].mutex);
		pg_atomic_init_u64(&slots[i].uses, 0);
		pg_atomic_init_u64(&slots[i].denials, 0);
		pg_atomic_init_u64(&slots[i].last_used_at, 0);
		pg_atomic_init_u64(&slots[i].arrival, 0);
		slots[i].holder = -1;
		slots[i].next = shared->free;
		shared->free = i;
	}
}

static Size
slots_size(void)
{
	return add_size(shared_size(),
					mul_size(apikey_memory_keys, sizeof(ApikeySlot)));
}

static void
start_slots(void)
{
	bool		found;

	shared = apikey_memory_struct("apikey", shared_size(), &found);
	slots = apikey_memory_struct("apikey slots",
							mul_size(apikey_memory_keys,
									 sizeof(ApikeySlot)),
							&found);
	control = apikey_memory_lock(APIKEY_MEMORY_CONTROL);
	partitions = (LWLockPadded *) apikey_memory_lock(APIKEY_MEMORY_PARTITIONS);
	if (!found)
		make_slots();
}

const ApikeyMemoryPart apikey_slot_memory = {
	.size = slots_size,
	.start = start_slots,
	.forget = apikey_slot_forget_database,
	.dynamic = true
};
