/*
 * called_back.c
 *		Leases that are called back: their slots are to be others'.
 *
 * A worker puts them back into their rows, as promptly as it gives out what is
 * asked for: see lease_asked.c.  What finds no room on the list, or is in a row that
 * somebody has, goes back with the next flush.
 */
#include "postgres.h"

#include "memory/memory_internal.h"

#define CALLED_MAX		1024

typedef struct Called
{
	slock_t		mutex;			/* guards all of it */
	int			count;
	ApikeySlotKey keys[CALLED_MAX];
} Called;

static Called *shared = NULL;

static void
make_memory(void)
{
	SpinLockInit(&shared->mutex);
}

/* A database is gone, or nobody puts back what is leased there. */
void
apikey_called_back_drop(Oid database)
{
	pg_uuid_t	account;

	while (apikey_called_back_take(database, &account, 1) > 0)
		 /* more */ ;
}

const ApikeyMemoryPart apikey_called_back_memory = {
	APIKEY_MEMORY_STRUCT("apikey leases called back", shared),
	.make = make_memory,
	.forget = apikey_called_back_drop
};

/* Puts an account on the list, if there is room, and calls a worker to its database. */
void
apikey_called_back_add(const ApikeySlotKey *key)
{
	bool		added;

	SpinLockAcquire(&shared->mutex);
	added = shared->count < CALLED_MAX;
	if (added)
		shared->keys[shared->count++] = *key;
	SpinLockRelease(&shared->mutex);
	if (added)
		apikey_seat_call(key->database);
}

/* Is there one of a database? */
bool
apikey_called_back_waits(Oid database)
{
	bool		waits = false;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count && !waits; i++)
		waits = shared->keys[i].database == database;
	SpinLockRelease(&shared->mutex);
	return waits;
}

/* The databases of all. */
List *
apikey_called_back_databases(void)
{
	Oid		   *found = palloc(CALLED_MAX * sizeof(Oid));
	List	   *databases = NIL;
	int			count;

	SpinLockAcquire(&shared->mutex);
	count = shared->count;
	for (int i = 0; i < count; i++)
		found[i] = shared->keys[i].database;
	SpinLockRelease(&shared->mutex);
	for (int i = 0; i < count; i++)
		databases = list_append_unique_oid(databases, found[i]);
	pfree(found);
	return databases;
}

/* Takes accounts of a database off the list; so many at most. */
int
apikey_called_back_take(Oid database, pg_uuid_t *accounts, int most)
{
	int			taken = 0;
	int			kept = 0;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < shared->count; i++)
	{
		if (taken < most && shared->keys[i].database == database)
			accounts[taken++] = shared->keys[i].id;
		else
			shared->keys[kept++] = shared->keys[i];
	}
	shared->count = kept;
	SpinLockRelease(&shared->mutex);
	return taken;
}
