/*
 * memory.c
 *		Shared memory: its parts, in the order in which apikey.c lists them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "memory/memory.h"

static const ApikeyMemoryPart *const *all = NULL;
static int	all_count = 0;
static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

static void
request_memory(void)
{
	if (previous_request)
		previous_request();
	for (int i = 0; i < all_count; i++)
	{
		if (all[i]->size != NULL)
			RequestAddinShmemSpace(all[i]->size());
	}
	RequestNamedLWLockTranche("apikey", APIKEY_MEMORY_LOCKS);
}

static void
start_memory(void)
{
	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < all_count; i++)
	{
		if (all[i]->start != NULL)
			all[i]->start();
	}
	LWLockRelease(AddinShmemInitLock);
	for (int i = 0; i < all_count; i++)
	{
		if (all[i]->ready != NULL)
			all[i]->ready();
	}
}

/* A database is gone, or our tables in it: so is all that is kept for it. */
void
apikey_memory_forget_database(Oid database)
{
	for (int i = 0; i < all_count; i++)
	{
		if (all[i]->forget != NULL)
			all[i]->forget(database);
	}
}

/* Once, while the library is being preloaded. */
void
apikey_memory_init(const ApikeyMemoryPart *const *parts, int count)
{
	all = parts;
	all_count = count;
	previous_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}
