/*
 * credit.c
 *		Spending credits, and what the worker does for it.
 *
 * Where there is a lease, or the worker can be asked for one, a verification
 * spends of it and writes nothing.  Otherwise it updates the row: where its own
 * transaction has written that, which the worker cannot see; without the
 * library preloaded; and where no worker can be had.  It never raises, and
 * waits for the worker and for a row's lock no longer than a verification may
 * wait in all: so it looks whether a row is free instead of queueing for it.
 *
 * A lease is at most apikey.credits_lease, or the cost of the one request that
 * asks for more and is to have it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bitutils.h"
#include "storage/latch.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "credits/account.h"
#include "credits/credits_internal.h"
#include "credits/spend.h"

#define WAIT_STEP		20		/* after that the worker is asked again */
#define LOCK_STEP_MAX	8		/* milliseconds between looks at a row */
#define IDLE_AFTER		USECS_PER_MINUTE	/* a lease goes back */
#define LEASE_MIN		100		/* unless there is less */
#define RETURN_BATCH	50		/* accounts in a transaction */

/* A spend in the row itself: what is asked, and what came of it. */
typedef struct RowSpend
{
	const pg_uuid_t *account;
	int64		cost;
	TimestampTz until;			/* so long a lock is waited for */
	ApikeyCreditVerdict verdict;
	ApikeyLeaseRow from;		/* the period and generation that it is of */
} RowSpend;

static void
sleep_a_little(long milliseconds)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 milliseconds, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Locks an account as soon as it is free; false where it is not in time. */
static bool
hold_soon(const pg_uuid_t *account, TimestampTz until, ApikeyRow *row)
{
	long		step = 1;

	while (!apikey_account_lock_here(account, APIKEY_LOCK_UPDATE_SKIP, row))
	{
		if (GetCurrentTimestamp() >= until || !apikey_account_exists(account))
			return false;
		sleep_a_little(step);
		step = Min(step * 2, LOCK_STEP_MAX);
	}
	return true;
}

static void
spend_in_row(void *state)
{
	RowSpend   *spend = state;
	ApikeyRow	row;
	int64		balance;

	if (!hold_soon(spend->account, spend->until, &row))
		return;
	if (apikey_account_balance(&row) < spend->cost)
		apikey_account_put_back(&row, apikey_account_take_out(&row, false));
	balance = apikey_account_balance(&row);
	spend->verdict = APIKEY_CREDIT_EXHAUSTED;
	if (balance >= spend->cost)
	{
		spend->verdict = APIKEY_CREDIT_SPENT;
		balance -= spend->cost;
		apikey_account_set_balance(&row, balance);
	}
	apikey_account_lease(&row, &spend->from);
	apikey_account_write_here(&row);
}

/*
 * Reads what is left, where that is not known yet.  What has been spent is of the
 * period that it was then.
 */
static void
look_up(ApikeySpending *spending)
{
	ApikeyLeaseRow lease;
	ApikeyRow	row;

	spending->left = apikey_account_left(spending->account, &row,
										 &spending->known);
	if (!spending->known || spending->taken > 0)
		return;
	apikey_account_lease(&row, &lease);
	spending->until = lease.until;
	spending->generation = lease.generation;
}

/* Until when a verification may wait in all, from when it begins to. */
static TimestampTz
wait_until(ApikeySpending *spending)
{
	if (spending->wait_until == 0)
		spending->wait_until = apikey_verification_until();
	return spending->wait_until;
}

/*
 * Spends in the row, with the transaction, where that may be written.  A charge
 * does not write.
 */
static ApikeyCreditVerdict
spend_directly(ApikeySpending *spending)
{
	RowSpend	spend = {
		.account = spending->account,
		.cost = spending->cost,
		.until = wait_until(spending),
		.verdict = APIKEY_CREDIT_UNAVAILABLE
	};

	/* A member's row is not its own. */
	if (spending->charge || apikey_fleet_member() ||
		XactReadOnly || IsInParallelMode() || RecoveryInProgress() ||
		!apikey_attempt(spend_in_row, &spend) ||
		spend.verdict == APIKEY_CREDIT_UNAVAILABLE)
		return APIKEY_CREDIT_UNAVAILABLE;
	/* What is told as spent is not to come back with a crash. */
	if (spend.verdict == APIKEY_CREDIT_SPENT)
		ForceSyncCommit();
	spending->in_row = true;
	spending->taken = spend.verdict == APIKEY_CREDIT_SPENT ? spending->cost : 0;
	spending->until = spend.from.until;
	spending->generation = spend.from.generation;
	look_up(spending);
	return spend.verdict;
}

/* Asks the worker for a lease and waits a little for it. */
static ApikeyCreditVerdict
spend_waiting(ApikeySpending *spending)
{
	ApikeyCreditVerdict verdict;
	TimestampTz until = wait_until(spending);

	apikey_lease_prepare_to_wait();
	while ((verdict = apikey_lease_spend(spending)) == APIKEY_CREDIT_ASK &&
		   GetCurrentTimestamp() < until && apikey_lease_answerable())
	{
		apikey_lease_ask(spending->account, Max(spending->cost, 1), true,
						 spending->charge);
		apikey_lease_wait(WAIT_STEP);
		spending->now = GetCurrentTimestamp();
	}
	apikey_lease_end_wait();
	return verdict;
}

/* Spends of a lease, where one can be had. */
static ApikeyCreditVerdict
spend_of_lease(ApikeySpending *spending)
{
	ApikeyCreditVerdict verdict = apikey_lease_spend(spending);

	if (verdict == APIKEY_CREDIT_ASK)
	{
		verdict = spend_waiting(spending);
		if (verdict == APIKEY_CREDIT_ASK)
			return apikey_lease_answerable() ? APIKEY_CREDIT_UNAVAILABLE :
				spend_directly(spending);
	}
	if (!spending->known && verdict != APIKEY_CREDIT_UNAVAILABLE)
		look_up(spending);
	return verdict;
}

/*
 * Spends of an account; cost 0 only asks what is left.  What is spent comes
 * back with a rollback.
 */
ApikeyCreditVerdict
apikey_credit_spend(ApikeySpending *spending)
{
	spending->taken = 0;
	spending->in_row = false;
	if (spending->cost == 0)
	{
		look_up(spending);
		return spending->known ? APIKEY_CREDIT_SPENT :
			APIKEY_CREDIT_UNAVAILABLE;
	}
	/* The row has no place for what makes a lease good, or void. */
	if (apikey_catalog()->first_script)
		return APIKEY_CREDIT_UNAVAILABLE;
	if (apikey_preloaded() && !apikey_account_written(spending->account))
		return spend_of_lease(spending);
	return spend_directly(spending);
}

/* Puts back into the row what was spent in it just now; not into another period. */
static void
unspend_in_row(void *state)
{
	const ApikeySpending *spending = state;
	ApikeyRow	row;

	if (!apikey_account_lock_now(spending->account, APIKEY_LOCK_UPDATE, &row) ||
		apikey_account_refill_at(&row) != spending->until)
		return;
	apikey_account_put_back(&row, spending->taken);
	apikey_account_write_here(&row);
}

/* Puts back what was spent just now, as something else was refused. */
void
apikey_credit_unspend(const ApikeySpending *spending)
{
	if (spending->taken == 0)
		return;
	if (spending->in_row)
		(void) apikey_attempt(unspend_in_row,
							  unconstify(ApikeySpending *, spending));
	else
		apikey_lease_unspend(spending);
}

/*
 * Gives back so much of what was spent before, in a period and generation;
 * UNAVAILABLE where no lease of that can be had that it could go into.
 */
ApikeyCreditVerdict
apikey_credit_refund(ApikeySpending *spending)
{
	ApikeySpending asking = *spending;

	asking.now = GetCurrentTimestamp();
	asking.cost = 0;
	asking.charge = true;
	if (apikey_lease_give_back(spending))
		return APIKEY_CREDIT_SPENT;
	if (spend_waiting(&asking) != APIKEY_CREDIT_SPENT)
		return APIKEY_CREDIT_UNAVAILABLE;
	spending->wait_until = asking.wait_until;
	return apikey_lease_give_back(spending) ? APIKEY_CREDIT_SPENT :
		APIKEY_CREDIT_UNAVAILABLE;
}

/* Ends a lease that was taken out for what was asked of the row. */
static void
end_lease(void *account)
{
	ApikeyRow	row;

	if (!apikey_account_lock_now(account, APIKEY_LOCK_UPDATE, &row))
		return;
	apikey_account_put_back(&row, apikey_account_take_out(&row, true));
	apikey_account_write_here(&row);
}

/*
 * A transaction that is prepared keeps no lease that it has taken out: so the
 * row's number tells, when somebody has the row, where that is.
 */
static void
before_end(bool prepare)
{
	pg_uuid_t	account;
	int			from = 0;

	while (prepare && apikey_spend_next_taken_out(&from, &account))
	{
		/* The last statement's is gone. */
		PushActiveSnapshot(GetTransactionSnapshot());
		(void) apikey_attempt(end_lease, &account);
		PopActiveSnapshot();
	}
}

ApikeyTransactionPart apikey_credit_transaction = {
	.before = before_end
};

/*
 * How much more is to be in memory of an account: a tenth of it, but what is
 * asked for in any case, unless the account has not got so much.
 */
static int64
lease_more(int64 balance, int64 overdraft, const ApikeyLease *lease)
{
	int64		total = apikey_credits_sum(balance, lease->available);
	int64		size = Max(Min(balance / 10, apikey_credits_lease),
						   Min(LEASE_MIN, apikey_credits_lease));

	/* An answer has met who had asked once more, and will again if need be. */
	if (lease->wanted_most == 0)
		return 0;

	/*
	 * A charge of more than there is gets all of it, and what may be
	 * overdrawn; of what there is, a lease like any other.
	 */
	if (lease->overdrawing && lease->wanted_most > total)
		return Max(0, Min(lease->wanted_most - lease->available,
						  apikey_credits_sum(balance, overdraft)));
	if (lease->wanted_least > total)
		return 0;
	size = Max(size, lease->wanted_most <= total ? lease->wanted_most :
			   lease->wanted_least);
	/* One that has come from the file may be enough. */
	if (lease->available >= lease->wanted_most && lease->available > size / 2)
		return 0;
	return Max(0, Min(size - lease->available, balance));
}

/* Puts back what is left of a locked account's lease. */
static void
put_back_into(ApikeyRow *row)
{
	ApikeyLeaseRow lease;

	apikey_account_put_back(row, apikey_account_take_out(row, false));
	/* The number stays: what is out of the lease may yet come back. */
	apikey_account_lease(row, &lease);
	apikey_account_set_lease(row, lease.number, 0);
	apikey_account_write(row);
}

/*
 * Takes a lease, or more for one, out of an account's row, and offers it; or
 * tells what is left.  One that is called back goes back.  A row that somebody else
 * has locked is left alone.
 */
static void
make_offer(const pg_uuid_t *account, ApikeyOffer *offer)
{
	ApikeyLeaseRow lease_row;
	ApikeyLease lease;
	ApikeyRow	row;
	bool		refilled;

	if (!apikey_account_lock(account, APIKEY_LOCK_UPDATE_SKIP, &row, &refilled))
		return;
	apikey_account_lease(&row, &lease_row);
	if (!apikey_lease_settle(account, &lease_row, &lease))
		return;
	if (lease.too_much)
	{
		if (lease.available > 0)
			put_back_into(&row);
		return;
	}
	offer->amount = lease_more(apikey_account_balance(&row),
							   apikey_account_overdraft(&row), &lease);
	offer->left = apikey_account_balance(&row) - offer->amount;
	if (offer->amount == 0 && lease.matched)
	{
		apikey_lease_tell_left(account, &lease, offer->left);
		return;
	}
	offer->generation = lease_row.generation;
	offer->until = lease_row.until;
	offer->changes = lease.changes;
	offer->number = apikey_lease_new_number();
	apikey_account_set_balance(&row, offer->left);
	apikey_account_set_lease(&row, offer->number,
							 apikey_credits_sum(lease.available,
												offer->amount));
	/* Before it is written: so the number is somewhere, whatever happens. */
	if (!apikey_lease_offer(account, offer))
		elog(ERROR, "an account that is being leased has lost its slot");
	apikey_account_write(&row);
}

/*
 * For the worker: hands out a lease of an account, when it is committed, or puts
 * back one that is called back.  Whatever comes of it is to be answered.
 */
void
apikey_credit_grant(const pg_uuid_t *account)
{
	ApikeyOffer offer = {0};

	if (apikey_step_begin())
	{
		make_offer(account, &offer);
		apikey_step_commit();
	}
	/* Who was ended has perhaps not waited until a standby has it too. */
	if (offer.number != 0 && !ProcDiePending)
		apikey_lease_accept(account, offer.number);
}

/* The databases in which there is something to put back. */
List *
apikey_credit_idle_databases(void)
{
	return apikey_lease_idle_databases(GetCurrentTimestamp() - IDLE_AFTER);
}

/* Puts back what is left of an account's lease, unless somebody has the row. */
static void
put_back(const pg_uuid_t *account)
{
	ApikeyRow	row;
	bool		refilled;

	if (apikey_account_lock(account, APIKEY_LOCK_UPDATE_SKIP, &row, &refilled))
		put_back_into(&row);
	else if (!apikey_account_exists(account))
		apikey_lease_void(account);
}

static void
put_some_back(List *accounts, void *state pg_attribute_unused())
{
	ListCell   *cell;

	foreach(cell, accounts)
		put_back(lfirst(cell));
}

/*
 * For the worker: puts back what has been in memory unused for a while, or all
 * there is, some accounts at a time; true while there may be more.
 */
bool
apikey_credit_return(int *from, bool even_used)
{
	TimestampTz before = even_used ? DT_NOEND :
		GetCurrentTimestamp() - IDLE_AFTER;
	pg_uuid_t	accounts[RETURN_BATCH];
	List	   *idle = NIL;
	bool		more;

	if (!apikey_step_begin())
		return false;
	while (list_length(idle) < RETURN_BATCH &&
		   apikey_lease_next_idle(from, before, &accounts[list_length(idle)]))
		idle = lappend(idle, &accounts[list_length(idle)]);
	more = list_length(idle) == RETURN_BATCH;
	(void) apikey_attempt_each(put_some_back, idle, NULL);
	apikey_step_commit();
	return more;
}
