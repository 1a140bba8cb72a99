/*
 * sql_changed.c
 *		The trigger that tells every session of what has changed in our tables.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/datum.h"

#include "store/store.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "limits/limits.h"

#define PREDECESSORS_MAX	16	/* looked for one by one */

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

/* Keys of a tenant or subject are not looked for: all are looked at anew. */
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

/* The tables whose rows are read for that. */
static const ApikeyTable *const read_here[] = {
	&apikey_key_table, &apikey_digest_table, &apikey_revocation_table,
	&apikey_import_table, &apikey_limit_table
};

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
	for (size_t i = 0; i < lengthof(read_here); i++)
	{
		if (strcmp(table, read_here[i]->name) == 0)
			apikey_intact_require_columns(trigger->tg_relation, read_here[i]);
	}
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
