/*
 * touch.c
 *		A key's last use, where the library is not preloaded.
 *
 * Then verification itself writes it, at most once in apikey.usage_interval a
 * key, and only where it can without waiting for anybody: not in a read-only
 * transaction, and not where another session has the row.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "usage.h"

enum
{
	TOUCH_ID,
	TOUCH_NOW,
	TOUCH_ADDR,
	TOUCH_BEFORE,
	TOUCH_LOCK,
	TOUCH_ARGUMENTS
};

/*
 * Two sessions that make a key's first row would wait for one another, so
 * whoever does not get the advisory lock leaves it to the other.
 */
static const char update_sql[] =
"WITH due AS (SELECT id FROM %s.apikey_usage WHERE id = $1"
" AND (last_used_at IS NULL OR last_used_at <= $4) AND $5 IS NOT NULL"
" FOR UPDATE SKIP LOCKED)"
" UPDATE %s.apikey_usage u SET last_used_at = $2,"
" last_used_addr = coalesce($3, u.last_used_addr) FROM due WHERE u.id = due.id";
static const char insert_sql[] =
"INSERT INTO %s.apikey_usage (id, use_count, denied_count, last_used_at, last_used_addr)"
" SELECT $1, 0, 0, $2, $3 WHERE $4 IS NOT NULL AND pg_try_advisory_xact_lock($5)"
" AND NOT EXISTS (SELECT FROM %s.apikey_usage WHERE id = $1)"
" ON CONFLICT DO NOTHING";

/* The arguments of both. */
typedef struct Touch
{
	Datum		values[TOUCH_ARGUMENTS];
	char		nulls[TOUCH_ARGUMENTS];
} Touch;

static void
write_touch(void *work)
{
	Touch	   *touch = work;
	static ApikeyStatement update;
	static ApikeyStatement insert;
	ApikeyStorage storage;

	apikey_storage_open(&storage);
	if (apikey_storage_stale(&update) || apikey_storage_stale(&insert))
	{
		const char *schema = apikey_catalog_schema();
		Oid			types[TOUCH_ARGUMENTS] = {
			UUIDOID, TIMESTAMPTZOID, INETOID, TIMESTAMPTZOID, INT8OID
		};

		apikey_storage_prepare(&update, psprintf(update_sql, schema, schema),
							   TOUCH_ARGUMENTS, types);
		apikey_storage_prepare(&insert, psprintf(insert_sql, schema, schema),
							   TOUCH_ARGUMENTS, types);
	}
	if (apikey_storage_run(&update, touch->values, touch->nulls) == 0)
		apikey_storage_run(&insert, touch->values, touch->nulls);
	apikey_storage_close(&storage);
}

/* A key has been used: writes so, if it is due and nothing is in the way. */
void
apikey_touch(const ApikeyCredential *credential, inet *client_addr)
{
	TimestampTz now;
	TimestampTz before;
	Touch		touch;

	if (XactReadOnly || IsInParallelMode())
		return;
	now = GetCurrentTimestamp();
	before = now - (TimestampTz) apikey_usage_interval * USECS_PER_SEC;
	if (!apikey_cache_touch(credential, now, before))
		return;

	memset(touch.nulls, ' ', sizeof(touch.nulls));
	touch.values[TOUCH_ID] = UUIDPGetDatum(&credential->id);
	touch.values[TOUCH_NOW] = TimestampTzGetDatum(now);
	touch.values[TOUCH_ADDR] = InetPGetDatum(client_addr);
	touch.nulls[TOUCH_ADDR] = client_addr == NULL ? 'n' : ' ';
	touch.values[TOUCH_BEFORE] = TimestampTzGetDatum(before);
	touch.values[TOUCH_LOCK] =
		Int64GetDatum((int64) hash_bytes_extended(credential->id.data,
												  UUID_LEN, 0));
	(void) apikey_storage_try(write_touch, &touch);
}
