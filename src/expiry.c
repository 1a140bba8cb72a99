/*
 * expiry.c
 *		Events of keys that will expire: once a key and time, by the worker.
 *
 * A database is visited when the next of its keys comes near: the worker says
 * when that is, and whoever gives a key another time says so with his commit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "usage.h"

#define TOLD_AT_ONCE	1000	/* keys; the worker's next run finds more */
#define LOOK_EACH		USECS_PER_HOUR

static TimestampTz earliest = DT_NOEND; /* that this transaction has set */

/* So long before it expires a key is told of. */
static TimestampTz
notice_before(TimestampTz expires_at)
{
	return expires_at - (TimestampTz) apikey_expiry_notice * USECS_PER_SEC;
}

/* A key is being written: when it will be told of. */
void
apikey_expiry_note(const ApikeyRow *key)
{
	TimestampTz expires_at;

	if (key->nulls[APIKEY_KEY_EXPIRES_AT] || apikey_expiry_notice == 0)
		return;
	expires_at = DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]);
	if (!TIMESTAMP_NOT_FINITE(expires_at))
		earliest = Min(earliest, notice_before(expires_at));
}

static void
on_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (event != XACT_EVENT_ABORT && earliest != DT_NOEND)
		apikey_stats_visit(earliest);
	earliest = DT_NOEND;
}

/* Once, when the library is loaded. */
void
apikey_expiry_init(void)
{
	RegisterXactCallback(on_transaction_end, NULL);
}

/*
 * Runs a query about keys with an expiry; its parameters are until when they
 * count, and how many.
 */
static void
query(const char *sql, TimestampTz until)
{
	const char *schema = apikey_catalog_schema();
	Oid			types[2] = {TIMESTAMPTZOID, INT4OID};
	Datum		values[2] = {TimestampTzGetDatum(until),
	Int32GetDatum(TOLD_AT_ONCE)};

	if (SPI_execute_with_args(psprintf(sql, schema, schema, schema),
							  2, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not look for API keys that expire");
}

/* Marks the keys that are near as told of, and returns their ids. */
static List *
mark_near(TimestampTz until)
{
	static const char sql[] =
	"INSERT INTO %s.apikey_usage AS u (id, use_count, denied_count, expiry_told)"
	" SELECT k.id, 0, 0, k.expires_at FROM %s.apikey_key k"
	" LEFT JOIN %s.apikey_usage t ON t.id = k.id"
	" WHERE k.expires_at > clock_timestamp() AND k.expires_at <= $1"
	" AND k.revoked_at IS NULL AND k.rotated_to IS NULL"
	" AND t.expiry_told IS DISTINCT FROM k.expires_at LIMIT $2"
	" ON CONFLICT (id) DO UPDATE SET expiry_told = excluded.expiry_told"
	" RETURNING id";
	MemoryContext context = CurrentMemoryContext;
	ApikeyStorage storage;
	List	   *ids;

	apikey_storage_open(&storage);
	query(sql, until);
	ids = apikey_storage_ids(context);
	apikey_storage_close(&storage);
	return ids;
}

/* When the first key expires that is not near yet; the end of time for none. */
static TimestampTz
next_expiry(TimestampTz after)
{
	static const char sql[] =
	"SELECT min(expires_at) FROM %s.apikey_key WHERE expires_at > $1"
	" AND expires_at < 'infinity' AND revoked_at IS NULL AND $2 > 0";
	TimestampTz next = DT_NOEND;
	ApikeyStorage storage;
	Datum		value;
	bool		isnull;

	apikey_storage_open(&storage);
	query(sql, after);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1,
						  &isnull);
	if (!isnull)
		next = DatumGetTimestampTz(value);
	apikey_storage_close(&storage);
	return next;
}

/*
 * For the worker, in a transaction: tells of the keys that are near, and
 * returns when to look again.  Keys that came by COPY or replication have not
 * been noted, so that is soon enough for them too.
 */
TimestampTz
apikey_expiry_tell(void)
{
	TimestampTz until = GetCurrentTimestamp() +
		(TimestampTz) apikey_expiry_notice * USECS_PER_SEC;
	TimestampTz next;
	List	   *ids;
	ListCell   *cell;

	if (apikey_expiry_notice == 0)
		return DT_NOEND;
	ids = mark_near(until);
	foreach(cell, ids)
	{
		ApikeyRow	key;

		if (!apikey_table_fetch_latest(&apikey_key_table, lfirst(cell), &key) ||
			apikey_key_status(&key, GetCurrentTimestamp()) ==
			APIKEY_STATUS_REVOKED)
			continue;
		apikey_event_key(&key, APIKEY_EVENT_EXPIRING,
						 psprintf("{\"expires_at\": %s}",
								  apikey_json_time(DatumGetTimestampTz(key.values[APIKEY_KEY_EXPIRES_AT]))));
	}
	next = list_length(ids) == TOLD_AT_ONCE ? until : next_expiry(until);
	return Min(GetCurrentTimestamp() + LOOK_EACH,
			   next == DT_NOEND ? DT_NOEND : notice_before(next));
}
