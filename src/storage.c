/*
 * storage.c
 *		Writing to our own tables, as their owner.
 *
 * Whoever calls has decided already that the change may be made: in here the
 * user is the tables' owner and the search path is fixed.  Both return to
 * what they were in apikey_storage_close or, after an error, when the
 * (sub)transaction aborts.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "apikey.h"

#define SEARCH_PATH	"pg_catalog, pg_temp"

/*
 * Fixes the search path, unless it is so already.  Returns what
 * apikey_storage_restore_path is to be given.
 */
int
apikey_storage_fix_path(void)
{
	int			level;

	if (strcmp(namespace_search_path, SEARCH_PATH) == 0)
		return 0;
	level = NewGUCNestLevel();
	(void) set_config_option("search_path", SEARCH_PATH,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	return level;
}

void
apikey_storage_restore_path(int level)
{
	if (level != 0)
		AtEOXact_GUC(false, level);
}

/* Takes the tables' owner's place, under the fixed path. */
static void
take_place(ApikeyStorage *storage)
{
	GetUserIdAndSecContext(&storage->user, &storage->security);
	SetUserIdAndSecContext(apikey_catalog()->tables_owner,
						   storage->security |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	storage->guc_level = apikey_storage_fix_path();
}

static void
give_back(const ApikeyStorage *storage)
{
	apikey_storage_restore_path(storage->guc_level);
	SetUserIdAndSecContext(storage->user, storage->security);
}

void
apikey_storage_open(ApikeyStorage *storage)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	take_place(storage);
}

void
apikey_storage_close(ApikeyStorage *storage)
{
	give_back(storage);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/* Must a statement be prepared before it is run? */
bool
apikey_storage_stale(const ApikeyStatement *statement)
{
	return statement->plan == NULL ||
		statement->generation != apikey_catalog()->generation;
}

void
apikey_storage_prepare(ApikeyStatement *statement, const char *sql,
					   int count, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(sql, count, types);

	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	if (statement->plan != NULL)
		SPI_freeplan(statement->plan);
	statement->plan = NULL;
	SPI_keepplan(plan);
	statement->plan = plan;
	statement->generation = apikey_catalog()->generation;
}

/* Runs a prepared statement; returns the number of rows. */
uint64
apikey_storage_run(const ApikeyStatement *statement, Datum *values,
				   const char *nulls)
{
	int			result = SPI_execute_plan(statement->plan, values, nulls,
										  false, 0);

	if (result < 0)
		elog(ERROR, "SPI_execute_plan failed: %s",
			 SPI_result_code_string(result));
	return SPI_processed;
}

/* The ids that the last query has returned, copied into a context. */
List *
apikey_storage_ids(MemoryContext context)
{
	MemoryContext inner = MemoryContextSwitchTo(context);
	List	   *ids = NIL;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		id = SPI_getbinval(SPI_tuptable->vals[i],
									   SPI_tuptable->tupdesc, 1, &isnull);
		pg_uuid_t  *copy = palloc(sizeof(pg_uuid_t));

		*copy = *DatumGetUUIDP(id);
		ids = lappend(ids, copy);
	}
	MemoryContextSwitchTo(inner);
	return ids;
}

/*
 * Runs a work in a subtransaction; false, and nothing done, where the
 * transaction's snapshot forbids it.
 */
bool
apikey_storage_try(ApikeyWork run, void *work)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		run(work);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(error);
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_END_TRY();
	return done;
}

/* A slot with a row for a table: its first columns are given. */
static TupleTableSlot *
row_slot(EState *estate, Relation rel, const Datum *values,
		 const bool *nulls, int count)
{
	TupleDesc	desc = RelationGetDescr(rel);
	TupleTableSlot *slot = ExecInitExtraTupleSlot(estate, desc,
												  &TTSOpsVirtual);

	if (desc->natts < count)
		elog(ERROR, "table \"%s\" has too few columns",
			 RelationGetRelationName(rel));
	memset(slot->tts_isnull, true, desc->natts * sizeof(bool));
	memcpy(slot->tts_values, values, count * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, count * sizeof(bool));
	return ExecStoreVirtualTuple(slot);
}

/*
 * Inserts a row as an apply worker does: to start and end a statement costs
 * more than the row.  It needs no apikey_storage_open.
 */
void
apikey_storage_insert(Oid table, const Datum *values, const bool *nulls,
					  int count)
{
	ApikeyStorage storage;
	Relation	rel;
	EState	   *estate;
	MemoryContext context;
	ResultRelInfo *target;

	PreventCommandIfParallelMode("INSERT");
	rel = table_open(table, RowExclusiveLock);
	estate = CreateExecutorState();
	context = MemoryContextSwitchTo(estate->es_query_cxt);
	target = makeNode(ResultRelInfo);
	take_place(&storage);
	estate->es_output_cid = GetCurrentCommandId(true);
	InitResultRelInfo(target, rel, 0, NULL, 0);
	estate->es_opened_result_relations = list_make1(target);
	ExecOpenIndices(target, false);
	AfterTriggerBeginQuery();
	ExecSimpleRelationInsert(target, estate,
							 row_slot(estate, rel, values, nulls, count));
	AfterTriggerEndQuery(estate);
	ExecCloseResultRelations(estate);
	ExecResetTupleTable(estate->es_tupleTable, false);
	MemoryContextSwitchTo(context);
	FreeExecutorState(estate);
	table_close(rel, NoLock);
	give_back(&storage);
	/* To be seen by what is read next, in this statement too. */
	CommandCounterIncrement();
}
