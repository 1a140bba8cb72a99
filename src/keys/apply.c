/*
 * apply.c
 *		Bringing the keys that a project has under a max_ttl it was given since.
 *
 * Whoever makes a key in a project, or gives one another end, keeps the project's
 * row to the end of the transaction, and goes by the settings that it reads then.
 * So once those are waited for who have the row when these settings are, all keys
 * that go by others can be seen.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys_internal.h"

/* What the search for keys that end too late has found. */
typedef struct Late
{
	TimestampTz latest;
	List	   *ids;
} Late;

static bool
is_late(const ApikeyRow *key, TimestampTz latest)
{
	return apikey_key_live(key) && apikey_rule_ends_after(key, latest);
}

static bool
collect_late(const ApikeyRow *key, void *state)
{
	Late	   *late = state;

	if (is_late(key, late->latest))
	{
		pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

		*id = *apikey_row_id(key);
		late->ids = lappend(late->ids, id);
	}
	return true;
}

/* The younger first, as all lock keys that lock more than one. */
static int
compare_younger(const ListCell *one, const ListCell *two)
{
	return memcmp(lfirst(two), lfirst(one), sizeof(pg_uuid_t));
}

/* {"columns": ["expires_at"], "before": {...}, "after": {...}} */
static char *
ended_detail(const ApikeyRow *key, TimestampTz latest)
{
	StringInfoData before;
	StringInfoData after;
	StringInfoData json;

	apikey_detail_begin(&before);
	apikey_detail_value(&before, "expires_at", TIMESTAMPTZOID,
						key->values[APIKEY_KEY_EXPIRES_AT],
						key->nulls[APIKEY_KEY_EXPIRES_AT]);
	apikey_detail_begin(&after);
	apikey_detail_json(&after, "expires_at", apikey_json_time(latest));
	apikey_detail_begin(&json);
	apikey_detail_json(&json, "columns", "[\"expires_at\"]");
	apikey_detail_json(&json, "before", apikey_detail_end(&before));
	apikey_detail_json(&json, "after", apikey_detail_end(&after));
	return apikey_detail_end(&json);
}

/*
 * False where the key has gone, or ends in time, since it was found, or has ended
 * beside its row, for which nobody waits; 40001 where it is there and this
 * transaction, which reads as of before, does not see it.
 */
static bool
end_key(const pg_uuid_t *id, TimestampTz latest)
{
	ApikeyRow	key;
	char	   *detail;

	if (!apikey_key_fetch_latest(id, &key) || !is_late(&key, latest))
		return false;
	if (!apikey_key_lock(id, APIKEY_LOCK_UPDATE, &key))
	{
		if (apikey_key_fetch_latest(id, &key))
			apikey_manage_refuse_concurrent(id);
		return false;
	}
	if (!is_late(&key, latest))
		return false;
	detail = ended_detail(&key, latest);
	apikey_row_set(&key, APIKEY_KEY_EXPIRES_AT, TimestampTzGetDatum(latest));
	apikey_key_update(&key, APIKEY_EVENT_UPDATED, detail);
	return true;
}

static int64
end_keys(const List *ids, TimestampTz latest)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey apply",
												  ALLOCSET_DEFAULT_SIZES);
	int64		count = 0;
	ListCell   *cell;

	foreach(cell, ids)
	{
		MemoryContext outer = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		if (end_key(lfirst(cell), latest))
			count++;
		MemoryContextSwitchTo(outer);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	return count;
}

static void
wait_for_makers(void *tenant)
{
	apikey_tenant_lock(tenant, APIKEY_LOCK_UPDATE);
}

/*
 * Of an opened project, whose settings stay as they are while it is: the live
 * keys that end later than its max_ttl from now, or never, end then.  Returns
 * how many did not.
 *
 * Keys can be made meanwhile by the same settings, but where those may be this
 * transaction's own, which others do not see.
 */
int64
apikey_apply_project(ApikeyTenant *tenant)
{
	Late		late = {0};
	StringInfoData json;
	int64		count;

	if (apikey_changes_made())
		wait_for_makers(tenant);
	else
		apikey_attempt_undone(wait_for_makers, tenant);
	late.latest = apikey_rule_latest_end(GetCurrentTimestamp(),
										 &tenant->project);
	if (late.latest == DT_NOEND)
		return 0;
	apikey_key_walk_project(apikey_tenant_project(tenant), collect_late,
							&late);
	list_sort(late.ids, compare_younger);
	count = end_keys(late.ids, late.latest);

	apikey_detail_begin(&json);
	apikey_detail_value(&json, "max_ttl", INTERVALOID,
						tenant->project.values[APIKEY_PROJECT_MAX_TTL], false);
	apikey_detail_json(&json, "keys", psprintf(INT64_FORMAT, count));
	apikey_event_tenant(tenant, APIKEY_EVENT_PROJECT_APPLIED,
						apikey_detail_end(&json));
	return count;
}
