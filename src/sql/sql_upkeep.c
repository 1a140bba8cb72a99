/*
 * sql_upkeep.c
 *		The SQL functions that remove what is not needed any more, write what is
 *		pending, or grant, and the trigger that keeps the trail.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"
#include "credits/credits.h"
#include "limits/limits.h"

/* The time that lies so long before now as the first argument says. */
static TimestampTz
time_before(FunctionCallInfo fcinfo, const char *function)
{
	PreventCommandIfReadOnly(function);
	apikey_require(fcinfo, 0, "older_than");
	apikey_rule_span("older_than", PG_GETARG_INTERVAL_P(0));
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
												   TimestampTzGetDatum(GetCurrentTimestamp()),
												   PG_GETARG_DATUM(0)));
}

/*
 * apikey_purge(older_than interval) returns bigint
 *		Removes keys that ended longer ago than that, of those that the caller
 *		may delete.
 */
PG_FUNCTION_INFO_V1(apikey_purge);
Datum
apikey_purge(PG_FUNCTION_ARGS)
{
	int64		purged = apikey_purge_keys(time_before(fcinfo, "apikey_purge()"));

	if (superuser())
		apikey_account_purge(apikey_limit_exists);
	PG_RETURN_INT64(purged);
}

/*
 * apikey_events_purge(older_than interval) returns bigint
 *		Removes events that are older than that, for superusers.
 */
PG_FUNCTION_INFO_V1(apikey_events_purge);
Datum
apikey_events_purge(PG_FUNCTION_ARGS)
{
	apikey_event_require_removable();
	PG_RETURN_INT64((int64) apikey_event_purge(time_before(fcinfo,
														   "apikey_events_purge()")));
}

/* Gives or takes what the arguments name. */
static Datum
change_grant(FunctionCallInfo fcinfo, const char *argument, bool grant)
{
	text	   *what = apikey_required_text(fcinfo, 0, "what");

	apikey_require(fcinfo, 1, argument);
	apikey_grant_change(what, PG_GETARG_OID(1), grant);
	PG_RETURN_VOID();
}

/*
 * apikey_grant(what text, to_role regrole) returns void
 *		For whoever has the privileges of the extension's owner, or superusers.
 */
PG_FUNCTION_INFO_V1(apikey_grant);
Datum
apikey_grant(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("apikey_grant()");
	return change_grant(fcinfo, "to_role", true);
}

/*
 * apikey_ungrant(what text, from_role regrole) returns void
 */
PG_FUNCTION_INFO_V1(apikey_ungrant);
Datum
apikey_ungrant(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("apikey_ungrant()");
	return change_grant(fcinfo, "from_role", false);
}

/*
 * apikey_flush() returns void
 *		Writes what is pending of the current database, and gives leases back.
 */
PG_FUNCTION_INFO_V1(apikey_flush);
Datum
apikey_flush(PG_FUNCTION_ARGS)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot write what is pending of API keys during recovery"),
				 errhint("Call apikey_flush() on the primary.")));
	if (apikey_preloaded())
		apikey_seat_flush();
	else if (apikey_usage_shared())
		apikey_dynamic_flush();
	PG_RETURN_VOID();
}

/*
 * _apikey_event_kept() returns trigger
 *		Before each change of an event.
 */
PG_FUNCTION_INFO_V1(_apikey_event_kept);
Datum
_apikey_event_kept(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event))
		elog(ERROR, "a BEFORE trigger was expected");
	apikey_event_require_removable();
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
						   trigger->tg_newtuple : trigger->tg_trigtuple);
}
