/*
 * key_row.c
 *		The rows of keys, of their digests and of their use, and what is read of
 *		one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"

static const ApikeyColumn key_columns[] = {
	[APIKEY_KEY_ID] = {"id", UUIDOID, false, true},
	[APIKEY_KEY_PROJECT] = {"project", UUIDOID, false},
	[APIKEY_KEY_OWNER] = {"owner", REGROLEOID, false, true},
	[APIKEY_KEY_ROLE] = {"role", InvalidOid, true},
	[APIKEY_KEY_DISABLED] = {"disabled", BOOLOID, false, true},
	[APIKEY_KEY_CREATED_AT] = {"created_at", TIMESTAMPTZOID, false, true},
	[APIKEY_KEY_STARTS_AT] = {"starts_at", TIMESTAMPTZOID, true},
	[APIKEY_KEY_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID, true},
	[APIKEY_KEY_REVOKED_AT] = {"revoked_at", TIMESTAMPTZOID, false},
	[APIKEY_KEY_ROTATED_TO] = {"rotated_to", UUIDOID, false},
	[APIKEY_KEY_RATE_LIMIT] = {"rate_limit", INT4OID, true},
	[APIKEY_KEY_RATE_WINDOW] = {"rate_window", INTERVALOID, true, true},
	[APIKEY_KEY_CREDITS_ACCOUNT] = {"credits_account", UUIDOID, false},
	[APIKEY_KEY_OWNER_NAME] = {"owner_name", TEXTOID, false, true},
	[APIKEY_KEY_PREFIX] = {"prefix", TEXTOID, false, true},
	[APIKEY_KEY_LAST_FOUR] = {"last_four", TEXTOID, false, true},
	[APIKEY_KEY_NAME] = {"name", TEXTOID, false, true},
	[APIKEY_KEY_SUBJECT] = {"subject", TEXTOID, false},
	[APIKEY_KEY_DESCRIPTION] = {"description", TEXTOID, true},
	[APIKEY_KEY_SCOPES] = {"scopes", TEXTARRAYOID, true, true},
	[APIKEY_KEY_ALLOWED_IPS] = {"allowed_ips", CIDRARRAYOID, true},
	[APIKEY_KEY_METADATA] = {"metadata", JSONBOID, true, true},
	[APIKEY_KEY_REVOKE_REASON] = {"revoke_reason", TEXTOID, false},
	[APIKEY_KEY_ACCEPTED_TERMS] = {"accepted_terms", TEXTOID, false},
	[APIKEY_KEY_VOUCHED_BY] = {"vouched_by", REGROLEOID, false},
	[APIKEY_KEY_VOUCHED_BY_NAME] = {"vouched_by_name", TEXTOID, false},
	[APIKEY_KEY_VOUCHED_BY_SUBJECT] = {"vouched_by_subject", TEXTOID, false},
	[APIKEY_KEY_CREATED_BY] = {"created_by", TEXTOID, false},
	[APIKEY_KEY_CREATED_BY_SUBJECT] = {"created_by_subject", TEXTOID, false},
	[APIKEY_KEY_UPDATED_AT] = {"updated_at", TIMESTAMPTZOID, false},
	[APIKEY_KEY_ENABLED_AT] = {"enabled_at", TIMESTAMPTZOID, false},
	[APIKEY_KEY_RATE_ACCOUNT] = {"rate_account", UUIDOID, false},
	[APIKEY_KEY_CREDITS] = {"credits", INT8OID, true},
	[APIKEY_KEY_CREDITS_REFILL] = {"credits_refill", INT8OID, true},
	[APIKEY_KEY_CREDITS_INTERVAL] = {"credits_interval", INTERVALOID, true}
};

ApikeyTable apikey_key_table = {
	.name = "apikey_key",
	.noun = "API key",
	.label = APIKEY_KEY_NAME,
	.argument = "name",
	.relabel = "new_name",
	.relation = APIKEY_REL_KEY,
	.pkey = APIKEY_REL_KEY_PKEY,
	.columns = key_columns,
	.count = APIKEY_KEY_CREDITS,
	.derived = lengthof(key_columns) - APIKEY_KEY_CREDITS
};

static const ApikeyColumn digest_columns[] = {
	[APIKEY_DIGEST_ID] = {"id", UUIDOID, false, true},
	[APIKEY_DIGEST_DIGEST] = {"digest", BYTEAOID, false, true},
	[APIKEY_DIGEST_PEPPER] = {"pepper", INT4OID, false, true}
};

const ApikeyTable apikey_digest_table = {
	.name = "apikey_digest",
	.relation = APIKEY_REL_DIGEST,
	.pkey = APIKEY_REL_DIGEST_PKEY,
	.columns = digest_columns,
	.count = lengthof(digest_columns)
};

static const ApikeyColumn use_columns[] = {
	[APIKEY_USE_ID] = {"id", UUIDOID, false, true},
	[APIKEY_USE_USE_COUNT] = {"use_count", INT8OID, false, true},
	[APIKEY_USE_DENIED_COUNT] = {"denied_count", INT8OID, false, true},
	[APIKEY_USE_LAST_USED_AT] = {"last_used_at", TIMESTAMPTZOID, false},
	[APIKEY_USE_LAST_USED_ADDR] = {"last_used_addr", INETOID, false},
	[APIKEY_USE_FLUSH] = {"flush", INT8OID, false},
	[APIKEY_USE_EXPIRY_TOLD] = {"expiry_told", TIMESTAMPTZOID, false},
	[APIKEY_USE_IDLE_TOLD] = {"idle_told", TIMESTAMPTZOID, false}
};

/* Its rows are made for who holds the key's proof: see use_row.c. */
const ApikeyTable apikey_use_table = {
	.name = "apikey_usage",
	.relation = APIKEY_REL_USAGE,
	.pkey = APIKEY_REL_USAGE_PKEY,
	.columns = use_columns,
	.count = lengthof(use_columns),
	.later = lengthof(use_columns) - APIKEY_USE_IDLE_TOLD
};

/* The row of a key that has not been used yet. */
void
apikey_use_new(ApikeyRow *use, const pg_uuid_t *key)
{
	apikey_row_clear(use);
	apikey_row_set_pointer(use, APIKEY_USE_ID, key);
	apikey_row_set(use, APIKEY_USE_USE_COUNT, Int64GetDatum(0));
	apikey_row_set(use, APIKEY_USE_DENIED_COUNT, Int64GetDatum(0));
}

Oid
apikey_key_owner(const ApikeyRow *key)
{
	return DatumGetObjectId(key->values[APIKEY_KEY_OWNER]);
}

/* Makes a key that of a role. */
void
apikey_key_set_owner(ApikeyRow *key, Oid owner)
{
	apikey_row_set(key, APIKEY_KEY_OWNER, ObjectIdGetDatum(owner));
	apikey_row_set_pointer(key, APIKEY_KEY_OWNER_NAME,
						   apikey_role_name_text(owner, NULL));
}

/* Is there a key's owner still, rather than another role of its number? */
bool
apikey_key_owner_stands(const ApikeyRow *key)
{
	return apikey_role_stands(apikey_key_owner(key),
							  apikey_row_text(key, APIKEY_KEY_OWNER_NAME));
}

/* Is a key revoked: in its row, or as its owner has been dropped? */
bool
apikey_key_revoked(const ApikeyRow *key)
{
	return !key->nulls[APIKEY_KEY_REVOKED_AT] || !apikey_key_owner_stands(key);
}

/* The id of a key's project; NULL for a personal key. */
const pg_uuid_t *
apikey_key_project(const ApikeyRow *key)
{
	return key->nulls[APIKEY_KEY_PROJECT] ? NULL :
		DatumGetUUIDP(key->values[APIKEY_KEY_PROJECT]);
}

/* The id of the account of a key's credits; NULL where it has none. */
const pg_uuid_t *
apikey_key_account(const ApikeyRow *key)
{
	return key->nulls[APIKEY_KEY_CREDITS_ACCOUNT] ? NULL :
		DatumGetUUIDP(key->values[APIKEY_KEY_CREDITS_ACCOUNT]);
}

/* The limit of a key; false where it has none. */
bool
apikey_key_rate(const ApikeyRow *key, ApikeyRate *rate)
{
	Interval   *window;

	if (key->nulls[APIKEY_KEY_RATE_LIMIT])
		return false;
	window = DatumGetIntervalP(key->values[APIKEY_KEY_RATE_WINDOW]);
	rate->tokens = DatumGetInt32(key->values[APIKEY_KEY_RATE_LIMIT]);
	rate->window = ((int64) window->day * USECS_PER_DAY + window->time) *
		APIKEY_LIMITER_UNITS;
	return true;
}
