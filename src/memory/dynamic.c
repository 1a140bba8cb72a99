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

#include "miscadmin.h"
#include "storage/ipc.h"
#if PG_VERSION_NUM >= 170000
#include "storage/dsm_registry.h"
#endif
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "compat.h"
#include "store/store.h"
#include "memory/dynamic_internal.h"
#include "memory/memory_internal.h"

#define RETRY	USECS_PER_MINUTE	/* who could not have it waits for so long */

ApikeyDynamic *apikey_dynamic = NULL;
ApikeyDynamicPlace *apikey_dynamic_place = NULL;

/* The parts of memory stand behind this. */
static Size
head_size(void)
{
	return CACHELINEALIGN(sizeof(ApikeyDynamic));
}

/* Makes all of the segment.  Whoever comes then finds it ready, or not at all. */
static void
make_segment(APIKEY_SEGMENT_PARAMETERS)
{
	ApikeyDynamic *made = memory;

	memset(made, 0, sizeof(ApikeyDynamic));
	made->tranche = apikey_new_tranche("apikey");
	SpinLockInit(&made->mutex);
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
	Latch	   *worker;

	SpinLockAcquire(&apikey_dynamic->mutex);
	place->sessions--;
	place->changes++;
	worker = place->worker;
	apikey_dynamic_vacate(place);
	SpinLockRelease(&apikey_dynamic->mutex);
	if (worker != NULL)
		SetLatch(worker);
}

/* Another database may have a place where nobody is; the mutex is held. */
void
apikey_dynamic_vacate(ApikeyDynamicPlace *place)
{
	if (place->sessions == 0 && place->state == APIKEY_DYNAMIC_NONE)
		place->database = InvalidOid;
}

/* Finds this database's place, for a session or its worker; NULL for no room. */
static ApikeyDynamicPlace *
find_place(bool session)
{
	ApikeyDynamicPlace *found = NULL;
	TimestampTz now = GetCurrentTimestamp();

	SpinLockAcquire(&apikey_dynamic->mutex);
	for (int i = 0; i < APIKEY_DYNAMIC_DATABASES; i++)
	{
		ApikeyDynamicPlace *place = &apikey_dynamic->places[i];
		bool		never_came = place->state == APIKEY_DYNAMIC_STARTING &&
			place->sessions == 0 && now >= place->again_at;

		if (place->database == MyDatabaseId)
		{
			found = place;
			break;
		}
		if (found == NULL && session &&
			(!OidIsValid(place->database) || never_came))
			found = place;
	}
	if (found != NULL && found->database != MyDatabaseId)
	{
		memset(found, 0, sizeof(*found));
		found->database = MyDatabaseId;
	}
	if (found != NULL && session)
	{
		found->sessions++;
		found->changes++;
	}
	SpinLockRelease(&apikey_dynamic->mutex);
	return found;
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
	if (session)
		before_shmem_exit(leave_place, (Datum) 0);
	apikey_dynamic_place = find_place(session);
	if (apikey_dynamic_place == NULL)
	{
		if (session)
			cancel_before_shmem_exit(leave_place, (Datum) 0);
		return false;
	}
	if (found)
		apikey_memory_dynamic_start((char *) apikey_dynamic + head_size(),
									apikey_dynamic->locks, false);
	return true;
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

	HOLD_INTERRUPTS();
	CurrentResourceOwner = own;
	PG_TRY();
	{
		mapped = apikey_dynamic_map(true);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		LWLockReleaseAll();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(LOG_SERVER_ONLY,
				(errmsg("no shared memory is to be had in which uses and rate limits of API keys are counted"),
				 errdetail_internal("%s", error->message),
				 errhint("Preload the library, or set \"apikey.dynamic_shared_memory\" to off."),
				 errhidestmt(true),
				 errhidecontext(true)));
		FreeErrorData(error);
	}
	PG_END_TRY();
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
