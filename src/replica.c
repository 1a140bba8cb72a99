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
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_subscription_rel.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "replication/worker_internal.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "apikey.h"

/* The two columns by which a row says whose it is. */
typedef struct Holder
{
	Oid			role;
	const char *name;
} Holder;

/*
 * Reads the columns that a pair of a trigger's arguments names; false where
 * they are null.
 */
static bool
read_holder(const TriggerData *trigger, int pair, HeapTuple tuple,
			Holder *holder)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	char	  **columns = &trigger->tg_trigger->tgargs[2 * pair];
	bool		isnull;

	holder->role = DatumGetObjectId(SPI_getbinval(tuple, desc,
												  SPI_fnumber(desc, columns[0]),
												  &isnull));
	if (isnull)
		return false;
	holder->name = SPI_getvalue(tuple, desc, SPI_fnumber(desc, columns[1]));
	return holder->name != NULL;
}

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
settled_role(const TriggerData *trigger, const Holder *sent,
			 const Holder *before)
{
	const char *here = GetUserNameFromId(sent->role, true);
	Oid			named;

	/* In binary, what has been settled stays so while the name does. */
	if (before != NULL && came_in_binary() &&
		strcmp(before->name, sent->name) == 0)
		return before->role;
	if (here != NULL && strcmp(here, sent->name) == 0)
		return sent->role;
	if (!OidIsValid(sent->role) || !came_in_binary())
		return InvalidOid;

	/* Just written, with the name of that moment; a copied row may be old. */
	named = get_role_oid(sent->name, true);
	if (OidIsValid(named) && copying())
		refuse_doubtful(trigger, sent->name);
	return named;
}

/*
 * Settles a role of an arriving row, in *tuple; false where it is none here.
 * A row that names no such role stays as it is.
 */
static bool
settle(const TriggerData *trigger, int pair, HeapTuple *tuple)
{
	bool		is_update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	Holder		sent;
	Holder		before;
	Oid			role;
	int			column;
	Datum		value;
	bool		isnull = false;

	if (!read_holder(trigger, pair, *tuple, &sent))
		return true;
	is_update = is_update &&
		read_holder(trigger, pair, trigger->tg_trigtuple, &before);
	role = settled_role(trigger, &sent, is_update ? &before : NULL);
	if (!OidIsValid(role))
		ereport(LOG,
				(errmsg("a row of table \"%s\" is that of no role here",
						RelationGetRelationName(trigger->tg_relation)),
				 errdetail("Its role on the publisher was last known as \"%s\".",
						   sent.name)));
	if (role != sent.role)
	{
		column = SPI_fnumber(desc, trigger->tg_trigger->tgargs[2 * pair]);
		value = ObjectIdGetDatum(role);
		*tuple = heap_modify_tuple_by_cols(*tuple, desc, 1, &column, &value,
										   &isnull);
	}
	return OidIsValid(role);
}

/*
 * _apikey_arrived(role column, name column, ...) returns trigger
 *		Before a row is written in an apply worker: makes it that of the role
 *		here which it means.  A new row of none is left out; one that was
 *		somebody's becomes nobody's.  So do the roles that further pairs of
 *		columns name, with a row that stays.
 */
PG_FUNCTION_INFO_V1(_apikey_arrived);
Datum
_apikey_arrived(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		is_update;
	HeapTuple	tuple;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ||
		trigger->tg_trigger->tgnargs < 2 ||
		trigger->tg_trigger->tgnargs % 2 != 0)
		elog(ERROR, "a BEFORE ROW trigger with pairs of arguments was expected");
	apikey_catalog_require(trigger->tg_relation);

	is_update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	tuple = is_update ? trigger->tg_newtuple : trigger->tg_trigtuple;
	if (!IsLogicalWorker())
		return PointerGetDatum(tuple);

	if (!settle(trigger, 0, &tuple) && !is_update)
		return PointerGetDatum(NULL);
	for (int pair = 1; pair < trigger->tg_trigger->tgnargs / 2; pair++)
		(void) settle(trigger, pair, &tuple);
	return PointerGetDatum(tuple);
}
