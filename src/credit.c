/*
 * credit.c
 *		Spending credits, and what the worker does for it.
 *
 * Where there is a lease, or the worker can be asked for one, a verification
 * spends of it and writes nothing; otherwise, and where its own transaction
 * has written accounts, which the worker cannot see, it updates the row.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "credit.h"
#include "usage.h"

#define WAIT_MAX		100		/* milliseconds for the worker to answer */
#define WAIT_STEP		20		/* after that it is asked again */
#define IDLE_AFTER		USECS_PER_MINUTE	/* a lease goes back */
#define LEASE_MIN		100		/* unless there is less */

/* A spend in the row itself: what is asked, and what came of it. */
typedef struct RowSpend
{
	const pg_uuid_t *account;
	int32		cost;
	int64		left;
	ApikeyCreditVerdict verdict;
} RowSpend;

static void
spend_in_row(void *state)
{
	RowSpend   *spend = state;
	ApikeyRow	row;
	bool		changed;

	if (!apikey_account_lock(spend->account, APIKEY_LOCK_UPDATE, &row, &changed))
		return;
	if (apikey_account_balance(&row) < spend->cost)
	{
		int64		taken_out = apikey_lease_take_out(spend->account);

		apikey_account_put_back(&row, taken_out);
		changed |= taken_out > 0;
	}
	spend->verdict = APIKEY_CREDIT_EXHAUSTED;
	if (apikey_account_balance(&row) >= spend->cost)
	{
		spend->verdict = APIKEY_CREDIT_SPENT;
		apikey_account_set_balance(&row, apikey_account_balance(&row) - spend->cost);
		changed = true;
	}
	spend->left = apikey_account_balance(&row);
	if (changed)
		apikey_account_write(&row);
}

/* Spends in the row, with the transaction, where that may be written. */
static ApikeyCreditVerdict
spend_directly(const pg_uuid_t *account, int32 cost, int64 *left)
{
	RowSpend	spend = {
		.account = account,
		.cost = cost,
		.verdict = APIKEY_CREDIT_UNAVAILABLE
	};

	if (XactReadOnly || IsInParallelMode() ||
		!apikey_storage_try(spend_in_row, &spend))
		return APIKEY_CREDIT_UNAVAILABLE;
	*left = spend.left;
	return spend.verdict;
}

/* Asks the worker for a lease and waits a little for it. */
static ApikeyCreditVerdict
spend_waiting(const pg_uuid_t *account, ApikeySlotHint *hint, int32 cost,
			  int64 *left)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													WAIT_MAX);
	ApikeyCreditVerdict verdict;

	apikey_lease_prepare_to_wait();
	while ((verdict = apikey_lease_spend(account, hint, cost,
										 left)) == APIKEY_CREDIT_ASK &&
		   GetCurrentTimestamp() < until)
	{
		apikey_lease_ask(account, cost);
		apikey_lease_wait(WAIT_STEP);
	}
	apikey_lease_end_wait();
	return verdict == APIKEY_CREDIT_ASK ? APIKEY_CREDIT_UNAVAILABLE : verdict;
}

/* Spends of a lease, where one can be had. */
static ApikeyCreditVerdict
spend_of_lease(const pg_uuid_t *account, ApikeySlotHint *hint, int32 cost,
			   int64 *left)
{
	ApikeyCreditVerdict verdict = apikey_lease_spend(account, hint, cost, left);

	if (verdict == APIKEY_CREDIT_ASK)
		verdict = RecoveryInProgress() ? APIKEY_CREDIT_UNAVAILABLE :
			spend_waiting(account, hint, cost, left);
	if (*left < 0 && verdict != APIKEY_CREDIT_UNAVAILABLE)
	{
		ApikeyRow	row;
		bool		found;

		*left = apikey_account_left(account, &row, &found);
	}
	return verdict;
}

/*
 * Spends of an account; cost 0 only asks what is left.  What is spent comes
 * back with a rollback.
 */
ApikeyCreditVerdict
apikey_credit_spend(const pg_uuid_t *account, ApikeySlotHint *hint,
					int32 cost, int64 *left)
{
	ApikeyCreditVerdict verdict;
	uint32		grants;

	if (cost == 0)
	{
		ApikeyRow	row;
		bool		found;

		*left = apikey_account_left(account, &row, &found);
		return found ? APIKEY_CREDIT_SPENT : APIKEY_CREDIT_UNAVAILABLE;
	}
	if (apikey_usage_shared() && !apikey_account_written())
		return spend_of_lease(account, hint, cost, left);

	verdict = spend_directly(account, cost, left);
	if (verdict != APIKEY_CREDIT_UNAVAILABLE)
		*left = apikey_credits_sum(*left,
								   apikey_lease_available(account, &grants));
	return verdict;
}

/* How much is to be in memory of an account that has so much. */
static int64
lease_size(int64 balance)
{
	return Max(Min(balance / 10, apikey_credits_lease),
			   Min(LEASE_MIN, apikey_credits_lease));
}

/*
 * For the worker, in a transaction of its own: takes a lease out of an
 * account's row and, when that is committed, hands it out.  A row that
 * somebody else has locked is left alone.
 */
void
apikey_credit_grant(const pg_uuid_t *account)
{
	ApikeyLease seen;
	ApikeyRow	row;
	bool		fresh;
	int64		amount;
	int64		left;
	TimestampTz until;

	if (!apikey_worker_begin())
	{
		apikey_lease_refuse(MyDatabaseId, account);
		return;
	}
	if (!apikey_account_lock(account, APIKEY_LOCK_UPDATE_SKIP, &row, &fresh))
	{
		apikey_worker_commit();
		apikey_lease_refuse(MyDatabaseId, account);
		return;
	}
	apikey_lease_read(account, &seen);
	/* Who ended the lease has the row no more, but has not told so yet. */
	if (seen.ending > 0)
	{
		apikey_worker_commit();
		apikey_lease_refuse(MyDatabaseId, account);
		return;
	}
	until = apikey_account_until(&row);
	fresh |= seen.number == 0 || seen.until != until;
	amount = Max(lease_size(apikey_account_balance(&row)), seen.wanted) -
		(fresh ? 0 : seen.available);
	amount = Max(0, Min(amount, apikey_account_balance(&row)));
	left = apikey_account_balance(&row) - amount;
	if (amount > 0 || fresh)
	{
		apikey_account_set_balance(&row, left);
		apikey_account_write(&row);
	}
	apikey_worker_commit();
	apikey_lease_grant(account, &seen, fresh, amount, until, left);
}

/* The databases in which there is something to put back. */
List *
apikey_credit_idle_databases(void)
{
	return apikey_lease_idle_databases(GetCurrentTimestamp() - IDLE_AFTER);
}

/* For the worker: puts back what has been in memory unused for a while. */
void
apikey_credit_return_idle(void)
{
	TimestampTz before = GetCurrentTimestamp() - IDLE_AFTER;
	pg_uuid_t	account;
	int			from = 0;

	while (apikey_lease_next_idle(&from, before, &account))
	{
		ApikeyRow	row;
		bool		refilled;

		if (!apikey_worker_begin())
			return;
		if (apikey_account_lock(&account, APIKEY_LOCK_UPDATE_SKIP, &row,
								&refilled))
		{
			apikey_account_put_back(&row, apikey_lease_take_out(&account));
			apikey_account_write(&row);
		}
		else if (!apikey_account_exists(&account))
			apikey_lease_void(&account);
		apikey_worker_commit();
	}
}
