/*
 * replica.c
 *		Rows that arrive by logical replication: whose are they here?
 *
 * A role is stored by OID, and OIDs are each cluster's own.  A subscription in
 * text sends a role by its name, but one that was dropped by its number; one
 * in binary sends the number always.  So what has arrived counts only with the
 * name that the publisher stored beside it when it wrote the row.  That name
 * may be old: its role may have been renamed or dropped since, and the name be
 * another's now.  Whoever is not meant beyond doubt does not get the row.
 *
 * Nothing that arrives makes valid what was revoked here, and nothing that is
 * here stops what arrives, for then keys would go on verifying while their
 * revocations wait: the row that arrives wins.  What it displaces is removed,
 * but a key of the same name is revoked, and an event stays, with the one that
 * arrives numbered anew.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_subscription_rel.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "replication/worker_internal.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "sql/trigger_role.h"

#define REPLACED	"its name was taken by a key that was replicated"

/* Are we changing rows here, rather than is one arriving? */
static bool making_room = false;

/* Is a table being copied, rather than its changes applied? */
static bool
copying(void)
{
	return am_tablesync_worker() &&
		MyLogicalRepWorker->relstate == SUBREL_STATE_DATASYNC;
}

/* Did the row come with numbers of the publisher's? */
static bool
came_in_binary(void)
{
	return MySubscription->binary && (!copying() || APIKEY_COPIES_IN_BINARY);
}

/* Raises for a copied row that may be that of a role here, or not. */
pg_noreturn static void
refuse_doubtful(const TriggerData *trigger, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cannot tell whether a row of table \"%s\" copied in binary is that of role \"%s\"",
					RelationGetRelationName(trigger->tg_relation), name),
			 errdetail("Roles have other OIDs on the publisher."),
			 errhint("Set the option binary of the subscription to false until its tables are copied.")));
}

/*
 * The role here that a row means; InvalidOid for none.  before is what the
 * row was here until now, or NULL.
 */
static Oid
settled_role(const TriggerData *trigger, const ApikeyTriggerRole *sent,
			 const ApikeyTriggerRole *before)
{
	const char *here = apikey_role_called(sent->role);
	Oid			named;

	/* In binary, what has been settled stays so while the name does. */
	if (before != NULL && before->name != NULL && came_in_binary() &&
		strcmp(before->name, sent->name) == 0)
		return before->role;
	if (here != NULL && strcmp(here, sent->name) == 0)
		return sent->role;
	if (!OidIsValid(sent->role) || !came_in_binary())
		return InvalidOid;

	/* Just written, with the name of that moment; a copied row may be old. */
	named = apikey_role_named(sent->name);
	if (OidIsValid(named) && copying())
		refuse_doubtful(trigger, sent->name);
	return named;
}

/*
 * Makes a row that of the roles here which it means.  A new row of none is left
 * out, where each row must have one; else what was somebody's becomes nobody's.
 */
static HeapTuple
settle(const TriggerData *trigger, HeapTuple tuple, HeapTuple before)
{
	Relation	rel = trigger->tg_relation;

	for (int pair = 0; 2 * pair < trigger->tg_trigger->tgnargs; pair++)
	{
		ApikeyTriggerRole sent = apikey_trigger_role(trigger, pair, tuple);
		ApikeyTriggerRole known = {0};
		const char *column;
		Oid			role;

		if (sent.name == NULL)
			continue;
		if (before != NULL)
			known = apikey_trigger_role(trigger, pair, before);
		role = settled_role(trigger, &sent, before != NULL ? &known : NULL);
		if (!OidIsValid(role))
			ereport(LOG,
					(errmsg("a row of table \"%s\" is that of no role here",
							RelationGetRelationName(rel)),
					 errdetail("Its role on the publisher was last known as \"%s\".",
							   sent.name)));
		column = trigger->tg_trigger->tgargs[2 * pair];
		if (!OidIsValid(role) && before == NULL &&
			TupleDescAttr(RelationGetDescr(rel),
						  SPI_fnumber(RelationGetDescr(rel), column) - 1)->attnotnull)
			return NULL;
		if (role != sent.role)
			tuple = apikey_trigger_with_column(rel, tuple, column, ObjectIdGetDatum(role), false);
	}
	return tuple;
}

/* What was revoked here stays so, whatever arrives. */
static HeapTuple
keep_revoked(Relation rel, HeapTuple tuple, HeapTuple before)
{
	static const char *const columns[] = {"revoked_at", "revoke_reason"};
	TupleDesc	desc = RelationGetDescr(rel);
	int			revoked_at = SPI_fnumber(desc, columns[0]);

	if (revoked_at < 0 || !heap_attisnull(tuple, revoked_at, desc) ||
		heap_attisnull(before, revoked_at, desc))
		return tuple;
	for (size_t i = 0; i < lengthof(columns); i++)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(before, desc,
										  SPI_fnumber(desc, columns[i]),
										  &isnull);

		tuple = apikey_trigger_with_column(rel, tuple, columns[i], value, isnull);
	}
	return tuple;
}

/* Forms what an index has of a row. */
static void
form_index(IndexInfo *index, EState *estate, TupleTableSlot *slot,
		   HeapTuple tuple, Datum *values, bool *nulls)
{
	ExecStoreHeapTuple(tuple, slot, false);
	GetPerTupleExprContext(estate)->ecxt_scantuple = slot;
	FormIndexDatum(index, slot, estate, values, nulls);
}

/* Has a row another value than before in one of an index's columns? */
static bool
index_differs(Relation rel, IndexInfo *index, EState *estate,
			  TupleTableSlot *slot, HeapTuple tuple, HeapTuple before)
{
	Datum		is[INDEX_MAX_KEYS];
	Datum		was[INDEX_MAX_KEYS];
	bool		is_null[INDEX_MAX_KEYS];
	bool		was_null[INDEX_MAX_KEYS];

	form_index(index, estate, slot, tuple, is, is_null);
	form_index(index, estate, slot, before, was, was_null);
	for (int i = 0; i < index->ii_NumIndexKeyAttrs; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(RelationGetDescr(rel), i);

		if (is_null[i] != was_null[i] ||
			(!is_null[i] && !datum_image_eq(is[i], was[i], attribute->attbyval,
											attribute->attlen)))
			return true;
	}
	return false;
}

/*
 * The unique indexes in which a row is a newcomer.  In another it would meet
 * itself.
 */
static List *
indexes_entered(const ResultRelInfo *target, EState *estate,
				TupleTableSlot *slot, HeapTuple tuple, HeapTuple before)
{
	List	   *entered = NIL;

	for (int i = 0; i < target->ri_NumIndices; i++)
	{
		Relation	rel = target->ri_IndexRelationDescs[i];
		IndexInfo  *index = target->ri_IndexRelationInfo[i];

		if (index->ii_Unique &&
			(before == NULL ||
			 index_differs(rel, index, estate, slot, tuple, before)))
			entered = lappend_oid(entered, RelationGetRelid(rel));
	}
	return entered;
}

/* Revokes a key here whose name one that arrives has. */
static void
revoke_displaced(const pg_uuid_t *id)
{
	ApikeyRow	key;

	making_room = true;
	PG_TRY();
	{
		apikey_manage_lock(id, &key);
		apikey_manage_revoke_read(&key, true, cstring_to_text(REPLACED));
	}
	PG_FINALLY();
	{
		making_room = false;
	}
	PG_END_TRY();
}

/*
 * Makes way for a row where another is that a unique index allows no second
 * of; returns the row as it is to be written.
 */
static HeapTuple
displace(Relation rel, HeapTuple tuple, ItemPointer other)
{
	const char *table = RelationGetRelationName(rel);
	TupleDesc	desc = RelationGetDescr(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	HeapTuple	here = NULL;
	bool		isnull;
	Datum		id = heap_getattr(tuple, 1, desc, &isnull);

	if (table_tuple_fetch_row_version(rel, other, SnapshotSelf, slot))
		here = ExecCopySlotHeapTuple(slot);
	ExecDropSingleTupleTableSlot(slot);
	if (here == NULL)
		elog(ERROR, "a row of table \"%s\" was changed meanwhile", table);

	ereport(LOG,
			(errmsg("a row of table \"%s\" has made way for one that was replicated",
					table)));
	if (strcmp(table, "apikey_event") == 0)
		return apikey_trigger_with_column(rel, tuple, "id",
										  Int64GetDatum(apikey_sequence_next(apikey_catalog_relation(APIKEY_REL_EVENT_ID_SEQ))),
										  false);
	if (strcmp(table, "apikey_key") == 0)
		apikey_intact_require_columns(rel, &apikey_key_table);
	if (strcmp(table, "apikey_key") == 0 &&
		!datum_image_eq(id, heap_getattr(here, 1, desc, &isnull),
						TupleDescAttr(desc, 0)->attbyval,
						TupleDescAttr(desc, 0)->attlen))
	{
		revoke_displaced(DatumGetUUIDP(heap_getattr(here, 1, desc, &isnull)));
		return tuple;
	}
	simple_heap_delete(rel, other);
	return keep_revoked(rel, tuple, here);
}

/* Makes way for a row in all unique indexes; before is NULL for a new one. */
static HeapTuple
make_way(Relation rel, HeapTuple tuple, HeapTuple before)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);
	TupleTableSlot *slot = ExecInitExtraTupleSlot(estate, RelationGetDescr(rel),
												  &TTSOpsHeapTuple);
	ItemPointerData other;
	List	   *entered;

	InitResultRelInfo(target, rel, 0, NULL, 0);
	ExecOpenIndices(target, true);
	entered = indexes_entered(target, estate, slot, tuple, before);
	ExecStoreHeapTuple(tuple, slot, false);
	while (entered != NIL &&
		   !apikey_check_index_constraints(target, slot, estate, &other,
										   entered))
	{
		CHECK_FOR_INTERRUPTS();
		tuple = displace(rel, tuple, &other);
		ExecStoreHeapTuple(tuple, slot, false);
	}
	ExecCloseIndices(target);
	ExecResetTupleTable(estate->es_tupleTable, false);
	FreeExecutorState(estate);
	return tuple;
}

/*
 * Has all arrived that was committed before what arrives now?  Not while a table
 * of the subscription is still being copied: its changes come later.  Nor where
 * somebody keeps us from telling: what arrives waits for nobody.
 */
static bool
tables_are_ready(void)
{
	Relation	rel;
	bool		ready = true;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!apikey_system_lock("pg_subscription_rel", SubscriptionRelRelationId,
							false))
		return false;
	rel = table_open(SubscriptionRelRelationId, NoLock);
	ScanKeyInit(&key, Anum_pg_subscription_rel_srsubid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(MySubscription->oid));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	while (ready && HeapTupleIsValid(tuple = systable_getnext(scan)))
		ready = ((Form_pg_subscription_rel) GETSTRUCT(tuple))->srsubstate ==
			SUBREL_STATE_READY;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return ready;
}

/* The primary's beat tells how fresh this database is: see fresh.c. */
static void
note_beat(Relation rel, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		isnull;
	Datum		number = SPI_getbinval(tuple, desc,
									   SPI_fnumber(desc, "number"), &isnull);

	if (!isnull && !am_tablesync_worker() && tables_are_ready())
		apikey_fresh_beat_arrived(DatumGetInt64(number));
}

/* Events that are made here are numbered behind those that have arrived. */
static void
note_event(Relation rel, HeapTuple tuple)
{
	bool		isnull;
	Datum		id = heap_getattr(tuple, 1, RelationGetDescr(rel), &isnull);

	if (!isnull)
		apikey_sequence_pass(apikey_catalog_relation(APIKEY_REL_EVENT_ID_SEQ),
							 DatumGetInt64(id));
}

/*
 * _apikey_arrived([role column, name column, ...]) returns trigger
 *		Before a row is written in an apply worker: settles whose it is here,
 *		and makes way for it.
 */
PG_FUNCTION_INFO_V1(_apikey_arrived);
Datum
_apikey_arrived(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	before = NULL;
	HeapTuple	tuple;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs % 2 != 0)
		elog(ERROR, "a BEFORE ROW trigger with pairs of arguments was expected");
	apikey_catalog_require(trigger->tg_relation);

	tuple = trigger->tg_trigtuple;
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		before = tuple;
		tuple = trigger->tg_newtuple;
	}
	if (!IsLogicalWorker() || making_room)
		return PointerGetDatum(tuple);

	tuple = settle(trigger, tuple, before);
	if (tuple == NULL)
		return PointerGetDatum(NULL);
	if (before != NULL)
		tuple = keep_revoked(trigger->tg_relation, tuple, before);
	tuple = make_way(trigger->tg_relation, tuple, before);
	if (RelationGetRelid(trigger->tg_relation) ==
		apikey_catalog_relation(APIKEY_REL_BEAT))
		note_beat(trigger->tg_relation, tuple);
	if (RelationGetRelid(trigger->tg_relation) ==
		apikey_catalog_relation(APIKEY_REL_EVENT))
		note_event(trigger->tg_relation, tuple);
	return PointerGetDatum(tuple);
}
