/*
 * idle_setting.c
 *		A project's max_idle, as the worker goes by it, and max_idle_at.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/access.h"
#include "servers/servers_internal.h"

#define MOVE_EACH		USECS_PER_DAY	/* max_idle_at, at most */

/*
 * Locks a project's row for its setting to stay; false where that would be
 * waiting, or it is another since it was read.
 */
bool
apikey_idle_keep_setting(ApikeyRow *project)
{
	TimestampTz before = DT_NOBEGIN;
	TimestampTz since = DT_NOBEGIN;
	pg_uuid_t	id = *apikey_row_id(project);

	apikey_idle_take_later(&before, project, APIKEY_PROJECT_MAX_IDLE_AT);
	if (!apikey_table_lock(&apikey_project_table, &id,
						   APIKEY_LOCK_CHANGE_SKIP, project))
		return false;
	apikey_idle_take_later(&since, project, APIKEY_PROJECT_MAX_IDLE_AT);
	return !project->nulls[APIKEY_PROJECT_MAX_IDLE] && since == before;
}

/* So far max_idle_at may be behind where nothing is counted. */
int64
apikey_idle_move_wait(const ApikeyRow *project, TimestampTz now)
{
	return Min((apikey_idle_and_max(now, project) - now) / 8, MOVE_EACH);
}

/* Is it far behind a time? */
bool
apikey_idle_behind(const ApikeyRow *project, TimestampTz time)
{
	TimestampTz since = DT_NOBEGIN;

	apikey_idle_take_later(&since, project, APIKEY_PROJECT_MAX_IDLE_AT);
	return since < time && since <= time - apikey_idle_move_wait(project, time);
}

/* Moves it on to a time, unless it is not far behind, or somebody has the row. */
bool
apikey_idle_move_on(ApikeyRow *project, TimestampTz time)
{
	if (!apikey_idle_behind(project, time) || !apikey_idle_keep_setting(project))
		return false;
	apikey_row_set(project, APIKEY_PROJECT_MAX_IDLE_AT,
				   TimestampTzGetDatum(time));
	apikey_table_update(&apikey_project_table, project);
	return true;
}
