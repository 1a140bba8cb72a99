/*
 * usage.c
 *		Counts, last use and limits of keys, in their slots of shared memory.
 *
 * What gathers here is carried into the table by flush.c.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "memory/memory.h"
#include "rows/rows.h"
#include "usage/usage_internal.h"

/* Its mutex is held, as by all who write the counts. */
static void
note_use(ApikeySlot *slot, bool of_project, inet *client_addr, TimestampTz now)
{
	slot->of_project = of_project;
	if (client_addr != NULL)
	{
		memcpy(&slot->addr, VARDATA_ANY(client_addr),
			   VARSIZE_ANY_EXHDR(client_addr));
		slot->has_addr = true;
	}
	pg_atomic_write_u64(&slot->last_used_at, (uint64) now);
	pg_atomic_write_u64(&slot->uses, pg_atomic_read_u64(&slot->uses) + 1);
}

/* What is noted of a refusal beside its slot. */
static void
note_denial(const pg_uuid_t *id, const ApikeySlotHint *hint, ApikeyCode code)
{
	Oid			role = hint == NULL ? InvalidOid : hint->role;

	if (apikey_principal_subjects_in_use())
		apikey_asker_note(id, role, GetUserId(),
						  apikey_principal_subject_if_known());
	apikey_history_denied(id, role, apikey_code_name(code));
}

/*
 * Counts a verdict: for the database and, where the secret matched (id is
 * given), for the key.  A valid verification that spends nothing is not
 * counted as a use.  Whose the key is, is given where it was read just now: else
 * it is whose it was.  Only where there is shared memory.  A personal key is in no
 * project that could have it end as idle.
 */
void
apikey_usage_note(ApikeyCode code, const pg_uuid_t *id, ApikeySlotHint *hint,
				  const uint32 *whose, bool of_project, inet *client_addr,
				  bool counts, TimestampTz now)
{
	ApikeySlot *slot;

	apikey_stats_count(code);
	if (id == NULL || (code == APIKEY_CODE_VALID && !counts))
		return;

	slot = apikey_slot_seize(id, hint, true);
	if (slot == NULL)
	{
		apikey_stats_not_attributed(of_project && code == APIKEY_CODE_VALID);
		return;
	}
	if (code == APIKEY_CODE_VALID)
		note_use(slot, of_project, client_addr, now);
	else
		apikey_denial_note(slot, code, client_addr);
	if (whose != NULL)
		slot->whose = *whose;
	SpinLockRelease(&slot->mutex);
	if (code != APIKEY_CODE_VALID)
		note_denial(id, hint, code);
	if (!apikey_preloaded())
		apikey_dynamic_call();
}

/*
 * Spends of a rate limit, a key's or any other, where it can be: not without
 * shared memory, and not where there is no room for another slot.
 */
ApikeyLimitVerdict
apikey_usage_limit(const pg_uuid_t *id, ApikeySlotHint *hint,
				   const ApikeyRate *rate, int64 cost, TimestampTz now,
				   ApikeyRateState *state)
{
	return !apikey_usage_shared() ? APIKEY_LIMIT_UNAVAILABLE :
		apikey_limiter_take(id, hint, true, rate, now * APIKEY_LIMITER_UNITS,
							cost, state);
}

/* Gives back what apikey_usage_limit took at a time, and tells what is left then. */
void
apikey_usage_unlimit(const pg_uuid_t *id, ApikeySlotHint *hint,
					 const ApikeyRate *rate, int64 cost, TimestampTz taken_at,
					 ApikeyRateState *state)
{
	apikey_limiter_return(id, hint, state->era, rate,
						  taken_at * APIKEY_LIMITER_UNITS, cost);
	(void) apikey_limiter_take(id, hint, false, rate,
							   GetCurrentTimestamp() * APIKEY_LIMITER_UNITS, 0,
							   state);
}

/*
 * Spends what has been used already, into debt; tells how much of it.  False
 * where there is no room for the slot.
 */
bool
apikey_usage_charge(const pg_uuid_t *id, ApikeySlotHint *hint,
					const ApikeyRate *rate, int64 cost, TimestampTz now,
					int64 *taken, uint8 *era)
{
	return apikey_limiter_charge(id, hint, rate, now * APIKEY_LIMITER_UNITS,
								 cost, taken, era);
}

/* What is left of a rate limit, for who only looks: no slot is made for it. */
void
apikey_usage_look(const pg_uuid_t *id, const ApikeyRate *rate,
				  TimestampTz now, ApikeyRateState *state)
{
	state->remaining = rate->tokens;
	state->reset = now * APIKEY_LIMITER_UNITS;
	state->era = 0;
	if (apikey_usage_shared())
		(void) apikey_limiter_take(id, NULL, false, rate,
								   now * APIKEY_LIMITER_UNITS, 0, state);
}

/*
 * What a key of this database has beside its row of the table, which has been
 * read as of a flush; false for nothing.
 */
bool
apikey_usage_pending(const pg_uuid_t *id, int64 flushed, ApikeyUse *use)
{
	ApikeyFlush flush;
	bool		done;
	uint64		uses = 0;
	uint64		denials = 0;
	bool		moved = apikey_batch_pending(MyDatabaseId, id, &uses, &denials);
	LWLock	   *lock;
	ApikeySlot *slot = !apikey_usage_shared() ? NULL :
		apikey_slot_find(MyDatabaseId, id, NULL, &lock);

	if (slot == NULL && !moved)
		return false;
	if (slot == NULL)
	{
		memset(use, 0, sizeof(*use));
		use->uses = uses;
		use->denials = denials;
		return true;
	}
	SpinLockAcquire(&slot->mutex);
	flush = slot->flush;
	done = slot->flush_done;
	apikey_use_copy(slot, use);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	if (flushed >= flush.number && !done)
	{
		use->uses -= flush.uses;
		use->denials -= flush.denials;
	}
	else if (flushed < flush.number && done)
	{
		use->uses += flush.uses;
		use->denials += flush.denials;
	}
	use->uses += uses;
	use->denials += denials;
	return true;
}

/*
 * The slots of this database that have something to flush, at most so many
 * from a number on, which moves to where the next call has to begin.
 */
List *
apikey_usage_collect(int *from, int most, int64 flush)
{
	List	   *uses = NIL;

	for (; *from < apikey_slot_count() && list_length(uses) < most; (*from)++)
	{
		ApikeySlot *slot = apikey_slot_at(*from);
		pg_uuid_t	id = slot->key.id;
		ApikeyCollectedUse *collected;
		LWLock	   *lock;

		CHECK_FOR_INTERRUPTS();
		if (!slot->used || slot->key.database != MyDatabaseId ||
			apikey_slot_flushed(slot))
			continue;
		slot = apikey_slot_find(MyDatabaseId, &id, NULL, &lock);
		if (slot == NULL)
			continue;
		collected = palloc(sizeof(ApikeyCollectedUse));
		SpinLockAcquire(&slot->mutex);
		apikey_use_copy(slot, &collected->use);
		collected->use.uses = Min(collected->use.uses, PG_UINT32_MAX);
		collected->use.denials = Min(collected->use.denials, PG_UINT32_MAX);
		collected->whose = slot->whose;
		slot->flush.number = flush;
		slot->flush.uses = (uint32) collected->use.uses;
		slot->flush.denials = (uint32) collected->use.denials;
		slot->flush_done = false;
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
		uses = lappend(uses, collected);
	}
	return uses;
}

/* Has this database something that is to be written, of uses or refusals? */
bool
apikey_usage_waits(void)
{
	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlot *slot = apikey_slot_at(i);

		if (slot->used && slot->key.database == MyDatabaseId &&
			(!apikey_slot_flushed(slot) || slot->denial.count > 0))
			return true;
	}
	return apikey_history_waits(MyDatabaseId);
}

/* The databases with something to flush. */
List *
apikey_usage_databases(void)
{
	List	   *databases = NIL;

	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlot *slot = apikey_slot_at(i);

		if (slot->used && !apikey_slot_flushed(slot))
			databases = list_append_unique_oid(databases, slot->key.database);
	}
	return databases;
}

/* What has been collected is in the tables now, committed. */
void
apikey_usage_flushed(const List *uses, int64 flush)
{
	ListCell   *cell;

	foreach(cell, uses)
	{
		const ApikeyUse *use = &((const ApikeyCollectedUse *) lfirst(cell))->use;
		LWLock	   *lock;
		ApikeySlot *slot = apikey_slot_find(use->database, &use->id, NULL,
											&lock);
		bool		ended;

		if (slot == NULL)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->flush.number == flush)
		{
			pg_atomic_fetch_sub_u64(&slot->uses, use->uses);
			pg_atomic_fetch_sub_u64(&slot->denials, use->denials);
			slot->flush_done = true;
		}
		ended = slot->ended;
		SpinLockRelease(&slot->mutex);
		LWLockRelease(lock);
		if (ended)
			apikey_slot_end(use->database, &use->id, false);
	}
}

/* What a member reports: the batch's lock is held, see batch.c */

/* Moves a counter, but for what is beyond what is told at once; its mutex is held. */
static uint64
move_count(pg_atomic_uint64 *counter)
{
	uint64		count = Min(pg_atomic_read_u64(counter), (uint64) APIKEY_COUNT_MOST);

	pg_atomic_fetch_sub_u64(counter, count);
	return count;
}

static void
move_use(ApikeySlot *slot, ApikeyBatchUse *use)
{
	SpinLockAcquire(&slot->mutex);
	use->key = slot->key.id;
	use->uses = move_count(&slot->uses);
	use->denials = move_count(&slot->denials);
	use->last_used_at = (TimestampTz) pg_atomic_read_u64(&slot->last_used_at);
	use->has_addr = slot->has_addr;
	use->addr = slot->addr;
	memset(&slot->flush, 0, sizeof(slot->flush));
	SpinLockRelease(&slot->mutex);
}

/*
 * Moves what slots of a batch's database have gathered into it, from a slot's
 * number on, which moves to where the next batch has to begin; true while there may
 * be more.
 */
bool
apikey_usage_move(ApikeyBatch *batch, int *from)
{
	for (; *from < apikey_slot_count() &&
		 batch->use_count < APIKEY_BATCH_USES; (*from)++)
	{
		ApikeySlot *slot = apikey_slot_at(*from);
		pg_uuid_t	id = slot->key.id;
		LWLock	   *lock;
		bool		ended;

		if (!slot->used || slot->key.database != batch->database ||
			apikey_slot_flushed(slot))
			continue;
		slot = apikey_slot_find(batch->database, &id, NULL, &lock);
		if (slot == NULL)
			continue;
		move_use(slot, &batch->uses[batch->use_count++]);
		ended = slot->ended;
		LWLockRelease(lock);
		if (ended)
			apikey_slot_end(batch->database, &id, false);
	}
	return *from < apikey_slot_count();
}

/* Puts it back into the key's slot, if there is room for one. */
void
apikey_usage_move_back(Oid database, const ApikeyBatchUse *use)
{
	LWLock	   *lock;
	ApikeySlot *slot = apikey_slot_open(database, &use->key, NULL, &lock);

	if (slot == NULL)
	{
		apikey_stats_not_attributed_to(database, use->uses + use->denials);
		return;
	}
	SpinLockAcquire(&slot->mutex);
	slot->of_project = true;
	pg_atomic_fetch_add_u64(&slot->uses, use->uses);
	pg_atomic_fetch_add_u64(&slot->denials, use->denials);
	if ((TimestampTz) pg_atomic_read_u64(&slot->last_used_at) <
		use->last_used_at)
	{
		pg_atomic_write_u64(&slot->last_used_at, (uint64) use->last_used_at);
		slot->has_addr = use->has_addr;
		slot->addr = use->addr;
	}
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
}

/* Ends the waiting of what came with the file; returns how much is given up. */
static uint64
settle_kept(ApikeySlot *slot, bool counts)
{
	uint64		given_up = 0;

	SpinLockAcquire(&slot->mutex);
	if (slot->flush.number == APIKEY_FLUSH_KEPT)
	{
		if (!counts)
		{
			pg_atomic_fetch_sub_u64(&slot->uses, slot->flush.uses);
			pg_atomic_fetch_sub_u64(&slot->denials, slot->flush.denials);
			given_up = (uint64) slot->flush.uses + slot->flush.denials;
		}
		memset(&slot->flush, 0, sizeof(slot->flush));
	}
	SpinLockRelease(&slot->mutex);
	return given_up;
}

/* What came with the file of the last run counts, or does not. */
void
apikey_usage_settle_kept(Oid database, bool counts)
{
	for (int i = 0; i < apikey_slot_count(); i++)
	{
		ApikeySlot *slot = apikey_slot_at(i);
		pg_uuid_t	id = slot->key.id;
		LWLock	   *lock;
		uint64		given_up;

		if (!slot->used || slot->key.database != database ||
			slot->flush.number != APIKEY_FLUSH_KEPT)
			continue;
		slot = apikey_slot_find(database, &id, NULL, &lock);
		if (slot == NULL)
			continue;
		given_up = settle_kept(slot, counts);
		LWLockRelease(lock);
		apikey_stats_not_attributed_to(database, given_up);
	}
}
