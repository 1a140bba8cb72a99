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

/* A key begins to spend of its limits, of each of them once. */
void
apikey_tally_begin(void)
{
	noted_before = done_count;
}

static bool
same_tag(const ApikeyTallyTag *one, const ApikeyTallyTag *other)
{
	return one->key == other->key && one->limit == other->limit;
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

/*
 * Notes something done to a limit by this subtransaction; its state says of which
 * era and period.
 */
static ApikeyLimitDone *
note(ApikeyLimitDoneKind kind, const pg_uuid_t *key, const ApikeyBound *bound,
	 const ApikeyBoundState *state)
{
	int			level = GetCurrentTransactionNestLevel();
	TimestampTz until = period_of(bound, state);
	ApikeyTallyTag tag;
	ApikeyLimitDone *new;

	set_tag(bound, state, &tag);

	for (int i = Min(noted_before, done_count) - 1; i >= 0 &&
		 done[i].noted.level == level && i >= noted_before - APIKEY_BOUNDS_MAX; i--)
	{
		new = &done[i];
		if (new->kind == kind && kind != APIKEY_DONE_DROPPED && new->until == until &&
			same_tag(&new->tag, &tag))
			return new;
	}
	new = apikey_transaction_note(&apikey_tally_transaction);
	new->kind = kind;
	new->key = *key;
	new->limit = bound->id;
	new->tag = tag;
	new->charged = bound->charged;
	new->of_rate = bound->kind == APIKEY_LIMIT_RATE;
	new->era = (uint8) state->era;
	new->until = until;
	return new;
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
}

/* A key has spent of a unit, or given back. */
void
apikey_tally_unit(const pg_uuid_t *key, const ApikeyBound *bound, int64 amount)
{
	int			level = GetCurrentTransactionNestLevel();
	ApikeyLimitDone *new;

	for (int i = Min(noted_before, done_count) - 1; i >= 0 &&
		 done[i].noted.level == level && i >= noted_before - APIKEY_BOUNDS_MAX; i--)
	{
		if (done[i].kind == APIKEY_DONE_UNIT && strcmp(done[i].unit, bound->unit) == 0 &&
			memcmp(&done[i].key, key, sizeof(pg_uuid_t)) == 0)
		{
			done[i].pending += amount;
			return;
		}
	}
	if (amount == 0)
		return;
	new = apikey_transaction_note(&apikey_tally_transaction);
	new->kind = APIKEY_DONE_UNIT;
	new->key = *key;
	new->tag = bound->tag;
	new->charged = bound->charged;
	strlcpy(new->unit, bound->unit, sizeof(new->unit));
	new->pending = amount;
}

/* What this transaction has spent of a limit, and not given back. */
static int64
pending_of(const ApikeyLimitDone *like)
{
	int64		pending = 0;

	for (int i = 0; i < done_count; i++)
	{
		if (done[i].kind == APIKEY_DONE_TALLY && done[i].until == like->until &&
			same_tag(&done[i].tag, &like->tag))
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
	ApikeyLimitDone	   *what = note(APIKEY_DONE_TALLY, key, bound, state);
	int64		here = Min(amount, pending_of(what));
	int64		before = apikey_tally_take_out(what, amount - here);

	what->pending -= here;
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
	ApikeyBoundState state = {0};
	ApikeyLimitDone *what;
	uint64		place;

	apikey_transaction_reserve(&apikey_tally_transaction);
	/* Whoever knows a key's id can charge it, and keeps a place of its own. */
	place = apikey_mark_keep(GetUserId());
	if (place == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("too many events of limits are waiting to be written")));
	what = note(APIKEY_DONE_DROPPED, key, bound, &state);
	what->pending = dropped;
	what->place = place;
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
				apikey_tally_settle(what, done + done_count - what);
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

ApikeyTransactionPart apikey_tally_transaction = {
	.size = sizeof(ApikeyLimitDone),
	.settle = settle
};
