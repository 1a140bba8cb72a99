/*
 * credit.h
 *		Credits: accounts in a table, spent of by leases in shared memory.
 */
#ifndef APIKEY_CREDIT_H
#define APIKEY_CREDIT_H

#include "common/int.h"

#include "apikey.h"
#include "slot.h"

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

/* Setting, in apikey.c. */
extern int	apikey_credits_lease;

/* lease.c */
extern void apikey_lease_init(void);
extern ApikeyCreditVerdict apikey_lease_spend(const pg_uuid_t *account,
											  ApikeySlotHint *hint,
											  int32 cost, int64 *left);
extern void apikey_lease_call(void);
extern void apikey_lease_ask(const pg_uuid_t *account, int64 wanted);
extern void apikey_lease_prepare_to_wait(void);
extern void apikey_lease_wait(long milliseconds);
extern void apikey_lease_end_wait(void);
extern int64 apikey_lease_available(const pg_uuid_t *account,
									uint32 *granted);
extern void apikey_lease_void(const pg_uuid_t *account);
extern int64 apikey_lease_take_out(const pg_uuid_t *account);
extern void apikey_lease_granted_more(const pg_uuid_t *account);
extern void apikey_lease_serve(bool is_worker);
extern List *apikey_lease_databases(void);
extern bool apikey_lease_next(pg_uuid_t *account);
extern void apikey_lease_refuse(Oid database, const pg_uuid_t *account);
extern void apikey_lease_drop(Oid database);
extern void apikey_lease_read(const pg_uuid_t *account, ApikeyLease *lease);
extern void apikey_lease_grant(const pg_uuid_t *account,
							   const ApikeyLease *seen, bool fresh,
							   int64 amount, TimestampTz until, int64 left);
extern List *apikey_lease_idle_databases(TimestampTz before);
extern bool apikey_lease_next_idle(int *from, TimestampTz before,
								   pg_uuid_t *account);

/* account.c */
extern void apikey_account_init(void);
extern int64 apikey_account_balance(const ApikeyRow *row);
extern void apikey_account_set_balance(ApikeyRow *row, int64 balance);
extern void apikey_account_put_back(ApikeyRow *row, int64 taken_out);
extern TimestampTz apikey_account_until(const ApikeyRow *row);
extern bool apikey_account_lock(const pg_uuid_t *account, ApikeyLock lock,
								ApikeyRow *row, bool *refilled);
extern void apikey_account_write(ApikeyRow *row);
extern bool apikey_account_written(void);
extern int64 apikey_account_left(const pg_uuid_t *account, ApikeyRow *row,
								 bool *found);
extern bool apikey_account_exists(const pg_uuid_t *account);
extern bool apikey_account_fetch(const pg_uuid_t *account, ApikeyRow *key);
extern void apikey_account_open(const pg_uuid_t *account, Snapshot seen,
								ApikeyRow *key);
extern void apikey_account_create(ApikeyRow *key);
extern void apikey_account_update(ApikeyRow *key, bool set_anew);
extern void apikey_account_forget(const ApikeyRow *key);
extern int64 apikey_account_add(const pg_uuid_t *account, int64 amount);

/* credit.c */
extern ApikeyCreditVerdict apikey_credit_spend(const pg_uuid_t *account,
											   ApikeySlotHint *hint,
											   int32 cost, int64 *left);
extern void apikey_credit_grant(const pg_uuid_t *account);
extern List *apikey_credit_idle_databases(void);
extern void apikey_credit_return_idle(void);

#endif							/* APIKEY_CREDIT_H */
