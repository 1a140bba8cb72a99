/*
 * list_key.h
 *		The columns of view apikeys.
 */
#ifndef APIKEY_LIST_KEY_H
#define APIKEY_LIST_KEY_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "access/access.h"
#include "sql/listing.h"

/* The columns of the view. */
enum
{
	LIST_ID,
	LIST_NAME,
	LIST_MASKED_KEY,
	LIST_DESCRIPTION,
	LIST_STATUS,
	LIST_PROJECT,
	LIST_OWNER,
	LIST_SUBJECT,
	LIST_ROLE,
	LIST_SCOPES,
	LIST_CREATED_AT,
	LIST_STARTS_AT,
	LIST_EXPIRES_AT,
	LIST_LAST_USED_AT,
	LIST_LAST_USED_ADDR,
	LIST_USE_COUNT,
	LIST_DENIED_COUNT,
	LIST_RATE_LIMIT,
	LIST_RATE_WINDOW,
	LIST_CREDITS,
	LIST_CREDITS_REFILL,
	LIST_CREDITS_INTERVAL,
	LIST_ALLOWED_IPS,
	LIST_METADATA,
	LIST_REVOKED_AT,
	LIST_REVOKE_REASON,
	LIST_ROTATED_TO,
	LIST_EFFECTIVE_ROLE,
	LIST_CREATED_BY,
	LIST_CREATED_BY_SUBJECT,
	LIST_UPDATED_AT,
	LIST_REVEALABLE,
	LIST_ACCEPTED_TERMS,
	LIST_VOUCHED_BY,
	LIST_VOUCHED_BY_SUBJECT
};

/* What the query wants of the keys. */
typedef struct ApikeyListWanted
{
	const pg_uuid_t *id;
	const NameData *owner;
	const text *subject;
	const text *project;
	bool		personal;		/* none of a project */
	bool		has_since;
	bool		has_before;
	TimestampTz since;
	TimestampTz before;
	bool		revocations;	/* that are not in their keys' rows */
	uint64		columns;		/* of the view, by their bits */
	bool		complete;		/* the one project has been listed */
} ApikeyListWanted;

static inline bool
apikey_list_wants(const ApikeyListWanted *wanted, int column)
{
	return (wanted->columns >> column & 1) != 0;
}

/* list_key.c */
extern Name apikey_list_owner_name(const ApikeyRow *key);
extern void apikey_list_key_make(ApikeyListing *listing,
								 const ApikeyViewedProject *project,
								 ApikeyRow *key, Datum *values, bool *nulls);

#endif							/* APIKEY_LIST_KEY_H */
