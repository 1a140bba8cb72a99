/*
 * slot_open.c
 *		Finding the slot of a key that need not have one yet.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "memory/memory_internal.h"

/* Takes a slot in hand for a role; -1 where there is no room for it. */
static int
take_slot(Oid database, Oid role)
{
	int			number = apikey_slot_take_free(database, role);
	TimestampTz now;

	if (number >= 0)
		return number;
	now = GetCurrentTimestamp();
	number = apikey_evict_resting(now);
	if (number < 0)
		number = apikey_evict_given(database, role, now);
	if (number < 0)
		number = apikey_evict_own_counts(database, role, now);
	if (number >= 0)
		apikey_slot_charge(number, database, role);
	return number;
}

/* Gives a key a slot; false where there is no room. */
static bool
make_slot(const ApikeySlotKey *key, Oid role)
{
	int			number = take_slot(key->database, role);

	if (number < 0)
		return false;
	apikey_slot_give(number, key);
	return true;
}

/*
 * apikey_slot_find, of a key that need not have one yet; NULL where there is no
 * room.  The hint says in whose name a slot is made.
 */
ApikeySlot *
apikey_slot_open(Oid database, const pg_uuid_t *id, ApikeySlotHint *hint,
				 LWLock **lock)
{
	ApikeySlotKey key = {.database = database, .id = *id};
	ApikeySlot *slot;

	while ((slot = apikey_slot_find(database, id, hint, lock)) == NULL)
	{
		if (!make_slot(&key, hint == NULL ? InvalidOid : hint->role))
			return NULL;
	}
	return slot;
}

/*
 * Finds a key's slot of this database, or makes it one, and holds its mutex
 * alone, for the caller to release; NULL where there is none, or no room.  Where
 * the hint is right nothing else is locked.
 */
ApikeySlot *
apikey_slot_seize(const pg_uuid_t *id, ApikeySlotHint *hint, bool make)
{
	ApikeySlotKey key = {.database = MyDatabaseId, .id = *id};
	ApikeySlotHint none = {0};
	ApikeySlot *slot;
	LWLock	   *lock;

	if (hint == NULL)
		hint = &none;
	for (;;)
	{
		if (hint->place > 0)
		{
			slot = apikey_slot_at(hint->place - 1);
			SpinLockAcquire(&slot->mutex);
			if (apikey_slot_has_key(slot, &key))
				return slot;
			SpinLockRelease(&slot->mutex);
		}
		slot = make ? apikey_slot_open(MyDatabaseId, id, hint, &lock) :
			apikey_slot_find(MyDatabaseId, id, hint, &lock);
		if (slot == NULL)
			return NULL;
		LWLockRelease(lock);
	}
}
