/*
 * done.c
 *		What a transaction has done to limits that is not final yet.
 *
 * What is spent counts in the tallies once its transaction has committed; within
 * the transaction it is known here.  What is given back is taken out of a tally at
 * once, and put back on rollback.  The rest is what a charge has done to rates: on
 * rollback that is undone, too, and a rate gets back what was given only with the
 * commit.  Until then part of it has come back by itself, and that is not given
 * back once more.
 *
 * What a subtransaction does to the same again goes into the same note: there are
 * never more notes than limits and subtransactions, however much is verified.
 *
 * What was spent in memory is final at PREPARE.  What was spent in an account's
 * row is undone by ROLLBACK PREPARED, of which nobody tells us: so when it is
 * prepared it does not count, and cannot be given back, whatever comes of it.
 *
 * A limit that begins anew is another one in all of that: a rate in another era, a
 * quota with another period, and credits that are set anew.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "limits/done.h"
#include "limits/limits_internal.h"
#include "limits/mark.h"
#include "limits/tally.h"

/* What this transaction has noted, and how many. */
#define done		((ApikeyLimitDone *) apikey_tally_transaction.noted)
#define done_count	(apikey_tally_transaction.count)

/* How much had been noted before a key's limits: they are not among each other. */
static int	noted_before = 0;

/* The number of the note that was looked for last. */
static int	found_last = 0;

/* A key begins to spend of its limits, of each of them once. */
void
apikey_tally_begin(void)
{
	noted_before = done_count;
}

/* The end of the period that a limit is in; of a rate 0. */
static TimestampTz
period_of(const ApikeyBound *bound, const ApikeyBoundState *state)
{
	if (bound->kind == APIKEY_LIMIT_RATE)
		return 0;
	return state->resets_at == 0 ? DT_NOEND : state->resets_at;
}

/*
 * What stands for a key and a limit of an era.  Of a quota or balance that has a row,
 * that changes with its period alone: what was spent stays spent when there is less.
 */
static void
set_tag(const ApikeyBound *bound, const ApikeyBoundState *state,
		ApikeyTallyTag *tag)
{
	bool		by_row = bound->kind != APIKEY_LIMIT_RATE && !bound->short_form;

	*tag = bound->tag;
	tag->limit = hash_combine64(tag->limit,
								(uint64) (by_row ? bound->starts_at : state->era));
}

/* What a charge could not take is told of each time; all else is noted once. */
static bool
is_noted_once(const void *noted)
{
	return ((const ApikeyLimitDone *) noted)->kind != APIKEY_DONE_DROPPED;
}

static uint32
hash_note(const void *like)
{
	const ApikeyLimitDone *what = like;
	uint64		of = what->kind == APIKEY_DONE_UNIT ?
		hash_bytes((const unsigned char *) what->unit, (int) strlen(what->unit)) :
		hash_combine64(what->tag.limit, (uint64) what->until);

	return (uint32) hash_combine64(what->tag.key ^ (uint64) what->kind, of);
}

/* Is something done to the same: the same unit, or limit in its era and period? */
static bool
same_note(const void *noted, const void *like)
{
	const ApikeyLimitDone *one = noted;
	const ApikeyLimitDone *other = like;

	if (one->kind != other->kind || one->tag.key != other->tag.key)
		return false;
	return one->kind == APIKEY_DONE_UNIT ?
		strcmp(one->unit, other->unit) == 0 &&
		memcmp(&one->key, &other->key, sizeof(pg_uuid_t)) == 0 :
		one->tag.limit == other->tag.limit && one->until == other->until;
}

static ApikeyLastNotes last = {
	.part = &apikey_tally_transaction,
	.few = 32,
	.sought = is_noted_once,
	.hash = hash_note,
	.same = same_note
};

/*
 * The number of the last note of the same, among some; 0 for none.  Keys are
 * verified in turns, so what follows what was found last is looked at first.
 */
static int
find_last(const ApikeyLimitDone *like)
{
	int			number = found_last < done_count ? found_last + 1 : 1;

	if (!done[number - 1].superseded && same_note(&done[number - 1], like))
		return number;
	if (last.numbers != NULL)
		return apikey_last_note(&last, like);
	for (number = Min(noted_before, done_count); number > 0; number--)
	{
		if (same_note(&done[number - 1], like))
			break;
	}
	return number;
}

/*
 * What this subtransaction has noted of the same, or a new note, which is to be
 * filled in further.
 */
static inline ApikeyLimitDone *
note_once(const ApikeyLimitDone *like)
{
	int			before = Min(noted_before, done_count) > 0 ? find_last(like) : 0;
	ApikeyLimitDone *new;

	found_last = before;
	if (before > 0 &&
		done[before - 1].noted.level == GetCurrentTransactionNestLevel())
		return &done[before - 1];
	if (done_count >= last.few)
		apikey_last_notes_reserve(&last);
	new = apikey_transaction_note(&apikey_tally_transaction);
	new->kind = like->kind;
	new->tag = like->tag;
	new->until = like->until;
	if (like->kind == APIKEY_DONE_UNIT)
	{
		new->key = like->key;
		memcpy(new->unit, like->unit, sizeof(new->unit));
	}
	new->noted.before = before;
	if (before > 0)
		done[before - 1].superseded = true;
	apikey_last_notes_add(&last, new);
	found_last = done_count;
	return new;
}

/*
 * Notes something done to a limit by this subtransaction; its state says of which
 * era and period.
 */
static ApikeyLimitDone *
note(ApikeyLimitDoneKind kind, const pg_uuid_t *key, const ApikeyBound *bound,
	 const ApikeyBoundState *state)
{
	ApikeyLimitDone like;
	ApikeyLimitDone *what;

	like.kind = kind;
	like.until = period_of(bound, state);
	set_tag(bound, state, &like.tag);
	what = note_once(&like);
	what->key = *key;
	what->limit = bound->id;
	what->charged = bound->charged;
	what->of_rate = bound->kind == APIKEY_LIMIT_RATE;
	what->era = (uint8) state->era;
	return what;
}

/* Of a rate so much more is out from a time on, and all back then. */
static int64
out_until(int64 until, int64 now, int64 time)
{
	return Max(until, now) + time;
}

/*
 * A key has spent of a limit.  Of a rate of its own no tally is needed: what is
 * out is its own; nor of one that servers share, where these are tokens, of which
 * nothing comes back.
 */
void
apikey_tally_spent(const ApikeyVerdict *verdict, const ApikeyBound *bound,
				   const ApikeyBoundState *state, int64 amount)
{
	int64		at = verdict->at * APIKEY_LIMITER_UNITS;
	ApikeyLimitDone *what;

	if (amount <= 0 || (bound->kind == APIKEY_LIMIT_RATE &&
						(bound->holder == APIKEY_HOLDER_KEY ||
						 (bound->shared && apikey_fleet_limits_elsewhere()))))
		return;
	what = note(APIKEY_DONE_TALLY, verdict->id, bound, state);
	if (bound->kind == APIKEY_LIMIT_RATE)
	{
		if (what->began + what->pending <= at)
		{
			what->began = at;
			what->pending = 0;
		}
		amount = apikey_limiter_time(&bound->rate, amount);
	}
	what->pending += amount;
	if (state->in_row)
		what->in_row += amount;
}

/* A key has spent of a unit, or given back. */
void
apikey_tally_unit(const pg_uuid_t *key, const ApikeyBound *bound, int64 amount)
{
	ApikeyLimitDone like;
	ApikeyLimitDone *what;

	if (amount == 0)
		return;
	like.kind = APIKEY_DONE_UNIT;
	like.key = *key;
	like.tag = bound->tag;
	like.until = 0;
	StaticAssertStmt(sizeof(like.unit) == sizeof(bound->unit), "a unit is copied whole");
	memcpy(like.unit, bound->unit, sizeof(like.unit));
	what = note_once(&like);
	what->charged = bound->charged;
	what->pending += amount;
}

/*
 * What this transaction has spent of a limit, and not given back; and how much of
 * it in memory.
 */
static int64
pending_of(const ApikeyLimitDone *what, int64 *in_memory)
{
	int64		pending = what->pending;

	*in_memory = what->pending - what->in_row;
	while (what->noted.before > 0)
	{
		what = &done[what->noted.before - 1];
		pending += what->pending;
		*in_memory += what->pending - what->in_row;
	}
	return Max(pending, 0);
}

/*
 * A key gives back of a quota or balance: at most so much; returns how much it
 * had spent of that, and says how much of it in the row, in this transaction.
 */
int64
apikey_tally_take(const pg_uuid_t *key, const ApikeyBound *bound,
				  const ApikeyBoundState *state, int64 amount, int64 *of_row)
{
	ApikeyLimitDone	   *what = note(APIKEY_DONE_TALLY, key, bound, state);
	int64		in_memory;
	int64		here = Min(amount, pending_of(what, &in_memory));
	int64		before = apikey_tally_take_out(what, amount - here);

	*of_row = Max(here - in_memory, 0);
	what->pending -= here;
	what->in_row -= *of_row;
	what->undo += before;
	return here + before;
}

/*
 * The same of a rate, which gets it back with the commit; its state says when all
 * that is out of it would be back.  Of what this transaction has spent, only what its
 * innermost subtransaction has counts.
 */
void
apikey_tally_give_back_rate(const pg_uuid_t *key, const ApikeyBound *bound,
							const ApikeyRateState *rate, int64 amount)
{
	ApikeyBoundState state = {.era = rate->era};
	int64		now = GetCurrentTimestamp() * APIKEY_LIMITER_UNITS;
	int64		time = Min(apikey_limiter_time(&bound->rate, amount),
						   Max(rate->reset - now, 0));
	ApikeyLimitDone *what;

	if (time > 0 && bound->holder != APIKEY_HOLDER_KEY)
	{
		int64		here;
		int64		before;

		what = note(APIKEY_DONE_TALLY, key, bound, &state);
		here = Min(time, Max(what->began + what->pending - now, 0));
		before = apikey_tally_take_out(what, time - here);
		what->pending -= here;
		if (before > 0)
			what->undo = out_until(what->undo, now, before);
		time = here + before;
	}
	if (time == 0)
		return;
	what = note(APIKEY_DONE_RATE, key, bound, &state);
	what->pending = out_until(what->pending, now, time);
}

/* A charge has taken of a rate; on rollback that comes back. */
void
apikey_tally_rate_charged(const ApikeyVerdict *verdict, const ApikeyBound *bound,
						  const ApikeyBoundState *state, int64 taken)
{
	ApikeyLimitDone *what = note(APIKEY_DONE_RATE, verdict->id, bound, state);

	what->undo = out_until(what->undo, verdict->at * APIKEY_LIMITER_UNITS,
						   apikey_limiter_time(&bound->rate, taken));
}

/*
 * A charge could not take so much.  With the commit that is told of; where
 * there is no room for it, the charge cannot be made.
 */
void
apikey_tally_dropped(const pg_uuid_t *key, const ApikeyBound *bound,
					 int64 dropped)
{
	ApikeyLimitDone *what;
	uint64		place;

	apikey_transaction_reserve(&apikey_tally_transaction);
	/* Whoever knows a key's id can charge it, and keeps a place of its own. */
	place = apikey_mark_keep(GetUserId());
	if (place == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("too many events of limits are waiting to be written")));
	what = apikey_transaction_note(&apikey_tally_transaction);
	what->kind = APIKEY_DONE_DROPPED;
	what->key = *key;
	what->limit = bound->id;
	what->pending = dropped;
	what->place = place;
}

/* A note goes with its subtransaction: the one before it is the last again. */
static void
forget_note(const void *noted)
{
	const ApikeyLimitDone *what = noted;

	apikey_last_notes_undo(&last, what);
	if (what->noted.before > 0)
		done[what->noted.before - 1].superseded = false;
}

/* It is final, or undone.  Nothing here may fail. */
static void
settle(void *noted, ApikeyEnd end)
{
	ApikeyLimitDone *what = noted;
	bool		committed = end != APIKEY_END_ROLLBACK;

	switch (what->kind)
	{
		case APIKEY_DONE_TALLY:
			if (committed)
				apikey_tally_settle(what, done + done_count - what,
									end == APIKEY_END_PREPARE);
			else
				apikey_tally_put_back(what);
			break;
		case APIKEY_DONE_RATE:
			apikey_limiter_return_until(&what->limit, what->era,
										committed ? what->pending : what->undo);
			break;
		case APIKEY_DONE_DROPPED:
			if (committed)
				apikey_mark_overdrawn(what->place, &what->limit, &what->key,
									  what->pending);
			else
				apikey_mark_release(what->place);
			break;
		case APIKEY_DONE_UNIT:
			if (committed)
				apikey_history_spent(&what->key, what->charged, what->unit,
									 what->pending);
			break;
		case APIKEY_DONE_SETTLED:
			break;
	}
}

static void
forget_places(ApikeyEnd end pg_attribute_unused())
{
	last.numbers = NULL;
}

ApikeyTransactionPart apikey_tally_transaction = {
	.size = sizeof(ApikeyLimitDone),
	.settle = settle,
	.leave = forget_note,
	.end = forget_places
};
