/*
 * server_id.c
 *		Who this server is among those that verify together: its id and name.
 *
 * The id is made when shared memory is; a server that goes on with the file of
 * its last run (slot_file.c) goes on with its id, too.  It proves nothing: of
 * copies that have the same one, the primary lets one join, see server_join.c.
 */
#include "postgres.h"

#include <unistd.h>

#include "postmaster/postmaster.h"
#include "storage/spin.h"
#include "utils/guc.h"

#include "store/store.h"
#include "memory/memory_internal.h"

#define UUID_VERSION_AT	6		/* the byte whose first half it is */
#define UUID_VARIANT_AT	8

typedef struct Shared
{
	slock_t		mutex;
	pg_uuid_t	id;
} Shared;

static Shared *shared = NULL;

static void
make_id(pg_uuid_t *id)
{
	if (!pg_strong_random(id->data, UUID_LEN))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	id->data[UUID_VERSION_AT] = (id->data[UUID_VERSION_AT] & 0x0f) | 0x40;
	id->data[UUID_VARIANT_AT] = (id->data[UUID_VARIANT_AT] & 0x3f) | 0x80;
}

static void
make_memory(void)
{
	SpinLockInit(&shared->mutex);
	make_id(&shared->id);
}

const ApikeyMemoryPart apikey_server_id_memory = {
	APIKEY_MEMORY_STRUCT("apikey server", shared),
	.make = make_memory
};

void
apikey_server_own_id(pg_uuid_t *id)
{
	SpinLockAcquire(&shared->mutex);
	*id = shared->id;
	SpinLockRelease(&shared->mutex);
}

bool
apikey_server_is_own(const pg_uuid_t *id)
{
	pg_uuid_t	own;

	if (shared == NULL)
		return false;
	apikey_server_own_id(&own);
	return memcmp(&own, id, sizeof(pg_uuid_t)) == 0;
}

void
apikey_server_set_id(const pg_uuid_t *id)
{
	SpinLockAcquire(&shared->mutex);
	shared->id = *id;
	SpinLockRelease(&shared->mutex);
}

/* The one that this server had is somebody else's. */
void
apikey_server_new_id(void)
{
	pg_uuid_t	id;

	make_id(&id);
	apikey_server_set_id(&id);
}

/* apikey.server_name, or cluster_name, or the host's name and the port. */
const char *
apikey_server_own_name(void)
{
	const char *cluster = GetConfigOption("cluster_name", true, false);
	char		host[256];

	if (apikey_server_name != NULL && apikey_server_name[0] != '\0')
		return apikey_server_name;
	if (cluster != NULL && cluster[0] != '\0')
		return cluster;
	if (gethostname(host, sizeof(host)) != 0)
		strlcpy(host, "localhost", sizeof(host));
	host[sizeof(host) - 1] = '\0';
	return psprintf("%s:%d", host, PostPortNumber);
}
