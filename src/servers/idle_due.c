/*
 * idle_due.c
 *		Since when a key is idle, and when something is to be done about it.
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
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(time),
												   project->values[APIKEY_PROJECT_MAX_IDLE]));
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
 * says of its use, and what is not flushed yet is added.
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
	return since;
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
	return apikey_idle_and_max(since, project) -
		(tells_before(project) ? TOLD_BEFORE : 0);
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

/* Since when a locked key is idle, with what it has replaced. */
TimestampTz
apikey_idle_since_with_replaced(const ApikeyRow *project, const ApikeyRow *key,
								const ApikeyRow *use)
{
	TimestampTz since = apikey_idle_since(project, key, use);
	pg_uuid_t	id = *apikey_row_id(key);
	ApikeyRow	replaced;

	while (apikey_manage_replaced(apikey_row_id(key), &id, &replaced))
	{
		ApikeyRow	its_use;

		apikey_idle_fetch_use_latest(&id, &its_use);
		since = Max(since, apikey_idle_since(project, &replaced, &its_use));
	}
	return since;
}
