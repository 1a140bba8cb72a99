/*
 * account_key.c
 *		The accounts of keys: their credits, and when they are refilled.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "credits/account.h"
#include "credits/credits_internal.h"

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
	key->values[APIKEY_KEY_CREDITS_REFILL] = row.values[APIKEY_ACCOUNT_REFILL];
	key->nulls[APIKEY_KEY_CREDITS_REFILL] = row.nulls[APIKEY_ACCOUNT_REFILL];
	key->values[APIKEY_KEY_CREDITS_INTERVAL] = row.values[APIKEY_ACCOUNT_REFILL_INTERVAL];
	key->nulls[APIKEY_KEY_CREDITS_INTERVAL] = row.nulls[APIKEY_ACCOUNT_REFILL_INTERVAL];
	return true;
}

/*
 * Has somebody an account?  Without the library that may be whoever holds the
 * key's text, by a verification that is left open.
 */
static bool
account_held(const pg_uuid_t *account)
{
	return !apikey_preloaded() && !IsolationUsesXactSnapshot() &&
		!apikey_table_row_free(&apikey_account_table, account);
}

/*
 * Locks a key's account to be changed by an UPDATE that has seen it as a
 * snapshot shows it, and fills in the key's refill; raises 40001 where the
 * account has been changed since.  What is left changes all the time: that is
 * the caller's to fill in.  An account that somebody has is read only.
 */
void
apikey_account_open(const pg_uuid_t *account, Snapshot seen, ApikeyRow *key)
{
	ApikeyRow	before;
	ApikeyRow	row;

	if (!apikey_table_fetch(&apikey_account_table, account, seen, &before) ||
		!(account_held(account) ?
		  apikey_table_fetch_latest(&apikey_account_table, account, &row) :
		  apikey_account_lock_here(account, APIKEY_LOCK_UPDATE, &row)) ||
		DatumGetTimestampTz(before.values[APIKEY_ACCOUNT_GRANTED_AT]) !=
		DatumGetTimestampTz(row.values[APIKEY_ACCOUNT_GRANTED_AT]))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not update the credits of the API key due to a concurrent change")));
	key->values[APIKEY_KEY_CREDITS_REFILL] = row.values[APIKEY_ACCOUNT_REFILL];
	key->nulls[APIKEY_KEY_CREDITS_REFILL] = row.nulls[APIKEY_ACCOUNT_REFILL];
	key->values[APIKEY_KEY_CREDITS_INTERVAL] = row.values[APIKEY_ACCOUNT_REFILL_INTERVAL];
	key->nulls[APIKEY_KEY_CREDITS_INTERVAL] = row.nulls[APIKEY_ACCOUNT_REFILL_INTERVAL];
}

/* Does a key's row ask for another interval than its account has? */
static bool
interval_differs(const ApikeyRow *row, const ApikeyRow *key)
{
	if (row->nulls[APIKEY_ACCOUNT_REFILL_INTERVAL] ||
		key->nulls[APIKEY_KEY_CREDITS_INTERVAL])
		return row->nulls[APIKEY_ACCOUNT_REFILL_INTERVAL] !=
			key->nulls[APIKEY_KEY_CREDITS_INTERVAL];
	return !DatumGetBool(DirectFunctionCall2(interval_eq,
											 row->values[APIKEY_ACCOUNT_REFILL_INTERVAL],
											 key->values[APIKEY_KEY_CREDITS_INTERVAL]));
}

/* Takes over a key's refill; another interval begins now. */
static void
set_refill(ApikeyRow *row, const ApikeyRow *key, TimestampTz now)
{
	bool		restart = interval_differs(row, key);

	row->values[APIKEY_ACCOUNT_REFILL] = key->values[APIKEY_KEY_CREDITS_REFILL];
	row->nulls[APIKEY_ACCOUNT_REFILL] = key->nulls[APIKEY_KEY_CREDITS_REFILL];
	row->values[APIKEY_ACCOUNT_REFILL_INTERVAL] = key->values[APIKEY_KEY_CREDITS_INTERVAL];
	row->nulls[APIKEY_ACCOUNT_REFILL_INTERVAL] = key->nulls[APIKEY_KEY_CREDITS_INTERVAL];
	if (row->nulls[APIKEY_ACCOUNT_REFILL_INTERVAL])
		row->nulls[APIKEY_ACCOUNT_REFILL_AT] = true;
	else if (restart)
		apikey_row_set(row, APIKEY_ACCOUNT_REFILL_AT,
					   TimestampTzGetDatum(apikey_account_time_after(now, DatumGetIntervalP(row->values[APIKEY_ACCOUNT_REFILL_INTERVAL]), 1)));
	apikey_row_set(row, APIKEY_ACCOUNT_GRANTED_AT, TimestampTzGetDatum(now));
}

/*
 * Opens an account for a key that has credits, under an id or, where there is one
 * of that, under another: a key that was deleted and is imported again finds that
 * of the keys which have replaced it.
 */
static void
create_account(ApikeyRow *key, const pg_uuid_t *wanted)
{
	ApikeyWriter *writer = apikey_table_open(&apikey_account_table);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	ScanKeyData scan_key;
	ApikeyRow	row;

	*id = *wanted;
	apikey_table_key(&scan_key, id);
	if (!apikey_table_absent(writer, &apikey_account_table, &scan_key))
		apikey_generate_account_id(id);
	apikey_row_clear(&row);
	apikey_row_set_pointer(&row, APIKEY_ACCOUNT_ID, id);
	row.values[APIKEY_ACCOUNT_BALANCE] = key->values[APIKEY_KEY_CREDITS];
	row.nulls[APIKEY_ACCOUNT_BALANCE] = false;
	set_refill(&row, key, GetCurrentTimestamp());
	apikey_account_begin_generation(&row);
	apikey_table_add(writer, &apikey_account_table, &row);
	apikey_table_close(writer);
	apikey_row_set_pointer(key, APIKEY_KEY_CREDITS_ACCOUNT, id);
	apikey_account_note_written(id);
}

/* The same under the key's own id. */
static void
create_own_account(ApikeyRow *key)
{
	if (!key->nulls[APIKEY_KEY_CREDITS])
		create_account(key, apikey_row_id(key));
}

/* Visits the keys that have an account. */
static void
scan_keys(const pg_uuid_t *account, ApikeyVisit visit, void *state)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData key;

	ScanKeyInit(&key, APIKEY_KEY_CREDITS_ACCOUNT + 1, BTEqualStrategyNumber,
				F_UUID_EQ, UUIDPGetDatum(account));
	apikey_table_walk(&apikey_key_table, APIKEY_REL_KEY_CREDITS_ACCOUNT,
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

/* One that is gone meanwhile needs nothing. */
static void
change_account_of(void *id, void *other)
{
	ApikeyRow	key;

	if (!apikey_key_lock(id, APIKEY_LOCK_UPDATE, &key))
		return;
	apikey_row_set_pointer(&key, APIKEY_KEY_CREDITS_ACCOUNT, other);
	apikey_key_write(&key);
}

/*
 * Gives the keys that have an account another, or none, the younger first as
 * whoever locks keys.
 */
static void
change_account(const pg_uuid_t *account, pg_uuid_t *other)
{
	List	   *ids = NIL;

	scan_keys(account, collect_key, &ids);
	list_sort(ids, younger_first);
	apikey_turns_each(ids, change_account_of, other);
}

/*
 * Sets the credits of a locked key without waiting for whoever has its account:
 * the key and what it has replaced get another one.  The old one is nobody's
 * then, and goes when a superuser purges.
 */
static void
replace_account(ApikeyRow *key)
{
	pg_uuid_t	old = *apikey_key_account(key);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	apikey_generate_account_id(id);
	if (key->nulls[APIKEY_KEY_CREDITS])
		id = NULL;
	else
		create_account(key, id);
	change_account(&old, id);
	apikey_row_set_pointer(key, APIKEY_KEY_CREDITS_ACCOUNT, id);
}

/* Closes an account, which is locked, of whichever keys. */
static void
close_account(ApikeyRow *row)
{
	(void) apikey_account_take_out(row, true);
	change_account(apikey_row_id(row), NULL);
	apikey_table_delete(&apikey_account_table, apikey_row_id(row), false);
	apikey_account_note_written(apikey_row_id(row));
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
		create_own_account(key);
		return;
	}
	if ((set_anew || key->nulls[APIKEY_KEY_CREDITS]) && account_held(account))
	{
		replace_account(key);
		return;
	}
	if (!apikey_account_lock_here(account, APIKEY_LOCK_UPDATE, &row))
		apikey_account_refuse_missing(account);
	if (key->nulls[APIKEY_KEY_CREDITS])
	{
		close_account(&row);
		key->nulls[APIKEY_KEY_CREDITS_ACCOUNT] = true;
		return;
	}
	if (set_anew || interval_differs(&row, key))
	{
		apikey_account_put_back(&row, apikey_account_take_out(&row, true));
		apikey_account_begin_generation(&row);
	}
	if (set_anew)
		apikey_account_set_balance(&row, DatumGetInt64(key->values[APIKEY_KEY_CREDITS]));
	set_refill(&row, key, now);
	apikey_account_write_here(&row);
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

static bool
has_account(const ApikeyRow *key, const pg_uuid_t *account)
{
	return apikey_key_account(key) != NULL &&
		memcmp(apikey_key_account(key), account, sizeof(pg_uuid_t)) == 0;
}

/*
 * Have others a key's account, too?  What it has replaced, or is replaced by, is
 * looked at first: so of a chain that is deleted key by key nobody passes over
 * those that are gone by then, again and again.
 */
static bool
shared(const ApikeyRow *key, const pg_uuid_t *account)
{
	Sharing		sharing = {.key = apikey_row_id(key)};
	ApikeyRow	next;

	if (!key->nulls[APIKEY_KEY_ROTATED_TO] &&
		apikey_key_fetch_latest(DatumGetUUIDP(key->values[APIKEY_KEY_ROTATED_TO]),
								&next) &&
		has_account(&next, account))
		return true;
	if (apikey_key_find_predecessor(apikey_row_id(key), &next) &&
		has_account(&next, account))
		return true;
	scan_keys(account, other_key, &sharing);
	return sharing.others;
}

/*
 * A key is deleted: with the last one that has it, its account.  No other key gets
 * it meanwhile: so one that is left to others is not locked, and they go on.  Where
 * somebody has it, by a verification perhaps, or open transactions hold too many,
 * it stays, and is nobody's until a superuser purges.
 */
static void
forget_account(const ApikeyRow *key)
{
	const pg_uuid_t *account = apikey_key_account(key);
	ApikeyRow	row;

	if (account != NULL && !shared(key, account) && apikey_lease_hold(account) &&
		apikey_table_lock(&apikey_account_table, account, APIKEY_LOCK_UPDATE_SKIP,
						  &row))
		apikey_table_delete(&apikey_account_table, account, false);
}

static bool
any_key(const ApikeyRow *row pg_attribute_unused(), void *state)
{
	*(bool *) state = true;
	return false;
}

/* Says whether there is a limit, for those who do not know them. */
typedef bool (*LimitExists) (const pg_uuid_t *id);

/* Is it the account of no key any more, or of a limit that is gone? */
static bool
left_behind(const ApikeyRow *row, LimitExists limit_exists)
{
	bool		held = false;

	if (!row->nulls[APIKEY_ACCOUNT_ANCHOR])
		return !limit_exists(apikey_row_id(row));
	scan_keys(apikey_row_id(row), any_key, &held);
	return !held;
}

static bool
close_left(const ApikeyRow *row, void *state)
{
	LimitExists limit_exists = *(LimitExists *) state;
	ApikeyRow	account;

	if (left_behind(row, limit_exists) &&
		apikey_table_lock(&apikey_account_table, apikey_row_id(row),
						  APIKEY_LOCK_UPDATE_SKIP, &account) &&
		left_behind(&account, limit_exists))
	{
		(void) apikey_account_take_out(&account, true);
		apikey_table_delete(&apikey_account_table, apikey_row_id(&account),
							false);
	}
	return true;
}

/*
 * Removes the accounts that forget_account has left, and those of limits that
 * are gone.  Their keys are gone for good, and they, so what was seen without a
 * lock holds.
 */
void
apikey_account_purge(LimitExists limit_exists)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ApikeyTurns turns;

	apikey_turns_begin(&turns, close_left, &limit_exists);
	apikey_table_walk(&apikey_account_table, APIKEY_REL_CREDIT, NULL, 0, snapshot,
					  apikey_turns_visit, &turns);
	apikey_turns_end(&turns);
	UnregisterSnapshot(snapshot);
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

	if (!apikey_account_lock_here(account, APIKEY_LOCK_UPDATE, &row))
		apikey_account_refuse_missing(account);
	apikey_account_lease(&row, &lease);
	(void) apikey_lease_state(account, &lease, &available);
	if (pg_add_s64_overflow(apikey_account_balance(&row), amount, &balance) ||
		pg_add_s64_overflow(balance, available, &total))
		apikey_refuse("amount", "A key has at most 9223372036854775807 credits.");
	apikey_account_set_balance(&row, balance);
	apikey_row_set(&row, APIKEY_ACCOUNT_GRANTED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	row.nulls[APIKEY_ACCOUNT_LOW_TOLD] = row.nulls[APIKEY_ACCOUNT_EXHAUSTED_TOLD] = true;
	apikey_account_write_here(&row);
	apikey_lease_changed(account);
	return total;
}

const ApikeyKeyPart apikey_account_of_key = {
	.making = create_own_account,
	.deleting = forget_account
};
