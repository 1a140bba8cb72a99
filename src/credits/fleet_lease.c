/*
 * fleet_lease.c
 *		Leases in the memory of a server that has them of the primary: see
 *		fleet_lease.h.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "memory/memory.h"
#include "credits/credits.h"
#include "credits/spend.h"

#define LEASE_FIRST		100		/* is asked for of an account at first */
#define LEASE_LASTS		(30 * USECS_PER_SEC)	/* or more is asked for */

/*
 * What is wanted of the primary: as much again as the lease was made of or,
 * where that did not last, twice as much.  The slot's mutex is held.
 */
static void
fill_ask(const ApikeyLease *lease, TimestampTz now, ApikeyFleetAsk *ask)
{
	bool		held = lease->fleet && lease->number != 0;
	int64		size = Max(apikey_credits_sum(lease->low, lease->low), LEASE_FIRST);

	ask->number = lease->offer.number;
	ask->held_number = held ? lease->number : 0;
	ask->held = held ? lease->available : 0;
	ask->least = Max(lease->wanted_least - ask->held, 0);
	if (lease->left_at != 0 && now - lease->left_at < LEASE_LASTS)
		size = apikey_credits_sum(size, size);
	ask->most = Max(Max(lease->wanted_most, size) - ask->held, ask->least);
	ask->charging = lease->overdrawing;
	if (ask->charging)
		ask->least = Max(lease->wanted_most - ask->held, 0);
}

/*
 * Takes accounts of a database off the list of those that somebody asks for,
 * and says what to ask the primary; one that it has not answered about has the
 * number of before.
 */
int
apikey_fleet_lease_asked(Oid database, ApikeyFleetAsk *asks, int most)
{
	TimestampTz now = GetCurrentTimestamp();
	int			asked = 0;
	pg_uuid_t  *accounts = palloc(most * sizeof(pg_uuid_t));
	/* Before any is looked at: whoever waits may ask anew. */
	int			count = apikey_lease_take_asked(database, accounts, most);

	for (int i = 0; i < count; i++)
	{
		int64		number = apikey_lease_new_number();
		LWLock	   *lock;
		ApikeySlot *slot = apikey_slot_find(database, &accounts[i], NULL, &lock);
		ApikeyLease *lease;

		if (slot == NULL)
			continue;
		lease = &slot->lease;
		SpinLockAcquire(&slot->mutex);
		/* Who asked may have been answered meanwhile. */
		if (lease->offer.number == 0 && lease->wanted_most == 0)
		{
			SpinLockRelease(&slot->mutex);
			LWLockRelease(lock);
			continue;
		}
		if (lease->offer.number == 0)
		{
			memset(&lease->offer, 0, sizeof(lease->offer));
			lease->offer.number = number;
			lease->offer.generation = APIKEY_ASKED_OF_PRIMARY;
			lease->offer.until = now;
		}
		asks[asked].account = accounts[i];
		fill_ask(lease, now, &asks[asked]);
		apikey_lease_count(slot);
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
		asked++;
	}
	pfree(accounts);
	return asked;
}

/* Takes what was granted; the slot's mutex is held. */
static void
take_grant(ApikeyLease *lease, const ApikeyFleetGrant *grant,
		   TimestampTz sent_at, TimestampTz now)
{
	TimestampTz until = grant->remaining < 0 ? DT_NOEND :
		TimestampTzPlusMilliseconds(sent_at, grant->remaining);

	if (lease->number == 0)
		lease->era = apikey_lease_new_era();
	if (lease->number == 0 || until > lease->until + USECS_PER_SEC)
		lease->low_told = lease->exhausted_told = false;
	lease->number = grant->number != 0 ? grant->number : lease->offer.number;
	lease->generation = grant->generation;
	lease->available = apikey_credits_sum(lease->available, grant->granted);
	lease->until = until;
	lease->fleet = lease->matched = true;
	lease->low = lease->available / 2 + lease->available % 2;
	lease->left = grant->left_over;
	lease->left_at = lease->spent_at = now;
}

/* The primary has answered about an account what it was asked at a time. */
void
apikey_fleet_lease_answered(Oid database, const ApikeyFleetGrant *grant,
							TimestampTz sent_at)
{
	bool		known = strcmp(grant->state, "busy") != 0 &&
		strcmp(grant->state, "gone") != 0;
	bool		good = strcmp(grant->state, "granted") == 0 ||
		strcmp(grant->state, "short") == 0;
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(database, &grant->account, NULL, &lock);
	ApikeyLease *lease;

	if (slot != NULL)
	{
		TimestampTz now = GetCurrentTimestamp();

		lease = &slot->lease;
		SpinLockAcquire(&slot->mutex);
		if (lease->offer.number != 0)
		{
			if (!good && strcmp(grant->state, "busy") != 0 && lease->number != 0)
				apikey_lease_end(lease);
			if (known)
				take_grant(lease, grant, sent_at, now);
			lease->offer.number = 0;
			apikey_lease_count(slot);
		}
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
	}
	apikey_lease_answer(database, &grant->account);
}

/* It has not answered: who waits looks again, and may ask again. */
void
apikey_fleet_lease_unanswered(Oid database, const pg_uuid_t *account)
{
	apikey_lease_answer(database, account);
}

/*
 * Takes leases out of memory of which nothing was spent since a time, to be
 * returned; not one of which a spend may come back.
 */
int
apikey_fleet_lease_idle(Oid database, TimestampTz before,
						ApikeyFleetReturn *returns, int most)
{
	int			count = 0;

	for (int i = 0; i < apikey_slot_count() && count < most; i++)
	{
		ApikeySlot *slot = apikey_slot_at(i);
		ApikeySlotKey key = slot->key;
		ApikeyLease *lease;
		LWLock	   *lock;

		if (!slot->used || key.database != database || !slot->lease.fleet ||
			slot->lease.number == 0 ||
			(slot->lease.spent_at >= before && !slot->lease.too_much))
			continue;
		slot = apikey_slot_find(database, &key.id, NULL, &lock);
		if (slot == NULL)
			continue;
		lease = &slot->lease;
		SpinLockAcquire(&slot->mutex);
		if (lease->fleet && lease->number != 0 && lease->offer.number == 0 &&
			lease->unsettled == 0 &&
			(lease->spent_at < before || lease->too_much))
		{
			returns[count].account = key.id;
			returns[count].number = lease->number;
			returns[count++].unspent = lease->available;
			apikey_lease_end(lease);
			apikey_lease_count(slot);
		}
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
	}
	return count;
}

/* Is there any in a database, as far as can be seen without a lock? */
bool
apikey_fleet_lease_held(Oid database)
{
	for (int i = 0; i < apikey_slot_count(); i++)
	{
		const ApikeySlot *slot = apikey_slot_at(i);

		if (slot->used && slot->key.database == database &&
			slot->lease.fleet && slot->lease.number != 0)
			return true;
	}
	return false;
}

/* Nothing that was leased to this server in a database is good any more. */
void
apikey_fleet_lease_void_all(Oid database)
{
	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlot *slot = apikey_slot_at(i);
		ApikeySlotKey key = slot->key;
		LWLock	   *lock;

		if (!slot->used || key.database != database)
			continue;
		slot = apikey_slot_find(database, &key.id, NULL, &lock);
		if (slot == NULL)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->lease.offer.generation == APIKEY_ASKED_OF_PRIMARY)
			slot->lease.offer.number = 0;
		if (slot->lease.fleet)
			apikey_lease_end(&slot->lease);
		apikey_lease_count(slot);
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
	}
}

/*
 * For a server that has become the primary, and has the account's row locked:
 * takes what is left of the lease of that number out of memory, for the row.
 * With the transaction's rollback it comes back.
 */
int64
apikey_fleet_lease_adopt(const pg_uuid_t *account, int64 number)
{
	LWLock	   *lock;
	ApikeySlot *slot;
	ApikeyLease *lease;
	int64		amount = 0;

	apikey_spend_reserve();
	slot = apikey_lease_find_slot(account, &lock);
	if (slot == NULL)
		return 0;
	lease = &slot->lease;
	SpinLockAcquire(&slot->mutex);
	if (lease->offer.generation == APIKEY_ASKED_OF_PRIMARY)
		lease->offer.number = 0;
	if (lease->fleet && lease->number == number)
	{
		amount = lease->available;
		(void) apikey_spend_record(account, NULL, slot, amount,
								   APIKEY_SPEND_ENDS, APIKEY_PIN_ALWAYS);
		lease->available = 0;
	}
	apikey_lease_count(slot);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return amount;
}
