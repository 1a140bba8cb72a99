/*
 * slot_file.c
 *		The file in which what is in the slots outlives the server.
 *
 * A server that is shut down in peace leaves it, and its next start reads it.
 * Which that is, the control file says, not that a process ended with 0: an
 * immediate stop does that, too, and leaves locks that killed processes held.
 *
 *		written				by					read where the control file says
 *		shut down			the postmaster		shut down, at that checkpoint
 *		shut down in		the postmaster		shut down in recovery, or in
 *		recovery								recovery, on that timeline
 *		in recovery			a process, each		the same
 *							flush interval
 *
 * So a file holds for one life of a server: once a server has come up and may
 * have written of it into the tables, its control file says something else.
 * It is never removed before; a start that fails leaves it for the next.  On a
 * standby nothing is written into the tables, so there what was last written
 * holds after a crash, too, until the promotion.
 *
 * What a primary left and a standby finds, after a switchover or in a copy,
 * others may have or get as well: of that, limits hold on, leases do not, counts
 * are not attributed, and the server is another one.  What a base backup brings
 * along is another's.
 *
 * What a member of a fleet has not reported, and as whom it reports, is kept as
 * well, in one piece with the slots: see batch.c.  What a standby's file has of
 * counts waits until the primary has said whether they were reported since.
 *
 * The content is checked before any of it is used: by its sizes, its checksum
 * and, each by itself, what its values may be.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "common/controldata_utils.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "store/store.h"
#include "memory/memory_internal.h"
#include "memory/slot_file.h"

/* The file of version 0.1.0, which it removed at its start: slots, no more. */
#define OLD_FILE_MAGIC	0x41504B34	/* "APK4" */

typedef struct OldSlot
{
	ApikeyUse	use;
	int64		denial_count;
	TimestampTz denial_told_at;
	int			denial_code;
	Oid			denial_actor;
	bool		denial_has_addr;
	inet_struct denial_addr;
	uint64		lease_number;
	int64		lease_available;
	int64		lease_low;
	TimestampTz lease_until;
	int64		lease_rest[5];
	int32		lease_unsettled[3];
	bool		lease_doomed;
} OldSlot;

/*
 * The postmaster ends: in peace, if the control file says so.  Then all other
 * processes have ended in order, and nobody holds a lock.
 */
static void
write_at_end(int code, Datum arg pg_attribute_unused())
{
	ApikeySlotFileHeader header;

	if (code == 0 && apikey_preloaded() && apikey_slot_file_describe(&header) &&
		(header.state == DB_SHUTDOWNED ||
		 header.state == DB_SHUTDOWNED_IN_RECOVERY))
		apikey_slot_file_write(&header, false);
}

static bool
file_exists(const char *name)
{
	struct stat status;

	return stat(name, &status) == 0;
}

static bool
address_ok(bool has_addr, const inet_struct *addr)
{
	return !has_addr ||
		(addr->family == PGSQL_AF_INET && addr->bits <= 32) ||
		(addr->family == PGSQL_AF_INET6 && addr->bits <= 128);
}

/* May a slot have these values? */
static bool
kept_slot_ok(const ApikeyKeptSlot *kept)
{
	return OidIsValid(kept->use.database) &&
		kept->use.uses <= PG_INT64_MAX / 2 &&
		kept->use.denials <= PG_INT64_MAX / 2 &&
		kept->use.last_used_at >= 0 &&
		IS_VALID_TIMESTAMP(kept->use.last_used_at) &&
		(int64) kept->use.arrival >= 0 &&
		address_ok(kept->use.has_addr, &kept->use.addr) &&
		kept->denial.code <= APIKEY_CODE_VALID &&
		address_ok(kept->denial.has_addr, &kept->denial.addr) &&
		kept->lease.available >= 0;
}

/*
 * Is what a server like that left what this one may go on with?  A checkpoint
 * at which a primary was shut down is one of its kind.
 */
static bool
is_ours(const ApikeySlotFileHeader *header, const ApikeySlotFileHeader *now)
{
	bool		in_recovery = now->state == DB_SHUTDOWNED_IN_RECOVERY ||
		now->state == DB_IN_ARCHIVE_RECOVERY;

	if (header->system != now->system || header->timeline != now->timeline)
		return false;
	if (header->state == DB_SHUTDOWNED)
		return now->state == DB_SHUTDOWNED &&
			header->checkpoint == now->checkpoint;
	return in_recovery && (header->state == DB_SHUTDOWNED_IN_RECOVERY ||
						   header->state == DB_IN_ARCHIVE_RECOVERY);
}

/* Reads what is to be told behind the slots; false where it cannot be. */
static bool
reveals_ok(FILE *file, const ApikeySlotFileHeader *header, pg_crc32c *crc)
{
	ApikeyRevealed kept;

	for (uint64 i = 0; i < header->reveals; i++)
	{
		if (fread(&kept, sizeof(kept), 1, file) != 1 ||
			!apikey_reveals_ok(&kept) || !address_ok(kept.has_addr, &kept.addr))
			return false;
		*crc = apikey_slot_file_crc(*crc, &kept, sizeof(kept));
	}
	return true;
}

/* Reads the rest behind them; false where it is not what it should be. */
static bool
memberships_ok(FILE *file, const ApikeySlotFileHeader *header, pg_crc32c *crc)
{
	ApikeyKeptMembership kept;
	ApikeyBatch *batch = palloc(sizeof(ApikeyBatch));
	bool		ok = true;

	for (uint64 i = 0; i < header->members && ok; i++)
	{
		ok = fread(&kept, sizeof(kept), 1, file) == 1 &&
			OidIsValid(kept.membership.database) &&
			kept.membership.token_count >= 0 &&
			kept.membership.token_count <= APIKEY_TOKENS_MAX;
		if (!ok)
			break;
		*crc = apikey_slot_file_crc(*crc, &kept, sizeof(kept));
		if (!kept.has_batch)
			continue;
		ok = fread(batch, sizeof(*batch), 1, file) == 1 &&
			apikey_batch_ok(batch);
		*crc = apikey_slot_file_crc(*crc, batch, sizeof(*batch));
	}
	pfree(batch);
	return ok;
}

/* Reads the header and, to its end, whether the rest is what it says. */
static bool
file_ok(FILE *file, ApikeySlotFileHeader *header)
{
	ApikeyKeptSlot kept;
	pg_crc32c	crc;

	if (fread(header, sizeof(*header), 1, file) != 1 ||
		header->magic != APIKEY_SLOT_FILE_MAGIC ||
		header->slot_size != sizeof(ApikeyKeptSlot) ||
		header->header_crc != apikey_slot_file_header_crc(header))
		return false;
	INIT_CRC32C(crc);
	for (uint64 i = 0; i < header->count; i++)
	{
		if (fread(&kept, sizeof(kept), 1, file) != 1 || !kept_slot_ok(&kept))
			return false;
		crc = apikey_slot_file_crc(crc, &kept, sizeof(kept));
	}
	if (!reveals_ok(file, header, &crc) ||
		!memberships_ok(file, header, &crc))
		return false;
	FIN_CRC32C(crc);
	return crc == header->crc && fgetc(file) == EOF &&
		fseek(file, sizeof(*header), SEEK_SET) == 0;
}

/* Goes on as the member that this server was. */
static void
restore_memberships(FILE *file, const ApikeySlotFileHeader *header)
{
	ApikeyKeptMembership kept;
	ApikeyBatch *batch = palloc(sizeof(ApikeyBatch));

	for (uint64 i = 0; i < header->members &&
		 fread(&kept, sizeof(kept), 1, file) == 1; i++)
	{
		if (kept.has_batch && fread(batch, sizeof(*batch), 1, file) != 1)
			break;
		if (!apikey_membership_restore(&kept.membership,
									   kept.has_batch ? batch : NULL) &&
			kept.has_batch)
			apikey_stats_not_attributed_to(batch->database,
										   apikey_batch_sum(batch));
	}
	pfree(batch);
}

/* A standby's counts may have been reported since the file was written. */
static void
keep_for_settling(ApikeySlot *slot)
{
	slot->flush.number = APIKEY_FLUSH_KEPT;
	slot->flush.uses = (uint32) Min(pg_atomic_read_u64(&slot->uses),
									PG_UINT32_MAX);
	slot->flush.denials = (uint32) Min(pg_atomic_read_u64(&slot->denials),
									   PG_UINT32_MAX);
}

/* Of keys that were shown, who has the keys tells. */
static void
restore_reveals(FILE *file, const ApikeySlotFileHeader *header, bool whole)
{
	ApikeyRevealed kept;

	for (uint64 i = 0; i < header->reveals &&
		 fread(&kept, sizeof(kept), 1, file) == 1; i++)
	{
		if (whole)
			apikey_reveals_restore(&kept);
	}
}

/* Only where nobody else can have it are a lease and counts this server's. */
static void
restore_slot(const ApikeyKeptSlot *kept, bool whole, bool of_standby)
{
	ApikeySlotKey key = {.database = kept->use.database, .id = kept->use.id};
	ApikeySlot *slot = apikey_slot_restore(&key, kept->owner);

	if (slot == NULL || !whole)
		apikey_stats_not_attributed_to(key.database, kept->use.uses +
									   kept->use.denials);
	if (slot == NULL)
		return;
	pg_atomic_write_u64(&slot->arrival, kept->use.arrival);
	slot->ended = kept->ended;
	slot->in_debt = kept->in_debt;
	if (!whole)
		return;
	pg_atomic_write_u64(&slot->uses, kept->use.uses);
	pg_atomic_write_u64(&slot->denials, kept->use.denials);
	pg_atomic_write_u64(&slot->last_used_at, (uint64) kept->use.last_used_at);
	slot->has_addr = kept->use.has_addr;
	slot->addr = kept->use.addr;
	if (of_standby && apikey_fleet)
		keep_for_settling(slot);
	slot->denial = kept->denial;
	slot->lease = kept->lease;
	apikey_lease_from_file(&slot->lease);
	apikey_lease_count(slot);
	slot->of_project = true;
}

static void
restore_slots(FILE *file, const ApikeySlotFileHeader *header)
{
	bool		whole = header->state != DB_SHUTDOWNED ||
		!(file_exists(STANDBY_SIGNAL_FILE) || file_exists(RECOVERY_SIGNAL_FILE));
	ApikeyKeptSlot kept;

	if (header->count > (uint64) apikey_max_tracked_keys)
		ereport(LOG,
				(errmsg("what was pending of some API keys is lost"),
				 errhint("\"apikey.max_tracked_keys\" is less than it was.")));
	if (whole)
		apikey_server_set_id(&header->server);
	if (whole && header->state == DB_SHUTDOWNED &&
		header->count <= (uint64) apikey_max_tracked_keys)
		apikey_lifetime_goes_on(header->since, header->lifetime);
	for (uint64 i = 0; i < header->count &&
		 fread(&kept, sizeof(kept), 1, file) == 1; i++)
	{
		if (whole && header->state != DB_SHUTDOWNED)
			memset(&kept.lease, 0, sizeof(kept.lease));
		restore_slot(&kept, whole, header->state != DB_SHUTDOWNED);
	}
	restore_reveals(file, header, whole);
	if (whole && header->state != DB_SHUTDOWNED)
		restore_memberships(file, header);
}

/*
 * Takes over what version 0.1.0 has left of counts, limits and leases: once, so
 * it is removed first, and only after a clean end, as it was written at others
 * as well.  A lease of it has no number: see account.c.
 */
static void
take_over_old(FILE *file, const ApikeySlotFileHeader *now)
{
	OldSlot		old;

	if (durable_unlink(APIKEY_SLOT_FILE, LOG) != 0 || now->state != DB_SHUTDOWNED ||
		file_exists(STANDBY_SIGNAL_FILE) || file_exists(RECOVERY_SIGNAL_FILE) ||
		fseek(file, sizeof(uint32), SEEK_SET) != 0)
		return;
	while (fread(&old, sizeof(old), 1, file) == 1)
	{
		ApikeyKeptSlot kept;

		memset(&kept, 0, sizeof(kept));
		kept.use = old.use;
		if (old.lease_number != 0)
			kept.lease.number = APIKEY_LEASE_UNNUMBERED;
		kept.lease.available = old.lease_available;
		kept.lease.until = old.lease_until;
		if (kept_slot_ok(&kept))
			restore_slot(&kept, true, false);
	}
}

/* Is it a file of version 0.1.0? */
static bool
file_is_old(FILE *file)
{
	uint32		magic;
	bool		old = fread(&magic, sizeof(magic), 1, file) == 1 &&
		magic == OLD_FILE_MAGIC;

	rewind(file);
	return old;
}

/* Reads the file, where it is this server's, into the empty slots. */
static void
read_file(void)
{
	FILE	   *file = AllocateFile(APIKEY_SLOT_FILE, PG_BINARY_R);
	ApikeySlotFileHeader header;
	ApikeySlotFileHeader now;

	if (file == NULL)
		return;
	if (file_is_old(file))
	{
		if (apikey_slot_file_describe(&now))
			take_over_old(file, &now);
	}
	else if (!file_ok(file, &header))
		ereport(LOG,
				(errmsg("file \"%s\" is damaged and is not used", APIKEY_SLOT_FILE),
				 errdetail("What was pending of API keys when the server was shut down is lost.")));
	else if (!apikey_slot_file_describe(&now) || !is_ours(&header, &now))
		ereport(DEBUG1,
				(errmsg_internal("file \"%s\" is not of the life that this start goes on with",
								 APIKEY_SLOT_FILE)));
	else
		restore_slots(file, &header);
	FreeFile(file);
}

/* Shared memory is made, of a server that starts or goes on after a crash. */
static void
read_slot_file(void)
{
	apikey_lifetime_start(file_exists(STANDBY_SIGNAL_FILE) ||
						  file_exists(RECOVERY_SIGNAL_FILE));
	if (file_exists(BACKUP_LABEL_FILE))
		unlink(APIKEY_SLOT_FILE);
	read_file();
	if (!IsUnderPostmaster)
		on_shmem_exit(write_at_end, (Datum) 0);
}

/* On a standby: writes the file while all goes on. */
void
apikey_slot_file_write_standby(void)
{
	ApikeySlotFileHeader header;

	if (apikey_slot_file_describe(&header) && header.state == DB_IN_ARCHIVE_RECOVERY)
		apikey_slot_file_write(&header, true);
}

/* It is a primary: what was written is as old as its promotion. */
void
apikey_slot_file_remove(void)
{
	unlink(APIKEY_SLOT_FILE);
}

/* Read when the slots are there, and before anybody uses them. */
const ApikeyMemoryPart apikey_slot_file_memory = {
	.ready = read_slot_file
};
