/*
 * tally.c
 *		What keys have spent of limits, and may give back.
 *
 * A key may give back what it has spent of a limit in its present period, and
 * no more: else whoever shares a limit could refill it.  How much that is
 * stands in shared memory, in sets of a few tallies; all of a key's are in one
 * set.  Where a set is full a tally makes way that is over or, of who has more
 * of them, the one that is worth least.  A tally that is lost, with that or with
 * the server, or finds no room, gives nothing back.
 *
 * Of a quota or balance a tally is a number, which holds to the period's end.
 * Of a rate, which comes back by itself, it is a time like the limiter's own,
 * when all would be back if nobody else had taken any: what is given back is
 * the rest of that time.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/shmem.h"

#include "store/store.h"
#include "memory/memory.h"
#include "limits/done.h"
#include "limits/limits.h"
#include "limits/tally.h"

#define WAYS		16			/* tallies in a set */
#define AT_ONCE		32			/* settled while a set is locked */

typedef struct Tally
{
	ApikeyTallyTag tag;
	int64		spent;			/* and not got back; of a rate 0 */
	int64		until;			/* the period's end; of a rate, in the
								 * limiter's units, when all is back */
} Tally;

typedef struct Set
{
	slock_t		mutex;
	ApikeySetOwner owners[WAYS];	/* of the tallies, by their places */
	Tally		tallies[WAYS];
} Set;

static Set *sets = NULL;

static uint32
set_count(void)
{
	return (uint32) Max(apikey_max_tracked_keys / 8, 16);
}

static Size
memory_size(void)
{
	return apikey_sets_size(set_count(), sizeof(Set));
}

static void
start_memory(void)
{
	sets = apikey_sets_start("apikey tallies", set_count(), sizeof(Set));
}

/* A database is gone: its tallies need no room. */
static void
forget_database(Oid database)
{
	for (uint32 i = 0; i < set_count(); i++)
	{
		SpinLockAcquire(&sets[i].mutex);
		for (int way = 0; way < WAYS; way++)
		{
			if (sets[i].owners[way].database == database)
			{
				memset(&sets[i].tallies[way], 0, sizeof(Tally));
				memset(&sets[i].owners[way], 0, sizeof(ApikeySetOwner));
			}
		}
		SpinLockRelease(&sets[i].mutex);
	}
}

const ApikeyMemoryPart apikey_tally_memory = {
	.size = memory_size,
	.start = start_memory,
	.forget = forget_database
};

/* What stands for a key of this database, and a limit. */
void
apikey_tally_tag(const pg_uuid_t *key, const pg_uuid_t *limit,
				 ApikeyTallyTag *tag)
{
	ApikeySlotKey of_key = {.database = MyDatabaseId, .id = *key};

	tag->key = apikey_seeded_hash(&of_key, sizeof(of_key));
	tag->limit = apikey_seeded_hash(limit->data, UUID_LEN);
}

static Set *
set_of(const ApikeyTallyTag *tag)
{
	return &sets[(uint32) (tag->key >> 32) % set_count()];
}

/* A tally in a locked set; NULL where there is none. */
static Tally *
find_tally(Set *set, const ApikeyTallyTag *tag)
{
	for (int i = 0; i < WAYS; i++)
	{
		if (set->tallies[i].tag.limit == tag->limit &&
			set->tallies[i].tag.key == tag->key &&
			OidIsValid(set->owners[i].database))
			return &set->tallies[i];
	}
	return NULL;
}

/*
 * Is nothing lost with a tally?  Of a rate nothing is spent, and its end is in
 * the limiter's units; another of which nothing is spent any more is over, too.
 */
static bool
is_over(const Tally *tally, TimestampTz now)
{
	return tally->spent > 0 ? tally->until <= now :
		tally->until <= now * APIKEY_LIMITER_UNITS || tally->until == DT_NOEND;
}

/*
 * Where a set has room for another tally of somebody; -1: nowhere.  Of who
 * gives it, a rate's goes first.
 */
static int
find_room(const Set *set, const ApikeySetOwner *owner, TimestampTz now)
{
	ApikeySetOwner giver;
	int			over = -1;
	int			least = -1;

	for (int i = 0; i < WAYS; i++)
	{
		if (!OidIsValid(set->owners[i].database))
			return i;
		if (over < 0 && is_over(&set->tallies[i], now))
			over = i;
	}
	if (over >= 0)
		return over;
	giver = apikey_sets_giver(set->owners, WAYS, owner);
	for (int i = 0; i < WAYS; i++)
	{
		if (apikey_sets_same(&set->owners[i], &giver) &&
			(least < 0 || set->tallies[i].spent < set->tallies[least].spent))
			least = i;
	}
	return least;
}

/* The tally of what was done, made where there is none; NULL for no room. */
static Tally *
make_tally(Set *set, const ApikeyLimitDone *what, TimestampTz now)
{
	ApikeySetOwner owner = {.database = MyDatabaseId, .role = what->charged};
	Tally	   *tally = find_tally(set, &what->tag);
	int			place;

	if (tally != NULL)
		return tally;
	place = find_room(set, &owner, now);
	if (place < 0)
		return NULL;
	set->owners[place] = owner;
	tally = &set->tallies[place];
	memset(tally, 0, sizeof(*tally));
	tally->tag = what->tag;
	return tally;
}

/* What a tally holds still; of a rate a time. */
static int64
held_by(const Tally *tally, const ApikeyLimitDone *what, TimestampTz now)
{
	if (what->of_rate)
		return Max(tally->until - now * APIKEY_LIMITER_UNITS, 0);
	return tally->until == what->until ? tally->spent : 0;
}

/* Takes at most so much out of a tally; its set is locked. */
static int64
take_out(Set *set, const ApikeyLimitDone *what, int64 amount, TimestampTz now)
{
	Tally	   *tally = find_tally(set, &what->tag);
	int64		taken;

	if (tally == NULL)
		return 0;
	taken = Min(amount, held_by(tally, what, now));
	if (what->of_rate)
		tally->until -= taken;
	else
		tally->spent -= taken;
	return taken;
}

/* Adds to what a key has spent of a limit, of a rate at a time; its set is locked. */
static void
add(Set *set, const ApikeyLimitDone *what, int64 began, int64 amount,
	TimestampTz now)
{
	Tally	   *tally;

	if (amount <= 0 || (!what->of_rate && what->until <= now))
		return;
	tally = make_tally(set, what, now);
	if (tally == NULL)
		return;
	if (what->of_rate)
		tally->until = Max(tally->until, began) + amount;
	else
	{
		tally->spent = apikey_credits_sum(held_by(tally, what, now), amount);
		tally->until = what->until;
	}
}

/* Takes at most so much out of a tally; returns how much. */
int64
apikey_tally_take_out(const ApikeyLimitDone *what, int64 amount)
{
	Set		   *set = set_of(&what->tag);
	TimestampTz now = GetCurrentTimestamp();
	int64		taken;

	SpinLockAcquire(&set->mutex);
	taken = take_out(set, what, amount, now);
	SpinLockRelease(&set->mutex);
	return taken;
}

/*
 * Puts back what was taken out, of a rate what has not come back since; nothing here
 * may fail.
 */
void
apikey_tally_put_back(const ApikeyLimitDone *what)
{
	Set		   *set = set_of(&what->tag);
	TimestampTz now = GetCurrentTimestamp();
	int64		units = now * APIKEY_LIMITER_UNITS;

	SpinLockAcquire(&set->mutex);
	if (what->of_rate)
		add(set, what, units, what->undo - units, now);
	else
		add(set, what, 0, what->undo, now);
	SpinLockRelease(&set->mutex);
}

/*
 * What was spent, but for what was given back since, counts: of the first of a
 * list, and of those that follow as long as they are the same key's, and so in
 * the same set.  Of a transaction that is prepared that is so but for what was
 * spent in rows.  Nothing here may fail.
 */
void
apikey_tally_settle(ApikeyLimitDone *list, int count, bool prepared)
{
	Set		   *set = set_of(&list->tag);
	uint64		key = list->tag.key;
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&set->mutex);
	for (ApikeyLimitDone *what = list;
		 what < list + Min(count, AT_ONCE) && what->tag.key == key; what++)
	{
		int64		spent = what->pending - (prepared ? what->in_row : 0);

		if (what->kind != APIKEY_DONE_TALLY)
			continue;
		if (spent < 0)
			(void) take_out(set, what, -spent, now);
		else
			add(set, what, what->began, spent, now);
		what->kind = APIKEY_DONE_SETTLED;
	}
	SpinLockRelease(&set->mutex);
}
