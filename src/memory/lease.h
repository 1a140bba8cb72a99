/*
 * lease.h
 *		Leases in memory, and what they are settled with.
 */
#ifndef APIKEY_LEASE_H
#define APIKEY_LEASE_H

#include "common/int.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "memory/part.h"
#include "memory/slot.h"

/*
 * Two parts of an account together.  They can be more than a bigint holds:
 * what was spent is not there when more is added, and may come back.  So can what
 * an account lacks.
 */
static inline int64
apikey_credits_sum(int64 one, int64 other)
{
	int64		sum;

	if (!pg_add_s64_overflow(one, other, &sum))
		return sum;
	return one < 0 ? PG_INT64_MIN : PG_INT64_MAX;
}

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

/* lease_rest.c */
extern bool apikey_lease_may_pin(const ApikeySlot *slot, int noted);
extern void apikey_lease_pin(ApikeySlot *slot, int noted);
extern void apikey_lease_unpin(ApikeySlot *slot);
extern void apikey_lease_row_prepared(ApikeySlot *slot);
extern void apikey_lease_row_free(ApikeySlot *slot);
extern bool apikey_lease_may_be_out(const ApikeySlot *slot, TimestampTz now);
extern void apikey_lease_count(ApikeySlot *slot);

/* called_back.c */
extern const ApikeyMemoryPart apikey_called_back_memory;
extern void apikey_called_back_drop(Oid database);
extern bool apikey_called_back_waits(Oid database);
extern List *apikey_called_back_databases(void);
extern int	apikey_called_back_take(Oid database, pg_uuid_t *accounts, int most);

/* lease_state.c */
extern int64 apikey_lease_new_number(void);
extern uint64 apikey_lease_new_era(void);
extern ApikeySlot *apikey_lease_open_slot(const pg_uuid_t *account,
										  ApikeySlotHint *hint,
										  LWLock **lock);
extern ApikeySlot *apikey_lease_find_slot(const pg_uuid_t *account,
										  LWLock **lock);
extern void apikey_lease_end(ApikeyLease *lease);
extern void apikey_lease_take_offer(ApikeyLease *lease);
extern void apikey_lease_settle_with(ApikeyLease *lease,
									 const ApikeyLeaseRow *row);
extern const ApikeyMemoryPart apikey_lease_memory;

#endif							/* APIKEY_LEASE_H */
