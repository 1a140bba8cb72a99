/*
 * credit.h
 *		Credits: accounts in a table, spent of by leases in shared memory.
 */
#ifndef APIKEY_CREDIT_H
#define APIKEY_CREDIT_H

#include "common/int.h"

#include "apikey.h"
#include "memory/slot.h"
#include "store/transaction.h"

typedef enum ApikeyCreditVerdict
{
	APIKEY_CREDIT_SPENT,
	APIKEY_CREDIT_EXHAUSTED,
	APIKEY_CREDIT_UNAVAILABLE,
	APIKEY_CREDIT_ASK			/* lease.c: the worker has to say */
} ApikeyCreditVerdict;

/*
 * Two parts of an account together.  They can be more than a bigint holds:
 * what was spent is not there when more is added, and may come back.
 */
static inline int64
apikey_credits_sum(int64 one, int64 other)
{
	int64		sum;

	return pg_add_s64_overflow(one, other, &sum) ? PG_INT64_MAX : sum;
}

/*
 * What is to be spent of an account, and what has come of it.  A charge, of
 * what has been used already, may overdraw the account, and takes what it can.
 */
typedef struct ApikeySpending
{
	const pg_uuid_t *account;
	ApikeySlotHint *hint;
	int64		cost;			/* 0 only asks */
	bool		charge;
	int64		overdraft;		/* of a charge */
	TimestampTz wait_until;		/* for the worker, at most; 0: not waiting yet */
	int64		taken;
	bool		known;			/* what follows is */
	int64		left;			/* below 0: it is overdrawn */
	TimestampTz until;			/* when it is refilled; the end of time: never */
	bool		in_row;			/* spent in the row itself */
} ApikeySpending;

/*
 * The lease of accounts whose rows were not written since there are numbers:
 * one that version 0.1.0 has left in its file may be theirs.
 */
#define APIKEY_LEASE_UNNUMBERED	(-1)

/* What the row of an account says of the lease that is out. */
typedef struct ApikeyLeaseRow
{
	int64		number;			/* 0: none is */
	int64		generation;
	TimestampTz until;			/* when the account is refilled */
} ApikeyLeaseRow;

extern ApikeyTransactionPart apikey_spend_transaction;

/* lease.c: in memory; an account is an id, of whatever it is */
extern ApikeyCreditVerdict apikey_lease_spend(ApikeySpending *spending);
extern void apikey_lease_unspend(const pg_uuid_t *account, int64 amount);
extern bool apikey_lease_give_back(const pg_uuid_t *account,
								   ApikeySlotHint *hint, int64 amount);
extern bool apikey_lease_told(const pg_uuid_t *account, ApikeySlotHint *hint,
							  bool exhausted);
extern bool apikey_lease_state(const pg_uuid_t *account,
							   const ApikeyLeaseRow *row, int64 *available);
extern void apikey_lease_ask(const pg_uuid_t *account, int64 wanted,
							 bool waiting, bool overdrawing);
extern bool apikey_lease_answerable(void);
extern void apikey_lease_prepare_to_wait(void);
extern void apikey_lease_wait(long milliseconds);
extern void apikey_lease_end_wait(void);

/* For who has the account's row locked. */
extern int64 apikey_lease_take_out(const pg_uuid_t *account,
								   const ApikeyLeaseRow *row, bool end);
extern void apikey_lease_changed(const pg_uuid_t *account);
extern void apikey_lease_ending(const pg_uuid_t *account);
extern void apikey_lease_void(const pg_uuid_t *account);

/* For the worker. */
extern int64 apikey_lease_new_number(void);
extern bool apikey_lease_settle(const pg_uuid_t *account,
								const ApikeyLeaseRow *row,
								ApikeyLease *lease);
extern bool apikey_lease_offer(const pg_uuid_t *account,
							   const ApikeyOffer *offer);
extern void apikey_lease_accept(const pg_uuid_t *account, int64 number);
extern void apikey_lease_tell_left(const pg_uuid_t *account,
								   const ApikeyLease *seen, int64 left);
extern void apikey_lease_answer(Oid database, const pg_uuid_t *account);
extern List *apikey_lease_databases(void);
extern bool apikey_lease_asked(Oid database);
extern int	apikey_lease_take_asked(Oid database, pg_uuid_t *accounts,
									int most);
extern bool apikey_lease_take_asked_rate(Oid database, pg_uuid_t *limit);
extern void apikey_lease_drop(Oid database);
extern List *apikey_lease_idle_databases(TimestampTz before);
extern bool apikey_lease_next_idle(int *from, TimestampTz before,
								   pg_uuid_t *account);

/* account.c: the rows */
extern ApikeyTransactionPart apikey_account_transaction;

extern int64 apikey_account_balance(const ApikeyRow *row);
extern void apikey_account_set_balance(ApikeyRow *row, int64 balance);
extern void apikey_account_put_back(ApikeyRow *row, int64 taken_out);
extern void apikey_account_lease(const ApikeyRow *row, ApikeyLeaseRow *lease);
extern void apikey_account_set_lease(ApikeyRow *row, int64 number,
									 int64 leased);
extern bool apikey_account_lock(const pg_uuid_t *account, ApikeyLock lock,
								ApikeyRow *row, bool *refilled);
extern bool apikey_account_hold(const pg_uuid_t *account, ApikeyLock lock,
								ApikeyRow *row);
extern int64 apikey_account_take_out(ApikeyRow *row, bool end);
extern void apikey_account_write(ApikeyRow *row);
extern void apikey_account_write_here(ApikeyRow *row);
extern bool apikey_account_written(void);
extern int64 apikey_account_left(const pg_uuid_t *account, ApikeyRow *row,
								 bool *found);
extern bool apikey_account_exists(const pg_uuid_t *account);

/* account.c: those of keys */
extern bool apikey_account_fetch(const pg_uuid_t *account, ApikeyRow *key);
extern void apikey_account_open(const pg_uuid_t *account, Snapshot seen,
								ApikeyRow *key);
extern void apikey_account_create(ApikeyRow *key);
extern void apikey_account_update(ApikeyRow *key, bool set_anew);
extern void apikey_account_forget(const ApikeyRow *key);
extern void apikey_account_purge(void);
extern int64 apikey_account_add(const pg_uuid_t *account, int64 amount);

/* account.c: those of limits */
extern void apikey_account_of_limit_create(const ApikeyRow *limit);
extern void apikey_account_of_limit_changed(const ApikeyRow *limit,
											int64 more, bool restart);
extern void apikey_account_of_limit_drop(const pg_uuid_t *id);
extern int64 apikey_account_overdraft(const ApikeyRow *row);
extern TimestampTz apikey_account_refill_at(const ApikeyRow *row);
extern const Interval *apikey_account_refill(const ApikeyRow *row,
											 int64 *amount);
extern bool apikey_account_tell_once(ApikeyRow *row, bool exhausted);
extern bool apikey_account_mark_told(const pg_uuid_t *account,
									 bool exhausted);

/* credit.c */
extern ApikeyCreditVerdict apikey_credit_spend(ApikeySpending *spending);
extern void apikey_credit_unspend(const ApikeySpending *spending);
extern ApikeyCreditVerdict apikey_credit_refund(ApikeySpending *spending);
extern void apikey_credit_grant(const pg_uuid_t *account);
extern List *apikey_credit_idle_databases(void);
extern bool apikey_credit_return(bool first, bool even_used);

/* account_key.c */
extern const ApikeyKeyPart apikey_account_of_key;

#endif							/* APIKEY_CREDIT_H */
