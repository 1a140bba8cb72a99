/*
 * account.h
 *		The rows of accounts.
 */
#ifndef APIKEY_ACCOUNT_H
#define APIKEY_ACCOUNT_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "store/store.h"

typedef enum ApikeyAccountColumn
{
	APIKEY_ACCOUNT_ID,
	APIKEY_ACCOUNT_BALANCE,
	APIKEY_ACCOUNT_REFILL,
	APIKEY_ACCOUNT_REFILL_INTERVAL,
	APIKEY_ACCOUNT_REFILL_AT,
	APIKEY_ACCOUNT_GRANTED_AT,
	APIKEY_ACCOUNT_GENERATION,			/* null: 0, and not written since 0.1.0 */
	APIKEY_ACCOUNT_LEASE,
	APIKEY_ACCOUNT_LEASED,
	APIKEY_ACCOUNT_ANCHOR,				/* null: of a key's credits; else of a limit */
	APIKEY_ACCOUNT_OVERDRAFT,			/* null: 0 */
	APIKEY_ACCOUNT_LOW_TOLD,			/* the period's end of the last such event */
	APIKEY_ACCOUNT_EXHAUSTED_TOLD
} ApikeyAccountColumn;

/* account.c */
extern ApikeyTable apikey_account_table;
extern void apikey_account_note_written(const pg_uuid_t *account);
extern int64 apikey_account_number(const ApikeyRow *row,
								   ApikeyAccountColumn column);
extern void apikey_account_begin_generation(ApikeyRow *row);
extern TimestampTz apikey_account_time_after(TimestampTz start,
											 const Interval *interval,
											 int64 times);
extern TimestampTz apikey_account_period_end(const ApikeyRow *row,
											 TimestampTz now);
pg_noreturn extern void apikey_account_refuse_missing(const pg_uuid_t *account);
extern void apikey_account_set_lease(ApikeyRow *row, int64 number,
									 int64 leased);
extern bool apikey_account_lock(const pg_uuid_t *account, ApikeyLock lock,
								ApikeyRow *row, bool *refilled);
extern bool apikey_account_written(const pg_uuid_t *account);

#endif							/* APIKEY_ACCOUNT_H */
