/*
 * trigger_role.c
 *		The roles of a row, for the triggers that are given their columns.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/spi.h"
#include "utils/rel.h"

#include "sql/trigger_role.h"

/* The number of a column of ours, which somebody may have renamed. */
static int
column_number(Relation rel, const char *name)
{
	int			column = SPI_fnumber(RelationGetDescr(rel), name);

	if (column <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no column \"%s\"",
						RelationGetRelationName(rel), name)));
	return column;
}

/* Reads a pair of columns that a trigger's arguments name. */
ApikeyTriggerRole
apikey_trigger_role(const TriggerData *trigger, int pair, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	char	  **columns = &trigger->tg_trigger->tgargs[2 * pair];
	ApikeyTriggerRole holder;
	bool		isnull;

	holder.role = DatumGetObjectId(SPI_getbinval(tuple, desc,
												 column_number(trigger->tg_relation,
															   columns[0]),
												 &isnull));
	holder.name = isnull ? NULL :
		SPI_getvalue(tuple, desc, column_number(trigger->tg_relation, columns[1]));
	return holder;
}

/* The same row with another value in a column. */
HeapTuple
apikey_trigger_with_column(Relation rel, HeapTuple tuple, const char *name,
						   Datum value, bool isnull)
{
	int			column = column_number(rel, name);

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), 1, &column,
									 &value, &isnull);
}
