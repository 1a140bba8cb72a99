/*
 * indexes.c
 *		What it takes to put a row into the indexes of a table, kept.
 *
 * To plan and to prepare an index's condition and expressions costs several
 * times what putting a row into it does, and a table of ours has up to ten
 * indexes.  So what was made for one writer goes to the next one of the table,
 * in this transaction or a later one, until an invalidation names the table or
 * an index of it.  No relation stays open meanwhile; locked they are to the end
 * of the subtransaction, in which that is not asked for again.
 *
 * A writer has it for itself: it lives in the writer's memory, and is gone with
 * that after an error.
 *
 * It is so for b-trees whose expressions call functions of the server alone.
 * What another index, or another's function, remembers from row to row ends
 * with the writer.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "store/store_internal.h"

/* What is about the indexes of a table. */
struct ApikeyIndexes
{
	MemoryContext context;		/* in which all of it is */
	uint64		version;		/* as of which it was made */
	bool		lasts;			/* beyond the writer */
	FullTransactionId transaction;	/* in which the indexes are locked, */
	SubTransactionId subtransaction;	/* and in what part of it */
	int			count;
	IndexInfo **infos;
};

/* Of each table: what no writer has now, and what makes it old. */
typedef struct Kept
{
	ApikeyIndexes *indexes;		/* or NULL */
	uint64		version;		/* counts the invalidations */
	Oid			table;
	int			count;
	Oid		   *oids;			/* of its indexes, when they were last read */
} Kept;

static Kept kept[APIKEY_RELATIONS];

static bool
concerns(const Kept *about, Oid relid)
{
	if (!OidIsValid(relid) || relid == about->table)
		return true;
	for (int i = 0; i < about->count; i++)
	{
		if (about->oids[i] == relid)
			return true;
	}
	return false;
}

static void
on_relation(Datum arg pg_attribute_unused(), Oid relid)
{
	for (int i = 0; i < APIKEY_RELATIONS; i++)
		kept[i].version += concerns(&kept[i], relid);
}

/* Counts from now on what concerns a table. */
static void
watch(Kept *about, Relation rel)
{
	static bool registered = false;

	if (!registered)
		CacheRegisterRelcacheCallback(on_relation, (Datum) 0);
	registered = true;
	about->table = RelationGetRelid(rel);
}

/* The same of its indexes. */
static void
watch_indexes(Kept *about, const List *oids)
{
	Oid		   *before = about->oids;
	Oid		   *now = MemoryContextAlloc(CacheMemoryContext,
										 (list_length(oids) + 1) * sizeof(Oid));

	for (int i = 0; i < list_length(oids); i++)
		now[i] = list_nth_oid(oids, i);
	about->oids = now;
	about->count = list_length(oids);
	if (before != NULL)
		pfree(before);
}

static bool
function_of_others(Oid function, void *context pg_attribute_unused())
{
	return function >= FirstNormalObjectId;
}

static bool
calls_others(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return check_functions_in_node(node, function_of_others, context) ||
		expression_tree_walker(node, calls_others, context);
}

/* Prepares an index's condition and expressions, as the executor would. */
static void
prepare(IndexInfo *info)
{
	ListCell   *cell;

	if (info->ii_Predicate != NIL)
		info->ii_PredicateState =
			ExecInitQual((List *) expression_planner((Expr *) info->ii_Predicate),
						 NULL);
	foreach(cell, info->ii_Expressions)
		info->ii_ExpressionsState =
			lappend(info->ii_ExpressionsState,
					ExecInitExpr(expression_planner(lfirst(cell)), NULL));
}

/* Adds an open index. */
static void
add(ApikeyIndexes *indexes, Relation index)
{
	IndexInfo  *info = BuildIndexInfo(index);

	indexes->infos[indexes->count++] = info;
	if (index->rd_rel->relam != BTREE_AM_OID ||
		calls_others((Node *) info->ii_Predicate, NULL) ||
		calls_others((Node *) info->ii_Expressions, NULL))
		indexes->lasts = false;
	else
		prepare(info);
}

/* Opens an index of a table, which may be locked already: NoLock. */
static Relation
open_index(const Kept *about, Oid index, LOCKMODE mode)
{
	if (mode != NoLock)
		(void) apikey_relation_lock(apikey_catalog_name(about - kept), index, mode);
	return index_open(index, NoLock);
}

/* Makes it anew, as of the invalidations until now. */
static ApikeyIndexes *
make(Kept *about, Relation rel)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey indexes",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	ApikeyIndexes *indexes = palloc0(sizeof(ApikeyIndexes));
	List	   *oids;
	ListCell   *cell;

	watch(about, rel);
	indexes->context = context;
	indexes->version = about->version;
	indexes->lasts = true;
	oids = RelationGetIndexList(rel);
	watch_indexes(about, oids);
	indexes->infos = palloc(list_length(oids) * sizeof(IndexInfo *));
	foreach(cell, oids)
	{
		Relation	index = open_index(about, lfirst_oid(cell), RowExclusiveLock);

		add(indexes, index);
		index_close(index, NoLock);
	}
	MemoryContextSwitchTo(before);
	return indexes;
}

/* Takes what is kept of a table into the current context; NULL for nothing. */
static ApikeyIndexes *
take(Kept *about)
{
	ApikeyIndexes *indexes = about->indexes;

	about->indexes = NULL;
	if (indexes == NULL)
		return NULL;
	MemoryContextSetParent(indexes->context, CurrentMemoryContext);
	return indexes->version == about->version ? indexes : NULL;
}

/*
 * The lock that indexes are to be opened in: none, where this subtransaction,
 * which keeps it to its end, has taken it before.
 */
static LOCKMODE
lock_mode(ApikeyIndexes *indexes)
{
	FullTransactionId transaction = GetTopFullTransactionIdIfAny();
	SubTransactionId subtransaction = GetCurrentSubTransactionId();

	if (FullTransactionIdIsValid(transaction) &&
		FullTransactionIdEquals(transaction, indexes->transaction) &&
		subtransaction == indexes->subtransaction)
		return NoLock;
	indexes->transaction = transaction;
	indexes->subtransaction = subtransaction;
	return RowExclusiveLock;
}

/*
 * Opens the indexes of an open and locked table, to be written, as
 * ExecOpenIndices does; what it takes lives in the current context.  Others may
 * make or remove an index, but wait for our lock of the table before they rely
 * on it that everybody knows.
 */
ApikeyIndexes *
apikey_indexes_open(ResultRelInfo *target, ApikeyRelation table)
{
	ApikeyIndexes *indexes = take(&kept[table]);
	Relation   *open;
	LOCKMODE	mode;

	if (indexes == NULL)
		indexes = make(&kept[table], target->ri_RelationDesc);
	mode = lock_mode(indexes);
	open = palloc(indexes->count * sizeof(Relation));
	for (int i = 0; i < indexes->count; i++)
		open[i] = open_index(&kept[table], kept[table].oids[i], mode);
	target->ri_IndexRelationDescs = open;
	target->ri_IndexRelationInfo = indexes->infos;
	target->ri_NumIndices = indexes->count;
	return indexes;
}

/* Closes them, and keeps what still holds; they stay locked. */
void
apikey_indexes_close(ResultRelInfo *target, ApikeyRelation table,
					 ApikeyIndexes *indexes)
{
	Kept	   *about = &kept[table];

	if (!indexes->lasts)
	{
		ExecCloseIndices(target);
		return;
	}
	for (int i = 0; i < target->ri_NumIndices; i++)
		index_close(target->ri_IndexRelationDescs[i], NoLock);
	target->ri_NumIndices = 0;
	if (about->indexes != NULL || indexes->version != about->version)
		return;
	MemoryContextSetParent(indexes->context, CacheMemoryContext);
	about->indexes = indexes;
}
