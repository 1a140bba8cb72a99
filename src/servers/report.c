/*
 * report.c
 *		Carrying into the tables what another server has gathered: once.
 *
 * Reports are numbered by the server that sends them.  The number of the last
 * one stands in the server's row, which is locked first and written in the same
 * transaction; so a report that comes again, as its answer was lost, does
 * nothing, on whichever server is the primary then.  It is applied as a whole
 * or not at all.
 *
 * Locks: the server's row; then by the keys' ids, of each its row of
 * apikey_usage, or what proves the key, and then that of apikey_history.  A row
 * that nobody has is changed without a lock before that.  One that somebody has,
 * who deletes the key perhaps, is waited for a moment; where it is not free then,
 * the report is refused, and the error names all keys that are in the way, so that
 * the server sends it without them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "limits/limits.h"
#include "servers/servers_internal.h"

#define WAIT_MAX	20			/* milliseconds for rows of keys, in all */
#define STEP_MAX	8

/* A report that is being applied. */
typedef struct Applying
{
	ApikeyWriter *writer;		/* of the rows of use */
	ApikeyWriter *history;
	TimestampTz now;
	long		waited;			/* milliseconds */
	StringInfoData busy;		/* keys that are in the way */
	uint64		uses;
} Applying;

/* Waits for a row, a little longer each time; false where that has been enough. */
static bool
wait_a_little(Applying *applying, long *milliseconds)
{
	if (applying->waited >= WAIT_MAX || !apikey_wait_moment(*milliseconds))
		return false;
	applying->waited += *milliseconds;
	*milliseconds = Min(*milliseconds * 2, STEP_MAX);
	return true;
}

pg_noreturn static void
refuse_busy(const Applying *applying)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("rows of use are locked"),
			 errdetail_internal("%s", applying->busy.data)));
}

typedef enum Taken
{
	TAKEN,						/* the row is locked */
	ABSENT,						/* there is none, and nobody else makes one */
	BUSY						/* somebody has it */
} Taken;

static Taken
take_use(Applying *applying, const pg_uuid_t *id, ApikeyRow *row)
{
	long		step = 1;
	ScanKeyData key;

	apikey_table_key(&key, id);
	for (;;)
	{
		if (apikey_table_take(applying->writer, &apikey_use_table, &key,
							  APIKEY_LOCK_UPDATE_SKIP, row))
			return TAKEN;
		if (apikey_use_hold(id) &&
			apikey_table_absent(applying->writer, &apikey_use_table, &key))
			return ABSENT;
		if (!wait_a_little(applying, &step))
			return BUSY;
	}
}

static void
add_count(ApikeyRow *row, int column, uint64 more)
{
	apikey_row_set(row, column,
				   Int64GetDatum(apikey_credits_sum(DatumGetInt64(row->values[column]),
													(int64) more)));
}

/* The later use is the last, wherever it was; none is to come. */
static void
add_use(const Applying *applying, ApikeyRow *row, const ApikeyReported *key)
{
	TimestampTz last = Min(key->last_used_at, applying->now);

	add_count(row, APIKEY_USE_USE_COUNT, key->uses);
	add_count(row, APIKEY_USE_DENIED_COUNT, key->denials);
	if (last == 0 ||
		(!row->nulls[APIKEY_USE_LAST_USED_AT] &&
		 DatumGetTimestampTz(row->values[APIKEY_USE_LAST_USED_AT]) >= last))
		return;
	apikey_row_set(row, APIKEY_USE_LAST_USED_AT, TimestampTzGetDatum(last));
	if (key->addr != NULL)
		apikey_row_set(row, APIKEY_USE_LAST_USED_ADDR, InetPGetDatum(key->addr));
}

/* Adds to the row of use, if there is one that nobody has; false otherwise. */
static bool
change_use(Applying *applying, const ApikeyReported *reported)
{
	ScanKeyData key;
	ApikeyRow	row;

	apikey_table_key(&key, &reported->key);
	if (!apikey_table_see(applying->writer, &apikey_use_table, &key, &row))
		return false;
	add_use(applying, &row, reported);
	return apikey_table_change(applying->writer, &apikey_use_table, &row);
}

/*
 * Takes the row of use, or makes one, and writes it.  False where nothing is to be
 * written: the key is gone, or a row is busy, be it another's.
 */
static bool
put_use(Applying *applying, const ApikeyReported *reported)
{
	ApikeyRow	row;
	Taken		taken;

	if (!apikey_key_fetch_latest(&reported->key, &row))
		return false;
	taken = take_use(applying, &reported->key, &row);
	if (taken == BUSY)
		apikey_id_list(&applying->busy, &reported->key);
	if (applying->busy.len > 0)
		return false;
	if (taken == ABSENT)
		apikey_use_new(&row, &reported->key);
	add_use(applying, &row, reported);
	if (taken == TAKEN)
		apikey_table_put(applying->writer, &apikey_use_table, &row);
	else
		apikey_table_add(applying->writer, &apikey_use_table, &row);
	return true;
}

/* Writes the use of a key; one that is there for its counts alone was not used. */
static bool
write_use(Applying *applying, const ApikeyReported *reported)
{
	ApikeyRow	key;

	if (reported->uses == 0 && reported->denials == 0 &&
		reported->last_used_at == 0)
		return apikey_key_fetch_latest(&reported->key, &key);
	return (applying->busy.len == 0 && change_use(applying, reported)) ||
		put_use(applying, reported);
}

/* Adds to the row of the history; false where somebody has it. */
static bool
add_history(Applying *applying, const ApikeyReported *reported)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool added = false;

	PG_TRY();
	{
		added = apikey_history_add_free(applying->history, &reported->key,
										reported->uses, reported->counts);
	}
	PG_CATCH();
	{
		/* Somebody has just made it, or is about to. */
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE &&
			geterrcode() != ERRCODE_T_R_SERIALIZATION_FAILURE)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		apikey_id_list(&applying->busy, &reported->key);
		refuse_busy(applying);
	}
	PG_END_TRY();
	return added;
}

static void
apply_key(Applying *applying, const ApikeyReported *reported)
{
	long		step = 1;

	if (!write_use(applying, reported))
		return;
	while (!add_history(applying, reported))
	{
		if (wait_a_little(applying, &step))
			continue;
		apikey_id_list(&applying->busy, &reported->key);
		return;
	}
	applying->uses += reported->uses;
}

static void
apply_keys(Applying *applying, const ApikeyReport *report)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey report",
												  ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < report->key_count; i++)
	{
		MemoryContext context = MemoryContextSwitchTo(scratch);

		CHECK_FOR_INTERRUPTS();
		apply_key(applying, &report->keys[i]);
		MemoryContextSwitchTo(context);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	if (applying->busy.len > 0)
		refuse_busy(applying);
}

static void
tell_denial(void *item, void *state pg_attribute_unused())
{
	const ApikeyReportedDenial *denial = item;
	ApikeyRow	key;

	if (apikey_key_fetch_latest(&denial->key, &key))
		apikey_event_denied_by(&key, denial->actor, denial->addr,
							   psprintf("{\"code\": \"%s\", \"count\": " INT64_FORMAT "}",
										denial->code, denial->count));
}

static void
tell_mark(void *mark, void *state pg_attribute_unused())
{
	if (apikey_mark_write(mark) == APIKEY_MARK_LATER)
		apikey_mark_later(mark);
}

/* The row of the server that has reported. */
static void
note_report(ApikeyRow *server, const ApikeyReport *report,
			const Applying *applying)
{
	bool		lost = !server->nulls[SERVER_LOST_AT];

	apikey_row_set(server, SERVER_SEQUENCE, Int64GetDatum(report->sequence));
	apikey_row_set(server, SERVER_SEEN_AT, TimestampTzGetDatum(applying->now));
	apikey_row_set(server, SERVER_LAST_REPORT_AT,
				   TimestampTzGetDatum(applying->now));
	apikey_row_set_pointer(server, SERVER_LAG, report->lag);
	server->nulls[SERVER_LOST_AT] = true;
	add_count(server, SERVER_USES, applying->uses);
	apikey_table_update(&apikey_server_table, server);
	if (lost)
		apikey_server_tell(APIKEY_EVENT_SERVER_JOINED, server);
}

/*
 * Applies a report of a server, whose row is locked; false where it has been
 * before.
 */
bool
apikey_report_apply(ApikeyRow *server, const ApikeyReport *report)
{
	Applying	applying = {.now = GetCurrentTimestamp()};

	if (report->sequence <= DatumGetInt64(server->values[SERVER_SEQUENCE]))
		return false;
	initStringInfo(&applying.busy);
	applying.writer = apikey_table_open(&apikey_use_table);
	applying.history = apikey_history_open();
	apply_keys(&applying, report);
	apikey_history_close(applying.history);
	apikey_table_close(applying.writer);
	apikey_turns_each(report->denials, tell_denial, NULL);
	apikey_turns_each(report->marks, tell_mark, NULL);
	note_report(server, report, &applying);
	return true;
}
