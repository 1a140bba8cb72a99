/*
 * storage.c
 *		Running our own statements on our own tables, as their owner.
 *
 * Whoever calls has decided already that the change may be made: in here the
 * user is the tables' owner and the search path is fixed.  Both return to
 * what they were in apikey_storage_close or, after an error, when the
 * (sub)transaction aborts.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/resowner.h"

#include "apikey.h"

void
apikey_storage_open(ApikeyStorage *storage)
{
	const ApikeyCatalog *catalog = apikey_catalog();

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	GetUserIdAndSecContext(&storage->user, &storage->security);
	SetUserIdAndSecContext(catalog->tables_owner,
						   storage->security |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	storage->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

void
apikey_storage_close(ApikeyStorage *storage)
{
	AtEOXact_GUC(false, storage->guc_level);
	SetUserIdAndSecContext(storage->user, storage->security);
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
