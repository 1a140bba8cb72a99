/*
 * sql_server_leases.c
 *		The SQL functions by which other servers lease credits of this one.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "store/store.h"
#include "servers/servers.h"
#include "sql/server_arguments.h"

static const char *const state_names[] = {
	[APIKEY_LEASE_GRANTED] = "granted",
	[APIKEY_LEASE_FRESH] = "fresh",
	[APIKEY_LEASE_SHORT] = "short",
	[APIKEY_LEASE_VOID] = "void",
	[APIKEY_LEASE_BUSY] = "busy",
	[APIKEY_LEASE_GONE] = "gone"
};

/* A wish, and what it is answered; answers go in the order of wishes. */
typedef struct Asked
{
	int			place;
	ApikeyLeaseWish wish;
	ApikeyLeaseAnswer answer;
} Asked;

static int
by_place(const void *one, const void *two)
{
	return ((const Asked *) one)->place - ((const Asked *) two)->place;
}

static int
by_account(const void *one, const void *two)
{
	int			order = memcmp(&((const Asked *) one)->wish.account,
							   &((const Asked *) two)->wish.account,
							   sizeof(pg_uuid_t));

	return order != 0 ? order : by_place(one, two);
}

/* Is a wish for the account of the one before? */
static bool
again(const Asked *asked)
{
	return memcmp(&asked[-1].wish.account, &asked->wish.account,
				  sizeof(pg_uuid_t)) == 0;
}

static Asked *
read_wishes(FunctionCallInfo fcinfo, int *count)
{
	static const char *const arguments[] = {
		"accounts", "numbers", "held_numbers", "held", "wanted_least",
		"wanted_most", "charging"
	};
	ApikeyList	lists[lengthof(arguments)];
	Asked	   *asked;

	for (size_t i = 0; i < lengthof(arguments); i++)
	{
		apikey_list_argument(fcinfo, 2 + i, arguments[i], &lists[i]);
		apikey_list_like(&lists[i], &lists[0]);
		apikey_list_no_nulls(&lists[i]);
	}
	*count = lists[0].count;
	asked = palloc0(Max(*count, 1) * sizeof(Asked));
	for (int i = 0; i < *count; i++)
	{
		ApikeyLeaseWish *wish = &asked[i].wish;

		asked[i].place = i;
		wish->account = *DatumGetUUIDP(lists[0].values[i]);
		wish->number = apikey_list_number(&lists[1], i, 1);
		wish->held_number = apikey_list_number(&lists[2], i, 0);
		wish->held = apikey_list_number(&lists[3], i, 0);
		wish->least = apikey_list_number(&lists[4], i, 0);
		wish->most = apikey_list_number(&lists[5], i, 0);
		wish->charging = DatumGetBool(lists[6].values[i]);
	}
	/* In an order that is everybody's, as rows are locked. */
	qsort(asked, *count, sizeof(Asked), by_account);
	for (int i = 1; i < *count; i++)
	{
		if (again(&asked[i]) && asked[i - 1].wish.number != asked[i].wish.number)
			apikey_refuse("accounts", "Each account stands there under one number.");
	}
	return asked;
}

static void
put_answer(const ReturnSetInfo *result, const Asked *asked)
{
	const ApikeyLeaseAnswer *answer = &asked->answer;
	bool		known = answer->state != APIKEY_LEASE_BUSY &&
		answer->state != APIKEY_LEASE_GONE;
	bool		leased = answer->state == APIKEY_LEASE_GRANTED ||
		answer->state == APIKEY_LEASE_FRESH;
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[7] = {
		UUIDPGetDatum(&asked->wish.account),
		CStringGetTextDatum(state_names[answer->state]),
		Int64GetDatum(leased ? asked->wish.number : asked->wish.held_number),
		Int64GetDatum(answer->granted),
		Int64GetDatum(answer->left_over),
		Int64GetDatum(answer->generation),
		Int64GetDatum(answer->until > now ? (answer->until - now) / 1000 : 0)
	};
	bool		nulls[7] = {false, false, false, false, !known, !known,
	!known || answer->until == DT_NOEND};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static bool
count_server(const ApikeyRow *server, void *state)
{
	*(int *) state += server->nulls[SERVER_LOST_AT];
	return true;
}

/*
 * apikey_server_lease(server uuid, epoch bigint, accounts uuid[],
 *					   numbers bigint[], held_numbers bigint[], held bigint[],
 *					   wanted_least bigint[], wanted_most bigint[],
 *					   charging boolean[])
 *		returns setof (account uuid, state text, number bigint, granted bigint,
 *					   left_over bigint, generation bigint, remaining_ms bigint)
 */
PG_FUNCTION_INFO_V1(apikey_server_lease);
Datum
apikey_server_lease(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TimestampTz patience;
	const pg_uuid_t *id;
	ApikeyRow	server;
	Asked	   *asked;
	int64		epoch;
	int			count;
	int			servers = 0;

	apikey_server_serve("apikey_server_lease()");
	id = apikey_server_argument(fcinfo, &epoch);
	asked = read_wishes(fcinfo, &count);
	InitMaterializedSRF(fcinfo, 0);
	apikey_server_open(id, epoch, &server);
	apikey_server_walk(count_server, &servers);
	patience = apikey_lease_patience();
	for (int i = 0; i < count; i++)
	{
		/* As where a number comes again in another call. */
		if (i > 0 && again(&asked[i]))
			asked[i].answer = asked[i - 1].answer;
		else
			apikey_lease_grant(&server, &asked[i].wish, servers, patience,
							   &asked[i].answer);
	}
	qsort(asked, count, sizeof(Asked), by_place);
	for (int i = 0; i < count; i++)
		put_answer(result, &asked[i]);
	PG_RETURN_NULL();
}

typedef struct Returned
{
	pg_uuid_t	account;
	int64		number;
	int64		unspent;
} Returned;

static int
by_returned(const void *one, const void *two)
{
	return memcmp(one, two, sizeof(pg_uuid_t));
}

/*
 * apikey_server_return(server uuid, epoch bigint, accounts uuid[],
 *						numbers bigint[], unspent bigint[]) returns bigint
 *		How many leases there were; of another generation or period nothing
 *		comes back.
 */
PG_FUNCTION_INFO_V1(apikey_server_return);
Datum
apikey_server_return(PG_FUNCTION_ARGS)
{
	static const char *const arguments[] = {"accounts", "numbers", "unspent"};
	ApikeyList	lists[lengthof(arguments)];
	Returned   *returned;
	TimestampTz patience;
	const pg_uuid_t *id;
	ApikeyRow	server;
	int64		epoch;
	StringInfoData locked;
	int64		found = 0;
	int			count;

	apikey_server_serve("apikey_server_return()");
	id = apikey_server_argument(fcinfo, &epoch);
	for (size_t i = 0; i < lengthof(arguments); i++)
	{
		apikey_list_argument(fcinfo, 2 + i, arguments[i], &lists[i]);
		apikey_list_like(&lists[i], &lists[0]);
		apikey_list_no_nulls(&lists[i]);
	}
	count = lists[0].count;
	returned = palloc(Max(count, 1) * sizeof(Returned));
	for (int i = 0; i < count; i++)
	{
		returned[i].account = *DatumGetUUIDP(lists[0].values[i]);
		returned[i].number = apikey_list_number(&lists[1], i, 1);
		returned[i].unspent = apikey_list_number(&lists[2], i, 0);
	}
	qsort(returned, count, sizeof(Returned), by_returned);
	apikey_server_open(id, epoch, &server);
	patience = apikey_lease_patience();
	initStringInfo(&locked);
	for (int i = 0; i < count; i++)
		found += apikey_lease_take_back(&server, &returned[i].account,
										returned[i].number, returned[i].unspent,
										patience, &locked);
	if (locked.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("accounts are locked"),
				 errdetail_internal("%s", locked.data)));
	PG_RETURN_INT64(found);
}
