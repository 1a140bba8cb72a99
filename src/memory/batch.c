/*
 * batch.c
 *		What a member reports to its primary, and as whom.
 *
 * What slots and counters have gathered is moved into a batch, which gets the
 * next number of its database's membership, and stays here until the primary
 * has acknowledged that number, however often it has to be sent.  So it is
 * added once, and the slot that it came from is free to be another key's.
 *
 *		slot --- moved ---> batch --- acknowledged, or joined and known to be
 *		 ^					  |			applied ---> nothing
 *		 |					  +-- this server is the primary now, and the
 *		 +--------------------+		batch was not applied ---> slot
 *							  +-- the identity is another's, or the batch is
 *									refused ---> not attributed
 *
 * A membership is who this server is in a database of the primary: its epoch,
 * which each join raises, and its tokens, any of which may stand in its row.
 * A new token counts from the moment it is sent until it is known not to.
 *
 * Each membership has a batch of its own: what cannot be told of one database keeps
 * no other from telling.
 *
 * The worker alone writes here, under the exclusive lock, but for the end of a
 * database that is gone; others read under the shared one, the file as well,
 * together with the slots: what is moved while it is written would be in it
 * twice.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define MEMBERSHIPS_MAX	64		/* databases that are reported */

typedef struct Shared
{
	ApikeyMembership memberships[MEMBERSHIPS_MAX];
	ApikeyBatch batches[MEMBERSHIPS_MAX];	/* of each the one on its way */
} Shared;

static Shared *shared = NULL;
static LWLock *batch_lock = NULL;

static Size
memory_size(void)
{
	return apikey_fleet ? sizeof(Shared) : 0;
}

/* Where there is no fleet there is nothing. */
static void
start_memory(void)
{
	bool		found;

	if (!apikey_fleet)
		return;
	batch_lock = &GetNamedLWLockTranche("apikey")[APIKEY_MEMORY_BATCH].lock;
	shared = ShmemInitStruct("apikey batches", sizeof(Shared), &found);
	if (!found)
		memset(shared, 0, sizeof(Shared));
}

/* A database is gone: there is nothing of it to be reported. */
static void
forget_database(Oid database)
{
	apikey_batch_lock(true);
	apikey_membership_end(database);
	apikey_batch_unlock();
}

const ApikeyMemoryPart apikey_batch_memory = {
	.size = memory_size,
	.start = start_memory,
	.forget = forget_database
};

void
apikey_batch_lock(bool exclusive)
{
	if (shared != NULL)
		LWLockAcquire(batch_lock, exclusive ? LW_EXCLUSIVE : LW_SHARED);
}

void
apikey_batch_unlock(void)
{
	if (shared != NULL)
		LWLockRelease(batch_lock);
}

/* By its number, of all that can be; NULL behind the last. */
ApikeyMembership *
apikey_membership_at(int number)
{
	return shared == NULL || number >= MEMBERSHIPS_MAX ? NULL :
		&shared->memberships[number];
}

/* A database's; NULL where it has none, or there is no room. */
ApikeyMembership *
apikey_membership(Oid database, bool make)
{
	ApikeyMembership *free = NULL;

	for (int i = 0; shared != NULL && i < MEMBERSHIPS_MAX; i++)
	{
		if (shared->memberships[i].database == database)
			return &shared->memberships[i];
		if (free == NULL && !OidIsValid(shared->memberships[i].database))
			free = &shared->memberships[i];
	}
	if (!make || free == NULL)
		return NULL;
	memset(free, 0, sizeof(*free));
	free->database = database;
	return free;
}

/* As of when a database's server is known; 0 where it is not, or not any more. */
int64
apikey_membership_epoch(Oid database)
{
	const ApikeyMembership *membership = apikey_membership(database, false);

	return membership == NULL ? 0 : membership->epoch;
}

/* Nothing of it counts any more. */
void
apikey_membership_end(Oid database)
{
	ApikeyMembership *membership = apikey_membership(database, false);
	ApikeyBatch *batch = apikey_batch_of(database);

	if (batch != NULL)
		apikey_batch_end(batch);
	if (membership != NULL)
		memset(membership, 0, sizeof(*membership));
}

/* What of a database is on its way; NULL for nothing. */
ApikeyBatch *
apikey_batch_of(Oid database)
{
	for (int i = 0; shared != NULL && i < MEMBERSHIPS_MAX; i++)
	{
		if (shared->batches[i].database == database)
			return &shared->batches[i];
	}
	return NULL;
}

/* An empty one of a membership, which has none. */
ApikeyBatch *
apikey_batch_begin(const ApikeyMembership *membership, int64 sequence)
{
	ApikeyBatch *batch = &shared->batches[membership - shared->memberships];

	memset(batch, 0, sizeof(*batch));
	batch->database = membership->database;
	batch->sequence = sequence;
	return batch;
}

void
apikey_batch_end(ApikeyBatch *batch)
{
	batch->database = InvalidOid;
}

/* So much is lost with it. */
uint64
apikey_batch_sum(const ApikeyBatch *batch)
{
	uint64		sum = 0;

	for (int i = 0; i < batch->use_count; i++)
		sum += batch->uses[i].uses + batch->uses[i].denials;
	return sum;
}

/* May one from the file have these numbers? */
bool
apikey_batch_ok(const ApikeyBatch *batch)
{
	return OidIsValid(batch->database) && batch->sequence > 0 &&
		batch->use_count >= 0 && batch->use_count <= APIKEY_BATCH_USES &&
		batch->count_count >= 0 && batch->count_count <= APIKEY_BATCH_COUNTS &&
		batch->denial_count >= 0 &&
		batch->denial_count <= APIKEY_BATCH_DENIALS &&
		batch->mark_count >= 0 && batch->mark_count <= APIKEY_BATCH_MARKS;
}

/* While shared memory is being made: what the file has; false for no room. */
bool
apikey_membership_restore(const ApikeyMembership *membership,
						  const ApikeyBatch *batch)
{
	ApikeyMembership *to = apikey_membership(membership->database, true);

	if (to == NULL)
		return false;
	*to = *membership;
	to->epoch = 0;
	to->from_file = true;
	if (batch != NULL)
		*apikey_batch_begin(to, batch->sequence) = *batch;
	return true;
}

/* What is on its way of a key; false for nothing. */
bool
apikey_batch_pending(Oid database, const pg_uuid_t *key, uint64 *uses,
					 uint64 *denials)
{
	const ApikeyBatch *batch;
	bool		found = false;

	if (shared == NULL)
		return false;
	apikey_batch_lock(false);
	batch = apikey_batch_of(database);
	for (int i = 0; batch != NULL && i < batch->use_count; i++)
	{
		if (memcmp(&batch->uses[i].key, key, sizeof(pg_uuid_t)) != 0)
			continue;
		found = true;
		*uses += batch->uses[i].uses;
		*denials += batch->uses[i].denials;
	}
	apikey_batch_unlock();
	return found;
}

/* The databases in which this server is, or was, a member. */
List *
apikey_batch_databases(void)
{
	List	   *databases = NIL;

	for (int i = 0; shared != NULL && i < MEMBERSHIPS_MAX; i++)
	{
		if (OidIsValid(shared->memberships[i].database))
			databases = lappend_oid(databases, shared->memberships[i].database);
	}
	return databases;
}
