/*
 * slot.h
 *		The slots of shared memory in which the use of keys gathers.
 *
 * Each key that is verified has a slot, found by a hash of database and key; but
 * for those without the library preloaded before PostgreSQL 17: see dynamic.c.
 *
 *		FREE		on the stack of free slots
 *		IN HAND		taken by one process: off the stack or out of its bucket,
 *					charged to a holder, and seen by nobody else
 *		USED		in its bucket, a key's
 *
 *		FREE -- taken --> IN HAND -- keyed --> USED
 *		  ^					|				 |	|
 *		  +---- given back -+				 |	+-- evicted --> IN HAND
 *		  +------------ freed with its key --+
 *
 * Locks: a bucket changes under the exclusive lock of its partition, the key of
 * a slot in it under that and the slot's mutex.  So who uses a slot holds one of
 * the two: the mutex alone, under which it has seen that the slot is the key's;
 * or the lock, shared.  Whoever writes what is in it holds the mutex, and others
 * read no more than counters without it.  So a use that finds the slot by a hint
 * writes one line of the processor's cache.  "control" guards the stack of
 * free slots and who holds how many, and is taken last.
 */
#ifndef APIKEY_SLOT_H
#define APIKEY_SLOT_H

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/part.h"

/*
 * What a slot is found by: a key's id, or that of a limit or an account, which is of
 * another version, so that nothing stands where what is of another kind does.
 */
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

/* What an offer has in the place of a generation: see fleet_lease.h. */
#define APIKEY_ASKED_OF_PRIMARY	(-1)

/*
 * Credits of an account that were taken out of its row to be spent here; see
 * lease.c for its states.  What each spending writes comes first.
 */
typedef struct ApikeyLease
{
	bool		matched;		/* a worker on a primary has seen that */
	bool		overdrawing;	/* what is wanted is for a charge, too */
	bool		low_told;		/* in this period, as far as is known here */
	bool		exhausted_told;
	bool		fleet;			/* it is the primary's: see fleet_lease.h */
	bool		of_rate;		/* it is tokens: see shared_rate_member.c */
	bool		too_much;		/* for what may be here: it is called back */
	uint8		pins;			/* see lease_rest.c */
	int64		available;
	TimestampTz until;			/* when the account is refilled */
	int64		left;			/* in the row, when it was looked at; below 0
								 * so much of what is available is a debt */
	TimestampTz left_at;		/* 0: it may be more by now */
	TimestampTz spent_at;		/* the last time */
	uint64		era;			/* another one: nothing goes back into it */
	int32		unsettled;		/* spends that may be undone */
	uint32		changes;		/* counts what makes "left" wrong */
	int64		low;			/* below it more is asked for */
	int64		number;			/* as the account's row has it; 0: none */
	int64		generation;		/* likewise */
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
	uint32		uses;
	uint32		denials;
} ApikeyFlush;

/* No flush: so much came with the file of the last run, see batch.c. */
#define APIKEY_FLUSH_KEPT	PG_INT64_MAX

/* What no event has told yet of refusals. */
typedef struct ApikeyDenial
{
	uint32		count;
	uint32		told_at;		/* when the last event did: see denial.c */
	Oid			actor;			/* of the last refusal, as what follows */
	uint8		code;
	bool		has_addr;
	inet_struct addr;
} ApikeyDenial;

/* Where the rows of a key were, for whoever offers what was offered then. */
typedef struct ApikeyRowHints
{
	uint32		offered;		/* the beginning of its digest */
	ApikeyRowHint digest;
	ApikeyRowHint key;
} ApikeyRowHints;

/*
 * What each verification touches comes first, for the processor's cache: of a key
 * its counts, of a rate its limiter, in one line of it; in the next, what one
 * needs that finds nothing remembered.
 */
typedef struct ApikeySlot
{
	ApikeySlotKey key;
	int			holder;			/* whose it is: see share.c */
	int			next;			/* in its bucket or on the stack; -1: none */
	bool		used;
	bool		ended;			/* its key has ended for good */
	slock_t		mutex;			/* of whoever writes in it */
	bool		has_addr;
	pg_atomic_uint64 uses;
	pg_atomic_uint64 last_used_at;	/* 0: not since the counting began */
	pg_atomic_uint64 arrival;	/* the limiter's state: see limiter.c */
	uint32		arrival_rest;	/* by which arrival is rounded up */
	uint8		in_debt:1;		/* the limiter: see limiter.c */
	uint8		arrival_era:7;	/* another one: nothing goes back into it */
	bool		flush_done:1;	/* the counters are without the last flush */
	bool		of_project:1;	/* the key may be, so it may be idle: see stats.c */
	inet_struct addr;			/* of the last use, where it was given */
	ApikeyRowHints rows;		/* see row_hint.c */
	uint32		whose;			/* the key is, as it was last read: see
								 * apikey_history_whose; 0: not known */
	ApikeyLease lease;			/* see lease.c */
	pg_atomic_uint64 denials;
	ApikeyFlush flush;			/* the last one */
	ApikeyDenial denial;		/* see denial.c */
} ApikeySlot;

/* Where a slot was, for whoever looks for it again; zeroed at first. */
typedef struct ApikeySlotHint
{
	int			place;			/* its number + 1; 0: not known */
	uint32		hash;			/* where that is known */
	Oid			role;			/* a slot is made in its name: see share.c */
} ApikeySlotHint;

/* Is a slot a key's?  Its partition is locked, or its mutex held. */
static inline bool
apikey_slot_has_key(const ApikeySlot *slot, const ApikeySlotKey *key)
{
	return slot->used && memcmp(&slot->key, key, sizeof(ApikeySlotKey)) == 0;
}

/* slot.c */
extern const ApikeyMemoryPart apikey_slot_memory;
extern int	apikey_slot_count(void);
extern ApikeySlot *apikey_slot_at(int number);
extern ApikeySlot *apikey_slot_find(Oid database, const pg_uuid_t *id,
									ApikeySlotHint *hint, LWLock **lock);
extern bool apikey_slot_flushed(ApikeySlot *slot);
extern Oid	apikey_slot_role(const ApikeySlot *slot);
extern void apikey_slot_end(Oid database, const pg_uuid_t *id, bool gone);
extern int	apikey_slot_used(Oid database);
extern bool apikey_usage_shared(void);

/* slot_open.c */
extern ApikeySlot *apikey_slot_open(Oid database, const pg_uuid_t *id,
									ApikeySlotHint *hint, LWLock **lock);
extern ApikeySlot *apikey_slot_seize(const pg_uuid_t *id, ApikeySlotHint *hint,
									 bool make);

/* row_hint.c */
extern void apikey_row_hints_read(const pg_uuid_t *id, const uint8 *digest,
								  ApikeySlotHint *slot_hint,
								  ApikeyRowHints *hints);
extern void apikey_row_hints_write(const pg_uuid_t *id,
								   ApikeySlotHint *slot_hint,
								   const ApikeyRowHints *hints);

/* slot_file.c */
extern const ApikeyMemoryPart apikey_slot_file_memory;
extern void apikey_slot_file_write_standby(void);
extern void apikey_slot_file_remove(void);

/* share.c */
extern const ApikeyMemoryPart apikey_share_memory;

#endif							/* APIKEY_SLOT_H */
