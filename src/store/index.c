/*
 * index.c
 *		Opening our indexes, in one order.
 */
#include "postgres.h"

#include "access/genam.h"
#include "utils/rel.h"

#include "store/store_internal.h"

/* Locks the indexes of a table that come before one; false where passed over. */
static bool
lock_before(const char *name, Relation rel, Oid index)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;
	bool		locked = true;

	foreach(cell, indexes)
	{
		if (locked && lfirst_oid(cell) < index)
			locked = apikey_relation_lock(name, lfirst_oid(cell), AccessShareLock);
	}
	list_free(indexes);
	return locked;
}

/*
 * Opens an index of an open table, to be read.  Those that come before it are
 * locked before it, for REINDEX takes all of a table's in that order, as the
 * planner does: who held a later one, and waited for an earlier one, would wait
 * for somebody who waits for him.  NULL for one that is passed over.
 */
Relation
apikey_index_open(Relation rel, ApikeyRelation index)
{
	const char *name = apikey_catalog_name(apikey_catalog_table(index));
	Oid			relid = apikey_catalog_relation(index);
	bool		first;

	if (!OidIsValid(relid))
		return NULL;
	/* The primary key is the first of them, but where it was made anew. */
	first = rel->rd_indexvalid && rel->rd_indexlist != NIL &&
		linitial_oid(rel->rd_indexlist) == relid;
	if ((!first && !lock_before(name, rel, relid)) ||
		!apikey_relation_lock(name, relid, AccessShareLock))
		return NULL;
	return index_open(relid, NoLock);
}
