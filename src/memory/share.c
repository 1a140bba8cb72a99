/*
 * share.c
 *		Who holds how many slots of shared memory, and who has to give way.
 *
 * A slot is held by a role, in its database: a key's by its owner or, in a project,
 * by who vouches for it, a limit's by who has made that.  Nobody else decides that
 * there is such a key or limit.  While there is room, each takes what it asks for.  Where there is none, who holds least
 * is served: the database with the most slots gives way to one that has fewer,
 * and in it the role with the most; within a database the role with the most
 * gives way to one that has fewer.  So nobody keeps more than its share while
 * another waits, and who is within its share loses nothing: whoever has the
 * most of all has more than the average, and no role can take from itself.
 *
 * A slot that is pinned, as what a transaction has done in it may be undone,
 * cannot be taken as long as that is open.  So pins are bounded: some processes'
 * first ones are free, the others are counted, and there is a part of the slots
 * that is never pinned.  Who has nothing but pinned slots is passed by, and then
 * only who has more than the average gives way.
 *
 * Nor can a slot be taken at once that has a lease: the worker gives that back.  So
 * leases are bounded, too.  While there are slots at rest, they leave a fourth of
 * all free.  Where those are scarce, a role has leases in three fourths of its
 * slots, or of what its share is, and what it has beyond is called back.  So whoever
 * has more than its share has slots that it can give.
 *
 * There are holders for half as many roles as there are slots; the roles
 * beyond share one in each database, and databases beyond a number share one.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "common/hashfn.h"
#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define DATABASES_MAX	1024	/* with a holder of their own */
#define SCARCE_FOR		USECS_PER_MINUTE	/* since it was seen */
#define OTHER_ROLES		BOOTSTRAP_SUPERUSERID	/* and keys nobody knows of */

typedef struct Holder
{
	Oid			database;
	Oid			role;			/* invalid: it stands for the database */
	int			slots;			/* 0: it is free */
	int			whole;			/* its database's holder; of which: itself */
	int			next;			/* in its bucket, or among the free; -1: none */
	int			roles;			/* that have slots in it, of a database's */
	pg_atomic_uint32 pinned;	/* of its slots; counted without "control" */
	pg_atomic_uint32 leased;	/* likewise: have a lease, or are pinned */
} Holder;

typedef struct Shares
{
	int			databases;
	int			used;			/* holders from this number on are untouched */
	int			free;			/* the first of those that are free again */
	int			free_count;		/* of both kinds */
	pg_atomic_uint32 pinned;	/* of all slots */
	pg_atomic_uint32 leased;	/* likewise */
	pg_atomic_uint64 scarce_at; /* slots at rest were, the last time */
	Holder		holders[FLEXIBLE_ARRAY_MEMBER];
} Shares;

static Shares *shares = NULL;
static int *buckets = NULL;
static LWLock *control = NULL;	/* see slot.h */

/* One for the databases and one for the roles of each that have none. */
static int
holder_count(void)
{
	return apikey_memory_keys / 2 +
		2 * Min(apikey_memory_keys, DATABASES_MAX) + 2;
}

static int
bucket_count(void)
{
	return apikey_memory_keys / 2;
}

static Size
shares_size(void)
{
	return add_size(offsetof(Shares, holders),
					mul_size(holder_count(), sizeof(Holder)));
}

static Size
memory_size(void)
{
	return add_size(add_size(shares_size(),
							 mul_size(bucket_count(), sizeof(int))),
					2 * PG_CACHE_LINE_SIZE);
}

static void
start_memory(void)
{
	bool		found;

	shares = apikey_memory_struct("apikey shares", shares_size(), &found);
	buckets = apikey_memory_struct("apikey share buckets",
							  mul_size(bucket_count(), sizeof(int)), &found);
	control = apikey_memory_lock(APIKEY_MEMORY_CONTROL);
	if (found)
		return;
	shares->databases = shares->used = 0;
	shares->free = -1;
	shares->free_count = holder_count();
	pg_atomic_init_u32(&shares->pinned, 0);
	pg_atomic_init_u32(&shares->leased, 0);
	pg_atomic_init_u64(&shares->scarce_at, 0);
	for (int i = 0; i < bucket_count(); i++)
		buckets[i] = -1;
}

const ApikeyMemoryPart apikey_share_memory = {
	.size = memory_size,
	.start = start_memory,
	.dynamic = true
};

/* Without a seed: nobody chooses the number of a role. */
static int *
bucket_of(Oid database, Oid role)
{
	return &buckets[hash_combine(murmurhash32(database), murmurhash32(role)) %
					bucket_count()];
}

/* The number of a holder; -1 where there is none. */
static int
find_holder(Oid database, Oid role)
{
	int			number = *bucket_of(database, role);

	while (number >= 0 && (shares->holders[number].database != database ||
						   shares->holders[number].role != role))
		number = shares->holders[number].next;
	return number;
}

/* Makes one; the caller has seen to it that there is room. */
static int
make_holder(Oid database, Oid role, int whole)
{
	int		   *bucket = bucket_of(database, role);
	int			number = shares->free;
	Holder	   *holder;

	if (number < 0)
		number = shares->used++;
	else
		shares->free = shares->holders[number].next;
	shares->free_count--;
	holder = &shares->holders[number];
	holder->database = database;
	holder->role = role;
	holder->slots = 0;
	holder->roles = 0;
	pg_atomic_init_u32(&holder->pinned, 0);
	pg_atomic_init_u32(&holder->leased, 0);
	holder->whole = whole < 0 ? number : whole;
	if (whole >= 0)
		shares->holders[whole].roles++;
	holder->next = *bucket;
	*bucket = number;
	return number;
}

static void
drop_holder(int number)
{
	Holder	   *holder = &shares->holders[number];
	int		   *link = bucket_of(holder->database, holder->role);

	while (*link != number)
		link = &shares->holders[*link].next;
	*link = holder->next;
	if (holder->whole != number)
		shares->holders[holder->whole].roles--;
	else if (OidIsValid(holder->database))
		shares->databases--;
	holder->next = shares->free;
	shares->free = number;
	shares->free_count++;
}

/* The holder that stands for a database, or for all beyond a number. */
static int
database_holder(Oid *database, bool make)
{
	int			number = find_holder(*database, InvalidOid);

	if (number < 0 && shares->databases >=
		Min(apikey_memory_keys, DATABASES_MAX))
	{
		*database = InvalidOid;
		number = find_holder(InvalidOid, InvalidOid);
	}
	if (number < 0 && make)
	{
		number = make_holder(*database, InvalidOid, -1);
		if (OidIsValid(*database))
			shares->databases++;
	}
	return number;
}

/* That of a role in it; of those beyond a number the same. */
static int
role_holder(Oid database, Oid role, int whole, bool make)
{
	int			number;

	/* In its database each may need that of the roles beyond. */
	int			kept = 2 * Min(apikey_memory_keys, DATABASES_MAX) + 2;

	if (!OidIsValid(role))
		role = OTHER_ROLES;
	number = find_holder(database, role);
	if (number < 0 && shares->free_count <= kept)
	{
		role = OTHER_ROLES;
		number = find_holder(database, role);
	}
	if (number < 0 && make)
		number = make_holder(database, role, whole);
	return number;
}

/* Charges a slot to a role; returns its holder, for the slot to keep. */
int
apikey_share_charge(Oid database, Oid role)
{
	int			whole = database_holder(&database, true);
	int			number = role_holder(database, role, whole, true);

	shares->holders[whole].slots++;
	shares->holders[number].slots++;
	return number;
}

void
apikey_share_discharge(int number)
{
	int			whole = shares->holders[number].whole;

	if (--shares->holders[number].slots == 0)
		drop_holder(number);
	if (--shares->holders[whole].slots == 0)
		drop_holder(whole);
}

static int
slots_of(int number)
{
	return number < 0 ? 0 : shares->holders[number].slots;
}

/* Is a holder one of those that can give nothing? */
static bool
is_stuck(int number, const ApikeyStuck *stuck)
{
	bool		found = shares->holders[number].slots <=
		(int) pg_atomic_read_u32(&shares->holders[number].pinned);

	for (int i = 0; i < stuck->count && !found; i++)
		found = stuck->holders[i] == number;
	return found;
}

/*
 * The database with the most slots or, in a database, the role with the most,
 * of those that can give some; -1 where these have less than the average.
 */
static int
greatest(int whole, const ApikeyStuck *stuck)
{
	int			most = -1;
	int			count = 0;
	int64		slots = 0;

	for (int i = 0; i < shares->used; i++)
	{
		const Holder *holder = &shares->holders[i];
		bool		wanted = whole < 0 ? holder->whole == i :
			holder->whole == whole && i != whole;

		if (!wanted || holder->slots == 0)
			continue;
		count++;
		slots += holder->slots;
		if (holder->slots > slots_of(most) && !is_stuck(i, stuck))
			most = i;
	}
	return most >= 0 && (int64) slots_of(most) * count >= slots ? most : -1;
}

static int
find_giver(Oid database, Oid role, ApikeyStuck *stuck)
{
	int			mine = database_holder(&database, false);
	int			most;
	int			giver;

	while ((most = greatest(-1, stuck)) >= 0 && slots_of(most) > slots_of(mine) + 1)
	{
		giver = greatest(most, stuck);
		if (giver >= 0)
			return giver;
		if (stuck->count == APIKEY_STUCK_MAX)
			return -1;
		stuck->holders[stuck->count++] = most;
	}
	if (mine < 0)
		return -1;
	giver = greatest(mine, stuck);
	return slots_of(giver) > slots_of(role_holder(database, role, mine, false)) + 1 ?
		giver : -1;
}

/*
 * The holder that has to give up one of its slots to a role; -1 where none
 * has: the role has its share.
 */
int
apikey_share_giver(Oid database, Oid role, ApikeyStuck *stuck)
{
	int			giver;

	LWLockAcquire(control, LW_SHARED);
	giver = find_giver(database, role, stuck);
	LWLockRelease(control);
	return giver;
}

/* How many slots may be pinned in all, but for those that are not counted. */
static int
pins_room(void)
{
	return apikey_memory_keys / 4 * 3;
}

/* How many a process may pin that are not counted: an eighth for all of them. */
int
apikey_share_free_pins(void)
{
	return apikey_memory_keys / 8 / MaxBackends;
}

/* May another slot of a holder be pinned?  The slot's mutex is held. */
bool
apikey_share_may_pin(int number)
{
	Holder	   *holder = &shares->holders[number];
	Holder	   *whole = &shares->holders[holder->whole];

	return apikey_share_leaves_room(pins_room(),
									(int) pg_atomic_read_u32(&shares->pinned),
									(int) pg_atomic_read_u32(&whole->pinned),
									(int) pg_atomic_read_u32(&holder->pinned));
}

/* One more is pinned, or one fewer. */
void
apikey_share_pin(int number)
{
	Holder	   *holder = &shares->holders[number];

	pg_atomic_fetch_add_u32(&shares->pinned, 1);
	pg_atomic_fetch_add_u32(&shares->holders[holder->whole].pinned, 1);
	pg_atomic_fetch_add_u32(&holder->pinned, 1);
}

void
apikey_share_unpin(int number)
{
	Holder	   *holder = &shares->holders[number];

	pg_atomic_fetch_sub_u32(&shares->pinned, 1);
	pg_atomic_fetch_sub_u32(&shares->holders[holder->whole].pinned, 1);
	pg_atomic_fetch_sub_u32(&holder->pinned, 1);
}

/* Hardly any slot is at rest. */
void
apikey_share_scarce(TimestampTz now)
{
	pg_atomic_write_u64(&shares->scarce_at, (uint64) now);
}

static bool
is_scarce(TimestampTz now)
{
	TimestampTz at = (TimestampTz) pg_atomic_read_u64(&shares->scarce_at);

	return now >= at && now - at < SCARCE_FOR;
}

/* In how many of its slots a holder may have leases, where those at rest are scarce. */
static int
lease_room(const Holder *holder)
{
	int			share = apikey_memory_keys / Max(shares->databases, 1) /
		Max(shares->holders[holder->whole].roles, 1);

	return Max((int) ((int64) Max(holder->slots, share) * 3 / 4), 1);
}

/* May another slot of a holder have a lease? */
bool
apikey_share_may_lease(int number, TimestampTz now)
{
	Holder	   *holder = &shares->holders[number];

	return (int) pg_atomic_read_u32(&holder->leased) < lease_room(holder) ||
		(!is_scarce(now) &&
		 (int) pg_atomic_read_u32(&shares->leased) < apikey_memory_keys / 4 * 3);
}

/* How many leases of a holder are to be called back; nothing is locked. */
int
apikey_share_leases_beyond(int number, TimestampTz now)
{
	Holder	   *holder = &shares->holders[number];

	return is_scarce(now) ? (int) pg_atomic_read_u32(&holder->leased) -
		lease_room(holder) : 0;
}

/* One more has a lease, or one fewer. */
void
apikey_share_lease(int number)
{
	pg_atomic_fetch_add_u32(&shares->leased, 1);
	pg_atomic_fetch_add_u32(&shares->holders[number].leased, 1);
}

void
apikey_share_unlease(int number)
{
	pg_atomic_fetch_sub_u32(&shares->leased, 1);
	pg_atomic_fetch_sub_u32(&shares->holders[number].leased, 1);
}

/* A role's holder; -1 where it has no slot. */
int
apikey_share_holder(Oid database, Oid role)
{
	int			holder;

	LWLockAcquire(control, LW_SHARED);
	holder = database_holder(&database, false);
	if (holder >= 0)
		holder = role_holder(database, role, holder, false);
	LWLockRelease(control);
	return holder;
}

/* In whose name a slot is charged. */
Oid
apikey_share_role(int number)
{
	return shares->holders[number].role;
}

/*
 * How many slots are held in a database, or in all; -1 where the database has
 * no holder of its own.
 */
int
apikey_share_count(Oid database)
{
	int			number = find_holder(database, InvalidOid);
	int			count = 0;

	if (OidIsValid(database) && number < 0 && shares->databases >=
		Min(apikey_memory_keys, DATABASES_MAX))
		return -1;
	if (OidIsValid(database))
		return slots_of(number);
	for (int i = 0; i < shares->used; i++)
	{
		if (shares->holders[i].whole == i)
			count += shares->holders[i].slots;
	}
	return count;
}
