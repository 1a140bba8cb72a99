/*
 * done.c
 *		What a transaction has done to limits that is not final yet.
 *
 * What is spent counts in the tallies once its transaction has committed; within
 * the transaction it is known here.  What is given back is taken out of a tally at
 * once, and put back on rollback.  The rest is what a charge has done to rates: on
 * rollback that is undone, too, and a rate gets back what was given only with the
 * commit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "limits/done.h"
#include "limits/limits_internal.h"
#include "limits/mark.h"
#include "limits/tally.h"

#define ROUNDING	2			/* units of time, for a token to be whole */

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

/* Notes something done to a limit by this subtransaction. */
static ApikeyLimitDone *
note(ApikeyLimitDoneKind kind, const pg_uuid_t *key, const ApikeyBound *bound,
	 TimestampTz until)
{
	int			level = GetCurrentTransactionNestLevel();
	ApikeyLimitDone *new;

	for (int i = Min(noted_before, done_count) - 1; i >= 0 &&
		 done[i].noted.level == level && i >= noted_before - APIKEY_BOUNDS_MAX; i--)
	{
		new = &done[i];
		if (new->kind == kind && kind != APIKEY_DONE_DROPPED && new->until == until &&
			memcmp(&new->limit, &bound->id, sizeof(pg_uuid_t)) == 0 &&
			memcmp(&new->key, key, sizeof(pg_uuid_t)) == 0)
			return new;
	}
	new = apikey_transaction_note(&apikey_tally_transaction);
	new->kind = kind;
	new->key = *key;
	new->limit = bound->id;
	new->tag = bound->tag;
	new->charged = bound->charged;
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
apikey_tally_spent(const ApikeyVerdict *verdict, const ApikeyBound *bound,
				   const ApikeyBoundState *state, int64 amount)
{
	ApikeyLimitDone *what;

	if (amount <= 0 || (bound->holder == APIKEY_HOLDER_KEY &&
						bound->kind == APIKEY_LIMIT_RATE))
		return;
	what = note(APIKEY_DONE_TALLY, verdict->id, bound,
				period_of(bound, state));
	if (bound->kind == APIKEY_LIMIT_RATE)
	{
		if (what->pending == 0)
			what->began = verdict->at * APIKEY_LIMITER_UNITS;
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
	ApikeyLimitDone	   *what = note(APIKEY_DONE_TALLY, key, bound, period_of(bound, state));
	int64		here = Min(amount, pending_of(what));
	int64		before = apikey_tally_take_out(what, amount - here);

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
	int64		now = GetCurrentTimestamp() * APIKEY_LIMITER_UNITS;

	if (bound->holder != APIKEY_HOLDER_KEY)
	{
		ApikeyLimitDone	   *what = note(APIKEY_DONE_TALLY, key, bound, 0);
		int64		here = Min(time, Max(what->began + what->pending - now, 0));
		int64		before = apikey_tally_take_out(what, time - here);

		what->pending -= here;
		what->undo += before;
		time = here + before + ROUNDING;
	}
	note(APIKEY_DONE_RATE, key, bound, 0)->pending += time;
}

/* A charge has taken of a rate; on rollback that comes back. */
void
apikey_tally_rate_charged(const pg_uuid_t *key, const ApikeyBound *bound,
						  int64 taken)
{
	note(APIKEY_DONE_RATE, key, bound, 0)->undo +=
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
	ApikeyLimitDone *what;
	uint64		place;

	apikey_transaction_reserve(&apikey_tally_transaction);
	/* Whoever knows a key's id can charge it, and keeps a place of its own. */
	place = apikey_mark_keep(GetUserId());
	if (place == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("too many events of limits are waiting to be written")));
	what = note(APIKEY_DONE_DROPPED, key, bound, 0);
	what->pending = dropped;
	what->place = place;
}

/* A rate gets back what comes back by itself in that time. */
static void
give_back_to_rate(const ApikeyLimitDone *what, int64 time)
{
	if (time > 0)
		apikey_limiter_return_time(&what->limit, NULL, &what->rate,
								   GetCurrentTimestamp() * APIKEY_LIMITER_UNITS,
								   time);
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
			give_back_to_rate(what, committed ? what->pending : what->undo);
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
