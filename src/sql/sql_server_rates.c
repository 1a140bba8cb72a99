/*
 * sql_server_rates.c
 *		The SQL function by which other servers take tokens of shared rates.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/tuplestore.h"

#include "limits/limits.h"
#include "servers/servers.h"
#include "sql/server_arguments.h"

/*
 * apikey_server_take(server uuid, epoch bigint, limits uuid[],
 *					  wanted_least bigint[], wanted_most bigint[],
 *					  charging boolean[])
 *		returns setof (limit_id uuid, granted bigint, wait_ms bigint)
 *		Writes nothing; wait_ms is null where there is no such rate.
 */
PG_FUNCTION_INFO_V1(apikey_server_take);
Datum
apikey_server_take(PG_FUNCTION_ARGS)
{
	static const char *const arguments[] = {
		"limits", "wanted_least", "wanted_most", "charging"
	};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ApikeyList	lists[lengthof(arguments)];
	const pg_uuid_t *server;
	int64		epoch;

	apikey_server_serve("apikey_server_take()");
	apikey_limit_require_library();
	server = apikey_server_argument(fcinfo, &epoch);
	for (size_t i = 0; i < lengthof(arguments); i++)
	{
		apikey_list_argument(fcinfo, 2 + i, arguments[i], &lists[i]);
		apikey_list_like(&lists[i], &lists[0]);
		apikey_list_no_nulls(&lists[i]);
	}
	InitMaterializedSRF(fcinfo, 0);
	apikey_server_require(server, epoch);
	for (int i = 0; i < lists[0].count; i++)
	{
		ApikeyFleetTake take = {
			.limit = *DatumGetUUIDP(lists[0].values[i]),
			.least = apikey_list_number(&lists[1], i, 0),
			.most = apikey_list_number(&lists[2], i, 0),
			.charging = DatumGetBool(lists[3].values[i])
		};
		int64		wait;
		int64		granted = apikey_shared_rate_hand_out(&take, &wait);
		Datum		values[3] = {
			lists[0].values[i],
			Int64GetDatum(granted),
			Int64GetDatum(granted > 0 ? 0 : wait)
		};
		bool		nulls[3] = {false, false, granted == 0 && wait < 0};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	PG_RETURN_NULL();
}
