/*
 * credits_internal.h
 *		What stays within credits/.
 */
#ifndef APIKEY_CREDITS_INTERNAL_H
#define APIKEY_CREDITS_INTERNAL_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "memory/memory.h"
#include "credits/credits.h"

/* lease.c: in memory; an account is an id, of whatever it is */
extern ApikeyCreditVerdict apikey_lease_spend(ApikeySpending *spending);
extern void apikey_lease_unspend(const ApikeySpending *spending);
extern bool apikey_lease_give_back(const ApikeySpending *spending);
extern bool apikey_lease_state(const pg_uuid_t *account,
							   const ApikeyLeaseRow *row, int64 *available);
extern int64 apikey_lease_take_out(const pg_uuid_t *account,
								   const ApikeyLeaseRow *row, bool end);
extern bool apikey_lease_hold(const pg_uuid_t *account);
extern void apikey_lease_ending(const pg_uuid_t *account);
extern void apikey_lease_void(const pg_uuid_t *account);

/* lease_asked.c */
extern bool apikey_lease_answerable(void);

/* lease_offer.c */
extern bool apikey_lease_settle(const pg_uuid_t *account,
								const ApikeyLeaseRow *row,
								ApikeyLease *lease);
extern bool apikey_lease_offer(const pg_uuid_t *account,
							   const ApikeyOffer *offer);
extern void apikey_lease_accept(const pg_uuid_t *account, int64 number);
extern void apikey_lease_tell_left(const pg_uuid_t *account,
								   const ApikeyLease *seen, int64 left);
extern List *apikey_lease_idle_databases(TimestampTz before);
extern bool apikey_lease_next_idle(int *from, TimestampTz before,
								   pg_uuid_t *account);

#endif							/* APIKEY_CREDITS_INTERNAL_H */
