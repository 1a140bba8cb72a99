/*
 * lease_offer.c
 *		What the worker does with leases: offers, and those that are idle.
 */
#include "postgres.h"

#include "pgstat.h"

#include "memory/memory.h"
#include "credits/credits_internal.h"

/*
 * For the worker, which has the account's row locked: settles the lease, and
 * copies it out, as too much where there is no room for a lease; false where there
 * is none for the account.
 */
bool
apikey_lease_settle(const pg_uuid_t *account, const ApikeyLeaseRow *row,
					ApikeyLease *lease)
{
	TimestampTz now = GetCurrentTimestamp();
	LWLock	   *lock;
	ApikeySlot *slot = apikey_lease_open_slot(account, NULL, &lock);

	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	apikey_lease_row_free(slot);
	apikey_lease_settle_with(&slot->lease, row);
	apikey_lease_count(slot);
	slot->lease.too_much &= slot->lease.available > 0;
	*lease = slot->lease;
	lease->too_much |= !apikey_lease_may_be_out(slot, now);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return true;
}

/*
 * Makes an offer, before the row that has its number is committed.  With it
 * the slot stays.  False where there is no room.
 */
bool
apikey_lease_offer(const pg_uuid_t *account, const ApikeyOffer *offer)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_lease_open_slot(account, NULL, &lock);

	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	slot->lease.offer = *offer;
	apikey_lease_count(slot);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return true;
}

/*
 * The offer is committed: it may be spent.  Where somebody has locked the row
 * since, he has settled it.
 */
void
apikey_lease_accept(const pg_uuid_t *account, int64 number)
{
	TimestampTz now = GetCurrentTimestamp();
	LWLock	   *lock;
	ApikeySlot *slot = apikey_lease_find_slot(account, &lock);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (lease->offer.number == number)
	{
		apikey_lease_take_offer(lease);
		lease->matched = true;
		lease->low = lease->available / 2 + lease->available % 2;
		lease->left = lease->offer.left;
		lease->spent_at = now;
		lease->left_at = lease->changes == lease->offer.changes ? now : 0;
		apikey_lease_count(slot);
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* What is left in the row, where a lease needs no more of it. */
void
apikey_lease_tell_left(const pg_uuid_t *account, const ApikeyLease *seen,
					   int64 left)
{
	TimestampTz now = GetCurrentTimestamp();
	LWLock	   *lock;
	ApikeySlot *slot = apikey_lease_find_slot(account, &lock);
	ApikeyLease *lease;

	if (slot == NULL)
		return;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (lease->era == seen->era && lease->changes == seen->changes)
	{
		lease->left = left;
		lease->left_at = now;
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/*
 * Has nothing been spent of a slot's lease since a time, or more come back into
 * it than is to be in memory, and is there something to give back, or to be
 * settled?  Without a lock.
 */
static bool
lease_idle(const ApikeySlot *slot, TimestampTz before)
{
	const ApikeyLease *lease = &slot->lease;

	return slot->used && (lease->spent_at < before || lease->too_much) &&
		(lease->available > 0 || lease->offer.number != 0);
}

/* The databases of such. */
List *
apikey_lease_idle_databases(TimestampTz before)
{
	List	   *databases = NIL;

	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlot *slot = apikey_slot_at(i);

		if (lease_idle(slot, before))
			databases = list_append_unique_oid(databases, slot->key.database);
	}
	return databases;
}

/* Finds such an account of this database, from a slot's number on. */
bool
apikey_lease_next_idle(int *from, TimestampTz before, pg_uuid_t *account)
{
	while (*from < apikey_slot_count())
	{
		ApikeySlot *slot = apikey_slot_at((*from)++);

		/* Read without a lock: apikey_lease_take_out looks again. */
		*account = slot->key.id;
		if (slot->key.database == MyDatabaseId && lease_idle(slot, before))
			return true;
	}
	return false;
}
