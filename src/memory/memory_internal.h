/*
 * memory_internal.h
 *		What stays within memory/.
 */
#ifndef APIKEY_MEMORY_INTERNAL_H
#define APIKEY_MEMORY_INTERNAL_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "memory/memory.h"

/* batch.c */
extern bool apikey_batch_ok(const ApikeyBatch *batch);
extern bool apikey_membership_restore(const ApikeyMembership *membership,
									  const ApikeyBatch *batch);

/* memory.c */
#define APIKEY_DYNAMIC_KEYS	20000	/* without preloading */

extern Size apikey_memory_dynamic_size(void);
extern void apikey_memory_dynamic_start(char *memory, LWLockPadded *locks,
										bool make);

/* fleet.c */
extern bool apikey_fleet_subscriber(bool *told);

/* subscription.c */
extern ApikeyAnswer apikey_subscription_here(bool wait);
extern ApikeyAnswer apikey_subscription_last(void);
extern ApikeyAnswer apikey_subscription_of(ApikeyRelation table, bool wait);
extern ApikeyAnswer apikey_subscription_of_limits(bool wait);

/* lifetime.c */
extern void apikey_lifetime_start(bool standby);
extern void apikey_lifetime_keep(uint64 *since, int64 *number);
extern void apikey_lifetime_goes_on(uint64 since, int64 number);

/* server_id.c */
extern void apikey_server_set_id(const pg_uuid_t *id);

/* slot.c */
extern ApikeySlot *apikey_slot_restore(const ApikeySlotKey *key, Oid owner);
extern bool apikey_slot_at_rest(ApikeySlot *slot, TimestampTz now);
extern void apikey_slot_forget_database(Oid database);

/* For evict.c and slot_open.c. */

/* Holders of which no slot can be taken now. */
#define APIKEY_STUCK_MAX	8

typedef struct ApikeyStuck
{
	int			count;
	int			holders[APIKEY_STUCK_MAX];
} ApikeyStuck;

/* What is lost with a slot; more is the time for which its limiter holds up. */
#define APIKEY_LOSS_NONE	0
#define APIKEY_LOSS_COUNTS	1
#define APIKEY_LOSS_LEASE	PG_INT64_MAX	/* never taken */

extern int64 apikey_slot_loss(ApikeySlot *slot, TimestampTz now);
extern bool apikey_slot_evict(int number, int holder, int64 loss,
							  TimestampTz now);
extern int	apikey_slot_take_free(Oid database, Oid role);
extern int	apikey_slot_next(void);
extern void apikey_slot_charge(int number, Oid database, Oid role);
extern void apikey_slot_give(int number, const ApikeySlotKey *key);

/* evict.c */
extern int	apikey_evict_resting(TimestampTz now);
extern int	apikey_evict_given(Oid database, Oid role, TimestampTz now);
extern int	apikey_evict_own_counts(Oid database, Oid role, TimestampTz now);

/* share.c */
extern int	apikey_share_charge(Oid database, Oid role);
extern void apikey_share_discharge(int holder);
extern int	apikey_share_giver(Oid database, Oid role, ApikeyStuck *stuck);
extern Oid	apikey_share_role(int holder);
extern int	apikey_share_count(Oid database);
extern int	apikey_share_free_pins(void);
extern bool apikey_share_may_pin(int holder);
extern void apikey_share_pin(int holder);
extern void apikey_share_unpin(int holder);
extern void apikey_share_scarce(TimestampTz now);
extern bool apikey_share_may_lease(int holder, TimestampTz now);
extern int	apikey_share_leases_beyond(int holder, TimestampTz now);
extern void apikey_share_lease(int holder);
extern void apikey_share_unlease(int holder);
extern int	apikey_share_holder(Oid database, Oid role);

/* stats.c */
extern void apikey_stats_evicted(Oid database, uint64 not_attributed,
								 bool of_project);

/* verdicts.c */
extern void apikey_verdicts_count(pg_atomic_uint64 *total, ApikeyCode code,
								  LWLock *lock);
extern void apikey_verdicts_read(pg_atomic_uint64 *total, uint64 *codes,
								 LWLock *lock);
extern void apikey_verdicts_clear(pg_atomic_uint64 *total);

/* lease_rest.c */
extern bool apikey_lease_at_rest(ApikeySlot *slot, TimestampTz now);
extern void apikey_lease_forget(ApikeySlot *slot);
extern bool apikey_lease_call_back(ApikeySlot *slot);

/* called_back.c */
extern void apikey_called_back_add(const ApikeySlotKey *key);

/* lease_state.c */
extern void apikey_lease_from_file(ApikeyLease *lease);

#endif							/* APIKEY_MEMORY_INTERNAL_H */
