/*
 * restored.c
 *		Rows that a dump restores: whose are they here?
 *
 * A dump gives a role by its name, and beside it stands what the role was
 * called when the row was written, which may be older.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "servers/servers.h"
#include "sql/trigger_role.h"

/* Raises unless called by a trigger like those of ours. */
static void
require_before_insert(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs % 2 != 0)
		elog(ERROR, "a BEFORE INSERT ROW trigger with pairs of arguments was expected");
	apikey_catalog_require(trigger->tg_relation);
}

/*
 * _apikey_event_named(role column, name column) returns trigger
 *		Before an event is inserted: one that comes from elsewhere loses the
 *		name where it does not fit the number.  See event.c.
 */
PG_FUNCTION_INFO_V1(_apikey_event_named);
Datum
_apikey_event_named(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;

	require_before_insert(fcinfo);
	tuple = trigger->tg_trigtuple;
	if (IsLogicalWorker())
		return PointerGetDatum(tuple);
	for (int pair = 0; 2 * pair < trigger->tg_trigger->tgnargs; pair++)
	{
		ApikeyTriggerRole given = apikey_trigger_role(trigger, pair, tuple);

		if (given.name != NULL &&
			apikey_event_unfit(given.role, cstring_to_text(given.name)))
			tuple = apikey_trigger_with_column(trigger->tg_relation, tuple,
											   trigger->tg_trigger->tgargs[2 * pair + 1],
											   (Datum) 0, true);
	}
	return PointerGetDatum(tuple);
}

/*
 * _apikey_project_restored() returns trigger
 *		Before a project is inserted by anything but replication: keys may have
 *		been used since it was dumped, so they are idle from now on.
 */
PG_FUNCTION_INFO_V1(_apikey_project_restored);
Datum
_apikey_project_restored(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	HeapTuple	tuple;

	require_before_insert(fcinfo);
	tuple = trigger->tg_trigtuple;
	desc = RelationGetDescr(trigger->tg_relation);
	if (IsLogicalWorker() ||
		heap_attisnull(tuple, APIKEY_PROJECT_MAX_IDLE + 1, desc))
		return PointerGetDatum(tuple);
	apikey_idle_look_soon();
	return PointerGetDatum(apikey_trigger_with_column(trigger->tg_relation, tuple,
													  "max_idle_at",
													  TimestampTzGetDatum(GetCurrentTimestamp()),
													  false));
}

/*
 * _apikey_beside_restored() returns trigger
 *		Before a row that revokes, disables or removes something is inserted by
 *		anything but ourselves: what it stands beside may come later.
 */
PG_FUNCTION_INFO_V1(_apikey_beside_restored);
Datum
_apikey_beside_restored(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	require_before_insert(fcinfo);
	if (apikey_revocation_inserting())
		return PointerGetDatum(trigger->tg_trigtuple);
	return PointerGetDatum(apikey_trigger_with_column(trigger->tg_relation,
													  trigger->tg_trigtuple,
													  "restored", BoolGetDatum(true),
													  false));
}

/*
 * _apikey_named(role column, name column, ...) returns trigger
 *		Before a row is inserted by anything but replication: a dump gives a
 *		role by its name of that time, so the one beside it, which may be older,
 *		is brought up to date.
 */
PG_FUNCTION_INFO_V1(_apikey_named);
Datum
_apikey_named(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;

	require_before_insert(fcinfo);
	tuple = trigger->tg_trigtuple;
	if (IsLogicalWorker())
		return PointerGetDatum(tuple);
	for (int pair = 0; 2 * pair < trigger->tg_trigger->tgnargs; pair++)
	{
		ApikeyTriggerRole given = apikey_trigger_role(trigger, pair, tuple);
		const char *name = given.name == NULL ? NULL :
			apikey_role_called(given.role);

		if (name != NULL && strcmp(name, given.name) != 0)
			tuple = apikey_trigger_with_column(trigger->tg_relation, tuple,
											   trigger->tg_trigger->tgargs[2 * pair + 1],
											   CStringGetTextDatum(name), false);
	}
	return PointerGetDatum(tuple);
}
