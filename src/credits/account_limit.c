/*
 * account_limit.c
 *		The accounts of limits: quotas and balances.
 */
#include "postgres.h"

#include "store/store.h"
#include "rows/rows.h"
#include "credits/account.h"
#include "credits/credits_internal.h"

/*
 * Fills in what a limit's account is refilled by; where its period begins anew,
 * that is now, and what has been told is of another one.
 */
static void
set_limit(ApikeyRow *row, const ApikeyRow *limit, bool restart,
		  TimestampTz now)
{
	bool		quota = !limit->nulls[APIKEY_LIMIT_PERIOD];

	row->values[APIKEY_ACCOUNT_REFILL] = limit->values[APIKEY_LIMIT_AMOUNT];
	row->values[APIKEY_ACCOUNT_REFILL_INTERVAL] = limit->values[APIKEY_LIMIT_PERIOD];
	row->nulls[APIKEY_ACCOUNT_REFILL] = row->nulls[APIKEY_ACCOUNT_REFILL_INTERVAL] = !quota;
	apikey_row_set(row, APIKEY_ACCOUNT_ANCHOR, limit->values[APIKEY_LIMIT_STARTS_AT]);
	apikey_row_set(row, APIKEY_ACCOUNT_OVERDRAFT, limit->values[APIKEY_LIMIT_OVERDRAFT]);
	apikey_row_set(row, APIKEY_ACCOUNT_GRANTED_AT, TimestampTzGetDatum(now));
	if (restart && quota)
		apikey_row_set(row, APIKEY_ACCOUNT_REFILL_AT,
					   TimestampTzGetDatum(apikey_account_period_end(row, now)));
	row->nulls[APIKEY_ACCOUNT_LOW_TOLD] = row->nulls[APIKEY_ACCOUNT_EXHAUSTED_TOLD] = true;
}

/* Opens the account of a quota or balance, under the limit's own id. */
void
apikey_account_of_limit_create(const ApikeyRow *limit)
{
	ApikeyRow	row;

	apikey_row_clear(&row);
	apikey_row_set_pointer(&row, APIKEY_ACCOUNT_ID, apikey_row_id(limit));
	apikey_row_set(&row, APIKEY_ACCOUNT_BALANCE, limit->values[APIKEY_LIMIT_AMOUNT]);
	set_limit(&row, limit, true, GetCurrentTimestamp());
	apikey_account_begin_generation(&row);
	apikey_table_insert(&apikey_account_table, &row);
	apikey_account_note_written(apikey_row_id(limit));
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

	if (!apikey_account_lock_here(apikey_row_id(limit), APIKEY_LOCK_UPDATE,
								 &row))
		apikey_account_refuse_missing(apikey_row_id(limit));
	if (more < 0 || restart ||
		DatumGetInt64(limit->values[APIKEY_LIMIT_OVERDRAFT]) <
		apikey_account_number(&row, APIKEY_ACCOUNT_OVERDRAFT))
	{
		apikey_account_put_back(&row, apikey_account_take_out(&row, true));
		apikey_account_begin_generation(&row);
	}
	apikey_account_set_balance(&row,
							   apikey_credits_sum(apikey_account_balance(&row), more));
	set_limit(&row, limit, restart, GetCurrentTimestamp());
	apikey_account_write_here(&row);
	apikey_lease_changed(apikey_row_id(limit));
}

/*
 * Can a limit's account be removed, if it has one, without waiting for anybody?
 * Then it is locked.  Somebody may have it in a verification that is left open.
 */
bool
apikey_account_of_limit_free(const pg_uuid_t *id)
{
	return apikey_lease_hold(id) &&
		apikey_table_row_free(&apikey_account_table, id);
}

/*
 * A limit is dropped, and its account with it, if it has one.  Where that is not
 * free it stays, and is nobody's until a superuser purges.
 */
void
apikey_account_of_limit_drop(const pg_uuid_t *id)
{
	if (!apikey_account_exists(id) || !apikey_account_of_limit_free(id))
		return;
	apikey_lease_ending(id);
	apikey_table_delete(&apikey_account_table, id, false);
	apikey_account_note_written(id);
}
