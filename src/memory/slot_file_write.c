/*
 * slot_file_write.c
 *		Writing the file in which what is in the slots outlives the server.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "common/controldata_utils.h"
#include "pgstat.h"
#include "storage/fd.h"

#include "memory/memory_internal.h"
#include "memory/slot_file.h"

pg_crc32c
apikey_slot_file_crc(pg_crc32c crc, const void *data, size_t size)
{
	COMP_CRC32C(crc, data, size);
	return crc;
}

pg_crc32c
apikey_slot_file_header_crc(const ApikeySlotFileHeader *header)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	crc = apikey_slot_file_crc(crc, header, offsetof(ApikeySlotFileHeader, header_crc));
	FIN_CRC32C(crc);
	return crc;
}

/* What a file written now is of; false where the control file is broken. */
bool
apikey_slot_file_describe(ApikeySlotFileHeader *header)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);

	memset(header, 0, sizeof(*header));
	header->magic = APIKEY_SLOT_FILE_MAGIC;
	header->slot_size = sizeof(ApikeyKeptSlot);
	header->system = control->system_identifier;
	header->checkpoint = control->checkPoint;
	header->timeline = control->checkPointCopy.ThisTimeLineID;
	header->state = control->state;
	apikey_lifetime_keep(&header->since, &header->lifetime);
	apikey_server_own_id(&header->server);
	pfree(control);
	return crc_ok;
}

/* Copies out a slot; false where there is nothing to keep. */
static bool
keep_slot(ApikeySlot *slot, TimestampTz now, ApikeyKeptSlot *kept)
{
	memset(kept, 0, sizeof(*kept));
	if (!slot->used || apikey_slot_at_rest(slot, now))
		return false;
	apikey_use_copy(slot, &kept->use);
	kept->owner = apikey_share_role(slot->holder);
	kept->ended = slot->ended;
	kept->in_debt = slot->in_debt;
	kept->denial = slot->denial;
	kept->lease = slot->lease;
	return true;
}

/* The same while others are at work. */
static bool
keep_busy_slot(ApikeySlot *slot, TimestampTz now, ApikeyKeptSlot *kept)
{
	ApikeySlotKey key = slot->key;
	LWLock	   *lock;
	bool		any;

	if (!slot->used)
		return false;
	slot = apikey_slot_find(key.database, &key.id, NULL, &lock);
	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	any = keep_slot(slot, now, kept);
	SpinLockRelease(&slot->mutex);
	LWLockRelease(lock);
	return any;
}

static bool
write_piece(FILE *file, ApikeySlotFileHeader *header, const void *data, size_t size)
{
	header->crc = apikey_slot_file_crc(header->crc, data, size);
	return fwrite(data, size, 1, file) == 1;
}

/* Writes what is to be told of keys that were shown. */
static bool
write_reveals(FILE *file, ApikeySlotFileHeader *header)
{
	const ApikeyRevealed *place;

	for (int i = 0; (place = apikey_reveals_at(i)) != NULL; i++)
	{
		if (place->state <= APIKEY_REVEALED_OPEN)
			continue;
		if (!write_piece(file, header, place, sizeof(*place)))
			return false;
		header->reveals++;
	}
	return true;
}

/* Writes as whom a member reports, and what is on its way. */
static bool
write_memberships(FILE *file, ApikeySlotFileHeader *header)
{
	ApikeyMembership *membership;

	for (int i = 0; (membership = apikey_membership_at(i)) != NULL; i++)
	{
		const ApikeyBatch *batch;
		ApikeyKeptMembership kept;

		if (!OidIsValid(membership->database))
			continue;
		batch = apikey_batch_of(membership->database);
		memset(&kept, 0, sizeof(kept));
		kept.membership = *membership;
		kept.has_batch = batch != NULL;
		if (!write_piece(file, header, &kept, sizeof(kept)) ||
			(batch != NULL &&
			 !write_piece(file, header, batch, sizeof(*batch))))
			return false;
		header->members++;
	}
	return true;
}

/* Writes the slots and then, knowing their sum, the header. */
static bool
write_slots(FILE *file, ApikeySlotFileHeader *header, bool busy)
{
	TimestampTz now = GetCurrentTimestamp();
	ApikeyKeptSlot kept;

	if (fseek(file, sizeof(*header), SEEK_SET) != 0)
		return false;
	INIT_CRC32C(header->crc);
	for (int i = 0; i < apikey_slot_count(); i++)
	{
		if (!(busy ? keep_busy_slot : keep_slot) (apikey_slot_at(i), now, &kept))
			continue;
		if (!write_piece(file, header, &kept, sizeof(kept)))
			return false;
		header->count++;
	}
	if (!(busy || write_reveals(file, header)) ||
		!write_memberships(file, header))
		return false;
	FIN_CRC32C(header->crc);
	header->header_crc = apikey_slot_file_header_crc(header);
	return fseek(file, 0, SEEK_SET) == 0 &&
		fwrite(header, sizeof(*header), 1, file) == 1;
}

/* Replaces the file, unless nothing has changed since it was last written. */
void
apikey_slot_file_write(ApikeySlotFileHeader *header, bool busy)
{
	static pg_crc32c last = 0;
	FILE	   *file = AllocateFile(APIKEY_SLOT_FILE ".tmp", PG_BINARY_W);
	bool		written;

	/* What is moved into a batch meanwhile would be in it twice. */
	if (busy)
		apikey_batch_lock(false);
	written = file != NULL && write_slots(file, header, busy);
	if (busy)
		apikey_batch_unlock();

	if (file != NULL && FreeFile(file) != 0)
		written = false;
	if (!written)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", APIKEY_SLOT_FILE ".tmp")));
	if (!written || (busy && header->header_crc == last))
		unlink(APIKEY_SLOT_FILE ".tmp");
	else if (durable_rename(APIKEY_SLOT_FILE ".tmp", APIKEY_SLOT_FILE, LOG) == 0)
		last = header->header_crc;
}
