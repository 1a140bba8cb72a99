/*
 * fresh.c
 *		How fresh what this server has of the primary's tables is.
 *
 * A member of a fleet is fresh as of a time when all that the primary had
 * committed by then is replayed here: pulse.c finds that out, and keeps the
 * time in a word of shared memory.  Where that is longer ago than
 * apikey.max_staleness, and before it is known at all, nothing is decided by
 * what is read here.  The primary is fresh at all times.
 *
 * A subscriber's database is fresh by itself: by the number of the primary's beat
 * that has arrived in it, once that is committed (beat.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "port/atomics.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define DATABASES_MAX	64		/* of subscribers; what is beyond is never fresh */

/* A subscriber's database. */
typedef struct Entry
{
	pg_atomic_uint32 database;	/* invalid: free */
	pg_atomic_uint64 beat;		/* that has arrived */
	pg_atomic_uint64 as_of;
} Entry;

typedef struct Shared
{
	pg_atomic_uint64 as_of;		/* of a standby; an ApikeyTick */
	Entry		entries[DATABASES_MAX];
} Shared;

static Shared *shared = NULL;

/* What this transaction of an apply worker brings; 0 for nothing. */
static int64 arrived = 0;

static void
make_memory(void)
{
	pg_atomic_init_u64(&shared->as_of, 0);
	for (int i = 0; i < DATABASES_MAX; i++)
	{
		pg_atomic_init_u32(&shared->entries[i].database, InvalidOid);
		pg_atomic_init_u64(&shared->entries[i].beat, 0);
		pg_atomic_init_u64(&shared->entries[i].as_of, 0);
	}
}

/* A database's entry; NULL for none. */
static Entry *
entry_of(Oid database, bool make)
{
	for (int i = 0; shared != NULL && i < DATABASES_MAX; i++)
	{
		Entry	   *entry = &shared->entries[i];
		uint32		free = InvalidOid;

		if (pg_atomic_read_u32(&entry->database) == database ||
			(make && (pg_atomic_compare_exchange_u32(&entry->database, &free,
													 database) ||
					  free == database)))
			return entry;
	}
	return NULL;
}

/* A database is gone: another may have its entry. */
static void
forget_database(Oid database)
{
	Entry	   *entry = entry_of(database, false);

	if (entry == NULL)
		return;
	pg_atomic_write_u64(&entry->beat, 0);
	pg_atomic_write_u64(&entry->as_of, 0);
	pg_atomic_write_u32(&entry->database, InvalidOid);
}

const ApikeyMemoryPart apikey_fresh_memory = {
	APIKEY_MEMORY_STRUCT("apikey freshness", shared),
	.make = make_memory,
	.forget = forget_database
};

/* All that was committed on the primary at that time is here. */
void
apikey_fresh_as_of(ApikeyTick tick)
{
	if (tick > pg_atomic_read_u64(&shared->as_of))
		pg_atomic_write_u64(&shared->as_of, tick);
}

/* The same of a subscriber's database. */
void
apikey_fresh_database_as_of(Oid database, ApikeyTick tick)
{
	Entry	   *entry = entry_of(database, true);

	if (entry != NULL && tick > pg_atomic_read_u64(&entry->as_of))
		pg_atomic_write_u64(&entry->as_of, tick);
}

/* A beat arrives, with this transaction's commit. */
void
apikey_fresh_beat_arrived(int64 number)
{
	arrived = number;
}

/* The beat that has arrived in a database; 0 for none since the start. */
int64
apikey_fresh_beat_of(Oid database)
{
	Entry	   *entry = entry_of(database, false);

	return entry == NULL ? 0 : (int64) pg_atomic_read_u64(&entry->beat);
}

static void
on_transaction_end(ApikeyEnd end)
{
	if (arrived != 0 && end == APIKEY_END_COMMIT)
	{
		Entry	   *entry = entry_of(MyDatabaseId, true);

		if (entry != NULL)
			pg_atomic_write_u64(&entry->beat, (uint64) arrived);
	}
	if (end != APIKEY_END_PREPARE)
		arrived = 0;
}

ApikeyTransactionPart apikey_fresh_transaction = {.end = on_transaction_end};

/*
 * How long ago that is of a member's database, in microseconds; below 0: it is
 * not known.
 */
int64
apikey_fresh_age_of(Oid database)
{
	ApikeyTick	as_of = 0;

	if (RecoveryInProgress() && shared != NULL)
		as_of = pg_atomic_read_u64(&shared->as_of);
	else
	{
		Entry	   *entry = entry_of(database, false);

		as_of = entry == NULL ? 0 : pg_atomic_read_u64(&entry->as_of);
	}
	return as_of == 0 ? -1 : (int64) (apikey_tick() - as_of);
}

/* Is it as fresh as it has to be?  Not where it is not told whose it is. */
bool
apikey_fresh(void)
{
	bool		told = true;
	int64		age;

	if (!RecoveryInProgress() && !apikey_fleet_subscriber(&told))
		return true;
	if (!told)
		return false;
	age = apikey_fresh_age_of(MyDatabaseId);
	return age >= 0 && age <= (int64) apikey_max_staleness * 1000;
}
