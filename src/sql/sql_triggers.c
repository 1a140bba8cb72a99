/*
 * sql_triggers.c
 *		UPDATE of the views apikeys, apikey_projects and apikey_limits.
 *
 * The trigger takes the columns that differ between the old and the new row
 * of the view, and writes them into the table's row, locked, unless one of
 * them has changed there since the view was read.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "utils/datum.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"
#include "credits/credits.h"
#include "limits/limits.h"
#include "servers/servers.h"
#include "sql/listing.h"
#include "sql/sql_internal.h"

/* A column that an UPDATE changes. */
typedef struct Change
{
	int			column;			/* of the table */
	Oid			type;			/* of its values; InvalidOid for apikey_role */
	Form_pg_attribute attribute;	/* of the view */
	Datum		before;
	Datum		after;
	bool		was_null;
	bool		is_null;
} Change;

typedef struct Changes
{
	const pg_uuid_t *id;		/* of the row */
	int			count;
	Change		changes[APIKEY_COLUMNS_MAX];
} Changes;

/* Is a column's value another than the one given? */
static bool
value_differs(Form_pg_attribute attribute, Datum one, bool one_null,
			  Datum two, bool two_null)
{
	if (one_null || two_null)
		return one_null != two_null;
	return !datum_image_eq(one, two, attribute->attbyval, attribute->attlen);
}

/* What a trigger's rows differ in; raises for what cannot be changed. */
static void
find_changes(FunctionCallInfo fcinfo, const ApikeyTable *table,
			 Changes *changes)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_INSTEAD(trigger->tg_event))
		elog(ERROR, "an INSTEAD OF trigger was expected");
	apikey_catalog_require(trigger->tg_relation);
	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		apikey_instead_refuse(RelationGetRelationName(trigger->tg_relation),
							  TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ?
							  "INSERT" : "DELETE");

	changes->count = 0;
	desc = RelationGetDescr(trigger->tg_relation);
	for (int i = 0; i < desc->natts; i++)
	{
		Change		change = {.attribute = TupleDescAttr(desc, i)};

		change.before = heap_getattr(trigger->tg_trigtuple, i + 1, desc,
									 &change.was_null);
		change.after = heap_getattr(trigger->tg_newtuple, i + 1, desc,
									&change.is_null);
		if (i == 0)
			changes->id = DatumGetUUIDP(change.before);
		if (!value_differs(change.attribute, change.before, change.was_null,
						   change.after, change.is_null))
			continue;
		change.column = apikey_instead_writable(table, trigger->tg_relation,
												NameStr(change.attribute->attname));
		change.type = table->columns[change.column].type;
		changes->changes[changes->count++] = change;
	}
}

/* Writes the changes into the locked row; 40001 where one came before. */
static void
apply_changes(const Changes *changes, ApikeyRow *row)
{
	for (int i = 0; i < changes->count; i++)
	{
		const Change *change = &changes->changes[i];

		if (value_differs(change->attribute,
						  change->before, change->was_null,
						  row->values[change->column],
						  row->nulls[change->column]))
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not update column \"%s\" due to a concurrent change",
							NameStr(change->attribute->attname))));
		row->values[change->column] = change->after;
		row->nulls[change->column] = change->is_null;
	}
}

/* {"one": value, ...}: what the columns that change were, or are now. */
static char *
changes_values(const Changes *changes, bool after)
{
	StringInfoData json;

	apikey_detail_begin(&json);
	for (int i = 0; i < changes->count; i++)
	{
		const Change *change = &changes->changes[i];

		apikey_detail_value(&json, NameStr(change->attribute->attname),
							change->type,
							after ? change->after : change->before,
							after ? change->is_null : change->was_null);
	}
	return apikey_detail_end(&json);
}

/* {"columns": ["one", ...], "before": {...}, "after": {...}} */
static char *
changes_detail(const Changes *changes)
{
	StringInfoData json;
	StringInfoData columns;

	initStringInfo(&columns);
	for (int i = 0; i < changes->count; i++)
		appendStringInfo(&columns, "%s\"%s\"", i == 0 ? "[" : ", ",
						 NameStr(changes->changes[i].attribute->attname));
	appendStringInfoChar(&columns, ']');

	apikey_detail_begin(&json);
	apikey_detail_json(&json, "columns", columns.data);
	apikey_detail_json(&json, "before", changes_values(changes, false));
	apikey_detail_json(&json, "after", changes_values(changes, true));
	return apikey_detail_end(&json);
}

static Datum
updated_row(FunctionCallInfo fcinfo)
{
	return PointerGetDatum(((TriggerData *) fcinfo->context)->tg_newtuple);
}

/* Lists one row of the view as it is now. */
typedef HeapTuple (*ListOne) (const pg_uuid_t *id, TupleDesc desc);

/*
 * The same as it is after the change, with all that follows from that: what is
 * returned of an update is what the next statement reads, and compares.
 */
static Datum
written_row(FunctionCallInfo fcinfo, const Changes *changes, ListOne list)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	row = list(changes->id, RelationGetDescr(trigger->tg_relation));

	return row == NULL ? updated_row(fcinfo) : PointerGetDatum(row);
}

/* A key's role may not be raised above what whoever updates it is himself. */
static void
check_new_role(const ApikeyRow *key, ApikeyRole before,
			   const ApikeyTenant *tenant)
{
	ApikeyRole	role = apikey_row_role(key, APIKEY_KEY_ROLE);

	if (role != before && role > apikey_tenant_role(tenant))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for \"role\""),
				 errdetail("A key's role is at most that of whoever sets it.")));
}

/* The change of a column; NULL where it does not change. */
static const Change *
find_change(const Changes *changes, int column)
{
	for (int i = 0; i < changes->count; i++)
	{
		if (changes->changes[i].column == column)
			return &changes->changes[i];
	}
	return NULL;
}

/*
 * Fills in what the account of a locked key says, where the changes concern
 * it.  What is left changes with each verification: any value of it will do.
 */
static bool
open_credits(const Changes *changes, ApikeyRow *key)
{
	const Change *credits = find_change(changes, APIKEY_KEY_CREDITS);

	if (credits == NULL &&
		find_change(changes, APIKEY_KEY_CREDITS_REFILL) == NULL &&
		find_change(changes, APIKEY_KEY_CREDITS_INTERVAL) == NULL)
		return false;
	if (apikey_key_account(key) == NULL)
		return true;
	apikey_account_open(apikey_key_account(key), GetActiveSnapshot(), key);
	apikey_row_set(key, APIKEY_KEY_CREDITS,
				   credits != NULL ? credits->before : Int64GetDatum(0));
	return true;
}

/*
 * _apikey_key_write() returns trigger
 *		INSTEAD OF UPDATE of the view apikeys.
 */
PG_FUNCTION_INFO_V1(_apikey_key_write);
Datum
_apikey_key_write(PG_FUNCTION_ARGS)
{
	Changes		changes;
	ApikeyRow	key;
	ApikeyTenant tenant;
	ApikeyRole	role_before;
	const ApikeyRow *project;
	bool		credits;

	find_changes(fcinfo, &apikey_key_table, &changes);
	if (changes.count == 0)
		return updated_row(fcinfo);

	/* Whoever applies a max_ttl waits for a key that is given another end. */
	if (find_change(&changes, APIKEY_KEY_EXPIRES_AT) != NULL)
		project = apikey_manage_open_in_project(changes.id, APIKEY_RIGHT_CHANGE,
												&key, &tenant);
	else
	{
		apikey_manage_open(changes.id, APIKEY_RIGHT_CHANGE, &key);
		project = apikey_manage_project(&key, &tenant);
	}
	apikey_manage_require_current(&key);
	role_before = apikey_row_role(&key, APIKEY_KEY_ROLE);
	credits = open_credits(&changes, &key);
	apply_changes(&changes, &key);
	apikey_rule_attributes(&key, project);
	if (find_change(&changes, APIKEY_KEY_METADATA) != NULL)
		apikey_rule_metadata(&key);
	if (find_change(&changes, APIKEY_KEY_STARTS_AT) != NULL ||
		find_change(&changes, APIKEY_KEY_EXPIRES_AT) != NULL)
		apikey_rule_dates(&key, project);
	if (find_change(&changes, APIKEY_KEY_RATE_LIMIT) != NULL)
		apikey_rule_limit_held(&key);
	if (project != NULL)
		check_new_role(&key, role_before, &tenant);
	if (credits)
		apikey_account_update(&key,
							  find_change(&changes,
										  APIKEY_KEY_CREDITS) != NULL);
	apikey_key_update(&key, APIKEY_EVENT_UPDATED, changes_detail(&changes));
	return written_row(fcinfo, &changes, apikey_list_one_key);
}

/*
 * _apikey_project_write() returns trigger
 *		INSTEAD OF UPDATE of the view apikey_projects.
 */
PG_FUNCTION_INFO_V1(_apikey_project_write);
Datum
_apikey_project_write(PG_FUNCTION_ARGS)
{
	Changes		changes;
	ApikeyTenant tenant;

	find_changes(fcinfo, &apikey_project_table, &changes);
	if (changes.count == 0)
		return updated_row(fcinfo);

	apikey_tenant_open_project(changes.id, &tenant);
	apply_changes(&changes, &tenant.project);
	apikey_rule_project(&tenant.project);
	if (find_change(&changes, APIKEY_PROJECT_MAX_IDLE) != NULL)
		apikey_idle_set(&tenant.project);
	apikey_table_update(&apikey_project_table, &tenant.project);
	apikey_event_tenant(&tenant, APIKEY_EVENT_PROJECT_UPDATED,
						changes_detail(&changes));
	return written_row(fcinfo, &changes, apikey_list_one_project);
}

/*
 * _apikey_limit_write() returns trigger
 *		INSTEAD OF UPDATE of the view apikey_limits.
 */
PG_FUNCTION_INFO_V1(_apikey_limit_write);
Datum
_apikey_limit_write(PG_FUNCTION_ARGS)
{
	Changes		changes;
	ApikeyRow	before;
	ApikeyRow	limit;

	find_changes(fcinfo, &apikey_limit_table, &changes);
	if (changes.count == 0)
		return updated_row(fcinfo);

	apikey_limit_open_row(changes.id, &before);
	limit = before;
	apply_changes(&changes, &limit);
	apikey_limit_rule(&limit);
	apikey_limit_change(&before, &limit, changes_detail(&changes));
	return written_row(fcinfo, &changes, apikey_list_one_limit);
}
