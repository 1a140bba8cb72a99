/*
 * tally.c
 *		What keys have spent of limits, and may give back; and what a
 *		transaction has done to limits that is not final yet.
 *
 * A key may give back what it has spent of a limit in its present period, and
 * no more: else whoever shares a limit could refill it.  How much that is
 * stands in shared memory, in sets of a few tallies; all of a key's are in one
 * set.  Where a set is full the tally that is worth least makes way.  A tally
 * that is lost, with that or with the server, gives nothing back.
 *
 * Of a quota or balance a tally is a number, which holds to the period's end.
 * Of a rate, which comes back by itself, it is a time like the limiter's own,
 * when all would be back if nobody else had taken any: what is given back is
 * the rest of that time.
 *
 * What is spent counts here once its transaction has committed; within the
 * transaction it is known beside.  What is given back is taken out of a tally
 * at once, and put back on rollback.  The rest of this list is what a charge
 * has done to rates: on rollback that is undone, too, and a rate gets back what
 * was given only with the commit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "common/int.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/memutils.h"

#include "credits/credit.h"
#include "usage/history.h"
#include "limits/mark.h"
#include "limits/tally.h"
#include "usage/usage.h"

#define WAYS		16			/* tallies in a set */
#define ROUNDING	2			/* units of time, for a token to be whole */

typedef struct Tally
{
	uint64		key;			/* what stands for key and limit; 0: free */
	uint64		limit;
	int64		spent;			/* and not got back; of a rate 0 */
	int64		until;			/* the period's end; of a rate, in the
								 * limiter's units, when all is back */
} Tally;

typedef struct Set
{
	slock_t		mutex;
	Tally		tallies[WAYS];
} Set;

typedef struct Shared
{
	uint32		count;
	Set			sets[FLEXIBLE_ARRAY_MEMBER];
} Shared;

typedef enum DoneKind
{
	DONE_TALLY,					/* spent, or taken out of the tally */
	DONE_RATE,					/* what is given back to a rate, as a time */
	DONE_DROPPED,				/* what a charge could not take */
	DONE_UNIT					/* spent of a unit, for the history */
} DoneKind;

/* What a transaction has done, as long as it may be undone. */
typedef struct Done
{
	DoneKind	kind;
	int			level;			/* of the subtransaction */
	pg_uuid_t	key;
	pg_uuid_t	limit;
	char		unit[APIKEY_UNIT_MAX + 1];
	bool		of_rate;
	ApikeyRate	rate;
	TimestampTz until;			/* the period's end; of a rate 0 */
	int64		began;			/* of a rate, when it was spent of first */
	int64		pending;		/* happens with the commit */
	int64		undo;			/* happens with the rollback */
} Done;

static Shared *shared = NULL;
static Done *done = NULL;		/* in TopTransactionContext; levels rise */
static int	done_count = 0;
static int	done_room = 0;

static uint32
set_count(void)
{
	return (uint32) Max(apikey_max_tracked_keys / 8, 16);
}

Size
apikey_tally_size(void)
{
	return add_size(offsetof(Shared, sets), mul_size(set_count(), sizeof(Set)));
}

void
apikey_tally_start(void)
{
	bool		found;

	shared = ShmemInitStruct("apikey tallies", apikey_tally_size(), &found);
	if (found)
		return;
	shared->count = set_count();
	memset(shared->sets, 0, mul_size(shared->count, sizeof(Set)));
	for (uint32 i = 0; i < shared->count; i++)
		SpinLockInit(&shared->sets[i].mutex);
}

/* What stands for a key of this database; never 0. */
static uint64
key_tag(const pg_uuid_t *key)
{
	return hash_bytes_extended(key->data, UUID_LEN, MyDatabaseId) | 1;
}

static uint64
limit_tag(const pg_uuid_t *limit)
{
	return hash_bytes_extended(limit->data, UUID_LEN, 0);
}

static Set *
set_of(uint64 key)
{
	return &shared->sets[(uint32) (key >> 32) % shared->count];
}

/* A tally in a locked set; NULL where there is none. */
static Tally *
find_tally(Set *set, uint64 key, uint64 limit)
{
	for (int i = 0; i < WAYS; i++)
	{
		if (set->tallies[i].key == key && set->tallies[i].limit == limit)
			return &set->tallies[i];
	}
	return NULL;
}

/* The same, made where there is none. */
static Tally *
make_tally(Set *set, uint64 key, uint64 limit)
{
	Tally	   *tally = find_tally(set, key, limit);
	Tally	   *least = &set->tallies[0];

	if (tally != NULL)
		return tally;
	for (int i = 0; i < WAYS; i++)
	{
		tally = &set->tallies[i];
		if (tally->key == 0)
		{
			least = tally;
			break;
		}
		if (tally->spent < least->spent)
			least = tally;
	}
	memset(least, 0, sizeof(*least));
	least->key = key;
	least->limit = limit;
	return least;
}

static int64
now_of(const Done *what)
{
	return GetCurrentTimestamp() * (what->of_rate ? APIKEY_LIMITER_UNITS : 1);
}

/* What a tally holds still; of a rate a time. */
static int64
held_by(const Tally *tally, const Done *what, int64 now)
{
	if (what->of_rate)
		return Max(tally->until - now, 0);
	return tally->until == what->until ? tally->spent : 0;
}

/* Takes at most so much out of a tally; returns how much. */
static int64
take_out_of_tally(const Done *what, int64 amount)
{
	uint64		key = key_tag(&what->key);
	Set		   *set = set_of(key);
	int64		now = now_of(what);
	int64		taken = 0;
	Tally	   *tally;

	SpinLockAcquire(&set->mutex);
	tally = find_tally(set, key, limit_tag(&what->limit));
	if (tally != NULL)
	{
		taken = Min(amount, held_by(tally, what, now));
		if (what->of_rate)
			tally->until -= taken;
		else
			tally->spent -= taken;
	}
	SpinLockRelease(&set->mutex);
	return taken;
}

/* Adds to what a key has spent of a limit; nothing here may fail. */
static void
add_to_tally(const Done *what, int64 amount)
{
	uint64		key = key_tag(&what->key);
	Set		   *set = set_of(key);
	int64		now = now_of(what);
	Tally	   *tally;

	if (amount <= 0 || (!what->of_rate && what->until <= now))
		return;
	SpinLockAcquire(&set->mutex);
	tally = make_tally(set, key, limit_tag(&what->limit));
	if (what->of_rate)
		tally->until = Max(tally->until, what->began) + amount;
	else
	{
		tally->spent = apikey_credits_sum(held_by(tally, what, now), amount);
		tally->until = what->until;
	}
	SpinLockRelease(&set->mutex);
}

static void
make_room(void)
{
	if (done == NULL)
	{
		done_room = 16;
		done = MemoryContextAlloc(TopTransactionContext,
								  done_room * sizeof(Done));
	}
	else if (done_count == done_room)
	{
		done = repalloc_huge(done, (Size) done_room * 2 * sizeof(Done));
		done_room *= 2;
	}
}

/* Notes something done to a limit by this subtransaction. */
static Done *
note(DoneKind kind, const pg_uuid_t *key, const ApikeyBound *bound,
	 TimestampTz until)
{
	int			level = GetCurrentTransactionNestLevel();
	Done	   *new;

	for (int i = done_count - 1; i >= 0 && done[i].level == level &&
		 i >= done_count - APIKEY_BOUNDS_MAX; i--)
	{
		new = &done[i];
		if (new->kind == kind && kind != DONE_DROPPED && new->until == until &&
			memcmp(&new->limit, &bound->id, sizeof(pg_uuid_t)) == 0 &&
			memcmp(&new->key, key, sizeof(pg_uuid_t)) == 0)
			return new;
	}
	make_room();
	new = &done[done_count++];
	memset(new, 0, sizeof(*new));
	new->kind = kind;
	new->level = level;
	new->key = *key;
	new->limit = bound->id;
	new->of_rate = bound->kind == APIKEY_LIMIT_RATE;
	new->rate = bound->rate;
	new->until = until;
	return new;
}

static TimestampTz
period_of(const ApikeyBound *bound, const ApikeyBoundState *state)
{
	if (bound->kind == APIKEY_LIMIT_RATE)
		return 0;
	return state->resets_at == 0 ? DT_NOEND : state->resets_at;
}

/*
 * A key has spent of a limit.  Of a rate of its own no tally is needed: what is
 * out is its own.
 */
void
apikey_tally_spent(const pg_uuid_t *key, const ApikeyBound *bound,
				   const ApikeyBoundState *state, int64 amount)
{
	Done	   *what;

	if (amount <= 0 || (bound->holder == APIKEY_HOLDER_KEY &&
						bound->kind == APIKEY_LIMIT_RATE))
		return;
	what = note(DONE_TALLY, key, bound, period_of(bound, state));
	if (bound->kind == APIKEY_LIMIT_RATE)
	{
		if (what->pending == 0)
			what->began = now_of(what);
		amount = apikey_limiter_time(&bound->rate, amount);
	}
	what->pending += amount;
}

/* A key has spent of a unit, or given back. */
void
apikey_tally_unit(const pg_uuid_t *key, const char *unit, int64 amount)
{
	int			level = GetCurrentTransactionNestLevel();
	Done	   *new;

	for (int i = done_count - 1; i >= 0 && done[i].level == level &&
		 i >= done_count - APIKEY_BOUNDS_MAX; i--)
	{
		if (done[i].kind == DONE_UNIT && strcmp(done[i].unit, unit) == 0 &&
			memcmp(&done[i].key, key, sizeof(pg_uuid_t)) == 0)
		{
			done[i].pending += amount;
			return;
		}
	}
	if (amount == 0)
		return;
	make_room();
	new = &done[done_count++];
	memset(new, 0, sizeof(*new));
	new->kind = DONE_UNIT;
	new->level = level;
	new->key = *key;
	strlcpy(new->unit, unit, sizeof(new->unit));
	new->pending = amount;
}

/* What this transaction has spent of a limit, and not given back. */
static int64
pending_of(const Done *like)
{
	int64		pending = 0;

	for (int i = 0; i < done_count; i++)
	{
		if (done[i].kind == DONE_TALLY && done[i].until == like->until &&
			memcmp(&done[i].limit, &like->limit, sizeof(pg_uuid_t)) == 0 &&
			memcmp(&done[i].key, &like->key, sizeof(pg_uuid_t)) == 0)
			pending += done[i].pending;
	}
	return Max(pending, 0);
}

/*
 * A key gives back of a quota or balance: at most so much; returns how much it
 * had spent of that.
 */
int64
apikey_tally_take(const pg_uuid_t *key, const ApikeyBound *bound,
				  const ApikeyBoundState *state, int64 amount)
{
	Done	   *what = note(DONE_TALLY, key, bound, period_of(bound, state));
	int64		here = Min(amount, pending_of(what));
	int64		before = take_out_of_tally(what, amount - here);

	what->pending -= here;
	what->undo += before;
	return here + before;
}

/*
 * The same of a rate, which gets it back with the commit.  Of what this
 * transaction has spent, only what its innermost subtransaction has counts.
 */
void
apikey_tally_give_back_rate(const pg_uuid_t *key, const ApikeyBound *bound,
							int64 amount)
{
	int64		time = apikey_limiter_time(&bound->rate, amount);

	if (bound->holder != APIKEY_HOLDER_KEY)
	{
		Done	   *what = note(DONE_TALLY, key, bound, 0);
		int64		here = Min(time, Max(what->began + what->pending - now_of(what), 0));
		int64		before = take_out_of_tally(what, time - here);

		what->pending -= here;
		what->undo += before;
		time = here + before + ROUNDING;
	}
	note(DONE_RATE, key, bound, 0)->pending += time;
}

/* A charge has taken of a rate; on rollback that comes back. */
void
apikey_tally_rate_charged(const pg_uuid_t *key, const ApikeyBound *bound,
						  int64 taken)
{
	note(DONE_RATE, key, bound, 0)->undo +=
		apikey_limiter_time(&bound->rate, taken);
}

/*
 * A charge could not take so much.  With the commit that is told of; where
 * there is no room for it, the charge cannot be made.
 */
void
apikey_tally_dropped(const pg_uuid_t *key, const ApikeyBound *bound,
					 int64 dropped)
{
	make_room();
	if (!apikey_mark_reserve())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("too many events of limits are waiting to be written")));
	note(DONE_DROPPED, key, bound, 0)->pending = dropped;
}

/* A rate gets back what comes back by itself in that time. */
static void
give_back_to_rate(const Done *what, int64 time)
{
	LWLock	   *lock;
	ApikeySlot *slot;

	if (time <= 0)
		return;
	slot = apikey_slot_find(MyDatabaseId, &what->limit, NULL, &lock);
	if (slot == NULL)
		return;
	apikey_limiter_return_time(slot, &what->rate, now_of(what), time);
	LWLockRelease(lock);
}

/*
 * What was spent, but for what was given back since, counts with the commit; on
 * rollback what was taken out of the tally is there again.
 */
static void
settle_tally(const Done *what, bool committed)
{
	if (!committed)
		add_to_tally(what, what->undo);
	else if (what->pending < 0)
		(void) take_out_of_tally(what, -what->pending);
	else
		add_to_tally(what, what->pending);
}

/* It is final, or undone.  Nothing here may fail. */
static void
settle(const Done *what, bool committed)
{
	switch (what->kind)
	{
		case DONE_TALLY:
			settle_tally(what, committed);
			break;
		case DONE_RATE:
			give_back_to_rate(what, committed ? what->pending : what->undo);
			break;
		case DONE_DROPPED:
			if (committed)
				apikey_mark_overdrawn(&what->limit, &what->key, what->pending);
			else
				apikey_mark_release();
			break;
		case DONE_UNIT:
			if (committed)
				apikey_history_spent(MyDatabaseId, &what->key, what->unit,
									 what->pending);
			break;
	}
}

static void
settle_all(bool committed)
{
	for (int i = 0; i < done_count; i++)
		settle(&done[i], committed);
	done = NULL;
	done_count = 0;
}

static void
on_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			settle_all(true);
			break;
		case XACT_EVENT_ABORT:
			settle_all(false);
			break;
		default:
			break;
	}
}

static void
on_subtransaction_end(SubXactEvent event,
					  SubTransactionId subid pg_attribute_unused(),
					  SubTransactionId parent pg_attribute_unused(),
					  void *arg pg_attribute_unused())
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (done_count > 0 && done[done_count - 1].level >= level)
			settle(&done[--done_count], false);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = done_count - 1; i >= 0 && done[i].level >= level; i--)
			done[i].level = level - 1;
	}
}

/* Once, when the library is loaded. */
void
apikey_tally_init(void)
{
	RegisterXactCallback(on_transaction_end, NULL);
	RegisterSubXactCallback(on_subtransaction_end, NULL);
}
