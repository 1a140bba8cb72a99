/*
 * citus.c
 *		That a table of ours is not one that Citus has distributed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_namespace.h"
#include "commands/extension.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "store/store_internal.h"

/*
 * Refuses to work on a table that Citus has distributed: what is left of it
 * here is a shell, whose rows we would take for the table's.  Citus tells of
 * such a change by an invalidation of the table, so this is asked again.
 */
void
apikey_catalog_require_local(Oid relid)
{
	Oid			partitions = get_relname_relid("pg_dist_partition",
											   PG_CATALOG_NAMESPACE);
	Oid			extension;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	AttrNumber	column;

	if (!OidIsValid(partitions) ||
		!apikey_lookup_begin(APIKEY_LOOKUP_EXTENSION))
		return;
	extension = get_extension_oid("citus", true);
	apikey_lookup_end(APIKEY_LOOKUP_EXTENSION);
	if (!OidIsValid(extension))
		return;
	column = get_attnum(partitions, "logicalrelid");
	if (column == InvalidAttrNumber)
		return;
	rel = table_open(partitions, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		table = heap_getattr(tuple, column, RelationGetDescr(rel),
										 &isnull);

		if (!isnull && DatumGetObjectId(table) == relid)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"%s\" is distributed by Citus",
							get_rel_name(relid)),
					 errhint("Keep the tables of extension \"apikey\" local to the node that verifies.")));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}
