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
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "apikey.h"
#include "credits/credit.h"
#include "keys/foreign.h"
#include "limits/limit.h"
#include "usage/usage.h"
#include "verify/verify.h"

#define PREDECESSORS_MAX	16	/* looked for one by one */

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

/* Which function does what a view does not let be done. */
typedef struct Instead
{
	const char *view;
	const char *change;			/* a command, or the column of an UPDATE */
	const char *function;
} Instead;

static const Instead instead[] = {
	{"apikeys", "INSERT", "apikey_create"},
	{"apikeys", "DELETE", "apikey_delete"},
	{"apikeys", "name", "apikey_rename"},
	{"apikeys", "owner", "apikey_transfer"},
	{"apikeys", "subject", "apikey_transfer"},
	{"apikeys", "status", "apikey_disable(), apikey_enable() or apikey_revoke"},
	{"apikeys", "revoked_at", "apikey_revoke"},
	{"apikeys", "revoke_reason", "apikey_revoke"},
	{"apikeys", "rotated_to", "apikey_rotate"},
	{"apikeys", "vouched_by", "apikey_transfer"},
	{"apikeys", "vouched_by_subject", "apikey_transfer"},
	{"apikey_projects", "INSERT", "apikey_project_create"},
	{"apikey_projects", "DELETE", "apikey_project_drop"},
	{"apikey_projects", "role", "apikey_member_add"},
	{"apikey_organizations", "INSERT", "apikey_organization_create"},
	{"apikey_organizations", "UPDATE", "apikey_member_add"},
	{"apikey_organizations", "DELETE", "apikey_organization_drop"},
	{"apikey_members", "INSERT", "apikey_member_add"},
	{"apikey_members", "UPDATE", "apikey_member_add"},
	{"apikey_members", "DELETE", "apikey_member_remove"},
	{"apikey_events", "DELETE", "apikey_events_purge"},
	{"apikey_limits", "INSERT", "apikey_limit_set"},
	{"apikey_limits", "DELETE", "apikey_limit_drop"},
	{"apikey_limits", "remaining", "apikey_limit_add"}
};

/* For errhint: what to call; nothing where no function does it. */
static int
hint_instead(const char *view, const char *change)
{
	for (size_t i = 0; i < lengthof(instead); i++)
	{
		if (strcmp(instead[i].view, view) == 0 &&
			strcmp(instead[i].change, change) == 0)
			return errhint("Call %s().", instead[i].function);
	}
	return 0;
}

/* The table's column of a view's; raises where it cannot be updated. */
static int
writable_column(const ApikeyTable *table, Relation view, const char *name)
{
	int			column = apikey_table_column(table, name);

	if (column < 0 || !table->columns[column].writable)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("column \"%s\" of view \"%s\" cannot be updated",
						name, RelationGetRelationName(view)),
				 hint_instead(RelationGetRelationName(view), name),
				 apikey_error_about(name, "apikey_read_only")));
	return column;
}

/* Rows are made and removed by functions alone. */
pg_noreturn static void
refuse_command(const char *view, const char *command)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot %s view \"%s\"",
					strcmp(command, "INSERT") == 0 ? "insert into" :
					strcmp(command, "UPDATE") == 0 ? "update" : "delete from",
					view),
			 hint_instead(view, command)));
}

static post_parse_analyze_hook_type previous_analyze = NULL;

/* The command that a statement carries out on a relation; NULL for another. */
static const char *
command_name(const Query *query)
{
	switch (query->commandType)
	{
		case CMD_INSERT:
			return "INSERT";
		case CMD_UPDATE:
			return "UPDATE";
		case CMD_DELETE:
			return "DELETE";
		default:
			return NULL;
	}
}

/*
 * Says what to call instead of a DELETE from one of our views, or of any change
 * of one that has no trigger, before the server says that permission is denied,
 * and no more.  DELETE cannot be granted for a trigger to say it: that would be
 * a right to LOCK the view.
 */
static void
on_analyze(ParseState *state, Query *query, APIKEY_JUMBLE_STATE *jumble)
{
	const char *command = command_name(query);
	RangeTblEntry *target;
	char	   *view;

	if (previous_analyze)
		previous_analyze(state, query, jumble);
	if (command == NULL || query->resultRelation == 0)
		return;
	target = rt_fetch(query->resultRelation, query->rtable);
	if (target->relkind != RELKIND_VIEW ||
		getExtensionOfObject(RelationRelationId, target->relid) !=
		get_extension_oid("apikey", true))
		return;
	view = get_rel_name(target->relid);
	if (view != NULL &&
		(query->commandType == CMD_DELETE ||
		 (strcmp(view, "apikeys") != 0 && strcmp(view, "apikey_projects") != 0 &&
		  strcmp(view, "apikey_limits") != 0)))
		refuse_command(view, command);
}

/* Once, when the library is loaded. */
void
apikey_instead_init(void)
{
	previous_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = on_analyze;
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
		refuse_command(RelationGetRelationName(trigger->tg_relation),
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
		change.column = writable_column(table, trigger->tg_relation,
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

/* A key's role may not be raised above what whoever updates it is himself. */
static void
check_new_role(const ApikeyRow *key, ApikeyRole before,
			   const ApikeyPlace *place)
{
	ApikeyRole	role = apikey_row_role(key, APIKEY_KEY_ROLE);

	if (role != before && role > apikey_place_standing(place))
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
	ApikeyPlace place;
	ApikeyRole	role_before;
	const ApikeyRow *project;
	bool		credits;

	find_changes(fcinfo, &apikey_key_table, &changes);
	if (changes.count == 0)
		return updated_row(fcinfo);

	apikey_manage_open(changes.id, APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_current(&key);
	role_before = apikey_row_role(&key, APIKEY_KEY_ROLE);
	credits = open_credits(&changes, &key);
	apply_changes(&changes, &key);
	project = apikey_manage_project(&key, &place);
	apikey_rule_attributes(&key, project);
	if (find_change(&changes, APIKEY_KEY_STARTS_AT) != NULL ||
		find_change(&changes, APIKEY_KEY_EXPIRES_AT) != NULL)
		apikey_rule_dates(&key, project);
	if (find_change(&changes, APIKEY_KEY_RATE_LIMIT) != NULL)
		apikey_rule_limit_held(&key);
	if (project != NULL)
		check_new_role(&key, role_before, &place);
	if (credits)
		apikey_account_update(&key,
							 find_change(&changes, APIKEY_KEY_CREDITS) != NULL);
	apikey_key_update(&key, APIKEY_EVENT_UPDATED, changes_detail(&changes));
	return updated_row(fcinfo);
}

/* Has this row's key been revoked, or rotated away? */
static bool
column_set(TupleDesc desc, HeapTuple row, const char *column)
{
	bool		isnull;

	(void) heap_getattr(row, SPI_fnumber(desc, column), desc, &isnull);
	return !isnull;
}

/* A key whose row is gone, or says that it is revoked, holds nothing up. */
static void
note_end(TriggerData *trigger, const pg_uuid_t *id)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		gone = TRIGGER_FIRED_BY_DELETE(trigger->tg_event);
	HeapTuple	row = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;

	if (!column_set(desc, row, "rotated_to") &&
		(gone || column_set(desc, row, "revoked_at")))
		apikey_ended_key(id, gone);
}

/* What is stored of an imported key proves its tokens. */
static void
import_changed(const TriggerData *trigger)
{
	bool		isnull;
	Datum		id = heap_getattr(trigger->tg_trigtuple, APIKEY_IMPORT_ID + 1,
								  RelationGetDescr(trigger->tg_relation),
								  &isnull);

	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		apikey_changes_fact(APIKEY_FACT_IMPORTS);
	if (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		apikey_changes_key(DatumGetUUIDP(id));
}

/*
 * What limits a key limits what it has replaced, too: all of it is looked at
 * anew.
 */
static void
bounds_changed(const pg_uuid_t *key)
{
	pg_uuid_t	id = *key;
	ApikeyRow	predecessor;

	for (int i = 0; i < PREDECESSORS_MAX; i++)
	{
		apikey_changes_key(&id);
		if (!apikey_key_find_predecessor(&id, &predecessor))
			return;
		id = *apikey_row_id(&predecessor);
	}
	apikey_changes_all();
}

static bool
column_differs(const TriggerData *trigger, ApikeyKeyColumn column)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	Form_pg_attribute attribute = TupleDescAttr(desc, column);
	bool		was_null;
	bool		isnull;
	Datum		was = heap_getattr(trigger->tg_trigtuple, column + 1, desc,
								   &was_null);
	Datum		is = heap_getattr(trigger->tg_newtuple, column + 1, desc,
								  &isnull);

	if (was_null || isnull)
		return was_null != isnull;
	return !datumIsEqual(was, is, attribute->attbyval, attribute->attlen);
}

/* A key has changed, or is gone. */
static void
key_changed(TriggerData *trigger, const pg_uuid_t *id)
{
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) &&
		(column_differs(trigger, APIKEY_KEY_RATE_LIMIT) ||
		 column_differs(trigger, APIKEY_KEY_RATE_WINDOW) ||
		 column_differs(trigger, APIKEY_KEY_CREDITS_ACCOUNT)))
		bounds_changed(id);
	else
		apikey_changes_key(id);
	note_end(trigger, id);
}

/* Keys of a place or subject are not looked for: all are looked at anew. */
static void
limits_changed(TriggerData *trigger, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	bool		isnull;
	Datum		key = heap_getattr(row, APIKEY_LIMIT_KEY + 1, desc, &isnull);

	if (isnull)
		apikey_changes_all();
	else
		bounds_changed(DatumGetUUIDP(key));
}

/*
 * _apikey_changed() returns trigger
 *		After each change of a row on which verification depends: what the
 *		processes have remembered of it is void with our commit.
 */
PG_FUNCTION_INFO_V1(_apikey_changed);
Datum
_apikey_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const char *table;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		elog(ERROR, "an AFTER ROW trigger was expected");
	apikey_catalog_require(trigger->tg_relation);

	table = RelationGetRelationName(trigger->tg_relation);
	if (strcmp(table, "apikey_key") == 0 || strcmp(table, "apikey_digest") == 0)
	{
		const pg_uuid_t *id = DatumGetUUIDP(heap_getattr(trigger->tg_trigtuple, 1,
														 RelationGetDescr(trigger->tg_relation),
														 &isnull));

		if (strcmp(table, "apikey_key") == 0)
			key_changed(trigger, id);
		else
			apikey_changes_key(id);
	}
	else if (strcmp(table, "apikey_revocation") == 0)
		apikey_revocation_changed(trigger->tg_trigtuple,
								  RelationGetDescr(trigger->tg_relation));
	else if (strcmp(table, "apikey_import") == 0)
		import_changed(trigger);
	else if (strcmp(table, "apikey_limit") == 0)
	{
		apikey_changes_fact(APIKEY_FACT_LIMITS);
		limits_changed(trigger, trigger->tg_trigtuple);
		if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
			limits_changed(trigger, trigger->tg_newtuple);
	}
	else
		apikey_changes_all();
	return PointerGetDatum(NULL);
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
	ApikeyPlace place;

	find_changes(fcinfo, &apikey_project_table, &changes);
	if (changes.count == 0)
		return updated_row(fcinfo);

	apikey_place_open_project(changes.id, &place);
	apply_changes(&changes, &place.project);
	apikey_rule_project(&place.project);
	if (find_change(&changes, APIKEY_PROJECT_MAX_IDLE) != NULL)
		apikey_idle_set(&place.project);
	apikey_table_update(&apikey_project_table, &place.project);
	apikey_event_place(&place, APIKEY_EVENT_PROJECT_UPDATED,
					   changes_detail(&changes));
	return updated_row(fcinfo);
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
	return updated_row(fcinfo);
}
