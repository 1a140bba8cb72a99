/*
 * server_beat.c
 *		A number that rises, by which a subscriber tells that it is fresh.
 *
 * A standby tells by the position in the WAL.  A subscriber has but the rows
 * that arrive: when that of apikey_beat has come with the number that the
 * primary has told, so has all that was committed there before.  The number is
 * raised when somebody asks, and not more often than STEP.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "servers/servers_internal.h"

#define STEP	(USECS_PER_SEC / 2)

typedef enum BeatColumn
{
	BEAT_ID,
	BEAT_NUMBER,
	BEAT_AT
} BeatColumn;

static const ApikeyColumn beat_columns[] = {
	[BEAT_ID] = {"id", UUIDOID, false, true},
	[BEAT_NUMBER] = {"number", INT8OID, false, true},
	[BEAT_AT] = {"at", TIMESTAMPTZOID, false, true}
};

static const ApikeyTable beat_table = {
	.name = "apikey_beat",
	.relation = APIKEY_REL_BEAT,
	.pkey = APIKEY_REL_BEAT_PKEY,
	.columns = beat_columns,
	.count = lengthof(beat_columns)
};

/* The only row's. */
static const pg_uuid_t beat_id = {{0}};

static int64
first_beat(TimestampTz now)
{
	ApikeyRow	row;

	apikey_row_clear(&row);
	apikey_row_set_pointer(&row, BEAT_ID, &beat_id);
	apikey_row_set(&row, BEAT_NUMBER, Int64GetDatum(1));
	apikey_row_set(&row, BEAT_AT, TimestampTzGetDatum(now));
	apikey_table_insert(&beat_table, &row);
	return 1;
}

/*
 * The number that is committed, or will be with this transaction, and how long
 * ago it was made, in milliseconds.
 */
int64
apikey_server_next_beat(int64 *age)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at;
	ApikeyRow	row;
	int64		number;

	*age = 0;
	if (!apikey_table_fetch_latest(&beat_table, &beat_id, &row))
		return first_beat(now);
	at = DatumGetTimestampTz(row.values[BEAT_AT]);
	number = DatumGetInt64(row.values[BEAT_NUMBER]);
	if (at <= now && now - at < STEP)
	{
		*age = (now - at) / 1000 + 1;
		return number;
	}
	if (!apikey_table_lock(&beat_table, &beat_id, APIKEY_LOCK_UPDATE, &row))
		return first_beat(now);
	number = DatumGetInt64(row.values[BEAT_NUMBER]) + 1;
	apikey_row_set(&row, BEAT_NUMBER, Int64GetDatum(number));
	apikey_row_set(&row, BEAT_AT, TimestampTzGetDatum(now));
	apikey_table_update(&beat_table, &row);
	return number;
}
