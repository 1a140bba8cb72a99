/*
 * slot.h
 *		The slots of shared memory in which the use of keys gathers.
 *
 * With the library preloaded, each key that is verified has a slot, found by a
 * hash table keyed by database and key.
 *
 * Locks: a slot's key and the hash table's entry change under the exclusive
 * lock of the key's partition; who uses a slot holds that lock, shared, and
 * changes counters by atomic operations, the rest under the slot's mutex.
 * "control" guards the stack of free slots and is taken last.
 */
#ifndef APIKEY_SLOT_H
#define APIKEY_SLOT_H

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* What a slot is found by. */
typedef struct ApikeySlotKey
{
	Oid			database;
	pg_uuid_t	id;
} ApikeySlotKey;

/*
 * A lease, or more of one, that a worker writes into an account's row: whether
 * that was committed the row tells, by the number.
 */
typedef struct ApikeyOffer
{
	int64		number;			/* 0: there is none */
	int64		generation;		/* the account's, as its row has it */
	int64		amount;
	int64		left;			/* in the row then */
	TimestampTz until;			/* when the account is refilled */
	uint32		changes;		/* the lease's, when the row was read */
} ApikeyOffer;

/*
 * Credits of an account that were taken out of its row to be spent here; see
 * lease.c for its states.
 */
typedef struct ApikeyLease
{
	int64		number;			/* as the account's row has it; 0: none */
	int64		generation;		/* likewise */
	bool		matched;		/* a worker on a primary has seen that */
	int64		available;
	int64		low;			/* below it more is asked for */
	TimestampTz until;			/* when the account is refilled */
	int64		left;			/* in the row, when it was looked at */
	TimestampTz left_at;		/* 0: what is left is not known */
	TimestampTz spent_at;		/* the last time */
	uint64		era;			/* another one: nothing goes back into it */
	int32		unsettled;		/* spends that may be undone */
	uint32		changes;		/* counts what makes "left" wrong */
	int64		wanted_least;	/* asked of the worker; 0 for nothing */
	int64		wanted_most;
	ApikeyOffer offer;
} ApikeyLease;

/*
 * A flush of counts: whether it is in what has been read of the table does not
 * tell whether it is in the counters still.
 */
typedef struct ApikeyFlush
{
	int64		number;			/* as the table's row has it; 0 for none */
	int64		uses;
	int64		denials;
	bool		done;			/* the counters are without it */
} ApikeyFlush;

/* What no event has told yet of refusals. */
typedef struct ApikeyDenial
{
	int64		count;
	TimestampTz told_at;		/* when the last event did */
	int			code;			/* of the last refusal, as what follows */
	Oid			actor;
	bool		has_addr;
	inet_struct addr;
} ApikeyDenial;

typedef struct ApikeySlot
{
	ApikeySlotKey key;
	bool		used;
	pg_atomic_uint64 uses;
	pg_atomic_uint64 denials;
	pg_atomic_uint64 last_used_at;	/* 0: not since the counting began */
	pg_atomic_uint64 arrival;	/* the limiter's state: see limiter.c */
	slock_t		mutex;			/* guards what follows */
	bool		has_addr;
	inet_struct addr;			/* of the last use, where it was given */
	ApikeyFlush flush;			/* the last one */
	ApikeyDenial denial;		/* see denial.c */
	ApikeyLease lease;			/* see lease.c */
} ApikeySlot;

/* Where a slot was, for whoever looks for it again; zeroed at first. */
typedef struct ApikeySlotHint
{
	bool		known;
	uint32		hash;
	int			number;
} ApikeySlotHint;

/* slot.c */
extern void apikey_slot_init(void);
extern int	apikey_slot_count(void);
extern ApikeySlot *apikey_slot_at(int number);
extern ApikeySlot *apikey_slot_find(Oid database, const pg_uuid_t *id,
									ApikeySlotHint *hint, LWLock **lock);
extern ApikeySlot *apikey_slot_open(Oid database, const pg_uuid_t *id,
									ApikeySlotHint *hint, LWLock **lock);
extern bool apikey_slot_flushed(ApikeySlot *slot);
extern void apikey_slot_forget_database(Oid database);

/* stats.c */
extern Size apikey_stats_size(void);
extern void apikey_stats_start(LWLock *control);
extern void apikey_stats_evicted(void);

/* denial.c */
extern bool apikey_denial_at_rest(const ApikeySlot *slot);

/* notify.c */
extern Size apikey_notify_size(void);
extern void apikey_notify_start(void);

/* lease.c */
extern Size apikey_lease_size(void);
extern void apikey_lease_start(void);
extern bool apikey_lease_at_rest(ApikeySlot *slot, TimestampTz now);
extern void apikey_lease_from_file(ApikeyLease *lease);

/* worker.c */
extern Size apikey_worker_size(void);
extern void apikey_worker_start(void);

#endif							/* APIKEY_SLOT_H */
