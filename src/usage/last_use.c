/*
 * last_use.c
 *		A key's last use, where the library is not preloaded.
 *
 * Then verification itself writes it, at most once in apikey.usage_interval a
 * key, and only where it can without waiting for anybody: not in a read-only
 * transaction, and not where another session has the row or the table.
 */
#include "postgres.h"

#include "access/xact.h"

#include "store/store.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "usage/usage.h"

typedef struct LastUse
{
	const pg_uuid_t *key;
	TimestampTz now;
	TimestampTz before;			/* one not since then is due */
	inet	   *addr;
} LastUse;

static void
set_use(ApikeyRow *use, const LastUse *touch)
{
	apikey_row_set(use, APIKEY_USE_LAST_USED_AT,
				   TimestampTzGetDatum(touch->now));
	if (touch->addr != NULL)
		apikey_row_set(use, APIKEY_USE_LAST_USED_ADDR,
					   InetPGetDatum(touch->addr));
}

static void
write_last_use(void *work)
{
	LastUse    *touch = work;
	ApikeyWriter *writer;
	ScanKeyData key;
	ApikeyRow	use;

	if (!apikey_table_free(&apikey_use_table) ||
		!apikey_table_free(&apikey_digest_table) ||
		!apikey_table_free(&apikey_import_table))
		return;
	apikey_table_key(&key, touch->key);
	writer = apikey_table_open(&apikey_use_table);
	if (apikey_table_take(writer, &apikey_use_table, &key,
						  APIKEY_LOCK_UPDATE_SKIP, &use))
	{
		if (use.nulls[APIKEY_USE_LAST_USED_AT] ||
			DatumGetTimestampTz(use.values[APIKEY_USE_LAST_USED_AT]) <=
			touch->before)
		{
			set_use(&use, touch);
			apikey_table_put(writer, &apikey_use_table, &use);
		}
	}
	else if (apikey_use_hold(touch->key) &&
			 apikey_table_absent(writer, &apikey_use_table, &key))
	{
		apikey_use_new(&use, touch->key);
		set_use(&use, touch);
		apikey_table_add(writer, &apikey_use_table, &use);
	}
	apikey_table_close(writer);
}

/*
 * A key has been used: writes so, if it is due, as the caller tells, and nothing
 * is in the way.
 */
void
apikey_last_use_write(const pg_uuid_t *key, inet *client_addr,
					  ApikeyLastUseDue due,
					  const void *credential)
{
	TimestampTz now;
	TimestampTz before;
	LastUse		touch;

	if (XactReadOnly || IsInParallelMode())
		return;
	now = GetCurrentTimestamp();
	before = now - (TimestampTz) apikey_usage_interval * USECS_PER_SEC;
	if (!due(credential, now, before))
		return;

	touch.key = key;
	touch.now = now;
	touch.before = before;
	touch.addr = client_addr;
	(void) apikey_attempt(write_last_use, &touch);
}
