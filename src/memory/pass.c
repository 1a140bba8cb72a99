/*
 * pass.c
 *		How far the worker is on its ways through rows, and through memory.
 *
 * A worker leaves its database when others wait, and another one comes there
 * later.  So what a pass has come to outlives the process, in shared memory:
 * else each would begin anew, and come to what is late in the order never.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"

#include "memory/memory.h"

#define DATABASES_MAX	1024	/* in which a pass has begun */

/* Passes that have begun, and the lock that guards them. */
typedef struct Kept
{
	LWLock	   *lock;
	int			used;			/* entries from this number on never were */
	Oid			databases[DATABASES_MAX];	/* invalid: free */
	ApikeyPass	passes[DATABASES_MAX][APIKEY_PASSES];
} Kept;

static Kept *kept = NULL;
static ApikeyPass own[APIKEY_PASSES];
static bool no_room[APIKEY_PASSES]; /* it is this process's alone */
static int	under_way = -1;		/* the pass of which a step is taken */
static ApikeyPass taken;		/* as it was before that */
static uint64 awaited = 0;		/* the round of a flush that waits for it */
static bool from_before = false;	/* it has begun before that round */

static void
make_memory(void)
{
	kept->lock = apikey_memory_lock(APIKEY_MEMORY_PASSES);
}

/* The number of a database's entry; -1 for none.  The lock is held. */
static int
find_entry(Oid database)
{
	for (int i = 0; i < kept->used; i++)
	{
		if (kept->databases[i] == database)
			return i;
	}
	return -1;
}

/* Makes one; -1 where there is no room.  The lock is held exclusively. */
static int
make_entry(Oid database)
{
	int			entry = find_entry(InvalidOid);

	if (entry < 0 && kept->used < DATABASES_MAX)
		entry = kept->used++;
	if (entry < 0)
		return -1;
	kept->databases[entry] = database;
	memset(kept->passes[entry], 0, sizeof(kept->passes[entry]));
	return entry;
}

/* A database is gone, or our tables in it: so are the rows. */
static void
forget_database(Oid database)
{
	int			entry;

	LWLockAcquire(kept->lock, LW_EXCLUSIVE);
	entry = find_entry(database);
	if (entry >= 0)
		kept->databases[entry] = InvalidOid;
	LWLockRelease(kept->lock);
}

const ApikeyMemoryPart apikey_pass_memory = {
	APIKEY_MEMORY_STRUCT("apikey passes", kept),
	.make = make_memory,
	.forget = forget_database
};

/* A step begins, which is not of a pass before it takes one. */
void
apikey_pass_begin_step(void)
{
	under_way = -1;
}

/*
 * The steps that follow are of a stage for which a round of a flush waits; 0:
 * none does.
 */
void
apikey_pass_await(uint64 round)
{
	awaited = round;
}

/* Then all is to be done, also what would wait else. */
uint64
apikey_pass_awaited(void)
{
	return awaited;
}

/* Reads how far it was kept last. */
static void
read_kept(ApikeyPassOver what)
{
	int			entry;

	LWLockAcquire(kept->lock, LW_SHARED);
	entry = find_entry(MyDatabaseId);
	if (entry >= 0)
		own[what] = kept->passes[entry][what];
	else
		own[what].begun = false;
	LWLockRelease(kept->lock);
}

/*
 * A pass of the current database as it was kept last, for its next step.  For a
 * round of a flush it begins anew, unless it has begun in that, in whichever turn
 * of the worker's: what was there before the flush may be behind it.  Where a step
 * of it has failed it goes on behind that before: it could fail there each time.
 */
ApikeyPass *
apikey_pass_take(ApikeyPassOver what)
{
	ApikeyPass *pass = &own[what];

	under_way = what;
	if (kept != NULL && !no_room[what])
		read_kept(what);
	from_before = awaited != 0 && pass->begun && pass->round != awaited;
	if (from_before && !pass->failed)
		pass->begun = from_before = false;
	taken = *pass;
	return pass;
}

/* Has none of an entry's passes begun? */
static bool
all_over(int entry)
{
	for (int i = 0; i < APIKEY_PASSES; i++)
	{
		if (kept->passes[entry][i].begun)
			return false;
	}
	return true;
}

static void
write_kept(ApikeyPassOver what)
{
	int			entry;

	LWLockAcquire(kept->lock, LW_EXCLUSIVE);
	entry = find_entry(MyDatabaseId);
	if (entry < 0 && own[what].begun)
		entry = make_entry(MyDatabaseId);
	no_room[what] = entry < 0 && own[what].begun;
	if (entry >= 0)
	{
		kept->passes[entry][what] = own[what];
		if (all_over(entry))
			kept->databases[entry] = InvalidOid;
	}
	LWLockRelease(kept->lock);
}

/*
 * Its step is over: the next one, of whatever process, is behind it.  True while
 * there is one: of this pass, or of another that a round of a flush waits for.
 */
bool
apikey_pass_keep(ApikeyPassOver what)
{
	under_way = -1;
	if (kept != NULL)
		write_kept(what);
	return own[what].begun || from_before;
}

static bool
same_place(const ApikeyPlace *one, const ApikeyPlace *other)
{
	return one->set == other->set &&
		memcmp(&one->row, &other->row, sizeof(one->row)) == 0 &&
		memcmp(one->values, other->values, sizeof(one->values)) == 0;
}

/*
 * A step of a pass may have failed, and nothing is done of it: that is left for
 * another pass, and keeps none waiting of what is behind.  Where it has not come
 * on at all it would fail there each time: the pass begins anew.
 */
void
apikey_pass_failed(void)
{
	if (under_way < 0)
		return;
	own[under_way].left = own[under_way].failed = true;
	if (own[under_way].number == taken.number &&
		same_place(&own[under_way].projects, &taken.projects) &&
		same_place(&own[under_way].place, &taken.place))
		own[under_way].begun = false;
	(void) apikey_pass_keep(under_way);
}

/* It begins, before all rows. */
void
apikey_pass_begin(ApikeyPass *pass)
{
	memset(pass, 0, sizeof(*pass));
	pass->begun = true;
	pass->round = awaited;
	pass->began_at = GetCurrentTimestamp();
	pass->next = DT_NOEND;
}

/*
 * Was something made, or changed, since a pass began?  What is later than now was so
 * before the clock was set back, or elsewhere.
 */
bool
apikey_pass_since(const ApikeyPass *pass, TimestampTz at)
{
	return at >= pass->began_at && at <= GetCurrentTimestamp();
}

/* Something may be due then. */
void
apikey_pass_next_at(ApikeyPass *pass, TimestampTz next)
{
	pass->next = Min(pass->next, next);
}
