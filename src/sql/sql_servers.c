/*
 * sql_servers.c
 *		The SQL functions by which servers join the primary and show that they
 *		are fresh, and by which they are seen and forgotten.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "store/store.h"
#include "memory/memory.h"
#include "servers/servers.h"
#include "sql/server_arguments.h"
#include "sql/sql_internal.h"

#define TOKENS_MAX	8

/* A function's result, of one row. */
static Datum
result_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values,
											 nulls));
}

/* What a server is: a standby of this cluster, or a subscriber of any. */
static text *
kind_argument(FunctionCallInfo fcinfo)
{
	text	   *kind = apikey_required_text(fcinfo, 4, "kind");
	bool		standby = apikey_same_text(kind, cstring_to_text(APIKEY_SERVER_STANDBY));

	if (!standby &&
		!apikey_same_text(kind, cstring_to_text(APIKEY_SERVER_SUBSCRIBER)))
		apikey_refuse("kind", "It is \"standby\" or \"subscriber\".");
	apikey_require(fcinfo, 6, "system");
	if (standby && (uint64) PG_GETARG_INT64(6) != GetSystemIdentifier())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the server is not a standby of this cluster"),
				 errdetail("Its system identifier is another.")));
	return kind;
}

static void
read_join(FunctionCallInfo fcinfo, ApikeyJoin *join)
{
	ApikeyList	tokens;
	pg_uuid_t  *copies;

	apikey_require(fcinfo, 0, "server");
	apikey_require(fcinfo, 2, "new_token");
	apikey_require(fcinfo, 7, "keep");
	apikey_list_argument(fcinfo, 1, "tokens", &tokens);
	apikey_list_no_nulls(&tokens);
	if (tokens.count > TOKENS_MAX)
		apikey_refuse("tokens", psprintf("There are at most %d.", TOKENS_MAX));
	copies = palloc(TOKENS_MAX * sizeof(pg_uuid_t));
	for (int i = 0; i < tokens.count; i++)
		copies[i] = *DatumGetUUIDP(tokens.values[i]);
	join->id = *PG_GETARG_UUID_P(0);
	join->tokens = copies;
	join->token_count = tokens.count;
	join->new_token = *PG_GETARG_UUID_P(2);
	join->name = apikey_server_label(fcinfo, 3, "name");
	join->kind = kind_argument(fcinfo);
	join->version = apikey_server_label(fcinfo, 5, "version");
	join->keep = PG_GETARG_BOOL(7);
}

/*
 * apikey_server_join(server uuid, tokens uuid[], new_token uuid, name text,
 *					  kind text, version text, system bigint, keep boolean,
 *					  OUT known boolean, OUT epoch bigint, OUT sequence bigint,
 *					  OUT system_here bigint, OUT timeline integer,
 *					  OUT server_name text)
 */
PG_FUNCTION_INFO_V1(apikey_server_join);
Datum
apikey_server_join(PG_FUNCTION_ARGS)
{
	ApikeyJoin	join;
	ApikeyRow	server;
	Datum		values[6] = {0};
	bool		nulls[6] = {false, true, true, false, false, true};
	bool		known;

	apikey_server_serve("apikey_server_join()");
	read_join(fcinfo, &join);
	known = apikey_server_admit(&join, &server);
	if (known && !join.keep)
		(void) apikey_server_lease_forfeit(&join.id);
	values[0] = BoolGetDatum(known);
	values[3] = Int64GetDatum((int64) GetSystemIdentifier());
	values[4] = Int32GetDatum((int32) GetWALInsertionTimeLine());
	if (known)
	{
		values[1] = server.values[SERVER_EPOCH];
		values[2] = server.values[SERVER_SEQUENCE];
		values[5] = server.values[SERVER_NAME];
		nulls[1] = nulls[2] = nulls[5] = false;
	}
	PG_RETURN_DATUM(result_row(fcinfo, values, nulls));
}

/*
 * apikey_server_beat(server uuid, epoch bigint, by_row boolean,
 *					  OUT wal pg_lsn, OUT number bigint, OUT age_ms bigint)
 */
PG_FUNCTION_INFO_V1(apikey_server_beat);
Datum
apikey_server_beat(PG_FUNCTION_ARGS)
{
	Datum		values[3] = {0};
	bool		nulls[3] = {false, true, true};
	const pg_uuid_t *server;
	int64		epoch;

	apikey_server_serve("apikey_server_beat()");
	server = apikey_server_argument(fcinfo, &epoch);
	apikey_require(fcinfo, 2, "by_row");
	apikey_server_require(server, epoch);
	values[0] = LSNGetDatum(GetFlushRecPtr(NULL));
	if (PG_GETARG_BOOL(2))
	{
		int64		age;

		values[1] = Int64GetDatum(apikey_server_next_beat(&age));
		values[2] = Int64GetDatum(age);
		nulls[1] = nulls[2] = false;
	}
	PG_RETURN_DATUM(result_row(fcinfo, values, nulls));
}

/*
 * apikey_server_forget(name text) returns boolean
 */
PG_FUNCTION_INFO_V1(apikey_server_forget);
Datum
apikey_server_forget(PG_FUNCTION_ARGS)
{
	text	   *name;
	ApikeyRow	found;
	ApikeyRow	server;

	apikey_server_require_primary("apikey_server_forget()");
	name = apikey_required_text(fcinfo, 0, "name");
	if (!apikey_server_find(name, &found))
		PG_RETURN_BOOL(false);
	if (apikey_server_is_own(apikey_row_id(&found)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("server \"%s\" is the primary", text_to_cstring(name))));
	if (!apikey_table_lock(&apikey_server_table, apikey_row_id(&found),
						   APIKEY_LOCK_UPDATE, &server))
		PG_RETURN_BOOL(false);
	apikey_server_remove(&server);
	PG_RETURN_BOOL(true);
}

/* The columns of the view. */
enum
{
	LIST_NAME,
	LIST_ROLE,
	LIST_VERSION,
	LIST_FIRST_SEEN_AT,
	LIST_LAST_REPORT_AT,
	LIST_USES,
	LIST_LEASED,
	LIST_LAG,
	LIST_COLUMNS
};

static const struct
{
	int			listed;
	ApikeyServerColumn stored;
}			plain[] = {
	{LIST_NAME, SERVER_NAME},
	{LIST_ROLE, SERVER_KIND},
	{LIST_VERSION, SERVER_VERSION},
	{LIST_FIRST_SEEN_AT, SERVER_FIRST_SEEN_AT},
	{LIST_LAST_REPORT_AT, SERVER_LAST_REPORT_AT},
	{LIST_USES, SERVER_USES},
	{LIST_LAG, SERVER_LAG}
};

/* A list of servers that is being made. */
typedef struct Listing
{
	ReturnSetInfo *result;
	bool		primary;		/* it is among them */
} Listing;

static Datum
zero_interval(void)
{
	return IntervalPGetDatum(palloc0(sizeof(Interval)));
}

/* What this server has leased itself is in its memory. */
static char *
leased_json(const pg_uuid_t *id)
{
	return apikey_server_is_own(id) && !RecoveryInProgress() ?
		apikey_server_own_lease_json() : apikey_server_lease_json(id);
}

static bool
was_primary(const ApikeyRow *server)
{
	return apikey_same_text(apikey_row_text(server, SERVER_KIND),
							cstring_to_text(APIKEY_SERVER_PRIMARY));
}

/* There is one: this server or, on a standby, whoever has written so. */
static bool
is_primary(const ApikeyRow *server)
{
	return RecoveryInProgress() ? was_primary(server) :
		apikey_server_is_own(apikey_row_id(server));
}

static bool
list_server(const ApikeyRow *server, void *state)
{
	Listing    *listing = state;
	Datum		values[LIST_COLUMNS] = {0};
	bool		nulls[LIST_COLUMNS] = {false};

	for (size_t i = 0; i < lengthof(plain); i++)
	{
		values[plain[i].listed] = server->values[plain[i].stored];
		nulls[plain[i].listed] = server->nulls[plain[i].stored];
	}
	if (is_primary(server))
	{
		listing->primary = true;
		values[LIST_ROLE] = CStringGetTextDatum(APIKEY_SERVER_PRIMARY);
		values[LIST_LAG] = zero_interval();
		nulls[LIST_LAG] = false;
	}
	else if (was_primary(server))
		values[LIST_ROLE] = CStringGetTextDatum(APIKEY_SERVER_STANDBY);
	values[LIST_LEASED] = DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(leased_json(apikey_row_id(server))));
	tuplestore_putvalues(listing->result->setResult, listing->result->setDesc,
						 values, nulls);
	return true;
}

/* The primary before it has written a row for itself. */
static void
list_this(Listing *listing)
{
	Datum		values[LIST_COLUMNS] = {0};
	bool		nulls[LIST_COLUMNS] = {false};

	values[LIST_NAME] = CStringGetTextDatum(apikey_server_own_name());
	values[LIST_ROLE] = CStringGetTextDatum(APIKEY_SERVER_PRIMARY);
	values[LIST_VERSION] = CStringGetTextDatum(APIKEY_VERSION);
	nulls[LIST_FIRST_SEEN_AT] = nulls[LIST_LAST_REPORT_AT] = true;
	values[LIST_USES] = Int64GetDatum(0);
	values[LIST_LEASED] = DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(apikey_server_own_lease_json()));
	values[LIST_LAG] = zero_interval();
	tuplestore_putvalues(listing->result->setResult, listing->result->setDesc,
						 values, nulls);
}

/*
 * _apikey_servers() returns setof rows of the view apikey_servers
 */
PG_FUNCTION_INFO_V1(_apikey_servers);
Datum
_apikey_servers(PG_FUNCTION_ARGS)
{
	Listing		listing = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	apikey_require_reader("apikey_servers");
	InitMaterializedSRF(fcinfo, 0);
	apikey_server_walk(list_server, &listing);
	if (!listing.primary && !RecoveryInProgress())
		list_this(&listing);
	PG_RETURN_NULL();
}
