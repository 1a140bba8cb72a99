/*
 * account.c
 *		Accounts of credits: their rows, and what is granted.
 *
 * A key with credits names an account, a row of apikey_credit; a key and its
 * successor share one.  The row holds what is left but for what is out in a
 * lease, of which it has the number: see lease.c.  Whoever changes the row
 * locks it first, and only then looks at the lease.  The worker, which must
 * not wait for anybody, leaves a locked row for later, and so does whoever
 * deletes a key: a verification that its holder leaves open holds up nobody.
 *
 * The account's generation rises when its credits are set, when their interval
 * changes and when it ends, but not when they are added to or refilled: a lease
 * of another generation is worth nothing.
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

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "credits/credit.h"
#include "limits/limit.h"
#include "limits/period.h"
#include "usage/usage.h"

typedef enum CreditColumn
{
	CREDIT_ID,
	CREDIT_BALANCE,
	CREDIT_REFILL,
	CREDIT_REFILL_INTERVAL,
	CREDIT_REFILL_AT,
	CREDIT_GRANTED_AT,
	CREDIT_GENERATION,			/* null: 0, and not written since 0.1.0 */
	CREDIT_LEASE,
	CREDIT_LEASED,
	CREDIT_ANCHOR,				/* null: of a key's credits; else of a limit */
	CREDIT_OVERDRAFT,			/* null: 0 */
	CREDIT_LOW_TOLD,			/* the period's end of the last such event */
	CREDIT_EXHAUSTED_TOLD
} CreditColumn;

static const ApikeyColumn credit_columns[] = {
	[CREDIT_ID] = {"id", UUIDOID, false},
	[CREDIT_BALANCE] = {"balance", INT8OID, false},
	[CREDIT_REFILL] = {"refill", INT8OID, false},
	[CREDIT_REFILL_INTERVAL] = {"refill_interval", INTERVALOID, false},
	[CREDIT_REFILL_AT] = {"refill_at", TIMESTAMPTZOID, false},
	[CREDIT_GRANTED_AT] = {"granted_at", TIMESTAMPTZOID, false},
	[CREDIT_GENERATION] = {"generation", INT8OID, false},
	[CREDIT_LEASE] = {"lease", INT8OID, false},
	[CREDIT_LEASED] = {"leased", INT8OID, false},
	[CREDIT_ANCHOR] = {"anchor", TIMESTAMPTZOID, false},
	[CREDIT_OVERDRAFT] = {"overdraft", INT8OID, false},
	[CREDIT_LOW_TOLD] = {"low_told", TIMESTAMPTZOID, false},
	[CREDIT_EXHAUSTED_TOLD] = {"exhausted_told", TIMESTAMPTZOID, false}
};

static ApikeyTable credit_table = {
	.name = "apikey_credit",
	.relation = APIKEY_REL_CREDIT,
	.pkey = APIKEY_REL_CREDIT_PKEY,
	.columns = credit_columns,
	.count = lengthof(credit_columns)
};

/* Has this transaction written accounts? */
static bool wrote_accounts = false;

static void
on_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		wrote_accounts = false;
}

/* Once, when the library is loaded. */
void
apikey_account_init(void)
{
	RegisterXactCallback(on_transaction_end, NULL);
}

/* What is left in the row. */
int64
apikey_account_balance(const ApikeyRow *row)
{
	return DatumGetInt64(row->values[CREDIT_BALANCE]);
}

void
apikey_account_set_balance(ApikeyRow *row, int64 balance)
{
	apikey_row_set(row, CREDIT_BALANCE, Int64GetDatum(balance));
}

/* Puts back what was taken out of a lease. */
void
apikey_account_put_back(ApikeyRow *row, int64 taken_out)
{
	apikey_account_set_balance(row, apikey_credits_sum(apikey_account_balance(row),
													   taken_out));
}

static int64
int8_or_zero(const ApikeyRow *row, CreditColumn column)
{
	return row->nulls[column] ? 0 : DatumGetInt64(row->values[column]);
}

/* When an account is refilled next; the end of time where it is not. */
static TimestampTz
next_refill(const ApikeyRow *row)
{
	return row->nulls[CREDIT_REFILL_AT] ? DT_NOEND :
		DatumGetTimestampTz(row->values[CREDIT_REFILL_AT]);
}

/* What the row says of the lease that is out. */
void
apikey_account_lease(const ApikeyRow *row, ApikeyLeaseRow *lease)
{
	lease->number = int8_or_zero(row, CREDIT_LEASE);
	if (row->nulls[CREDIT_LEASE] && row->nulls[CREDIT_GENERATION])
		lease->number = APIKEY_LEASE_UNNUMBERED;
	lease->generation = int8_or_zero(row, CREDIT_GENERATION);
	lease->until = next_refill(row);
}

/* A lease is out with so much; none where its number says so. */
void
apikey_account_set_lease(ApikeyRow *row, int64 number, int64 leased)
{
	apikey_row_set(row, CREDIT_GENERATION,
				   Int64GetDatum(int8_or_zero(row, CREDIT_GENERATION)));
	row->nulls[CREDIT_LEASE] = row->nulls[CREDIT_LEASED] = number <= 0;
	if (number > 0)
	{
		row->values[CREDIT_LEASE] = Int64GetDatum(number);
		row->values[CREDIT_LEASED] = Int64GetDatum(leased);
	}
}

static void
raise_generation(ApikeyRow *row)
{
	apikey_row_set(row, CREDIT_GENERATION,
				   Int64GetDatum(int8_or_zero(row, CREDIT_GENERATION) + 1));
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
static TimestampTz
time_after(TimestampTz start, const Interval *interval, int64 times)
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
	Interval   *interval = DatumGetIntervalP(row->values[CREDIT_REFILL_INTERVAL]);
	int64		times;

	/* A month has 28 days or more: this many intervals or fewer have gone. */
	times = (now - start) /
		(interval->time + (interval->day + interval->month * (int64) 28) *
		 USECS_PER_DAY) + 1;
	while (times > 1 && time_after(start, interval, times - 1) > now)
		times--;
	return time_after(start, interval, times);
}

/* When the period of a limit's account ends that a time is in. */
static TimestampTz
period_end(const ApikeyRow *row, TimestampTz now)
{
	TimestampTz begin;
	TimestampTz end;

	apikey_period_at(DatumGetIntervalP(row->values[CREDIT_REFILL_INTERVAL]),
					 DatumGetTimestampTz(row->values[CREDIT_ANCHOR]),
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
	TimestampTz start = next_refill(row);

	if (now < start)
		return false;
	apikey_row_set(row, CREDIT_REFILL_AT,
				   TimestampTzGetDatum(row->nulls[CREDIT_ANCHOR] ?
									   refill_after(row, start, now) :
									   period_end(row, now)));
	row->values[CREDIT_BALANCE] = row->values[CREDIT_REFILL];
	/* Of what was granted before, nothing is left. */
	apikey_account_set_lease(row, 0, 0);
	return true;
}

static bool
fetch_account(const pg_uuid_t *account, ApikeyRow *row)
{
	if (!apikey_table_fetch_latest(&credit_table, account, row))
		return false;
	(void) refill_due(row, GetCurrentTimestamp());
	return true;
}

bool
apikey_account_exists(const pg_uuid_t *account)
{
	ApikeyRow	row;

	return apikey_table_fetch_latest(&credit_table, account, &row);
}

/*
 * Locks an account, for the worker, and refills it where that is due: then it
 * has to settle what it finds in memory.
 */
bool
apikey_account_lock(const pg_uuid_t *account, ApikeyLock lock, ApikeyRow *row,
					bool *refilled)
{
	if (!apikey_table_lock(&credit_table, account, lock, row))
		return false;
	*refilled = refill_due(row, GetCurrentTimestamp());
	return true;
}

/* The same for a session: with its commit nothing from before counts. */
bool
apikey_account_hold(const pg_uuid_t *account, ApikeyLock lock, ApikeyRow *row)
{
	bool		refilled;

	if (!apikey_account_lock(account, lock, row, &refilled))
		return false;
	if (refilled)
		(void) apikey_account_take_out(row, true);
	return true;
}

/* Writes an account back. */
void
apikey_account_write(ApikeyRow *row)
{
	apikey_table_update(&credit_table, row);
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
	if (lease.number == APIKEY_LEASE_UNNUMBERED && apikey_usage_shared())
		apikey_account_put_back(row, apikey_account_take_out(row, true));
	apikey_account_write(row);
	wrote_accounts = true;
}

/* Has this transaction written accounts, which the worker cannot see? */
bool
apikey_account_written(void)
{
	return wrote_accounts;
}

pg_noreturn static void
refuse_missing(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the credits of this API key are not kept here"),
			 errdetail("Its row in table \"apikey_credit\" is missing.")));
}

/*
 * What is left of an account, in its row and in memory.  On a standby, which
 * does not see the memory, it is what was in the lease when that was written.
 */
int64
apikey_account_left(const pg_uuid_t *account, ApikeyRow *row, bool *found)
{
	ApikeyLeaseRow lease;
	int64		available = 0;

	/* A lease that is written in between is read again. */
	for (int tries = 0; tries < 3; tries++)
	{
		*found = fetch_account(account, row);
		if (!*found)
			return 0;
		apikey_account_lease(row, &lease);
		if (RecoveryInProgress())
		{
			available = int8_or_zero(row, CREDIT_LEASED);
			break;
		}
		if (apikey_lease_state(account, &lease, &available))
			break;
	}
	return apikey_credits_sum(apikey_account_balance(row), available);
}

/*
 * Fills in the attributes of a key that stand in its account; false where it
 * has none here.
 */
bool
apikey_account_fetch(const pg_uuid_t *account, ApikeyRow *key)
{
	ApikeyRow	row;
	bool		found;
	int64		left = apikey_account_left(account, &row, &found);

	if (!found)
		return false;
	apikey_row_set(key, APIKEY_KEY_CREDITS, Int64GetDatum(left));
	key->values[APIKEY_KEY_CREDITS_REFILL] = row.values[CREDIT_REFILL];
	key->nulls[APIKEY_KEY_CREDITS_REFILL] = row.nulls[CREDIT_REFILL];
	key->values[APIKEY_KEY_CREDITS_INTERVAL] = row.values[CREDIT_REFILL_INTERVAL];
	key->nulls[APIKEY_KEY_CREDITS_INTERVAL] = row.nulls[CREDIT_REFILL_INTERVAL];
	return true;
}

/*
 * Locks a key's account to be changed by an UPDATE that has seen it as a
 * snapshot shows it, and fills in the key's refill; raises 40001 where the
 * account has been changed since.  What is left changes all the time: that is
 * the caller's to fill in.
 */
void
apikey_account_open(const pg_uuid_t *account, Snapshot seen, ApikeyRow *key)
{
	ApikeyRow	before;
	ApikeyRow	row;

	if (!apikey_table_fetch(&credit_table, account, seen, &before) ||
		!apikey_account_hold(account, APIKEY_LOCK_UPDATE, &row) ||
		DatumGetTimestampTz(before.values[CREDIT_GRANTED_AT]) !=
		DatumGetTimestampTz(row.values[CREDIT_GRANTED_AT]))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not update the credits of the API key due to a concurrent change")));
	key->values[APIKEY_KEY_CREDITS_REFILL] = row.values[CREDIT_REFILL];
	key->nulls[APIKEY_KEY_CREDITS_REFILL] = row.nulls[CREDIT_REFILL];
	key->values[APIKEY_KEY_CREDITS_INTERVAL] = row.values[CREDIT_REFILL_INTERVAL];
	key->nulls[APIKEY_KEY_CREDITS_INTERVAL] = row.nulls[CREDIT_REFILL_INTERVAL];
}

/* Does a key's row ask for another interval than its account has? */
static bool
interval_differs(const ApikeyRow *row, const ApikeyRow *key)
{
	if (row->nulls[CREDIT_REFILL_INTERVAL] ||
		key->nulls[APIKEY_KEY_CREDITS_INTERVAL])
		return row->nulls[CREDIT_REFILL_INTERVAL] !=
			key->nulls[APIKEY_KEY_CREDITS_INTERVAL];
	return !DatumGetBool(DirectFunctionCall2(interval_eq,
											 row->values[CREDIT_REFILL_INTERVAL],
											 key->values[APIKEY_KEY_CREDITS_INTERVAL]));
}

/* Takes over a key's refill; another interval begins now. */
static void
set_refill(ApikeyRow *row, const ApikeyRow *key, TimestampTz now)
{
	bool		restart = interval_differs(row, key);

	row->values[CREDIT_REFILL] = key->values[APIKEY_KEY_CREDITS_REFILL];
	row->nulls[CREDIT_REFILL] = key->nulls[APIKEY_KEY_CREDITS_REFILL];
	row->values[CREDIT_REFILL_INTERVAL] = key->values[APIKEY_KEY_CREDITS_INTERVAL];
	row->nulls[CREDIT_REFILL_INTERVAL] = key->nulls[APIKEY_KEY_CREDITS_INTERVAL];
	if (row->nulls[CREDIT_REFILL_INTERVAL])
		row->nulls[CREDIT_REFILL_AT] = true;
	else if (restart)
		apikey_row_set(row, CREDIT_REFILL_AT,
					   TimestampTzGetDatum(time_after(now, DatumGetIntervalP(row->values[CREDIT_REFILL_INTERVAL]), 1)));
	apikey_row_set(row, CREDIT_GRANTED_AT, TimestampTzGetDatum(now));
}

/* Opens an account for a key that has credits, under the key's own id. */
void
apikey_account_create(ApikeyRow *key)
{
	ApikeyRow	row;

	if (key->nulls[APIKEY_KEY_CREDITS])
		return;
	apikey_row_clear(&row);
	apikey_row_set_pointer(&row, CREDIT_ID, apikey_row_id(key));
	row.values[CREDIT_BALANCE] = key->values[APIKEY_KEY_CREDITS];
	row.nulls[CREDIT_BALANCE] = false;
	set_refill(&row, key, GetCurrentTimestamp());
	apikey_row_set(&row, CREDIT_GENERATION, Int64GetDatum(0));
	apikey_table_insert(&credit_table, &row);
	apikey_row_set_pointer(key, APIKEY_KEY_CREDITS_ACCOUNT,
						   apikey_row_id(key));
	wrote_accounts = true;
}

/* Visits the keys that have an account. */
static void
scan_keys(const pg_uuid_t *account, ApikeyVisit visit, void *state)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData key;

	ScanKeyInit(&key, APIKEY_KEY_CREDITS_ACCOUNT + 1, BTEqualStrategyNumber,
				F_UUID_EQ, UUIDPGetDatum(account));
	apikey_table_scan(&apikey_key_table, APIKEY_REL_KEY_CREDITS_ACCOUNT,
					  &key, 1, snapshot, visit, state);
	UnregisterSnapshot(snapshot);
}

static bool
collect_key(const ApikeyRow *row, void *state)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	*id = *apikey_row_id(row);
	*(List **) state = lappend(*(List **) state, id);
	return true;
}

static int
younger_first(const ListCell *one, const ListCell *two)
{
	return memcmp(lfirst(two), lfirst(one), sizeof(pg_uuid_t));
}

/*
 * Takes their account from the keys that have it, the younger first as whoever
 * locks keys; one that is gone meanwhile needs nothing.
 */
static void
forget_account(const pg_uuid_t *account)
{
	List	   *ids = NIL;
	ListCell   *cell;

	scan_keys(account, collect_key, &ids);
	list_sort(ids, younger_first);
	foreach(cell, ids)
	{
		ApikeyRow	key;

		if (apikey_key_lock(lfirst(cell), APIKEY_LOCK_UPDATE, &key))
		{
			key.nulls[APIKEY_KEY_CREDITS_ACCOUNT] = true;
			apikey_key_write(&key);
		}
	}
}

/* Closes an account, which is locked, of whichever keys. */
static void
close_account(ApikeyRow *row)
{
	(void) apikey_account_take_out(row, true);
	forget_account(apikey_row_id(row));
	apikey_table_delete(&credit_table, apikey_row_id(row), false);
	wrote_accounts = true;
}

/*
 * Writes an account, locked before, after an UPDATE of its key.  Where the
 * credits are set anew, or their interval is, a lease ends, and goes back into
 * the row where it still counts.
 */
void
apikey_account_update(ApikeyRow *key, bool set_anew)
{
	const pg_uuid_t *account = apikey_key_account(key);
	TimestampTz now = GetCurrentTimestamp();
	ApikeyRow	row;

	if (account == NULL)
	{
		apikey_account_create(key);
		return;
	}
	if (!apikey_account_hold(account, APIKEY_LOCK_UPDATE, &row))
		refuse_missing();
	if (key->nulls[APIKEY_KEY_CREDITS])
	{
		close_account(&row);
		key->nulls[APIKEY_KEY_CREDITS_ACCOUNT] = true;
		return;
	}
	if (set_anew || interval_differs(&row, key))
	{
		apikey_account_put_back(&row, apikey_account_take_out(&row, true));
		raise_generation(&row);
	}
	if (set_anew)
		apikey_account_set_balance(&row, DatumGetInt64(key->values[APIKEY_KEY_CREDITS]));
	set_refill(&row, key, now);
	apikey_account_write_here(&row);
}

/*
 * Fills in what a limit's account is refilled by; where its period begins anew,
 * that is now, and what has been told is of another one.
 */
static void
set_limit(ApikeyRow *row, const ApikeyRow *limit, bool restart,
		  TimestampTz now)
{
	bool		quota = !limit->nulls[APIKEY_LIMIT_PERIOD];

	row->values[CREDIT_REFILL] = limit->values[APIKEY_LIMIT_AMOUNT];
	row->values[CREDIT_REFILL_INTERVAL] = limit->values[APIKEY_LIMIT_PERIOD];
	row->nulls[CREDIT_REFILL] = row->nulls[CREDIT_REFILL_INTERVAL] = !quota;
	apikey_row_set(row, CREDIT_ANCHOR, limit->values[APIKEY_LIMIT_STARTS_AT]);
	apikey_row_set(row, CREDIT_OVERDRAFT, limit->values[APIKEY_LIMIT_OVERDRAFT]);
	apikey_row_set(row, CREDIT_GRANTED_AT, TimestampTzGetDatum(now));
	if (restart && quota)
		apikey_row_set(row, CREDIT_REFILL_AT,
					   TimestampTzGetDatum(period_end(row, now)));
	row->nulls[CREDIT_LOW_TOLD] = row->nulls[CREDIT_EXHAUSTED_TOLD] = true;
}

/* Opens the account of a quota or balance, under the limit's own id. */
void
apikey_account_of_limit_create(const ApikeyRow *limit)
{
	ApikeyRow	row;

	apikey_row_clear(&row);
	apikey_row_set_pointer(&row, CREDIT_ID, apikey_row_id(limit));
	apikey_row_set(&row, CREDIT_BALANCE, limit->values[APIKEY_LIMIT_AMOUNT]);
	set_limit(&row, limit, true, GetCurrentTimestamp());
	apikey_row_set(&row, CREDIT_GENERATION, Int64GetDatum(0));
	apikey_table_insert(&credit_table, &row);
	wrote_accounts = true;
}

/*
 * A limit has changed by so much.  What was spent stays spent; where there is
 * less than before, or another period, nothing that is leased counts any more.
 */
void
apikey_account_of_limit_changed(const ApikeyRow *limit, int64 more,
								bool restart)
{
	ApikeyRow	row;

	if (!apikey_account_hold(apikey_row_id(limit), APIKEY_LOCK_UPDATE, &row))
		refuse_missing();
	if (more < 0 || restart ||
		DatumGetInt64(limit->values[APIKEY_LIMIT_OVERDRAFT]) <
		int8_or_zero(&row, CREDIT_OVERDRAFT))
	{
		apikey_account_put_back(&row, apikey_account_take_out(&row, true));
		raise_generation(&row);
	}
	apikey_account_set_balance(&row, apikey_account_balance(&row) + more);
	set_limit(&row, limit, restart, GetCurrentTimestamp());
	apikey_account_write_here(&row);
	apikey_lease_changed(apikey_row_id(limit));
}

/* A limit is dropped, and its account with it, if it has one. */
void
apikey_account_of_limit_drop(const pg_uuid_t *id)
{
	ApikeyRow	row;

	if (!apikey_table_lock(&credit_table, id, APIKEY_LOCK_UPDATE, &row))
		return;
	apikey_lease_ending(id);
	apikey_table_delete(&credit_table, id, false);
	wrote_accounts = true;
}

/* How far an account may be overdrawn by charges. */
int64
apikey_account_overdraft(const ApikeyRow *row)
{
	return int8_or_zero(row, CREDIT_OVERDRAFT);
}

/* When an account is refilled next; the end of time where it is not. */
TimestampTz
apikey_account_refill_at(const ApikeyRow *row)
{
	return next_refill(row);
}

/* What an account is refilled to, and how often; NULL where it is not. */
const Interval *
apikey_account_refill(const ApikeyRow *row, int64 *amount)
{
	if (row->nulls[CREDIT_REFILL_INTERVAL])
		return NULL;
	*amount = DatumGetInt64(row->values[CREDIT_REFILL]);
	return DatumGetIntervalP(row->values[CREDIT_REFILL_INTERVAL]);
}

/*
 * Has it been told in the account's period that it is low, or exhausted?  With
 * its row, which is locked and will be written, it is from now on.
 */
bool
apikey_account_tell_once(ApikeyRow *row, bool exhausted)
{
	CreditColumn column = exhausted ? CREDIT_EXHAUSTED_TOLD : CREDIT_LOW_TOLD;

	if (!row->nulls[column] &&
		DatumGetTimestampTz(row->values[column]) == next_refill(row))
		return false;
	apikey_row_set(row, column, TimestampTzGetDatum(next_refill(row)));
	return true;
}

/*
 * Marks an account as told of, for its period; false where it is already, or
 * that would be waiting for somebody.
 */
bool
apikey_account_mark_told(const pg_uuid_t *account, bool exhausted)
{
	bool		refilled;
	ApikeyRow	row;

	if (!apikey_account_lock(account, APIKEY_LOCK_UPDATE_SKIP, &row, &refilled) ||
		refilled || !apikey_account_tell_once(&row, exhausted))
		return false;
	apikey_account_write(&row);
	return true;
}

/* What the search for the keys of an account has come to. */
typedef struct Sharing
{
	const pg_uuid_t *key;
	bool		others;
} Sharing;

static bool
other_key(const ApikeyRow *row, void *state)
{
	Sharing    *sharing = state;

	sharing->others = memcmp(apikey_row_id(row), sharing->key,
							 sizeof(pg_uuid_t)) != 0;
	return !sharing->others;
}

/*
 * A key is deleted: with the last one that has it, its account.  Where somebody
 * has that locked, by a verification perhaps, it stays, and is nobody's until
 * a superuser purges.
 */
void
apikey_account_forget(const ApikeyRow *key)
{
	const pg_uuid_t *account = apikey_key_account(key);
	Sharing		sharing = {.key = apikey_row_id(key)};
	ApikeyRow	row;

	if (account == NULL ||
		!apikey_table_lock(&credit_table, account, APIKEY_LOCK_UPDATE_SKIP,
						   &row))
		return;
	scan_keys(account, other_key, &sharing);
	if (!sharing.others)
		apikey_table_delete(&credit_table, account, false);
}

static bool
any_key(const ApikeyRow *row pg_attribute_unused(), void *state)
{
	*(bool *) state = true;
	return false;
}

/* Is it the account of keys, and of none any more? */
static bool
left_behind(const ApikeyRow *row)
{
	bool		held = false;

	if (row->nulls[CREDIT_ANCHOR])
		scan_keys(apikey_row_id(row), any_key, &held);
	return row->nulls[CREDIT_ANCHOR] && !held;
}

static bool
collect_left(const ApikeyRow *row, void *state)
{
	List	  **ids = state;
	pg_uuid_t  *id;

	if (!left_behind(row))
		return true;
	id = palloc(sizeof(pg_uuid_t));
	*id = *apikey_row_id(row);
	*ids = lappend(*ids, id);
	return true;
}

/*
 * Removes the accounts that apikey_account_forget has left.  Their keys are
 * gone for good, so what was seen without a lock holds.
 */
void
apikey_account_purge(void)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	List	   *ids = NIL;
	ListCell   *cell;
	ApikeyRow	row;

	apikey_table_walk(&credit_table, APIKEY_REL_CREDIT, NULL, 0, snapshot,
					  collect_left, &ids);
	UnregisterSnapshot(snapshot);
	foreach(cell, ids)
	{
		CHECK_FOR_INTERRUPTS();
		if (apikey_table_lock(&credit_table, lfirst(cell),
							  APIKEY_LOCK_UPDATE_SKIP, &row) &&
			left_behind(&row))
			close_account(&row);
	}
	list_free_deep(ids);
}

/* Adds to an account; returns what is left of it then. */
int64
apikey_account_add(const pg_uuid_t *account, int64 amount)
{
	ApikeyLeaseRow lease;
	ApikeyRow	row;
	int64		available;
	int64		balance;
	int64		total;

	if (!apikey_account_hold(account, APIKEY_LOCK_UPDATE, &row))
		refuse_missing();
	apikey_account_lease(&row, &lease);
	(void) apikey_lease_state(account, &lease, &available);
	if (pg_add_s64_overflow(apikey_account_balance(&row), amount, &balance) ||
		pg_add_s64_overflow(balance, available, &total))
		apikey_refuse("amount", "A key has at most 9223372036854775807 credits.");
	apikey_account_set_balance(&row, balance);
	apikey_row_set(&row, CREDIT_GRANTED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	row.nulls[CREDIT_LOW_TOLD] = row.nulls[CREDIT_EXHAUSTED_TOLD] = true;
	apikey_account_write_here(&row);
	apikey_lease_changed(account);
	return total;
}
