/*
 * stats.c
 *		What this server has counted of verifications, for apikey_stats.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "memory/memory_internal.h"

#define DATABASES_MAX	4096	/* more are counted together */
#define LOST_KEPT_AFTER	USECS_PER_MINUTE	/* that uses were lost, in tables */

/*
 * An entry is a database's from the first look at it, or use in it, until it
 * is dropped.  Where our tables are not in it, it is dormant: no worker looks
 * there, and another database may have the entry where there is no other.
 */
typedef struct DatabaseStats
{
	Oid			database;		/* invalid: free; or, the last, of all others */
	bool		dormant;
	pg_atomic_uint64 codes[APIKEY_VERDICTS];	/* a total: see verdicts.c */
	pg_atomic_uint64 evictions;
	pg_atomic_uint64 not_attributed;
	pg_atomic_uint64 use_lost_at;	/* of a project's key, the last time; 0: never */
	pg_atomic_uint64 last_flush_at;
	pg_atomic_uint64 retired;	/* the roles_dropped that were dealt with */
	pg_atomic_uint64 visit_at[APIKEY_VISITS];	/* 0: now */
	pg_atomic_uint64 asked[APIKEY_VISITS];	/* how often for a visit */
	pg_atomic_uint64 called_at; /* a worker, first since one was done; 0: none */
} DatabaseStats;

/* The lock guards whose the entries are, and is taken last. */
typedef struct ServerStats
{
	TimestampTz since;
	pg_atomic_uint64 roles_dropped; /* how many; 1 at the start */
	int			used;			/* entries from this number on never were */
	DatabaseStats others;
	DatabaseStats entries[DATABASES_MAX];
} ServerStats;

static ServerStats *all = NULL;
static LWLock *stats_lock = NULL;

static void
visit_now(DatabaseStats *stats)
{
	for (int i = 0; i < APIKEY_VISITS; i++)
		pg_atomic_write_u64(&stats->visit_at[i], 0);
}

static bool
visit_due(DatabaseStats *stats, TimestampTz now)
{
	bool		due = false;

	for (int i = 0; i < APIKEY_VISITS; i++)
		due |= (TimestampTz) pg_atomic_read_u64(&stats->visit_at[i]) <= now;
	return due;
}

/* What each entry begins with; the lock is held exclusively. */
static void
clear_entry(DatabaseStats *stats, Oid database)
{
	apikey_verdicts_clear(stats->codes);
	pg_atomic_write_u64(&stats->evictions, 0);
	pg_atomic_write_u64(&stats->not_attributed, 0);
	pg_atomic_write_u64(&stats->use_lost_at, 0);
	pg_atomic_write_u64(&stats->last_flush_at, 0);
	pg_atomic_write_u64(&stats->retired, 0);
	visit_now(stats);			/* we do not know yet */
	for (int i = 0; i < APIKEY_VISITS; i++)
		pg_atomic_write_u64(&stats->asked[i], 0);
	pg_atomic_write_u64(&stats->called_at, 0);
	stats->dormant = false;
	stats->database = database;
}

static void
init_entry(DatabaseStats *stats)
{
	for (int i = 0; i < APIKEY_VERDICTS; i++)
		pg_atomic_init_u64(&stats->codes[i], 0);
	pg_atomic_init_u64(&stats->evictions, 0);
	pg_atomic_init_u64(&stats->not_attributed, 0);
	pg_atomic_init_u64(&stats->use_lost_at, 0);
	pg_atomic_init_u64(&stats->last_flush_at, 0);
	pg_atomic_init_u64(&stats->retired, 0);
	for (int i = 0; i < APIKEY_VISITS; i++)
	{
		pg_atomic_init_u64(&stats->visit_at[i], 0);
		pg_atomic_init_u64(&stats->asked[i], 0);
	}
	pg_atomic_init_u64(&stats->called_at, 0);
	stats->dormant = false;
	stats->database = InvalidOid;
}

static void
make_memory(void)
{
	all->since = GetCurrentTimestamp();
	pg_atomic_init_u64(&all->roles_dropped, 1);
	init_entry(&all->others);
	for (int i = 0; i < DATABASES_MAX; i++)
		init_entry(&all->entries[i]);
}

static void
start_memory(void)
{
	stats_lock = apikey_memory_lock(APIKEY_MEMORY_STATS);
}

const ApikeyMemoryPart apikey_stats_memory = {
	APIKEY_MEMORY_STRUCT("apikey statistics", all),
	.make = make_memory,
	.start = start_memory,
	.dynamic = true
};

/* The entry of a database; NULL for none.  The lock is held. */
static DatabaseStats *
find_entry(Oid database)
{
	for (int i = 0; i < all->used; i++)
	{
		if (all->entries[i].database == database)
			return &all->entries[i];
	}
	return NULL;
}

/* One that no database needs; NULL for none.  The lock is held exclusively. */
static DatabaseStats *
find_room(void)
{
	DatabaseStats *dormant = NULL;

	for (int i = 0; i < all->used; i++)
	{
		if (!OidIsValid(all->entries[i].database))
			return &all->entries[i];
		if (all->entries[i].dormant)
			dormant = &all->entries[i];
	}
	return all->used < DATABASES_MAX ? &all->entries[all->used++] : dormant;
}

/*
 * The statistics of a database; of the entry for all others where there is no
 * room.  Never fails: transactions ask for it that have committed.
 */
static DatabaseStats *
database_stats(Oid database)
{
	DatabaseStats *stats;

	if (!OidIsValid(database))
		return &all->others;
	LWLockAcquire(stats_lock, LW_SHARED);
	stats = find_entry(database);
	LWLockRelease(stats_lock);
	if (stats != NULL)
		return stats;

	LWLockAcquire(stats_lock, LW_EXCLUSIVE);
	stats = find_entry(database);
	if (stats == NULL && (stats = find_room()) != NULL)
		clear_entry(stats, database);
	LWLockRelease(stats_lock);
	return stats == NULL ? &all->others : stats;
}

/* Our tables have come to a database, perhaps: all is to be looked for. */
static void
wake(DatabaseStats *stats)
{
	pg_atomic_write_u64(&stats->retired, 0);
	visit_now(stats);
	stats->dormant = false;
}

static DatabaseStats *
my_stats(void)
{
	static DatabaseStats *mine = NULL;

	/* While it was dormant another database may have got the entry. */
	if (mine == NULL || mine->database != MyDatabaseId)
	{
		mine = database_stats(MyDatabaseId);
		if (mine->dormant)
			wake(mine);
	}
	return mine;
}

/* To be called only where there is shared memory, as all that follows. */
void
apikey_stats_count(ApikeyCode code)
{
	apikey_verdicts_count(my_stats()->codes, code, stats_lock);
}

/* A visit is to be at that time, or before. */
static void
bring_visit_forward(DatabaseStats *stats, ApikeyVisitFor what, TimestampTz at)
{
	pg_atomic_uint64 *visit_at = &stats->visit_at[what];
	uint64		before = pg_atomic_read_u64(visit_at);

	while ((TimestampTz) before > at &&
		   !pg_atomic_compare_exchange_u64(visit_at, &before, (uint64) at))
		;
}

/*
 * Counts are told nowhere else.  Where a use of a project's key may be among them,
 * no key of the database is idle since before: see idle.c, which keeps that.
 */
static void
add_lost(DatabaseStats *stats, uint64 counts, bool of_project)
{
	TimestampTz now;

	if (counts == 0)
		return;
	pg_atomic_fetch_add_u64(&stats->not_attributed, counts);
	if (!of_project)
		return;
	now = GetCurrentTimestamp();
	pg_atomic_write_u64(&stats->use_lost_at, (uint64) now);
	bring_visit_forward(stats, APIKEY_VISIT_IDLE, now + LOST_KEPT_AFTER);
}

/* Nothing is counted of a use or refusal here. */
void
apikey_stats_not_attributed(bool use_of_project)
{
	add_lost(my_stats(), 1, use_of_project);
}

/* What was counted of a key, whatever that is, is told nowhere else. */
void
apikey_stats_not_attributed_to(Oid database, uint64 counts)
{
	add_lost(database_stats(database), counts, true);
}

/* A key of that database has lost its slot, and what it had counted. */
void
apikey_stats_evicted(Oid database, uint64 counts, bool of_project)
{
	DatabaseStats *stats = database_stats(database);

	pg_atomic_fetch_add_u64(&stats->evictions, 1);
	add_lost(stats, counts, of_project);
}

/* When a use of a key of this database was lost last; 0: never that is known. */
TimestampTz
apikey_stats_use_lost_at(void)
{
	return all == NULL ? 0 :
		(TimestampTz) pg_atomic_read_u64(&my_stats()->use_lost_at);
}

void
apikey_stats_flushed(void)
{
	pg_atomic_write_u64(&my_stats()->last_flush_at,
						(uint64) GetCurrentTimestamp());
}

/* The same of any database. */
void
apikey_stats_flushed_in(Oid database)
{
	pg_atomic_write_u64(&database_stats(database)->last_flush_at,
						(uint64) GetCurrentTimestamp());
}

/* A role is gone, with a commit: each database has to look for its keys. */
void
apikey_stats_role_dropped(void)
{
	if (all != NULL)
		pg_atomic_fetch_add_u64(&all->roles_dropped, 1);
}

/* To be read before looking, and handed in when all was found. */
uint64
apikey_stats_roles_dropped(void)
{
	return pg_atomic_read_u64(&all->roles_dropped);
}

void
apikey_stats_orphans_revoked(uint64 dropped)
{
	pg_atomic_write_u64(&my_stats()->retired, dropped);
}

/* Has the worker to look for the keys of dropped roles here? */
bool
apikey_stats_orphans_left(void)
{
	return pg_atomic_read_u64(&my_stats()->retired) <
		apikey_stats_roles_dropped();
}

/* This database is to be visited at that time, or before. */
void
apikey_stats_visit(ApikeyVisitFor what, TimestampTz at)
{
	if (all == NULL)
		return;
	pg_atomic_fetch_add_u64(&my_stats()->asked[what], 1);
	bring_visit_forward(my_stats(), what, at);
}

/*
 * How often visits were asked for: a visit of many steps that sees another
 * number at its end may have passed by what it was asked for.
 */
uint64
apikey_stats_visits_asked(ApikeyVisitFor what)
{
	return all == NULL ? 0 : pg_atomic_read_u64(&my_stats()->asked[what]);
}

/* Is there to be a visit, at some time? */
bool
apikey_stats_visit_waits(ApikeyVisitFor what)
{
	return pg_atomic_read_u64(&my_stats()->visit_at[what]) != (uint64) DT_NOEND;
}

/*
 * The worker begins its visit, if that is due, before it looks at anything.
 * If it does not come to its end, there is to be another one, again.
 */
bool
apikey_stats_begin_visit(ApikeyVisitFor what, TimestampTz again)
{
	pg_atomic_uint64 *visit_at = &my_stats()->visit_at[what];
	uint64		due = pg_atomic_read_u64(visit_at);

	while ((TimestampTz) due <= GetCurrentTimestamp())
	{
		if (pg_atomic_compare_exchange_u64(visit_at, &due, (uint64) again))
			return true;
	}
	return false;
}

/* It has come to its end: the next is then, or earlier if it was asked for. */
void
apikey_stats_end_visit(ApikeyVisitFor what, TimestampTz again,
					   TimestampTz next)
{
	uint64		expected = (uint64) again;

	(void) pg_atomic_compare_exchange_u64(&my_stats()->visit_at[what],
										  &expected, (uint64) next);
}

/* All are to be visited: the setting has changed. */
void
apikey_stats_visit_all(void)
{
	LWLockAcquire(stats_lock, LW_SHARED);
	for (int i = 0; i < all->used; i++)
	{
		if (!all->entries[i].dormant)
			visit_now(&all->entries[i]);
	}
	LWLockRelease(stats_lock);
}

/* A database that exists is to be visited, used or not. */
void
apikey_stats_add_database(Oid database)
{
	if (all != NULL)
		wake(database_stats(database));
}

/* A database has none of our tables: no worker has to look there. */
void
apikey_stats_rest_database(Oid database)
{
	DatabaseStats *stats;

	LWLockAcquire(stats_lock, LW_EXCLUSIVE);
	stats = find_entry(database);
	if (stats != NULL)
		stats->dormant = true;
	LWLockRelease(stats_lock);
}

/* A database is gone, or cannot be connected to. */
void
apikey_stats_forget_database(Oid database)
{
	DatabaseStats *stats;

	LWLockAcquire(stats_lock, LW_EXCLUSIVE);
	stats = find_entry(database);
	if (stats != NULL)
		clear_entry(stats, InvalidOid);
	LWLockRelease(stats_lock);
}

/* The databases that have to look for dropped roles, or are to be visited. */
List *
apikey_stats_due(void)
{
	uint64		dropped = apikey_stats_roles_dropped();
	TimestampTz now = GetCurrentTimestamp();
	List	   *databases = NIL;

	LWLockAcquire(stats_lock, LW_SHARED);
	for (int i = 0; i < all->used; i++)
	{
		DatabaseStats *stats = &all->entries[i];

		if (OidIsValid(stats->database) && !stats->dormant &&
			(pg_atomic_read_u64(&stats->retired) < dropped ||
			 visit_due(stats, now)))
			databases = lappend_oid(databases, stats->database);
	}
	LWLockRelease(stats_lock);
	return databases;
}

/* There is something for a worker to do in a database. */
void
apikey_stats_called(Oid database)
{
	uint64		none = 0;

	if (OidIsValid(database))
		(void) pg_atomic_compare_exchange_u64(&database_stats(database)->called_at,
											  &none, (uint64) GetCurrentTimestamp());
}

/* A worker has done all there was to be done in its own. */
void
apikey_stats_served(void)
{
	pg_atomic_write_u64(&my_stats()->called_at, 0);
}

/* Since when this database waits for a worker to be done; 0: it does not. */
TimestampTz
apikey_stats_waiting_since(void)
{
	return (TimestampTz) pg_atomic_read_u64(&my_stats()->called_at);
}

/* Of what apikey_stats_read tells, what costs nothing. */
void
apikey_stats_read_times(ApikeyStats *result)
{
	result->since = all->since;
	result->last_flush_at =
		(TimestampTz) pg_atomic_read_u64(&my_stats()->last_flush_at);
}

/* What is told of the current database; false where nothing is counted. */
bool
apikey_stats_read(ApikeyStats *result)
{
	DatabaseStats *stats;

	memset(result, 0, sizeof(*result));
	if (all == NULL)
		return false;
	stats = my_stats();
	apikey_stats_read_times(result);
	apikey_verdicts_read(stats->codes, result->codes, stats_lock);
	result->evictions = pg_atomic_read_u64(&stats->evictions);
	result->not_attributed = pg_atomic_read_u64(&stats->not_attributed);
	return true;
}
