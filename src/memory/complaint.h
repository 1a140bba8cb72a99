/*
 * complaint.h
 *		What the server's log is told of keys that cannot be verified.
 */
#ifndef APIKEY_COMPLAINT_H
#define APIKEY_COMPLAINT_H

#include "compat.h"
#include "memory/part.h"

/* The reasons, each told by itself. */
typedef enum ApikeyComplaint
{
	APIKEY_COMPLAINT_PEPPER_FILE,	/* it cannot be used */
	APIKEY_COMPLAINT_PEPPER_GONE,	/* a key's is not in the file */
	APIKEY_COMPLAINT_TABLES,	/* something of ours is not there */
	APIKEY_COMPLAINT_LOCKED,	/* somebody has something of ours locked */
	APIKEY_COMPLAINT_IMPORT,	/* what imported keys need cannot be used */
	APIKEY_COMPLAINT_PRELOAD,	/* a limit without shared memory */
	APIKEY_COMPLAINT_ROOM,		/* a limit without a slot */
	APIKEY_COMPLAINT_CREDITS,	/* they can be spent nowhere now */
	APIKEY_COMPLAINT_LIMITS,	/* a key has more than are looked at */
	APIKEY_COMPLAINT_CHAIN,		/* what has replaced it is too far away */
	APIKEY_COMPLAINT_STALE,		/* what is here may be too old */
	APIKEY_COMPLAINT_PARALLEL	/* what is here now cannot be read */
} ApikeyComplaint;

#define APIKEY_COMPLAINTS	(APIKEY_COMPLAINT_PARALLEL + 1)

/* complaint.c */
extern const ApikeyMemoryPart apikey_complaint_memory;
extern void apikey_complaint_init(void);
extern void apikey_complaint_again(ApikeyComplaint complaint);
extern void apikey_complain(ApikeyComplaint complaint,
							const char *format,...) pg_attribute_printf(2, 3);

#endif							/* APIKEY_COMPLAINT_H */
