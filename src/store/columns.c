/*
 * columns.c
 *		Whether a table of ours has the columns that this library takes it to have.
 *
 * A superuser can change a column's name or type, or let it be null, even in the
 * transaction that reads it next.  Rows are read as if none of it had changed, so
 * it is looked at before; once, until an invalidation names the table (see
 * intact.c).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "store/store_internal.h"

static Oid
role_type(void)
{
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
						   CStringGetDatum("apikey_role"),
						   ObjectIdGetDatum(apikey_catalog()->schema));
}

/* Is a column of the type that it is read as? */
static bool
has_type(const FormData_pg_attribute *column, Oid type)
{
	if (column->attisdropped)
		return false;
	/* The first script has some roles as plain OIDs. */
	if (type == REGROLEOID && column->atttypid == OIDOID)
		return true;
	return column->atttypid == (OidIsValid(type) ? type : role_type());
}

/* The first column of an open table that is not as it is read; NULL for none. */
const char *
apikey_columns_problem(Relation rel, const ApikeyTable *table)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			known = Min(table->count, desc->natts);

	for (int i = 0; i < known; i++)
	{
		const ApikeyColumn *column = &table->columns[i];

		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), column->name) != 0 ||
			!has_type(TupleDescAttr(desc, i), column->type) ||
			(column->required && !apikey_column_not_null(desc, i)))
			return column->name;
	}
	/* A row has room for so many. */
	return desc->natts <= APIKEY_COLUMNS_MAX ? NULL :
		NameStr(TupleDescAttr(desc, APIKEY_COLUMNS_MAX)->attname);
}
