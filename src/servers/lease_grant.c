/*
 * lease_grant.c
 *		Leasing credits to other servers, and taking them back.
 *
 * The server's row is locked, then the account's, and then the lease's.  What
 * is granted is taken out of the account's row in the transaction that writes
 * the lease's, which is on disk before the server hears of it; so it is out
 * once, whatever crashes.  The server chooses the lease's number before it asks
 * and asks again with the same one where the answer is lost: a row that has
 * that number already answers as it did before.
 *
 * A lease is good for the account's generation and period; what comes back of
 * another one is gone.  Of what a server says to be unspent no more counts than
 * its lease had.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "events/events.h"
#include "credits/credits.h"
#include "limits/limits.h"
#include "servers/server_lease.h"
#include "servers/servers_internal.h"

#define HOLD_MAX	20			/* milliseconds for rows of accounts, in all */
#define LEASE_MIN	100			/* unless there is less */

/* The id of a server's lease of an account. */
static void
lease_id(const ApikeyRow *server, const pg_uuid_t *account, pg_uuid_t *id)
{
	pg_uuid_t	of[2] = {*apikey_row_id(server), *account};

	apikey_digest_id(of, sizeof(of), id);
}

/* Until when rows of accounts are waited for, from now on. */
TimestampTz
apikey_lease_patience(void)
{
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HOLD_MAX);
}

/* Locks an account as soon as it is free, if that is in time. */
static bool
lock_account(const pg_uuid_t *account, TimestampTz patience, ApikeyRow *row)
{
	while (!apikey_account_lock_now(account, APIKEY_LOCK_UPDATE_SKIP, row))
	{
		if (GetCurrentTimestamp() >= patience ||
			!apikey_account_exists(account) || !apikey_wait_moment(1))
			return false;
	}
	return true;
}

static int64
column(const ApikeyRow *lease, ApikeyServerLeaseColumn number)
{
	return DatumGetInt64(lease->values[number]);
}

/* Is a lease of the account's present generation and period? */
static bool
lease_good(const ApikeyRow *lease, const ApikeyLeaseRow *account)
{
	TimestampTz until = lease->nulls[SERVER_LEASE_UNTIL] ? DT_NOEND :
		DatumGetTimestampTz(lease->values[SERVER_LEASE_UNTIL]);

	return column(lease, SERVER_LEASE_GENERATION) == account->generation &&
		until == account->until;
}

/*
 * How much is granted: what somebody waits for, if there is so much; beyond it,
 * as much as is wanted of a tenth of what is left, shared by all servers.
 */
static int64
size_of(const ApikeyLeaseWish *wish, int64 balance, int64 overdraft,
		int servers)
{
	int64		size = Max(Min(balance / 10 / Max(servers, 1), apikey_credits_lease),
						   Min(LEASE_MIN, apikey_credits_lease));

	if (wish->charging)
		return Max(0, Min(wish->least, apikey_credits_sum(balance, overdraft)));
	if (wish->least > balance)
		return 0;
	return Max(0, Min(balance, Max(wish->least, Min(wish->most, size))));
}

static void
answer_from_row(ApikeyLeaseAnswer *answer, const ApikeyRow *lease)
{
	answer->granted = column(lease, SERVER_LEASE_GRANTED);
	answer->left_over = column(lease, SERVER_LEASE_LEFT_OVER);
	/* With nothing beside, whatever is held does not count. */
	answer->state = column(lease, SERVER_LEASE_AMOUNT) == answer->granted ?
		APIKEY_LEASE_FRESH : APIKEY_LEASE_GRANTED;
}

static void
write_lease(const ApikeyRow *server, const ApikeyLeaseWish *wish,
			const ApikeyLeaseAnswer *answer, int64 held, ApikeyRow *lease,
			bool found)
{
	pg_uuid_t	id;

	lease_id(server, &wish->account, &id);
	apikey_row_clear(lease);
	apikey_row_set_pointer(lease, SERVER_LEASE_ID, &id);
	apikey_row_set_pointer(lease, SERVER_LEASE_SERVER, apikey_row_id(server));
	apikey_row_set_pointer(lease, SERVER_LEASE_ACCOUNT, &wish->account);
	apikey_row_set(lease, SERVER_LEASE_NUMBER, Int64GetDatum(wish->number));
	apikey_row_set(lease, SERVER_LEASE_GRANTED, Int64GetDatum(answer->granted));
	apikey_row_set(lease, SERVER_LEASE_AMOUNT,
				   Int64GetDatum(apikey_credits_sum(held, answer->granted)));
	apikey_row_set(lease, SERVER_LEASE_GENERATION,
				   Int64GetDatum(answer->generation));
	if (answer->until != DT_NOEND)
		apikey_row_set(lease, SERVER_LEASE_UNTIL,
					   TimestampTzGetDatum(answer->until));
	apikey_row_set(lease, SERVER_LEASE_LEFT_OVER,
				   Int64GetDatum(answer->left_over));
	apikey_row_set(lease, SERVER_LEASE_GRANTED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	if (found)
		apikey_table_update(&apikey_server_lease_table, lease);
	else
		apikey_table_insert(&apikey_server_lease_table, lease);
}

/* Takes what is to be granted out of a locked account; nothing is written yet. */
static void
take_out(const ApikeyLeaseWish *wish, int servers, ApikeyRow *account,
		 ApikeyLeaseAnswer *answer)
{
	int64		balance = apikey_account_balance(account);

	/* What this server has in memory is there for all. */
	if (balance < wish->least)
	{
		apikey_account_put_back(account, apikey_account_take_out(account, false));
		balance = apikey_account_balance(account);
	}
	answer->granted = size_of(wish, balance, apikey_account_overdraft(account),
							  servers);
	answer->left_over = balance - answer->granted;
	apikey_account_set_balance(account, answer->left_over);
}

/*
 * Tells, once a period, that a limit is low or exhausted: of what is leased to
 * other servers nobody else tells.
 */
static void
tell_limit(const ApikeyLeaseWish *wish, const ApikeyLeaseAnswer *answer,
		   ApikeyRow *account)
{
	ApikeyRow	limit;
	int64		left = Max(answer->left_over, 0);
	bool		exhausted = answer->granted == 0 && wish->least > 0 && left == 0;

	if (!apikey_table_fetch_latest(&apikey_limit_table, &wish->account, &limit))
		return;
	if (left <= DatumGetInt64(limit.values[APIKEY_LIMIT_AMOUNT]) / 5 &&
		apikey_account_tell_once(account, false))
		apikey_limit_tell(&limit, APIKEY_EVENT_LIMIT_LOW,
						  apikey_limit_detail_with(&limit, "remaining", left, NULL));
	if (exhausted && apikey_account_tell_once(account, true))
		apikey_limit_tell(&limit, APIKEY_EVENT_LIMIT_EXHAUSTED,
						  apikey_limit_detail_with(&limit, "remaining", left, NULL));
}

/*
 * Leases credits of an account to a server, whose row is locked; so many
 * servers share them.
 */
void
apikey_lease_grant(const ApikeyRow *server, const ApikeyLeaseWish *wish,
				   int servers, TimestampTz patience,
				   ApikeyLeaseAnswer *answer)
{
	ApikeyLeaseRow state;
	ApikeyRow	account;
	ApikeyRow	lease;
	pg_uuid_t	id;
	bool		found;
	bool		held;

	memset(answer, 0, sizeof(*answer));
	if (!lock_account(&wish->account, patience, &account))
	{
		answer->state = apikey_account_exists(&wish->account) ?
			APIKEY_LEASE_BUSY : APIKEY_LEASE_GONE;
		return;
	}
	apikey_account_lease(&account, &state);
	answer->generation = state.generation;
	answer->until = state.until;
	lease_id(server, &wish->account, &id);
	found = apikey_table_lock(&apikey_server_lease_table, &id,
							  APIKEY_LOCK_UPDATE, &lease);
	if (found && column(&lease, SERVER_LEASE_NUMBER) == wish->number &&
		lease_good(&lease, &state))
	{
		answer_from_row(answer, &lease);
		return;
	}
	held = found && wish->held_number != 0 && lease_good(&lease, &state) &&
		column(&lease, SERVER_LEASE_NUMBER) == wish->held_number;
	take_out(wish, servers, &account, answer);
	tell_limit(wish, answer, &account);
	apikey_account_write_here(&account);
	apikey_lease_changed(&wish->account);
	answer->state = answer->granted != 0 ?
		(held ? APIKEY_LEASE_GRANTED : APIKEY_LEASE_FRESH) :
		(held || wish->held_number == 0 ? APIKEY_LEASE_SHORT : APIKEY_LEASE_VOID);
	if (answer->granted != 0)
		write_lease(server, wish, answer,
					held ? Min(wish->held, column(&lease, SERVER_LEASE_AMOUNT)) : 0,
					&lease, found);
	else if (found && !held)
		apikey_table_delete(&apikey_server_lease_table, &id, false);
	/* Before the server spends of it, it is to be on disk. */
	ForceSyncCommit();
}

/*
 * Puts what a server has not spent of its lease back; false without a lease, or
 * where somebody has the account locked, whose id is then added to "locked".
 */
bool
apikey_lease_take_back(const ApikeyRow *server, const pg_uuid_t *account_id,
					   int64 number, int64 unspent, TimestampTz patience,
					   StringInfo locked)
{
	ApikeyLeaseRow state;
	ApikeyRow	account;
	ApikeyRow	lease;
	pg_uuid_t	id;
	bool		exists = lock_account(account_id, patience, &account);

	if (!exists && apikey_account_exists(account_id))
	{
		apikey_id_list(locked, account_id);
		return false;
	}
	lease_id(server, account_id, &id);
	if (!apikey_table_lock(&apikey_server_lease_table, &id, APIKEY_LOCK_UPDATE,
						   &lease) ||
		column(&lease, SERVER_LEASE_NUMBER) != number)
		return false;
	if (exists)
		apikey_account_lease(&account, &state);
	if (exists && lease_good(&lease, &state))
	{
		apikey_account_put_back(&account,
								Min(unspent, column(&lease, SERVER_LEASE_AMOUNT)));
		apikey_account_write_here(&account);
		apikey_lease_changed(account_id);
	}
	apikey_table_delete(&apikey_server_lease_table, &id, false);
	return true;
}

/*
 * For the worker of a server that has become the primary: its own lease goes
 * back into the account; false where somebody has that.
 */
bool
apikey_lease_adopt(const ApikeyRow *lease)
{
	const pg_uuid_t *account_id = DatumGetUUIDP(lease->values[SERVER_LEASE_ACCOUNT]);
	ApikeyLeaseRow state;
	ApikeyRow	account;

	if (apikey_account_lock_now(account_id, APIKEY_LOCK_UPDATE_SKIP, &account))
	{
		int64		unspent = apikey_fleet_lease_adopt(account_id,
													   column(lease, SERVER_LEASE_NUMBER));

		apikey_account_lease(&account, &state);
		if (lease_good(lease, &state))
		{
			apikey_account_put_back(&account,
									Min(unspent, column(lease, SERVER_LEASE_AMOUNT)));
			apikey_account_write(&account);
		}
	}
	else if (apikey_account_exists(account_id))
		return false;
	apikey_table_delete(&apikey_server_lease_table, apikey_row_id(lease), false);
	return true;
}
