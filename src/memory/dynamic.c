/*
 * dynamic.c
 *		Shared memory where the library is not preloaded: PostgreSQL 17 and later.
 *
 * Slots, who has which, what the server counts, and what gathers for the history
 * stand in one segment that the first session makes that needs it, and that the
 * server keeps until it stops.  In it keys' uses are counted and their rate
 * limits held as with the library preloaded.  What else is in memory then is not
 * here: nothing is leased, and nothing outlives a stop.
 *
 * What gathers is carried into the tables by a worker in each database: see
 * dynamic_worker.c.
 *
 * Who cannot have the segment does without, as before 17, and tries again later:
 * that is no reason to fail.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#if PG_VERSION_NUM >= 170000
#include "storage/dsm_registry.h"
#endif
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "compat.h"
#include "store/store.h"
#include "memory/dynamic_internal.h"
#include "memory/memory_internal.h"

#define RETRY	USECS_PER_MINUTE	/* who could not have it waits for so long */
#define SPARE_PLACES	64		/* of databases without a session */

/* Each process may be in another database: nobody can take all places. */
static int
place_count(void)
{
	return MaxBackends + SPARE_PLACES;
}

/* The parts of memory stand behind this. */
static Size
head_size(void)
{
	return CACHELINEALIGN(offsetof(ApikeyDynamic, places) +
						  place_count() * sizeof(ApikeyDynamicPlace));
}

/* Makes all of the segment.  Whoever comes then finds it ready, or not at all. */
static void
make_segment(APIKEY_SEGMENT_PARAMETERS)
{
	ApikeyDynamic *made = memory;

	memset(made, 0, head_size());
	made->tranche = apikey_new_tranche("apikey");
	LWLockInitialize(&made->lock.lock, made->tranche);
	for (int i = 0; i < APIKEY_MEMORY_LOCKS; i++)
		LWLockInitialize(&made->locks[i].lock, made->tranche);
	apikey_memory_dynamic_start((char *) memory + head_size(), made->locks, true);
	made->ready = true;
}

/* This session is none of the place's any more. */
static void
leave_place(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	ApikeyDynamicPlace *place = apikey_dynamic_place;

	apikey_dynamic_lock();
	place->sessions--;
	if (place->sessions == 0)
	{
		/* Nobody waits for it any more. */
		place->done = place->asked;
		place->round.number = 0;
	}
	apikey_dynamic_vacate(place);
	for (int i = 0; i < APIKEY_DYNAMIC_WORKERS; i++)
	{
		ApikeyDynamicSeat *seat = &apikey_dynamic->seats[i];

		if (place->number != 0 && seat->number == place->number &&
			seat->latch != NULL)
			SetLatch(seat->latch);
	}
	apikey_dynamic_unlock();
	/* Who waits for a worker may have nobody else to start one. */
	apikey_dynamic_start();
}

/*
 * May another database have a place?  Where all have something unwritten, one
 * with nobody there gives way that could not be written when it was tried, or
 * cannot be here.  What it has gathered stays until somebody is there again.
 */
static bool
place_is_better(const ApikeyDynamicPlace *place, const ApikeyDynamicPlace *found)
{
	if (!OidIsValid(place->database))
		return found == NULL || OidIsValid(found->database);
	return found == NULL && place->sessions == 0 && place->number == 0 &&
		(place->tried || RecoveryInProgress());
}

/* Finds this database's place; NULL for no room. */
static ApikeyDynamicPlace *
find_place(void)
{
	ApikeyDynamicPlace *found = NULL;

	for (int i = 0; i < apikey_dynamic->used; i++)
	{
		ApikeyDynamicPlace *place = &apikey_dynamic->places[i];

		if (place->database == MyDatabaseId)
			return place;
		if (place_is_better(place, found))
			found = place;
	}
	if ((found == NULL || OidIsValid(found->database)) &&
		apikey_dynamic->used < place_count())
		found = &apikey_dynamic->places[apikey_dynamic->used++];
	if (found != NULL)
	{
		memset(found, 0, sizeof(*found));
		found->database = MyDatabaseId;
	}
	return found;
}

/* This session is one of its database's; false for no room. */
static bool
enter_place(void)
{
	before_shmem_exit(leave_place, (Datum) 0);
	apikey_dynamic_lock();
	apikey_dynamic_place = find_place();
	if (apikey_dynamic_place != NULL)
	{
		apikey_dynamic_place->sessions++;
		apikey_dynamic_place->later = false;
	}
	apikey_dynamic_unlock();
	if (apikey_dynamic_place == NULL)
		cancel_before_shmem_exit(leave_place, (Datum) 0);
	return apikey_dynamic_place != NULL;
}

/* Maps the segment, for a session or a worker; false where there is no room. */
bool
apikey_dynamic_map(bool session)
{
	Size		size = head_size() + apikey_memory_dynamic_size();
	bool		found = true;

	apikey_dynamic = apikey_named_segment("apikey " APIKEY_VERSION, size,
										  make_segment, &found);
	if (apikey_dynamic == NULL || !apikey_dynamic->ready)
		return false;
	apikey_register_tranche(apikey_dynamic->tranche, "apikey");
	if (session && !enter_place())
		return false;
	if (found)
		apikey_memory_dynamic_start((char *) apikey_dynamic + head_size(),
									apikey_dynamic->locks, false);
	return true;
}

/* A database is dropped, or our tables in it: nothing of it is to be written. */
static void
forget_database(Oid database)
{
	if (apikey_dynamic == NULL || !apikey_dynamic->ready)
		return;
	apikey_dynamic_lock();
	for (int i = 0; i < apikey_dynamic->used; i++)
	{
		ApikeyDynamicPlace *place = &apikey_dynamic->places[i];

		if (place->database != database)
			continue;
		place->dirty = false;
		apikey_dynamic_vacate(place);
	}
	apikey_dynamic_unlock();
}

const ApikeyMemoryPart apikey_dynamic_memory = {
	.forget = forget_database,
	.dynamic = true
};

/* The databases that have a place. */
List *
apikey_dynamic_databases(void)
{
	List	   *databases = NIL;

	for (int i = 0; i < apikey_dynamic->used; i++)
	{
		if (OidIsValid(apikey_dynamic->places[i].database))
			databases = lappend_oid(databases, apikey_dynamic->places[i].database);
	}
	return databases;
}

/*
 * When the log was told last that there is no memory: in the server's own, of
 * which some is always left over for a few bytes.  NULL where not even that is.
 */
static pg_atomic_uint64 *
find_told_at(void)
{
	pg_atomic_uint64 *told_at = NULL;
	MemoryContext context = CurrentMemoryContext;
	bool		found;

	PG_TRY();
	{
		LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
		told_at = ShmemInitStruct("apikey without memory", sizeof(*told_at), &found);
		if (!found)
			pg_atomic_init_u64(told_at, 0);
		LWLockRelease(AddinShmemInitLock);
	}
	PG_CATCH();
	{
		LWLockReleaseAll();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		told_at = NULL;
	}
	PG_END_TRY();
	return told_at;
}

/* Is it to be told by this process?  By one a minute, or else by each once. */
static bool
claim_telling(void)
{
	static bool told = false;
	pg_atomic_uint64 *told_at = find_told_at();
	TimestampTz now = GetCurrentTimestamp();
	uint64		last;

	if (told_at == NULL)
	{
		if (told)
			return false;
		return told = true;
	}
	last = pg_atomic_read_u64(told_at);
	if (now >= (TimestampTz) last && now < (TimestampTz) last + RETRY)
		return false;
	return pg_atomic_compare_exchange_u64(told_at, &last, (uint64) now);
}

static void
tell(const char *why)
{
	if (claim_telling())
		ereport(LOG_SERVER_ONLY,
				(errmsg("no shared memory is to be had in which uses and rate limits of API keys are counted"),
				 errdetail_internal("%s", why),
				 errhint("Preload the library, or set \"apikey.dynamic_shared_memory\" to off."),
				 errhidestmt(true),
				 errhidecontext(true)));
}

/*
 * The same for a verification, which raises nothing, and may be part of a
 * parallel query, where there are no subtransactions.  What it takes on the way
 * is let go of again.
 */
static bool
try_to_map(void)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ResourceOwner own = ResourceOwnerCreate(owner, "apikey segment");
	uint32		held = InterruptHoldoffCount;
	volatile bool mapped = false;
	ErrorData  *volatile error = NULL;

	HOLD_INTERRUPTS();
	CurrentResourceOwner = own;
	PG_TRY();
	{
		mapped = apikey_dynamic_map(true);
	}
	PG_CATCH();
	{
		LWLockReleaseAll();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		HOLD_INTERRUPTS();
	}
	PG_END_TRY();
	if (error != NULL)
	{
		tell(error->message);
		FreeErrorData(error);
	}
	InterruptHoldoffCount = held;
	ResourceOwnerRelease(own, RESOURCE_RELEASE_BEFORE_LOCKS, mapped, false);
	ResourceOwnerRelease(own, RESOURCE_RELEASE_LOCKS, mapped, false);
	ResourceOwnerRelease(own, RESOURCE_RELEASE_AFTER_LOCKS, mapped, false);
	CurrentResourceOwner = owner;
	ResourceOwnerDelete(own);
	MemoryContextSwitchTo(context);
	return mapped;
}

/* Has this process the segment from now on?  No lock is held. */
bool
apikey_dynamic_attach(void)
{
	static TimestampTz tried_at = 0;
	TimestampTz now;

	if (PG_VERSION_NUM < 170000 || !apikey_dynamic_shared_memory ||
		!IsUnderPostmaster || !OidIsValid(MyDatabaseId) || IsBinaryUpgrade)
		return false;
	now = GetCurrentTimestamp();
	if (tried_at != 0 && now >= tried_at && now < tried_at + RETRY)
		return false;
	tried_at = now;
	return try_to_map();
}
