/*
 * stats.c
 *		What this server has counted of verifications, for apikey_stats.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "slot.h"
#include "usage.h"

#define DATABASES_MAX	1024	/* more are counted together */

typedef struct DatabaseStats
{
	Oid			database;		/* hash key */
	pg_atomic_uint64 codes[APIKEY_CODE_VALID + 1];
	pg_atomic_uint64 evictions;
	pg_atomic_uint64 not_attributed;
	pg_atomic_uint64 last_flush_at;
	pg_atomic_uint64 retired;	/* the roles_dropped that were dealt with */
	pg_atomic_uint64 visit_at;	/* when a key comes near its expiry */
	pg_atomic_uint64 visits;	/* of the worker */
} DatabaseStats;

static HTAB *stats_table = NULL;
static LWLock *stats_lock = NULL;
static TimestampTz *since = NULL;
static pg_atomic_uint64 *roles_dropped = NULL;	/* how many; 1 at the start */

Size
apikey_stats_size(void)
{
	return add_size(hash_estimate_size(DATABASES_MAX, sizeof(DatabaseStats)),
					sizeof(TimestampTz) + sizeof(pg_atomic_uint64) +
					2 * PG_CACHE_LINE_SIZE);
}

/* Makes or finds the table, which the lock guards. */
void
apikey_stats_start(LWLock *control)
{
	HASHCTL		settings = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(DatabaseStats)
	};
	bool		found;

	stats_lock = control;
	stats_table = apikey_shmem_hash("apikey statistics", DATABASES_MAX,
									&settings, HASH_ELEM | HASH_BLOBS);
	since = ShmemInitStruct("apikey statistics since", sizeof(TimestampTz),
							&found);
	if (!found)
		*since = GetCurrentTimestamp();
	roles_dropped = ShmemInitStruct("apikey dropped roles",
									sizeof(pg_atomic_uint64), &found);
	if (!found)
		pg_atomic_init_u64(roles_dropped, 1);
}

/* The statistics of a database; of the entry for all others beyond a number. */
static DatabaseStats *
database_stats(Oid database)
{
	DatabaseStats *stats;
	bool		found;

	LWLockAcquire(stats_lock, LW_SHARED);
	stats = hash_search(stats_table, &database, HASH_FIND, NULL);
	LWLockRelease(stats_lock);
	if (stats != NULL)
		return stats;

	LWLockAcquire(stats_lock, LW_EXCLUSIVE);
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
		pg_atomic_init_u64(&stats->retired, 0);
		pg_atomic_init_u64(&stats->visit_at, 0);	/* we do not know yet */
		pg_atomic_init_u64(&stats->visits, 0);
	}
	LWLockRelease(stats_lock);
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

/* To be called only where there is shared memory, as all that follows. */
void
apikey_stats_count(ApikeyCode code)
{
	pg_atomic_fetch_add_u64(&my_stats()->codes[code], 1);
}

void
apikey_stats_not_attributed(void)
{
	pg_atomic_fetch_add_u64(&my_stats()->not_attributed, 1);
}

void
apikey_stats_evicted(void)
{
	pg_atomic_fetch_add_u64(&my_stats()->evictions, 1);
}

void
apikey_stats_flushed(void)
{
	pg_atomic_write_u64(&my_stats()->last_flush_at,
						(uint64) GetCurrentTimestamp());
}

/* A role is gone, with a commit: each database has to look for its keys. */
void
apikey_stats_role_dropped(void)
{
	if (roles_dropped != NULL)
		pg_atomic_fetch_add_u64(roles_dropped, 1);
}

/* To be read before looking, and handed in when all was found. */
uint64
apikey_stats_roles_dropped(void)
{
	return pg_atomic_read_u64(roles_dropped);
}

void
apikey_stats_retired(uint64 dropped)
{
	pg_atomic_write_u64(&my_stats()->retired, dropped);
}

/* Has the worker to look for the keys of dropped roles here? */
bool
apikey_stats_unretired(void)
{
	return pg_atomic_read_u64(&my_stats()->retired) <
		apikey_stats_roles_dropped();
}

/* This database is to be visited at that time, or before. */
void
apikey_stats_visit(TimestampTz at)
{
	uint64		before;

	if (!apikey_usage_shared())
		return;
	before = pg_atomic_read_u64(&my_stats()->visit_at);
	while ((TimestampTz) before > at &&
		   !pg_atomic_compare_exchange_u64(&my_stats()->visit_at, &before,
										   (uint64) at))
		;
}

/*
 * The worker begins its visit, if that is due, before it looks at anything.
 * If it does not come to its end, there is to be another one, again.
 */
bool
apikey_stats_begin_visit(TimestampTz again)
{
	uint64		due = pg_atomic_read_u64(&my_stats()->visit_at);

	return (TimestampTz) due <= GetCurrentTimestamp() &&
		pg_atomic_compare_exchange_u64(&my_stats()->visit_at, &due,
									   (uint64) again);
}

/* It has come to its end: the next is then, or earlier if it was asked for. */
void
apikey_stats_end_visit(TimestampTz again, TimestampTz next)
{
	uint64		expected = (uint64) again;

	(void) pg_atomic_compare_exchange_u64(&my_stats()->visit_at, &expected,
										  (uint64) next);
}

/* All are to be visited: the setting has changed. */
void
apikey_stats_visit_all(void)
{
	HASH_SEQ_STATUS scan;
	DatabaseStats *stats;

	LWLockAcquire(stats_lock, LW_SHARED);
	hash_seq_init(&scan, stats_table);
	while ((stats = hash_seq_search(&scan)) != NULL)
		pg_atomic_write_u64(&stats->visit_at, 0);
	LWLockRelease(stats_lock);
}

/* A database that exists is to be visited, used or not. */
void
apikey_stats_add_database(Oid database)
{
	pg_atomic_write_u64(&database_stats(database)->visit_at, 0);
}

/*
 * A database is gone, or cannot be connected to: it is not visited again
 * before somebody has used it.
 */
void
apikey_stats_forget_database(Oid database)
{
	DatabaseStats *stats = database_stats(database);

	pg_atomic_write_u64(&stats->visit_at, (uint64) DT_NOEND);
	pg_atomic_write_u64(&stats->retired, apikey_stats_roles_dropped());
}

/* The worker has got there. */
void
apikey_stats_reached(void)
{
	pg_atomic_fetch_add_u64(&my_stats()->visits, 1);
}

/* How often it has. */
uint64
apikey_stats_visits(Oid database)
{
	return pg_atomic_read_u64(&database_stats(database)->visits);
}

/* The databases that have to look for dropped roles, or are to be visited. */
List *
apikey_stats_due(void)
{
	uint64		dropped = apikey_stats_roles_dropped();
	TimestampTz now = GetCurrentTimestamp();
	List	   *databases = NIL;
	HASH_SEQ_STATUS scan;
	DatabaseStats *stats;

	LWLockAcquire(stats_lock, LW_SHARED);
	hash_seq_init(&scan, stats_table);
	while ((stats = hash_seq_search(&scan)) != NULL)
	{
		if (OidIsValid(stats->database) &&
			(pg_atomic_read_u64(&stats->retired) < dropped ||
			 (TimestampTz) pg_atomic_read_u64(&stats->visit_at) <= now))
			databases = lappend_oid(databases, stats->database);
	}
	LWLockRelease(stats_lock);
	return databases;
}

/* What is told of the current database; false where nothing is counted. */
bool
apikey_stats_read(ApikeyStats *result)
{
	DatabaseStats *stats;

	memset(result, 0, sizeof(*result));
	if (!apikey_usage_shared())
		return false;
	stats = my_stats();
	result->since = *since;
	for (int i = 0; i <= APIKEY_CODE_VALID; i++)
		result->codes[i] = pg_atomic_read_u64(&stats->codes[i]);
	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlot *slot = apikey_slot_at(i);

		if (slot->used && slot->key.database == MyDatabaseId)
			result->tracked_keys++;
	}
	result->evictions = pg_atomic_read_u64(&stats->evictions);
	result->not_attributed = pg_atomic_read_u64(&stats->not_attributed);
	result->last_flush_at =
		(TimestampTz) pg_atomic_read_u64(&stats->last_flush_at);
	return true;
}
