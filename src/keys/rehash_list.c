/*
 * rehash_list.c
 *		The keys whose digests are to be written anew: a list in shared memory.
 *
 * A key stands in a bucket that its id gives it, so that it is looked for among
 * few.  Whoever takes some goes on where the last one has ended: what
 * cannot be written yet, and is put back, is in nobody's way, and gives up its
 * room to what may be: somebody who has many keys' rows keeps no others' from
 * being written.
 *
 * One lock guards all of it.  It is held to look through a bucket, or while
 * some are taken.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "memory/memory.h"
#include "keys/keys_internal.h"

#define BUCKETS			256
#define BUCKET_MAX		32
#define MANY			1024	/* that are not to wait for the next flush */

typedef struct Bucket
{
	int			count;
	ApikeyRehash items[BUCKET_MAX];
} Bucket;

typedef struct RehashList
{
	int			count;			/* in all buckets */
	int			added;			/* since the launcher was called */
	bool		many;			/* it has not come yet */
	uint32		next;			/* the bucket that is the next to be taken from */
	Bucket		buckets[BUCKETS];
} RehashList;

static RehashList *list = NULL;
static LWLock *list_lock = NULL;

static void
start_memory(void)
{
	list_lock = apikey_memory_lock(APIKEY_MEMORY_REHASH);
}

const ApikeyMemoryPart apikey_rehash_memory = {
	APIKEY_MEMORY_STRUCT("apikey rehash", list),
	.start = start_memory,
	.forget = apikey_rehash_forget_database
};

/* Is there a list, as the library has been preloaded? */
bool
apikey_rehash_listed(void)
{
	return list != NULL;
}

static Bucket *
bucket_of(const ApikeyRehash *item)
{
	ApikeySlotKey key = {.database = item->database, .id = item->id};

	return &list->buckets[apikey_seeded_hash(&key, sizeof(key)) % BUCKETS];
}

/* What is left already of a key; NULL for nothing. */
static ApikeyRehash *
find(const ApikeyRehash *item)
{
	Bucket	   *bucket = bucket_of(item);

	for (int i = 0; i < bucket->count; i++)
	{
		ApikeyRehash *left = &bucket->items[i];

		if (left->database == item->database &&
			memcmp(&left->id, &item->id, sizeof(pg_uuid_t)) == 0)
			return left;
	}
	return NULL;
}

/* Adds a key; false where there is no room. */
static bool
add(const ApikeyRehash *item)
{
	Bucket	   *bucket = bucket_of(item);

	if (bucket->count == BUCKET_MAX)
		return false;
	bucket->items[bucket->count++] = *item;
	list->count++;
	return true;
}

/* The same, or in the place of one that could not be written. */
static bool
add_or_replace(const ApikeyRehash *item)
{
	Bucket	   *bucket = bucket_of(item);

	if (add(item))
		return true;
	for (int i = 0; i < bucket->count; i++)
	{
		if (bucket->items[i].held)
		{
			bucket->items[i] = *item;
			return true;
		}
	}
	return false;
}

/*
 * Leaves a key to the worker; false where there is no room.  The worker is
 * called where many have been left since it was the last time.
 */
bool
apikey_rehash_leave(const ApikeyRehash *item)
{
	ApikeyRehash *left;
	bool		added = false;
	bool		call = false;

	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	left = find(item);
	if (left == NULL)
		added = add_or_replace(item);
	else if (left->pepper != item->pepper)
		*left = *item;
	if (added && !item->proof && ++list->added == MANY)
	{
		list->added = 0;
		list->many = call = true;
	}
	LWLockRelease(list_lock);
	if (call)
		apikey_seat_wake_launcher();
	return left != NULL || added;
}

/* Puts back what was taken and could not be written yet. */
void
apikey_rehash_put_back(const ApikeyRehash *items, int count)
{
	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	for (int i = 0; i < count; i++)
	{
		ApikeyRehash item = items[i];

		item.held = true;
		if (find(&item) == NULL)
			(void) add(&item);
	}
	LWLockRelease(list_lock);
}

/* Takes some of a bucket's off the list. */
static int
take_from(Bucket *bucket, Oid database, bool proofs, ApikeyRehash *taken,
		  int most)
{
	int			count = 0;
	int			kept = 0;

	for (int i = 0; i < bucket->count; i++)
	{
		if (bucket->items[i].database != database ||
			bucket->items[i].proof != proofs || count == most)
			bucket->items[kept++] = bucket->items[i];
		else
			taken[count++] = bucket->items[i];
	}
	bucket->count = kept;
	list->count -= count;
	return count;
}

/*
 * Takes some of what is left for a database off the list: proofs, or digests.
 * Fewer than asked for are all there are.
 */
int
apikey_rehash_take(Oid database, bool proofs, ApikeyRehash *taken, int most)
{
	int			count = 0;

	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	for (int i = 0; i < BUCKETS && count < most && list->count > 0; i++)
		count += take_from(&list->buckets[list->next++ % BUCKETS], database,
						   proofs, taken + count, most - count);
	LWLockRelease(list_lock);
	return count;
}

/* How many there are, of all databases. */
int
apikey_rehash_count(void)
{
	int			count;

	LWLockAcquire(list_lock, LW_SHARED);
	count = list->count;
	LWLockRelease(list_lock);
	return count;
}

/* The databases that something is left for. */
List *
apikey_rehash_databases(void)
{
	List	   *databases = NIL;

	LWLockAcquire(list_lock, LW_SHARED);
	for (int i = 0; i < BUCKETS && list->count > 0; i++)
	{
		for (int j = 0; j < list->buckets[i].count; j++)
			databases = list_append_unique_oid(databases,
											   list->buckets[i].items[j].database);
	}
	LWLockRelease(list_lock);
	return databases;
}

/* The same where many have been left since it was asked the last time. */
List *
apikey_rehash_many(void)
{
	bool		many;

	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	many = list->many;
	list->many = false;
	LWLockRelease(list_lock);
	return many ? apikey_rehash_databases() : NIL;
}

/* A database is dropped. */
void
apikey_rehash_forget_database(Oid database)
{
	if (list == NULL)
		return;
	LWLockAcquire(list_lock, LW_EXCLUSIVE);
	for (int i = 0; i < BUCKETS; i++)
	{
		ApikeyRehash forgotten[BUCKET_MAX];

		(void) take_from(&list->buckets[i], database, true, forgotten, BUCKET_MAX);
		(void) take_from(&list->buckets[i], database, false, forgotten, BUCKET_MAX);
	}
	LWLockRelease(list_lock);
}
