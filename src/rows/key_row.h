/*
 * key_row.h
 *		The rows of keys, of their digests and of their use.
 */
#ifndef APIKEY_KEY_ROW_H
#define APIKEY_KEY_ROW_H

#include "access/tupdesc.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"

/* The columns of our tables, in their order there. */
typedef enum ApikeyKeyColumn
{
	APIKEY_KEY_ID,
	APIKEY_KEY_PROJECT,
	APIKEY_KEY_OWNER,
	APIKEY_KEY_ROLE,
	APIKEY_KEY_DISABLED,
	APIKEY_KEY_CREATED_AT,
	APIKEY_KEY_STARTS_AT,
	APIKEY_KEY_EXPIRES_AT,
	APIKEY_KEY_REVOKED_AT,
	APIKEY_KEY_ROTATED_TO,
	APIKEY_KEY_RATE_LIMIT,
	APIKEY_KEY_RATE_WINDOW,
	APIKEY_KEY_CREDITS_ACCOUNT,
	APIKEY_KEY_OWNER_NAME,
	APIKEY_KEY_PREFIX,
	APIKEY_KEY_LAST_FOUR,
	APIKEY_KEY_NAME,
	APIKEY_KEY_SUBJECT,
	APIKEY_KEY_DESCRIPTION,
	APIKEY_KEY_SCOPES,
	APIKEY_KEY_ALLOWED_IPS,
	APIKEY_KEY_METADATA,
	APIKEY_KEY_REVOKE_REASON,
	APIKEY_KEY_ACCEPTED_TERMS,
	APIKEY_KEY_VOUCHED_BY,		/* null: the owner */
	APIKEY_KEY_VOUCHED_BY_NAME,
	APIKEY_KEY_VOUCHED_BY_SUBJECT,
	APIKEY_KEY_CREATED_BY,		/* null: the owner */
	APIKEY_KEY_CREATED_BY_SUBJECT,
	APIKEY_KEY_UPDATED_AT,		/* null: not since it was created */
	APIKEY_KEY_ENABLED_AT,		/* null: never disabled since */
	APIKEY_KEY_RATE_ACCOUNT,	/* the first it goes back to; null: itself */
	/* Of the key's account: see credit.c. */
	APIKEY_KEY_CREDITS,
	APIKEY_KEY_CREDITS_REFILL,
	APIKEY_KEY_CREDITS_INTERVAL
} ApikeyKeyColumn;

/* The columns of apikey_usage, in their order there. */
typedef enum ApikeyUseColumn
{
	APIKEY_USE_ID,
	APIKEY_USE_USE_COUNT,
	APIKEY_USE_DENIED_COUNT,
	APIKEY_USE_LAST_USED_AT,
	APIKEY_USE_LAST_USED_ADDR,
	APIKEY_USE_FLUSH,
	APIKEY_USE_EXPIRY_TOLD,
	APIKEY_USE_IDLE_TOLD
} ApikeyUseColumn;

/* The columns of apikey_digest, in their order there. */
typedef enum ApikeyDigestColumn
{
	APIKEY_DIGEST_ID,
	APIKEY_DIGEST_DIGEST,
	APIKEY_DIGEST_PEPPER
} ApikeyDigestColumn;

/* key_row.c */
extern const ApikeyTable apikey_digest_table;
extern ApikeyTable apikey_key_table;
extern const ApikeyTable apikey_use_table;
extern void apikey_use_new(ApikeyRow *use, const pg_uuid_t *key);
extern Oid	apikey_key_owner(const ApikeyRow *key);
extern void apikey_key_set_owner(ApikeyRow *key, Oid owner);
extern bool apikey_key_revoked(const ApikeyRow *key);
extern bool apikey_key_owner_stands(const ApikeyRow *key);
extern const pg_uuid_t *apikey_key_project(const ApikeyRow *key);
extern const pg_uuid_t *apikey_key_account(const ApikeyRow *key);
extern bool apikey_key_rate(const ApikeyRow *key, ApikeyRate *rate);

#endif							/* APIKEY_KEY_ROW_H */
