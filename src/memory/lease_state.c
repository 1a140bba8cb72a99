/*
 * lease_state.c
 *		The states of a lease, and how it is settled with its row; see lease.c.
 */
#include "postgres.h"

#include "pgstat.h"

#include "memory/memory_internal.h"

typedef struct Shared
{
	pg_atomic_uint64 eras;		/* of leases; given out once */
} Shared;

static Shared *shared = NULL;

static void
make_memory(void)
{
	/* Not one that the file of the last run has. */
	pg_atomic_init_u64(&shared->eras, (uint64) GetCurrentTimestamp());
}

const ApikeyMemoryPart apikey_lease_memory = {
	APIKEY_MEMORY_STRUCT("apikey leases", shared),
	.make = make_memory
};

/* A number that no other lease has had; never 0, nor negative. */
int64
apikey_lease_new_number(void)
{
	int64		number;

	do
	{
		if (!pg_strong_random(&number, sizeof(number)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		number &= PG_INT64_MAX;
	} while (number == 0);
	return number;
}

uint64
apikey_lease_new_era(void)
{
	return pg_atomic_add_fetch_u64(&shared->eras, 1);
}

/*
 * What the file keeps of a lease is to be matched before it is spent.  Of an
 * offer nobody knows whether it is in the row: the lease is as well.
 */
void
apikey_lease_from_file(ApikeyLease *lease)
{
	lease->matched = false;
	lease->era = apikey_lease_new_era();
	lease->left_at = 0;
	lease->unsettled = 0;
	lease->pins = 0;
	lease->wanted_least = lease->wanted_most = 0;
	lease->overdrawing = lease->low_told = lease->exhausted_told = false;
}

ApikeySlot *
apikey_lease_open_slot(const pg_uuid_t *account, ApikeySlotHint *hint,
					   LWLock **lock)
{
	return apikey_slot_open(MyDatabaseId, account, hint, lock);
}

ApikeySlot *
apikey_lease_find_slot(const pg_uuid_t *account, LWLock **lock)
{
	return shared == NULL ? NULL :
		apikey_slot_find(MyDatabaseId, account, NULL, lock);
}

/* Nothing of a lease may be spent any more, nor go back into it. */
void
apikey_lease_end(ApikeyLease *lease)
{
	lease->number = lease->available = 0;
	lease->matched = lease->fleet = lease->too_much = false;
	lease->era = apikey_lease_new_era();
	lease->left_at = 0;
	lease->changes++;
}

/* An offer was committed: what it offers is in the lease. */
void
apikey_lease_take_offer(ApikeyLease *lease)
{
	if (lease->number == 0)
		lease->era = apikey_lease_new_era();
	lease->number = lease->offer.number;
	lease->generation = lease->offer.generation;
	lease->available = apikey_credits_sum(lease->available,
										  lease->offer.amount);
	if (lease->until != lease->offer.until)
		lease->low_told = lease->exhausted_told = false;
	lease->until = lease->offer.until;
	lease->left = lease->offer.left;
	lease->offer.number = 0;
}

/*
 * Settles a lease with the row of its account, which is locked, or was read:
 * then the lease is a copy.
 */
void
apikey_lease_settle_with(ApikeyLease *lease, const ApikeyLeaseRow *row)
{
	if (lease->offer.number != 0 && lease->offer.number == row->number)
	{
		apikey_lease_take_offer(lease);
		lease->matched = false;
	}
	lease->offer.number = 0;
	if (lease->number != 0 &&
		(lease->number != row->number ||
		 lease->generation != row->generation || lease->until != row->until))
		apikey_lease_end(lease);
}
