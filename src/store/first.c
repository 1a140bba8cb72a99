/*
 * first.c
 *		The first row in an index, without looking at any number of those before it
 *		that are gone.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "utils/rel.h"

#include "store/store_internal.h"

/*
 * Calls visit with the first row that scan keys find in an index, unless there
 * are more entries before it than may be looked at: these are counted down to 0.
 * Others may have made and removed many rows, of which the entries stay for as
 * long as an old snapshot could see them.
 */
void
apikey_table_visit_first(const ApikeyTable *table, ApikeyRelation index,
						 const ScanKeyData *keys, int nkeys,
						 Snapshot snapshot, int *entries, ApikeyVisit visit,
						 void *state)
{
	Relation	rel = apikey_table_relation(table, AccessShareLock);
	Relation	index_rel = apikey_table_index(table, rel, index);
	ApikeyScan	scan;
	HeapTuple	tuple;

	apikey_scan_begin(&scan, rel, index_rel, snapshot, keys, nkeys);
	tuple = apikey_scan_next_among(&scan, entries);
	if (HeapTupleIsValid(tuple))
	{
		ApikeyRow	row;

		apikey_table_deform(table, tuple, RelationGetDescr(rel), &row);
		(void) visit(&row, state);
	}
	apikey_scan_end(&scan);
	apikey_table_close_index(index_rel);
	table_close(rel, NoLock);
}
