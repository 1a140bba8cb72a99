/*
 * account.c
 *		Accounts of credits: their rows, and what is granted.
 *
 * A key with credits names an account, a row of apikey_credit; a key and its
 * successor share one.  The row holds what is left but for what is out in a
 * lease, of which it has the number: see lease.c.  Whoever changes the row
 * locks it first, and only then looks at the lease.  The worker, which must
 * not wait for anybody, leaves a locked row for later, and so does whoever
 * deletes a key, or drops a limit: a verification that its holder leaves open
 * holds up nobody.
 *
 * An account begins with a generation, and gets another one when its credits are
 * set and when their interval changes, but not when they are added to or refilled:
 * a lease of another generation is worth nothing, and what was spent in one is not
 * given back in another.  Generations are random: an account that ends and begins
 * anew under its id, or one whose change is rolled back, has none of before.
 *
 * A limit's account is the same under the limit's id, but its periods are
 * period.c's, from an anchor, and charges may overdraw it: then its balance is
 * negative.
 *
 * A row of version 0.1.0 has no generation and no lease.  What that version has
 * leased of it, and left in its file, is good for it until its row is first
 * written here: whoever writes it takes that lease over, by the number
 * APIKEY_LEASE_UNNUMBERED, and gives the row a generation in the same
 * transaction.  So it is spent once, whatever copies there are of the file.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "credits/account.h"
#include "credits/credits_internal.h"

static const ApikeyColumn credit_columns[] = {
	[APIKEY_ACCOUNT_ID] = {"id", UUIDOID, false, true},
	[APIKEY_ACCOUNT_BALANCE] = {"balance", INT8OID, false, true},
	[APIKEY_ACCOUNT_REFILL] = {"refill", INT8OID, false},
	[APIKEY_ACCOUNT_REFILL_INTERVAL] = {"refill_interval", INTERVALOID, false},
	[APIKEY_ACCOUNT_REFILL_AT] = {"refill_at", TIMESTAMPTZOID, false},
	[APIKEY_ACCOUNT_GRANTED_AT] = {"granted_at", TIMESTAMPTZOID, false, true},
	[APIKEY_ACCOUNT_GENERATION] = {"generation", INT8OID, false},
	[APIKEY_ACCOUNT_LEASE] = {"lease", INT8OID, false},
	[APIKEY_ACCOUNT_LEASED] = {"leased", INT8OID, false},
	[APIKEY_ACCOUNT_ANCHOR] = {"anchor", TIMESTAMPTZOID, false},
	[APIKEY_ACCOUNT_OVERDRAFT] = {"overdraft", INT8OID, false},
	[APIKEY_ACCOUNT_LOW_TOLD] = {"low_told", TIMESTAMPTZOID, false},
	[APIKEY_ACCOUNT_EXHAUSTED_TOLD] = {"exhausted_told", TIMESTAMPTZOID, false}
};
ApikeyTable apikey_account_table = {
	.name = "apikey_credit",
	.relation = APIKEY_REL_CREDIT,
	.pkey = APIKEY_REL_CREDIT_PKEY,
	.columns = credit_columns,
	.count = lengthof(credit_columns)
};

/* The accounts that this transaction has written; NULL for none. */
static HTAB *written = NULL;

/* One of them, with the subtransaction that was the first to. */
typedef struct Written
{
	ApikeyNoted noted;
	pg_uuid_t	account;
} Written;

/* What is rolled back is as it was: the worker sees it, and may lease it. */
static void
settle_written(void *noted, ApikeyEnd end)
{
	if (end == APIKEY_END_ROLLBACK)
		(void) hash_search(written, &((Written *) noted)->account, HASH_REMOVE,
						   NULL);
}

static void
on_transaction_end(ApikeyEnd end pg_attribute_unused())
{
	written = NULL;				/* goes with the transaction's memory */
}

ApikeyTransactionPart apikey_account_transaction = {
	.size = sizeof(Written),
	.settle = settle_written,
	.end = on_transaction_end
};

/* What is left in the row. */
int64
apikey_account_balance(const ApikeyRow *row)
{
	return DatumGetInt64(row->values[APIKEY_ACCOUNT_BALANCE]);
}

void
apikey_account_set_balance(ApikeyRow *row, int64 balance)
{
	apikey_row_set(row, APIKEY_ACCOUNT_BALANCE, Int64GetDatum(balance));
}

/* Puts back what was taken out of a lease. */
void
apikey_account_put_back(ApikeyRow *row, int64 taken_out)
{
	apikey_account_set_balance(row, apikey_credits_sum(apikey_account_balance(row),
													   taken_out));
}

int64
apikey_account_number(const ApikeyRow *row, ApikeyAccountColumn column)
{
	return row->nulls[column] ? 0 : DatumGetInt64(row->values[column]);
}

/* When an account is refilled next; the end of time where it is not. */
TimestampTz
apikey_account_refill_at(const ApikeyRow *row)
{
	return row->nulls[APIKEY_ACCOUNT_REFILL_AT] ? DT_NOEND :
		DatumGetTimestampTz(row->values[APIKEY_ACCOUNT_REFILL_AT]);
}

/* What the row says of the lease that is out. */
void
apikey_account_lease(const ApikeyRow *row, ApikeyLeaseRow *lease)
{
	lease->number = apikey_account_number(row, APIKEY_ACCOUNT_LEASE);
	if (row->nulls[APIKEY_ACCOUNT_LEASE] && row->nulls[APIKEY_ACCOUNT_GENERATION])
		lease->number = APIKEY_LEASE_UNNUMBERED;
	lease->generation = apikey_account_number(row, APIKEY_ACCOUNT_GENERATION);
	lease->until = apikey_account_refill_at(row);
}

/* A lease is out with so much; none where its number says so. */
void
apikey_account_set_lease(ApikeyRow *row, int64 number, int64 leased)
{
	apikey_row_set(row, APIKEY_ACCOUNT_GENERATION,
				   Int64GetDatum(apikey_account_number(row, APIKEY_ACCOUNT_GENERATION)));
	row->nulls[APIKEY_ACCOUNT_LEASE] = row->nulls[APIKEY_ACCOUNT_LEASED] = number <= 0;
	if (number > 0)
	{
		row->values[APIKEY_ACCOUNT_LEASE] = Int64GetDatum(number);
		row->values[APIKEY_ACCOUNT_LEASED] = Int64GetDatum(leased);
	}
}

/* Nothing that was leased or spent of an account before is of it any more. */
void
apikey_account_begin_generation(ApikeyRow *row)
{
	apikey_row_set(row, APIKEY_ACCOUNT_GENERATION,
				   Int64GetDatum(apikey_lease_new_number()));
}

/*
 * Takes what is left of the lease out of memory, for the row, which is locked;
 * the lease ends, or is empty.
 */
int64
apikey_account_take_out(ApikeyRow *row, bool end)
{
	ApikeyLeaseRow lease;
	int64		taken_out;

	apikey_account_lease(row, &lease);
	taken_out = apikey_lease_take_out(apikey_row_id(row), &lease, end);
	apikey_account_set_lease(row, end ? 0 : lease.number, 0);
	return taken_out;
}

/*
 * So many intervals after a time.  In UTC, so that it does not depend on the
 * session's time zone.
 */
TimestampTz
apikey_account_time_after(TimestampTz start, const Interval *interval, int64 times)
{
	Datum		span = DirectFunctionCall2(interval_mul,
										   IntervalPGetDatum(interval),
										   Float8GetDatum((float8) times));

	return DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
												 TimestampGetDatum(start),
												 span));
}

/* The first of a key's refills after a time, counted from one that is due. */
static TimestampTz
refill_after(const ApikeyRow *row, TimestampTz start, TimestampTz now)
{
	Interval   *interval = DatumGetIntervalP(row->values[APIKEY_ACCOUNT_REFILL_INTERVAL]);
	int64		times;

	/* A month has 28 days or more: this many intervals or fewer have gone. */
	times = (now - start) /
		(interval->time + (interval->day + interval->month * (int64) 28) *
		 USECS_PER_DAY) + 1;
	while (times > 1 && apikey_account_time_after(start, interval, times - 1) > now)
		times--;
	return apikey_account_time_after(start, interval, times);
}

/* When the period of a limit's account ends that a time is in. */
TimestampTz
apikey_account_period_end(const ApikeyRow *row, TimestampTz now)
{
	TimestampTz begin;
	TimestampTz end;

	apikey_period_at(DatumGetIntervalP(row->values[APIKEY_ACCOUNT_REFILL_INTERVAL]),
					 DatumGetTimestampTz(row->values[APIKEY_ACCOUNT_ANCHOR]),
					 now, &begin, &end);
	return end;
}

/*
 * Refills an account that is due: once, however long ago that was, and never
 * again for a time that has been, whatever the clock says.
 */
static bool
refill_due(ApikeyRow *row, TimestampTz now)
{
	TimestampTz start = apikey_account_refill_at(row);

	if (now < start)
		return false;
	apikey_row_set(row, APIKEY_ACCOUNT_REFILL_AT,
				   TimestampTzGetDatum(row->nulls[APIKEY_ACCOUNT_ANCHOR] ?
									   refill_after(row, start, now) :
									   apikey_account_period_end(row, now)));
	row->values[APIKEY_ACCOUNT_BALANCE] = row->values[APIKEY_ACCOUNT_REFILL];
	/* Of what was granted before, nothing is left. */
	apikey_account_set_lease(row, 0, 0);
	return true;
}

static bool
fetch_account(const pg_uuid_t *account, ApikeyRow *row)
{
	if (!apikey_table_fetch_latest(&apikey_account_table, account, row))
		return false;
	(void) refill_due(row, GetCurrentTimestamp());
	return true;
}

bool
apikey_account_exists(const pg_uuid_t *account)
{
	ApikeyRow	row;

	return apikey_table_fetch_latest(&apikey_account_table, account, &row);
}

/*
 * Locks an account, for the worker, and refills it where that is due: then it
 * has to settle what it finds in memory.
 */
bool
apikey_account_lock(const pg_uuid_t *account, ApikeyLock lock, ApikeyRow *row,
					bool *refilled)
{
	if (!apikey_table_lock(&apikey_account_table, account, lock, row))
		return false;
	*refilled = refill_due(row, GetCurrentTimestamp());
	return true;
}

/* The same for a session: with its commit nothing from before counts. */
bool
apikey_account_lock_now(const pg_uuid_t *account, ApikeyLock lock,
						ApikeyRow *row)
{
	bool		refilled;

	if (!apikey_account_lock(account, lock, row, &refilled))
		return false;
	if (refilled)
		(void) apikey_account_take_out(row, true);
	return true;
}

/*
 * An account that has been locked stays locked with a transaction that its user
 * may leave open: raises where that holds too much of the shared memory already.
 */
static void
hold(const pg_uuid_t *account)
{
	if (!apikey_lease_hold(account))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("open transactions hold the credits of too many API keys"),
				 errdetail("A role's keys have as many places in shared memory that cannot be given to others before a commit as they may have."),
				 errhint("Change fewer in a transaction, or raise \"apikey.max_tracked_keys\".")));
}

/* Locks an account to be changed by a session. */
bool
apikey_account_lock_here(const pg_uuid_t *account, ApikeyLock lock,
						 ApikeyRow *row)
{
	if (!apikey_account_lock_now(account, lock, row))
		return false;
	hold(account);
	return true;
}

/* Writes an account back. */
void
apikey_account_write(ApikeyRow *row)
{
	apikey_table_update(&apikey_account_table, row);
}

/*
 * The same of a change that the worker cannot see before we have committed.
 * Where the library is not preloaded, what version 0.1.0 has leased is in its
 * file still.
 */
void
apikey_account_write_here(ApikeyRow *row)
{
	ApikeyLeaseRow lease;

	apikey_account_lease(row, &lease);
	if (lease.number == APIKEY_LEASE_UNNUMBERED && apikey_preloaded())
		apikey_account_put_back(row, apikey_account_take_out(row, true));
	apikey_account_write(row);
	apikey_account_note_written(apikey_row_id(row));
}

void
apikey_account_note_written(const pg_uuid_t *account)
{
	if (apikey_account_written(account))
		return;
	if (written == NULL)
	{
		HASHCTL		ctl = {
			.keysize = sizeof(pg_uuid_t),
			.entrysize = sizeof(pg_uuid_t),
			.hcxt = TopTransactionContext
		};

		written = hash_create("apikey accounts written", 16, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	apikey_transaction_reserve(&apikey_account_transaction);
	(void) hash_search(written, account, HASH_ENTER, NULL);
	((Written *) apikey_transaction_note(&apikey_account_transaction))->account =
		*account;
}

/*
 * Has this transaction written an account, so that the worker cannot see it as
 * it is?  Nothing is said of others: whoever had written one of its own, and
 * had the row of another's, would keep all from spending of that.
 */
bool
apikey_account_written(const pg_uuid_t *account)
{
	return written != NULL &&
		hash_search(written, account, HASH_FIND, NULL) != NULL;
}

/* An account is not there to be locked, or was made since we began to see. */
void
apikey_account_refuse_missing(const pg_uuid_t *account)
{
	apikey_table_require_seen(&apikey_account_table, account);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the credits of this API key are not kept here"),
			 errdetail("Its row in table \"apikey_credit\" is missing.")));
}

/* A look at an account's row. */
typedef struct Look
{
	const pg_uuid_t *account;
	ApikeyRow  *row;
	bool		found;
} Look;

static void
look_at(void *work)
{
	Look	   *look = work;

	look->found = fetch_account(look->account, look->row);
}

/*
 * What is left of an account, in its row and in memory.  On a standby, which
 * does not see the memory, it is what was in the lease when that was written.
 * A verification does not find a row that it cannot read.
 */
int64
apikey_account_left(const pg_uuid_t *account, ApikeyRow *row, bool *found)
{
	Look		look = {.account = account,.row = row};
	ApikeyLeaseRow lease;
	int64		available = 0;

	/* A lease that is written in between is read again. */
	for (int tries = 0; tries < 3; tries++)
	{
		*found = apikey_lenient_try(look_at, &look) && look.found;
		if (!*found)
			return 0;
		apikey_account_lease(row, &lease);
		if (RecoveryInProgress())
		{
			available = apikey_account_number(row, APIKEY_ACCOUNT_LEASED);
			break;
		}
		if (apikey_lease_state(account, &lease, &available))
			break;
	}
	return apikey_credits_sum(apikey_account_balance(row), available);
}

/* How far an account may be overdrawn by charges. */
int64
apikey_account_overdraft(const ApikeyRow *row)
{
	return apikey_account_number(row, APIKEY_ACCOUNT_OVERDRAFT);
}

/* What an account is refilled to, and how often; NULL where it is not. */
const Interval *
apikey_account_refill(const ApikeyRow *row, int64 *amount)
{
	if (row->nulls[APIKEY_ACCOUNT_REFILL_INTERVAL])
		return NULL;
	*amount = DatumGetInt64(row->values[APIKEY_ACCOUNT_REFILL]);
	return DatumGetIntervalP(row->values[APIKEY_ACCOUNT_REFILL_INTERVAL]);
}

/*
 * Has it been told in the account's period that it is low, or exhausted?  With
 * its row, which is locked and will be written, it is from now on.
 */
bool
apikey_account_tell_once(ApikeyRow *row, bool exhausted)
{
	ApikeyAccountColumn column = exhausted ? APIKEY_ACCOUNT_EXHAUSTED_TOLD :
		APIKEY_ACCOUNT_LOW_TOLD;

	if (!row->nulls[column] &&
		DatumGetTimestampTz(row->values[column]) == apikey_account_refill_at(row))
		return false;
	apikey_row_set(row, column,
				   TimestampTzGetDatum(apikey_account_refill_at(row)));
	return true;
}

/* Locks the accounts to be written, unless that would be waiting for somebody. */
bool
apikey_account_writable(void)
{
	return apikey_table_free(&apikey_account_table);
}

/* Marks an account as told of, for its period; waits for nobody. */
ApikeyAccountTold
apikey_account_mark_told(const pg_uuid_t *account, bool exhausted)
{
	bool		refilled;
	ApikeyRow	row;

	if (!apikey_account_lock(account, APIKEY_LOCK_UPDATE_SKIP, &row, &refilled))
		return apikey_account_exists(account) ? APIKEY_TOLD_LATER :
			APIKEY_TOLD_NEVER;
	if (refilled)
		return APIKEY_TOLD_NEVER;
	if (!apikey_account_tell_once(&row, exhausted))
		return APIKEY_TOLD_BEFORE;
	apikey_account_write(&row);
	return APIKEY_TOLD_NOW;
}
