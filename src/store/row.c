/*
 * row.c
 *		The columns of a row, as they are read and set in memory.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "store/store_internal.h"

/*
 * Takes a row apart; what its columns point to is the tuple's.  Columns that
 * an older script's table has not yet are null, and those that a newer one's
 * has beyond ours are not looked at.
 */
void
apikey_table_deform(const ApikeyTable *table, HeapTuple tuple, TupleDesc desc,
					ApikeyRow *row)
{
	int			known = Min(table->count, desc->natts);

	heap_deform_tuple(tuple, desc, row->values, row->nulls);
	memset(&row->nulls[known], true,
		   (table->count + table->derived - known) * sizeof(row->nulls[0]));
}

/* Takes apart a row that was copied, detoasted in the current context. */
void
apikey_table_take_apart(const ApikeyTable *table, HeapTuple tuple,
						TupleDesc desc, ApikeyRow *row)
{
	apikey_table_deform(table, tuple, desc, row);
	for (int i = 0; i < table->count; i++)
	{
		/* Where it is not null, the table has the column. */
		if (!row->nulls[i] && TupleDescAttr(desc, i)->attlen == -1)
			row->values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(row->values[i]));
	}
}

/* Copies a row of a scan, to be kept: it is the current context's then. */
void
apikey_row_copy(const ApikeyTable *table, const ApikeyRow *row, ApikeyRow *copy)
{
	*copy = *row;
	for (int i = 0; i < table->count; i++)
	{
		int16		len;
		bool		byval;

		/* apikey_role is an enum, which is its value. */
		if (row->nulls[i] || !OidIsValid(table->columns[i].type))
			continue;
		get_typlenbyval(table->columns[i].type, &len, &byval);
		copy->values[i] = datumCopy(row->values[i], byval, len);
	}
}

/* What our own transaction has written is not to be remembered. */
void
apikey_table_see_row(HeapTuple tuple)
{
	if (TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
		apikey_changes_not_final();
}

/*
 * Takes apart a row that was found, copied into a context unless that is NULL;
 * false where somebody keeps us from it.
 */
static bool
read_found(const ApikeyTable *table, Relation rel, HeapTuple tuple,
		   MemoryContext copies, ApikeyRow *row)
{
	TupleDesc	desc = RelationGetDescr(rel);
	MemoryContext outer;

	if (copies == NULL)
	{
		apikey_table_deform(table, tuple, desc, row);
		return true;
	}
	outer = MemoryContextSwitchTo(copies);
	tuple = apikey_scan_copy(rel, tuple);
	if (tuple != NULL)
		apikey_table_take_apart(table, tuple, desc, row);
	MemoryContextSwitchTo(outer);
	return tuple != NULL;
}

/*
 * Visits a row that a scan has found; false where that ends the scan.  Copies in
 * a context of their own are given back, each after its visit.
 */
bool
apikey_table_visit_row(const ApikeyTable *table, Relation rel, HeapTuple tuple,
					   MemoryContext copies, ApikeyVisit visit, void *state)
{
	ApikeyRow	row;
	bool		more;

	CHECK_FOR_INTERRUPTS();
	apikey_table_see_row(tuple);
	if (!read_found(table, rel, tuple, copies, &row))
		return false;
	more = visit(&row, state);
	if (copies != NULL && copies != CurrentMemoryContext)
		MemoryContextReset(copies);
	return more;
}

const pg_uuid_t *
apikey_row_id(const ApikeyRow *row)
{
	return DatumGetUUIDP(row->values[0]);
}

char *
apikey_id_string(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* Adds an id to a text that lists some. */
void
apikey_id_list(StringInfo list, const pg_uuid_t *id)
{
	appendStringInfo(list, "%s%s", list->len > 0 ? "," : "", apikey_id_string(id));
}

/* The value of a column of type uuid; NULL for none. */
const pg_uuid_t *
apikey_row_uuid(const ApikeyRow *row, int column)
{
	return row->nulls[column] ? NULL : DatumGetUUIDP(row->values[column]);
}

/* A column of type text; NULL where it is null. */
text *
apikey_row_text(const ApikeyRow *row, int column)
{
	return row->nulls[column] ? NULL : DatumGetTextPP(row->values[column]);
}

bool
apikey_row_bool(const ApikeyRow *row, int column)
{
	return !row->nulls[column] && DatumGetBool(row->values[column]);
}

ApikeyRole
apikey_row_role(const ApikeyRow *row, int column)
{
	return row->nulls[column] ? APIKEY_ROLE_NONE :
		apikey_role_from_datum(row->values[column]);
}

/* Makes all columns null. */
void
apikey_row_clear(ApikeyRow *row)
{
	memset(row->nulls, true, sizeof(row->nulls));
}

void
apikey_row_set(ApikeyRow *row, int column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
}

/* Sets a column to what is pointed to, or, with NULL, makes it null. */
void
apikey_row_set_pointer(ApikeyRow *row, int column, const void *value)
{
	row->values[column] = PointerGetDatum(value);
	row->nulls[column] = value == NULL;
}

/* Are two texts the same, byte by byte?  NULL is one of its own. */
bool
apikey_same_text(const text *one, const text *two)
{
	if (one == NULL || two == NULL)
		return one == two;
	return VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(two) &&
		memcmp(VARDATA_ANY(one), VARDATA_ANY(two),
			   VARSIZE_ANY_EXHDR(one)) == 0;
}
