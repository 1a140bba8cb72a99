/*
 * memory.c
 *		Shared memory: its parts, in the order in which apikey.c lists them.
 *
 * With the library preloaded each part has its own, of the server's.  Without
 * that some of them, the dynamic ones, are in one segment, one behind the other:
 * see dynamic.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define STRUCTS_MAX		2		/* of a part */

/* Where parts start that are not in the server's own. */
typedef struct Room
{
	char	   *next;			/* NULL: they are */
	LWLockPadded *locks;
	bool		make;			/* nobody has, before */
} Room;

/* Most keys that have a slot, in the memory that there is. */
int			apikey_memory_keys = 0;

static const ApikeyMemoryPart *const *all = NULL;
static int	all_count = 0;
static bool preloaded = false;
static Room room;
static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

/* Has the library been preloaded, so that all of it is there? */
bool
apikey_preloaded(void)
{
	return preloaded;
}

/* So much memory, and whether it has been made before. */
void *
apikey_memory_struct(const char *name, Size size, bool *found)
{
	void	   *result = room.next;

	if (result == NULL)
		return ShmemInitStruct(name, size, found);
	room.next += CACHELINEALIGN(size);
	*found = !room.make;
	return result;
}

/* The same of one of the locks. */
LWLock *
apikey_memory_lock(int number)
{
	return room.locks == NULL ?
		&GetNamedLWLockTranche("apikey")[number].lock : &room.locks[number].lock;
}

static Size
part_size(const ApikeyMemoryPart *part)
{
	if (part->name != NULL)
		return part->struct_size;
	return part->size == NULL ? 0 : part->size();
}

static void
start_part(const ApikeyMemoryPart *part)
{
	bool		found = true;

	if (part->name != NULL)
		*part->place = apikey_memory_struct(part->name, part->struct_size,
											&found);
	if (!found)
		memset(*part->place, 0, part->struct_size);
	if (!found && part->make != NULL)
		part->make();
	if (part->start != NULL)
		part->start();
}

/* How much those parts take that are also there without preloading. */
Size
apikey_memory_dynamic_size(void)
{
	Size		size = 0;

	apikey_memory_keys = APIKEY_DYNAMIC_KEYS;
	for (int i = 0; i < all_count; i++)
	{
		if (all[i]->dynamic)
			size = add_size(size, part_size(all[i]) + STRUCTS_MAX * PG_CACHE_LINE_SIZE);
	}
	return size;
}

/* Starts them in memory of that size; nothing here may fail. */
void
apikey_memory_dynamic_start(char *memory, LWLockPadded *locks, bool make)
{
	room.next = memory;
	room.locks = locks;
	room.make = make;
	for (int i = 0; i < all_count; i++)
	{
		if (all[i]->dynamic)
			start_part(all[i]);
	}
}

static void
request_memory(void)
{
	if (previous_request)
		previous_request();
	apikey_memory_keys = apikey_max_tracked_keys;
	for (int i = 0; i < all_count; i++)
		RequestAddinShmemSpace(part_size(all[i]));
	RequestNamedLWLockTranche("apikey", APIKEY_MEMORY_LOCKS);
}

static void
start_memory(void)
{
	if (previous_startup)
		previous_startup();
	preloaded = true;
	apikey_memory_keys = apikey_max_tracked_keys;
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < all_count; i++)
		start_part(all[i]);
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
		if (all[i]->forget != NULL && (preloaded || all[i]->dynamic))
			all[i]->forget(database);
	}
}

/* Once, when the library is loaded. */
void
apikey_memory_init(const ApikeyMemoryPart *const *parts, int count)
{
	all = parts;
	all_count = count;
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = start_memory;
}
