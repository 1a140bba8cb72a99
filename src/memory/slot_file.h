/*
 * slot_file.h
 *		What the file of the slots holds: see slot_file.c.
 */
#ifndef APIKEY_SLOT_FILE_H
#define APIKEY_SLOT_FILE_H

#include "access/xlogdefs.h"
#include "port/pg_crc32c.h"
#include "utils/uuid.h"

#include "memory/memory.h"

#define APIKEY_SLOT_FILE		PGSTAT_STAT_PERMANENT_DIRECTORY "/apikey.stat"
#define APIKEY_SLOT_FILE_MAGIC	0x41504B42	/* "APKB" */

/* What the file begins with, and what it is written of. */
typedef struct ApikeySlotFileHeader
{
	uint32		magic;
	uint32		slot_size;		/* of what is kept of each slot */
	uint64		system;			/* the cluster, as its control file names it */
	XLogRecPtr	checkpoint;
	uint64		count;			/* of slots */
	uint64		members;		/* memberships behind all else */
	uint64		reveals;		/* behind the slots: see reveals.c */
	TimeLineID	timeline;
	uint32		state;			/* DBState */
	uint64		since;			/* the lifetime: see lifetime.c */
	int64		lifetime;
	pg_uuid_t	server;			/* whose it is: see server_id.c */
	pg_crc32c	crc;			/* of the rest */
	pg_crc32c	header_crc;		/* of what stands before */
} ApikeySlotFileHeader;

/* What the file keeps of a slot. */
typedef struct ApikeyKeptSlot
{
	ApikeyUse	use;
	Oid			owner;
	bool		ended;
	bool		in_debt;
	ApikeyDenial denial;
	ApikeyLease lease;
} ApikeyKeptSlot;

/* What the file keeps of a membership, and behind it the batch, if there is one. */
typedef struct ApikeyKeptMembership
{
	ApikeyMembership membership;
	bool		has_batch;
} ApikeyKeptMembership;

/* slot_file_write.c */
extern pg_crc32c apikey_slot_file_crc(pg_crc32c crc, const void *data,
									  size_t size);
extern pg_crc32c apikey_slot_file_header_crc(const ApikeySlotFileHeader *header);
extern bool apikey_slot_file_describe(ApikeySlotFileHeader *header);
extern void apikey_slot_file_write(ApikeySlotFileHeader *header, bool busy);

#endif							/* APIKEY_SLOT_FILE_H */
