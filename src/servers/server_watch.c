/*
 * server_watch.c
 *		The primary's own row among the servers, and those that it hears no more
 *		of; for the worker.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "events/events.h"
#include "servers/servers_internal.h"

/* Who was the primary before is not any more. */
static bool
collect_former(const ApikeyRow *server, void *state)
{
	List	  **former = state;

	if (apikey_same_text(apikey_row_text(server, SERVER_KIND),
						 cstring_to_text(APIKEY_SERVER_PRIMARY)) &&
		!apikey_server_is_own(apikey_row_id(server)))
	{
		pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

		*id = *apikey_row_id(server);
		*former = lappend(*former, id);
	}
	return true;
}

static void
demote_former(void)
{
	List	   *former = NIL;
	ListCell   *cell;

	apikey_server_walk(collect_former, &former);
	foreach(cell, former)
	{
		ApikeyRow	server;

		if (!apikey_table_lock(&apikey_server_table, lfirst(cell),
							   APIKEY_LOCK_UPDATE_SKIP, &server))
			continue;
		apikey_row_set_pointer(&server, SERVER_KIND,
							   cstring_to_text(APIKEY_SERVER_STANDBY));
		apikey_table_update(&apikey_server_table, &server);
	}
}

/* This server's row becomes the primary's. */
static void
set_own(ApikeyRow *server, const pg_uuid_t *id, TimestampTz now)
{
	apikey_row_set_pointer(server, SERVER_KIND,
						   cstring_to_text(APIKEY_SERVER_PRIMARY));
	apikey_row_set_pointer(server, SERVER_NAME,
						   apikey_server_free_name(cstring_to_text(apikey_server_own_name()),
												   id));
	apikey_row_set(server, SERVER_VERSION, CStringGetTextDatum(APIKEY_VERSION));
	server->nulls[SERVER_LAG] = server->nulls[SERVER_LOST_AT] = true;
	apikey_row_set(server, SERVER_SEEN_AT, TimestampTzGetDatum(now));
	apikey_row_set(server, SERVER_LAST_REPORT_AT, TimestampTzGetDatum(now));
}

static void
new_own(ApikeyRow *server, const pg_uuid_t *id, TimestampTz now)
{
	apikey_row_clear(server);
	apikey_row_set_pointer(server, SERVER_ID, id);
	apikey_row_set(server, SERVER_EPOCH, Int64GetDatum(0));
	apikey_row_set(server, SERVER_SEQUENCE, Int64GetDatum(0));
	apikey_row_set(server, SERVER_FIRST_SEEN_AT, TimestampTzGetDatum(now));
	apikey_row_set(server, SERVER_USES, Int64GetDatum(0));
}

/*
 * With a flush, in its transaction: this server, the primary, has counted so
 * many uses.
 */
void
apikey_server_count_own(int64 uses)
{
	TimestampTz now = GetCurrentTimestamp();
	pg_uuid_t	id;
	ApikeyRow	server;
	bool		found;

	apikey_server_own_id(&id);
	found = apikey_table_lock(&apikey_server_table, &id, APIKEY_LOCK_UPDATE,
							  &server);
	if (!found)
	{
		/* With its name it takes the place of what it was before a crash. */
		new_own(&server, &id, now);
		set_own(&server, &id, now);
		demote_former();
	}
	else
	{
		if (!server.nulls[SERVER_TOKEN])
		{
			/* A standby that was promoted: nobody may call for it any more. */
			server.nulls[SERVER_TOKEN] = true;
			demote_former();
		}
		set_own(&server, &id, now);
	}
	apikey_row_set(&server, SERVER_USES,
				   Int64GetDatum(DatumGetInt64(server.values[SERVER_USES]) + uses));
	if (found)
		apikey_table_update(&apikey_server_table, &server);
	else
		apikey_table_insert(&apikey_server_table, &server);
}

static bool
collect_lost(const ApikeyRow *server, void *state)
{
	List	  **lost = state;

	if (server->nulls[SERVER_LOST_AT] &&
		apikey_server_silent(server, GetCurrentTimestamp()) &&
		!apikey_server_is_own(apikey_row_id(server)))
	{
		pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

		*id = *apikey_row_id(server);
		*lost = lappend(*lost, id);
	}
	return true;
}

/*
 * For the worker: tells once of each server that nothing has been heard of.  On
 * a subscriber the rows are a publisher's, which tells.
 */
bool
apikey_server_watch(void)
{
	List	   *lost = NIL;
	ListCell   *cell;

	if (!apikey_step_begin())
		return false;
	if (apikey_fleet_arrives(APIKEY_REL_KEY) == APIKEY_ANSWER_NO)
		apikey_server_walk(collect_lost, &lost);
	foreach(cell, lost)
	{
		TimestampTz now = GetCurrentTimestamp();
		ApikeyRow	server;

		if (!apikey_table_lock(&apikey_server_table, lfirst(cell),
							   APIKEY_LOCK_UPDATE_SKIP, &server) ||
			!apikey_server_silent(&server, now))
			continue;
		apikey_row_set(&server, SERVER_LOST_AT, TimestampTzGetDatum(now));
		apikey_table_update(&apikey_server_table, &server);
		apikey_server_tell(APIKEY_EVENT_SERVER_LOST, &server);
	}
	apikey_step_commit();
	return false;
}
