/*
 * idle_due.c
 *		Since when a key is idle, and when something is to be done about it.
 *
 * No key is due before its max_idle has gone by on whatever clock: a day has 24
 * hours, and no time zone, which a database's owner may set, changes that.
 * Months are those of the calendar, and end with it: so of two keys the one that
 * is idle for longer may be due later, by less than a day, and who goes through
 * keys in the order of their times looks so far ahead.  What lies before the
 * time that it is counted from is no max_idle: a row that was restored may have
 * such a one, and revokes nothing.  What is infinite stays so.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "servers/servers_internal.h"

#define TOLD_BEFORE		(7 * USECS_PER_DAY)
#define MONTHS_DIFFER	USECS_PER_DAY	/* 30 January 23:00, 31 January 1:00 and a month */

void
apikey_idle_take_later(TimestampTz *since, const ApikeyRow *row, int column)
{
	if (!row->nulls[column])
		*since = Max(*since, DatumGetTimestampTz(row->values[column]));
}

/* A time and the project's max_idle. */
TimestampTz
apikey_idle_and_max(TimestampTz time, const ApikeyRow *project)
{
	TimestampTz sum = DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
														   TimestampGetDatum(time),
														   project->values[APIKEY_PROJECT_MAX_IDLE]));

	if (sum <= time && !TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				(errcode(ERRCODE_INTERVAL_FIELD_OVERFLOW),
				 errmsg("a \"max_idle\" of %s is not positive",
						DatumGetCString(DirectFunctionCall1(interval_out,
															project->values[APIKEY_PROJECT_MAX_IDLE])))));
	return sum;
}

/* Is a project's max_idle so long that an event tells before it ends a key? */
static bool
tells_before(const ApikeyRow *project)
{
	Interval	least = {.day = 14};

	return DatumGetBool(DirectFunctionCall2(interval_gt,
											project->values[APIKEY_PROJECT_MAX_IDLE],
											IntervalPGetDatum(&least)));
}

/*
 * Since when a key is idle, whatever it has replaced; use is what the table
 * says of its use, and what is not flushed yet is added.  While uses were lost, it
 * may have been used.
 */
TimestampTz
apikey_idle_since(const ApikeyRow *project, const ApikeyRow *key,
				  const ApikeyRow *use)
{
	TimestampTz since = DatumGetTimestampTz(key->values[APIKEY_KEY_CREATED_AT]);
	ApikeyUse	pending;

	apikey_idle_take_later(&since, key, APIKEY_KEY_STARTS_AT);
	apikey_idle_take_later(&since, key, APIKEY_KEY_ENABLED_AT);
	apikey_idle_take_later(&since, project, APIKEY_PROJECT_MAX_IDLE_AT);
	apikey_idle_take_later(&since, use, APIKEY_USE_LAST_USED_AT);
	if (apikey_usage_pending(apikey_row_id(key), 0, &pending))
		since = Max(since, pending.last_used_at);
	return Max(since, apikey_stats_use_lost_at());
}

/* The row of a key's use; all null for none. */
void
apikey_idle_fetch_use(const pg_uuid_t *key, Snapshot snapshot, ApikeyRow *use)
{
	if (!apikey_table_fetch(&apikey_use_table, key, snapshot, use))
		apikey_row_clear(use);
}

void
apikey_idle_fetch_use_latest(const pg_uuid_t *key, ApikeyRow *use)
{
	Snapshot	snapshot = apikey_latest_snapshot();

	apikey_idle_fetch_use(key, snapshot, use);
	UnregisterSnapshot(snapshot);
}

/* When something is to be done with a key that nobody was told of. */
TimestampTz
apikey_idle_first_due_at(const ApikeyRow *project, TimestampTz since)
{
	TimestampTz due = apikey_idle_and_max(since, project);

	return TIMESTAMP_NOT_FINITE(due) || !tells_before(project) ? due :
		due - TOLD_BEFORE;
}

/* Before when nothing is to be done with any that is idle since that time, or a later one. */
TimestampTz
apikey_idle_none_due_before(const ApikeyRow *project, TimestampTz since)
{
	TimestampTz due = apikey_idle_first_due_at(project, since);
	const Interval *max = DatumGetIntervalP(project->values[APIKEY_PROJECT_MAX_IDLE]);

	return TIMESTAMP_NOT_FINITE(due) || max->month == 0 ? due :
		due - MONTHS_DIFFER;
}

/* When something is to be done with a key that is idle since a time. */
TimestampTz
apikey_idle_due_at(const ApikeyRow *project, const ApikeyRow *use, TimestampTz since)
{
	if (!use->nulls[APIKEY_USE_IDLE_TOLD] &&
		DatumGetTimestampTz(use->values[APIKEY_USE_IDLE_TOLD]) >= since)
		return apikey_idle_and_max(since, project);
	return apikey_idle_first_due_at(project, since);
}

/* The search for the last use of what a key has replaced. */
typedef struct Search
{
	const ApikeyRow *project;
	TimestampTz since;
} Search;

static void
take_replaced(ApikeyRow *key, int times pg_attribute_unused(), void *state)
{
	Search	   *search = state;
	ApikeyRow	use;

	apikey_idle_fetch_use_latest(apikey_row_id(key), &use);
	search->since = Max(search->since,
						apikey_idle_since(search->project, key, &use));
}

/* Since when a locked key is idle, with what it has replaced. */
TimestampTz
apikey_idle_since_with_replaced(const ApikeyRow *project, const ApikeyRow *key,
								const ApikeyRow *use)
{
	Search		search = {
		.project = project,
		.since = apikey_idle_since(project, key, use)
	};

	apikey_chain_visit_replaced(key, take_replaced, &search);
	return search.since;
}
