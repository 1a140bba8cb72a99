/*
 * server.c
 *		The rows of apikey_server: a server each that verifies and reports here.
 *
 * A server is known by an id that it makes itself.  Its row says which of those
 * that may have that id is meant: only who knows the token of its last join has
 * joined, and each join takes another one, and another epoch.  So of a copy and
 * what it is a copy of, one at most is the server; and a call that is late,
 * over a connection of before, has an old epoch and comes to nothing.
 *
 * Who calls for a server locks its row first, and does all else under that lock:
 * two calls for one never meet.  What is locked after it: see report.c and
 * server_lease.c.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "store/store.h"
#include "events/events.h"
#include "servers/servers_internal.h"

static const ApikeyColumn server_columns[] = {
	[SERVER_ID] = {"id", UUIDOID, false, true},
	[SERVER_NAME] = {"name", TEXTOID, false, true},
	[SERVER_KIND] = {"kind", TEXTOID, false, true},
	[SERVER_VERSION] = {"version", TEXTOID, false, true},
	[SERVER_TOKEN] = {"token", UUIDOID, false},
	[SERVER_EPOCH] = {"epoch", INT8OID, false, true},
	[SERVER_SEQUENCE] = {"sequence", INT8OID, false, true},
	[SERVER_FIRST_SEEN_AT] = {"first_seen_at", TIMESTAMPTZOID, false, true},
	[SERVER_SEEN_AT] = {"seen_at", TIMESTAMPTZOID, false, true},
	[SERVER_LAST_REPORT_AT] = {"last_report_at", TIMESTAMPTZOID, false},
	[SERVER_USES] = {"uses", INT8OID, false, true},
	[SERVER_LAG] = {"lag", INTERVALOID, false},
	[SERVER_LOST_AT] = {"lost_at", TIMESTAMPTZOID, false}
};

const ApikeyTable apikey_server_table = {
	.name = "apikey_server",
	.relation = APIKEY_REL_SERVER,
	.pkey = APIKEY_REL_SERVER_PKEY,
	.columns = server_columns,
	.count = lengthof(server_columns)
};

/* Raises where a server cannot be served: only the primary knows of them. */
void
apikey_server_require_primary(const char *function)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot execute %s during recovery", function),
				 errhint("Connect to the primary: \"apikey.primary_conninfo\" may name all servers, with target_session_attrs=read-write.")));
	PreventCommandIfReadOnly(function);
}

/*
 * Begins to serve another server.  Its worker waits for the answer, and all of its
 * databases for the worker: so nothing is waited for but a moment.
 */
void
apikey_server_serve(const char *function)
{
	apikey_server_require_primary(function);
	apikey_wait_briefly();
}

pg_noreturn static void
refuse_stranger(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("server %s has not joined, or has joined anew since",
					apikey_id_string(id)),
			 errhint("It joins by apikey_server_join().")));
}

static bool
epoch_stands(const ApikeyRow *server, int64 epoch)
{
	return !server->nulls[SERVER_TOKEN] &&
		DatumGetInt64(server->values[SERVER_EPOCH]) == epoch;
}

/* Locks the row of a server; raises unless this is the epoch it has joined in. */
void
apikey_server_open(const pg_uuid_t *id, int64 epoch, ApikeyRow *server)
{
	if (!apikey_table_lock(&apikey_server_table, id, APIKEY_LOCK_UPDATE, server) ||
		!epoch_stands(server, epoch))
		refuse_stranger(id);
}

/* The same without a lock, for what writes nothing. */
void
apikey_server_require(const pg_uuid_t *id, int64 epoch)
{
	ApikeyRow	server;

	if (!apikey_table_fetch_latest(&apikey_server_table, id, &server) ||
		!epoch_stands(&server, epoch))
		refuse_stranger(id);
}

/* Calls visit with each server, by name; its row is gone when visit returns. */
void
apikey_server_walk(ApikeyVisit visit, void *state)
{
	Snapshot	snapshot = apikey_latest_snapshot();

	apikey_table_scan(&apikey_server_table, APIKEY_REL_SERVER_NAME, NULL, 0,
					  snapshot, visit, state);
	UnregisterSnapshot(snapshot);
}

/* The server of a name; false for none. */
bool
apikey_server_find(const text *name, ApikeyRow *server)
{
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, SERVER_NAME + 1, BTEqualStrategyNumber,
						   InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   PointerGetDatum(name));
	return apikey_table_find(&apikey_server_table, APIKEY_REL_SERVER_NAME, &key,
							 1, server);
}

/* Has nothing been heard of a server for too long? */
bool
apikey_server_silent(const ApikeyRow *server, TimestampTz now)
{
	return DatumGetTimestampTz(server->values[SERVER_SEEN_AT]) <
		now - (int64) apikey_server_timeout * USECS_PER_SEC;
}

/* Tells of a server. */
void
apikey_server_tell(ApikeyEvent event, const ApikeyRow *server)
{
	StringInfoData json;

	apikey_detail_begin(&json);
	apikey_detail_text(&json, "server", apikey_row_text(server, SERVER_NAME));
	apikey_detail_text(&json, "role", apikey_row_text(server, SERVER_KIND));
	apikey_event_change(event, apikey_detail_end(&json));
}

/* Forgets a server, whose row is locked, and what it has leased. */
void
apikey_server_remove(const ApikeyRow *server)
{
	(void) apikey_server_lease_forfeit(apikey_row_id(server));
	apikey_server_tell(APIKEY_EVENT_SERVER_FORGOTTEN, server);
	apikey_table_delete(&apikey_server_table, apikey_row_id(server), false);
}
