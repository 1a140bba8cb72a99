/*
 * sql_views.c
 *		What the views and policies call, and the trigger behind UPDATE apikeys.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "apikey.h"

/*
 * _apikey_visible(owner regrole, subject text) returns boolean
 *		May the caller see a key of this owner?
 */
PG_FUNCTION_INFO_V1(_apikey_visible);
Datum
_apikey_visible(PG_FUNCTION_ARGS)
{
	text	   *subject = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);

	PG_RETURN_BOOL(!PG_ARGISNULL(0) &&
				   apikey_principal_may_see(PG_GETARG_OID(0), subject));
}

/*
 * _apikey_role_name(role regrole, last_known text) returns name
 */
PG_FUNCTION_INFO_V1(_apikey_role_name);
Datum
_apikey_role_name(PG_FUNCTION_ARGS)
{
	Name		name = palloc0(sizeof(NameData));

	namestrcpy(name, apikey_role_name(PG_GETARG_OID(0), PG_GETARG_TEXT_PP(1)));
	PG_RETURN_NAME(name);
}

/*
 * _apikey_status(owner regrole, disabled boolean, starts_at timestamptz,
 *				  expires_at timestamptz, revoked_at timestamptz) returns text
 *		A key's status when the statement started.
 */
PG_FUNCTION_INFO_V1(_apikey_status);
Datum
_apikey_status(PG_FUNCTION_ARGS)
{
	static const char *const names[] = {
		[APIKEY_STATUS_ACTIVE] = "active",
		[APIKEY_STATUS_SCHEDULED] = "scheduled",
		[APIKEY_STATUS_DISABLED] = "disabled",
		[APIKEY_STATUS_EXPIRED] = "expired",
		[APIKEY_STATUS_REVOKED] = "revoked"
	};
	static const ApikeyKeyColumn columns[] = {
		APIKEY_KEY_OWNER, APIKEY_KEY_DISABLED, APIKEY_KEY_STARTS_AT,
		APIKEY_KEY_EXPIRES_AT, APIKEY_KEY_REVOKED_AT
	};
	ApikeyKey	key;

	for (size_t i = 0; i < lengthof(columns); i++)
	{
		key.values[columns[i]] = PG_GETARG_DATUM(i);
		key.nulls[columns[i]] = PG_ARGISNULL(i);
	}
	PG_RETURN_TEXT_P(cstring_to_text(names[apikey_key_status(&key,
															 GetCurrentStatementStartTimestamp())]));
}

/* One column of the old and the new row of the view. */
typedef struct ViewChange
{
	const char *name;
	Datum		before;
	Datum		after;
	bool		was_null;
	bool		is_null;
	Form_pg_attribute attribute;
} ViewChange;

/* Is a column's value another than the one given? */
static bool
value_differs(Form_pg_attribute attribute, Datum one, bool one_null,
			  Datum two, bool two_null)
{
	if (one_null || two_null)
		return one_null != two_null;
	return !datum_image_eq(one, two, attribute->attbyval, attribute->attlen);
}

static ViewChange
view_change(TriggerData *trigger, int attnum)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	ViewChange	change;

	change.attribute = TupleDescAttr(desc, attnum - 1);
	change.name = NameStr(change.attribute->attname);
	change.before = heap_getattr(trigger->tg_trigtuple, attnum, desc,
								 &change.was_null);
	change.after = heap_getattr(trigger->tg_newtuple, attnum, desc,
								&change.is_null);
	return change;
}

/* Raises where a column of the view cannot be changed. */
static ApikeyKeyColumn
writable_column(const char *name)
{
	static const char *const unsupported[] = {
		"role", "rate_limit", "rate_window", "credits", "credits_refill",
		"credits_interval"
	};
	ApikeyKeyColumn column = apikey_key_column(name);

	for (size_t i = 0; i < lengthof(unsupported); i++)
	{
		if (strcmp(name, unsupported[i]) == 0)
			apikey_refuse_unsupported(name);
	}
	if (column == APIKEY_KEY_COLUMNS || !apikey_key_column_writable(column))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("column \"%s\" of view \"apikeys\" cannot be updated",
						name)));
	return column;
}

/* Writes one changed column into a locked key. */
static void
apply_change(const ViewChange *change, ApikeyKeyColumn column, ApikeyKey *key)
{
	if (value_differs(change->attribute, change->before, change->was_null,
					  key->values[column], key->nulls[column]))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not update column \"%s\" due to a concurrent change",
						change->name)));
	key->values[column] = change->after;
	key->nulls[column] = change->is_null;
}

/* Keys are made and removed by functions alone. */
static void
refuse_insert_or_delete(TriggerEvent event)
{
	bool		insert = TRIGGER_FIRED_BY_INSERT(event);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 insert ? errmsg("cannot insert into view \"apikeys\"") :
			 errmsg("cannot delete from view \"apikeys\""),
			 insert ? errhint("Use apikey_create.") :
			 errhint("Use apikey_revoke or apikey_delete.")));
}

/*
 * _apikey_write() returns trigger
 *		INSTEAD OF UPDATE of the view apikeys: writes the columns that differ
 *		into the key's row, unless one of them changed meanwhile.
 */
PG_FUNCTION_INFO_V1(_apikey_write);
Datum
_apikey_write(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	ViewChange	changes[APIKEY_KEY_COLUMNS];
	ApikeyKeyColumn columns[APIKEY_KEY_COLUMNS];
	int			count = 0;
	TupleDesc	desc;
	ApikeyKey	key;
	pg_uuid_t  *id = NULL;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_INSTEAD(trigger->tg_event))
		elog(ERROR, "_apikey_write must be fired instead of a change");
	if (!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		refuse_insert_or_delete(trigger->tg_event);

	desc = RelationGetDescr(trigger->tg_relation);
	for (int attnum = 1; attnum <= desc->natts; attnum++)
	{
		ViewChange	change = view_change(trigger, attnum);

		if (strcmp(change.name, "id") == 0)
			id = DatumGetUUIDP(change.before);
		if (!value_differs(change.attribute, change.before, change.was_null,
						   change.after, change.is_null))
			continue;
		columns[count] = writable_column(change.name);
		changes[count++] = change;
	}
	if (count == 0)
		return PointerGetDatum(trigger->tg_newtuple);

	apikey_manage_open(id, &key);
	apikey_manage_require_unrevoked(&key);
	for (int i = 0; i < count; i++)
		apply_change(&changes[i], columns[i], &key);
	apikey_rule_attributes(&key);
	apikey_key_update(&key);
	return PointerGetDatum(trigger->tg_newtuple);
}
