/*
 * credits.h
 *		The door of credits/: accounts, and the leases by which they are spent in
 *		memory.
 */
#ifndef APIKEY_CREDITS_H
#define APIKEY_CREDITS_H

#include "nodes/pg_list.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "keys/keys.h"
#include "credits/fleet_lease.h"

typedef enum ApikeyCreditVerdict
{
	APIKEY_CREDIT_SPENT,
	APIKEY_CREDIT_EXHAUSTED,
	APIKEY_CREDIT_UNAVAILABLE,
	APIKEY_CREDIT_ASK			/* lease.c: the worker has to say */
} ApikeyCreditVerdict;

/*
 * What is to be spent of an account, and what has come of it.  A charge, of
 * what has been used already, may overdraw the account, and takes what it can.
 */
typedef struct ApikeySpending
{
	const pg_uuid_t *account;
	ApikeySlotHint *hint;
	TimestampTz now;			/* a clock's time, read by the caller */
	int64		cost;			/* 0 only asks */
	bool		charge;
	int64		overdraft;		/* of a charge */
	TimestampTz wait_until;		/* for the worker, at most; 0: not waiting yet */
	int64		taken;
	bool		known;			/* what follows is */
	int64		left;			/* below 0: it is overdrawn */
	TimestampTz until;			/* when it is refilled; the end of time: never */
	int64		generation;		/* the account's; with "until" it says of what was
								 * spent, or to what it is given back */
	bool		in_row;			/* spent in the row itself */
	int64		of_row;			/* so much of what is given back was, by this
								 * transaction */
} ApikeySpending;

/* Has it been told of an account what is so in its period? */
typedef enum ApikeyAccountTold
{
	APIKEY_TOLD_NOW,			/* it is to be, and the row says that it is */
	APIKEY_TOLD_BEFORE,
	APIKEY_TOLD_NEVER,			/* the period is over, or the account gone */
	APIKEY_TOLD_LATER			/* somebody has the row */
} ApikeyAccountTold;

/* spend.c */
extern ApikeyTransactionPart apikey_spend_transaction;

/* lease.c */
extern bool apikey_lease_tell(Oid database, const pg_uuid_t *account,
							  ApikeySlotHint *hint, bool exhausted,
							  bool now);
extern void apikey_lease_changed(const pg_uuid_t *account);

/* lease_asked.c */
extern void apikey_lease_ask(const pg_uuid_t *account, int64 wanted,
							 bool waiting, bool overdrawing);
extern void apikey_lease_prepare_to_wait(void);
extern void apikey_lease_wait(long milliseconds);
extern void apikey_lease_end_wait(void);
extern void apikey_lease_answer(Oid database, const pg_uuid_t *account);
extern List *apikey_lease_databases(void);
extern bool apikey_lease_asked(Oid database);
extern bool apikey_lease_asked_here(Oid database);
extern int	apikey_lease_take_asked(Oid database, pg_uuid_t *accounts,
									int most);
extern int	apikey_lease_take_asked_rates(Oid database, pg_uuid_t *limits,
										  int most);
extern void apikey_lease_drop(Oid database);
extern const ApikeyMemoryPart apikey_lease_asked_memory;

/* account.c: the rows */
extern ApikeyTransactionPart apikey_account_transaction;
extern int64 apikey_account_balance(const ApikeyRow *row);
extern void apikey_account_set_balance(ApikeyRow *row, int64 balance);
extern void apikey_account_put_back(ApikeyRow *row, int64 taken_out);
extern void apikey_account_lease(const ApikeyRow *row, ApikeyLeaseRow *lease);
extern bool apikey_account_lock_now(const pg_uuid_t *account, ApikeyLock lock,
									ApikeyRow *row);
extern bool apikey_account_lock_here(const pg_uuid_t *account, ApikeyLock lock,
									 ApikeyRow *row);
extern int64 apikey_account_take_out(ApikeyRow *row, bool end);
extern void apikey_account_write(ApikeyRow *row);
extern void apikey_account_write_here(ApikeyRow *row);
extern int64 apikey_account_left(const pg_uuid_t *account, ApikeyRow *row,
								 bool *found);
extern bool apikey_account_exists(const pg_uuid_t *account);
extern int64 apikey_account_overdraft(const ApikeyRow *row);
extern TimestampTz apikey_account_refill_at(const ApikeyRow *row);
extern const Interval *apikey_account_refill(const ApikeyRow *row,
											 int64 *amount);
extern bool apikey_account_tell_once(ApikeyRow *row, bool exhausted);
extern bool apikey_account_writable(void);
extern ApikeyAccountTold apikey_account_mark_told(const pg_uuid_t *account,
												  bool exhausted);

/* account_key.c: those of keys */
extern bool apikey_account_fetch(const pg_uuid_t *account, ApikeyRow *key);
extern void apikey_account_open(const pg_uuid_t *account, Snapshot seen,
								ApikeyRow *key);
extern void apikey_account_update(ApikeyRow *key, bool set_anew);
extern void apikey_account_purge(bool (*limit_exists) (const pg_uuid_t *id));
extern int64 apikey_account_add(const pg_uuid_t *account, int64 amount);
extern const ApikeyKeyPart apikey_account_of_key;

/* account_limit.c: those of limits */
extern void apikey_account_of_limit_create(const ApikeyRow *limit);
extern void apikey_account_of_limit_changed(const ApikeyRow *limit,
											int64 more, bool restart);
extern bool apikey_account_of_limit_free(const pg_uuid_t *id);
extern void apikey_account_of_limit_drop(const pg_uuid_t *id);

/* credit.c */
extern ApikeyTransactionPart apikey_credit_transaction;
extern ApikeyCreditVerdict apikey_credit_spend(ApikeySpending *spending);
extern void apikey_credit_unspend(const ApikeySpending *spending);
extern ApikeyCreditVerdict apikey_credit_refund(ApikeySpending *spending);
extern void apikey_credit_grant(const pg_uuid_t *account);
extern List *apikey_credit_idle_databases(void);
extern bool apikey_credit_return(int *from, bool even_used);

#endif							/* APIKEY_CREDITS_H */
