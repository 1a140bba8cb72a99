/*
 * denial.c
 *		Events of refusals: one a minute and key at most, with a count.
 *
 * What was refused may be rolled back, and a refusal must cost no more than a
 * use, so refusals gather in the key's slot of shared memory; the worker
 * writes the events.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory.h"
#include "events/events.h"
#include "keys/keys.h"
#include "usage/usage_internal.h"

#define TOLD_EVERY		SECS_PER_MINUTE

/* What was read of a slot to be told. */
typedef struct Denied
{
	pg_uuid_t	id;
	ApikeyDenial denial;
} Denied;

/* A key's secret has matched, and it was refused; its slot's mutex is held. */
void
apikey_denial_note(ApikeySlot *slot, ApikeyCode code, inet *client_addr)
{
	ApikeyDenial *denial = &slot->denial;

	pg_atomic_write_u64(&slot->denials, pg_atomic_read_u64(&slot->denials) + 1);
	if (denial->count < PG_UINT32_MAX)
		denial->count++;
	denial->code = (uint8) code;
	denial->actor = GetUserId();
	denial->has_addr = client_addr != NULL;
	if (client_addr != NULL)
		memcpy(&denial->addr, VARDATA_ANY(client_addr),
			   VARSIZE_ANY_EXHDR(client_addr));
}

/* Seconds are enough here, and take less room. */
static uint32
seconds(TimestampTz time)
{
	return (uint32) (time / USECS_PER_SEC);
}

/*
 * Is there something to tell, and is it time, or is all to be told?  The clock
 * may be set back.
 */
static bool
denial_due(const ApikeyDenial *denial, TimestampTz now, bool all)
{
	return denial->count > 0 &&
		(all || seconds(now) >= denial->told_at + TOLD_EVERY ||
		 seconds(now) < denial->told_at);
}

/* The databases with something to tell. */
List *
apikey_denial_databases(void)
{
	TimestampTz now = GetCurrentTimestamp();
	List	   *databases = NIL;

	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlot *slot = apikey_slot_at(i);

		if (slot->used && denial_due(&slot->denial, now, false))
			databases = list_append_unique_oid(databases, slot->key.database);
	}
	return databases;
}

/* Reads what is to be told of a slot; false where there is nothing any more. */
static bool
read_denial(ApikeySlot *slot, TimestampTz now, bool all, Denied *denied)
{
	SpinLockAcquire(&slot->mutex);
	denied->id = slot->key.id;
	denied->denial = slot->denial;
	SpinLockRelease(&slot->mutex);
	return denial_due(&denied->denial, now, all);
}

/* Reads what is to be told of this database, from a slot's number on. */
static List *
collect(int *from, TimestampTz now, bool all)
{
	List	   *found = NIL;

	for (; *from < apikey_slot_count() && list_length(found) < APIKEY_STEP_CHANGES;
		 (*from)++)
	{
		ApikeySlot *slot = apikey_slot_at(*from);
		pg_uuid_t	id = slot->key.id;
		Denied	   *denied;
		LWLock	   *lock;

		if (!slot->used || slot->key.database != MyDatabaseId ||
			!denial_due(&slot->denial, now, all))
			continue;
		slot = apikey_slot_find(MyDatabaseId, &id, NULL, &lock);
		if (slot == NULL)
			continue;
		denied = palloc(sizeof(Denied));
		if (read_denial(slot, now, all, denied))
			found = lappend(found, denied);
		LWLockRelease(lock);
	}
	return found;
}

static void
tell(void *item, void *state pg_attribute_unused())
{
	const Denied *denied = item;
	const ApikeyDenial *denial = &denied->denial;
	inet	   *addr = NULL;
	ApikeyRow	key;

	if (!apikey_key_fetch_latest(&denied->id, &key))
		return;
	if (denial->has_addr)
		addr = apikey_use_inet(&denial->addr);
	apikey_event_denied(&key, denial->actor,
						apikey_asker_subject(&denied->id, denial->actor), addr,
						psprintf("{\"code\": \"%s\", \"count\": %u}",
								 apikey_code_name((ApikeyCode) denial->code),
								 denial->count));
}

static void
tell_some(List *found, void *state)
{
	apikey_turns_each(found, tell, state);
}

/* The event is committed. */
static void
told(const Denied *denied, TimestampTz now)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_find(MyDatabaseId, &denied->id, NULL, &lock);
	bool		ended;

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	/* Meanwhile the slot may have been given up, and made anew. */
	slot->denial.count -= Min(slot->denial.count, denied->denial.count);
	slot->denial.told_at = seconds(now);
	ended = slot->ended;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	if (ended)
		apikey_slot_end(MyDatabaseId, &denied->id, false);
}

/*
 * For the worker: writes some of the events that are due, or of all there are,
 * in a transaction; true while there may be more.
 */
bool
apikey_denial_tell(int *from, bool all)
{
	TimestampTz now = GetCurrentTimestamp();
	List	   *found;
	List	   *failed = NIL;
	ListCell   *cell;

	found = collect(from, now, all);
	if (found == NIL)
		return false;
	if (apikey_step_begin())
	{
		failed = apikey_attempt_each(tell_some, found, NULL);
		apikey_step_commit();
	}
	foreach(cell, found)
	{
		if (!list_member_ptr(failed, lfirst(cell)))
			told(lfirst(cell), now);
	}
	return true;
}

/* What a member reports: the batch's lock is held, see batch.c */

/* False where there is nothing any more. */
static bool
move_denial(ApikeySlot *slot, TimestampTz now, ApikeyBatchDenial *denial)
{
	SpinLockAcquire(&slot->mutex);
	denial->key = slot->key.id;
	denial->denial = slot->denial;
	if (slot->denial.count > 0)
	{
		slot->denial.count = 0;
		slot->denial.told_at = seconds(now);
	}
	SpinLockRelease(&slot->mutex);
	return denial->denial.count > 0;
}

/* Moves what is due to be told of a batch's database into it, as uses are moved. */
bool
apikey_denial_move(ApikeyBatch *batch, int *from)
{
	TimestampTz now = GetCurrentTimestamp();

	for (; *from < apikey_slot_count() &&
		 batch->denial_count < APIKEY_BATCH_DENIALS; (*from)++)
	{
		ApikeySlot *slot = apikey_slot_at(*from);
		pg_uuid_t	id = slot->key.id;
		LWLock	   *lock;

		if (!slot->used || slot->key.database != batch->database ||
			!denial_due(&slot->denial, now, false))
			continue;
		slot = apikey_slot_find(batch->database, &id, NULL, &lock);
		if (slot == NULL)
			continue;
		if (move_denial(slot, now, &batch->denials[batch->denial_count]))
			batch->denial_count++;
		LWLockRelease(lock);
	}
	return *from < apikey_slot_count();
}

/* Puts it back, before what was refused since. */
void
apikey_denial_move_back(Oid database, const ApikeyBatchDenial *denial)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_open(database, &denial->key, NULL, &lock);
	uint32		since;

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	since = slot->denial.count;
	if (since == 0)
		slot->denial = denial->denial;
	else
		slot->denial.count = (uint32) Min((uint64) since + denial->denial.count,
										  PG_UINT32_MAX);
	slot->denial.told_at = 0;
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}
