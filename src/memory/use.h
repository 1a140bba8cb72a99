/*
 * use.h
 *		What a slot has gathered of the use of a key.
 */
#ifndef APIKEY_USE_H
#define APIKEY_USE_H

#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "memory/slot.h"

/* What has been gathered of a key and is not in the tables yet. */
typedef struct ApikeyUse
{
	Oid			database;
	pg_uuid_t	id;
	uint64		uses;
	uint64		denials;
	TimestampTz last_used_at;	/* 0: not since the counting began */
	bool		has_addr;
	inet_struct addr;			/* of the last use, where it was given */
	uint64		arrival;		/* the limiter's state: see limiter.c */
} ApikeyUse;

/* The same that is to be written, and whose the key is: see slot.h. */
typedef struct ApikeyCollectedUse
{
	ApikeyUse	use;
	uint32		whose;
} ApikeyCollectedUse;

/* use.c */
extern inet *apikey_use_inet(const inet_struct *addr);
extern void apikey_use_copy(ApikeySlot *slot, ApikeyUse *use);

#endif							/* APIKEY_USE_H */
