/*
 * retire.c
 *		Revoking the keys of dropped roles, in their rows.
 *
 * Verification and the views take such a key for revoked as soon as the role
 * is gone.  That its row says so is for whoever reads the row elsewhere or
 * later: a dump, a new role that gets the OID.  In the session's own database
 * the drop itself marks the rows; in the others the worker does.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "apikey.h"
#include "usage.h"

#define FOUND_MAX		1000	/* the worker's next run finds more */

static bool dropped_role = false;

static void
on_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
	{
		if (dropped_role)
			apikey_stats_role_dropped();
		dropped_role = false;
	}
	else if (event == XACT_EVENT_ABORT)
		dropped_role = false;
}

/* Once, when the library is loaded. */
void
apikey_retire_init(void)
{
	RegisterXactCallback(on_transaction_end, NULL);
}

/* The ids of the keys that are to be looked at. */
static List *
find_ids(const char *condition, Oid type, Datum value, const char *limit)
{
	const char *schema = apikey_catalog_schema();
	MemoryContext context = CurrentMemoryContext;
	ApikeyStorage storage;
	List	   *ids;

	apikey_storage_open(&storage);
	if (SPI_execute_with_args(psprintf("SELECT id FROM %s.apikey_key"
									   " WHERE revoked_at IS NULL AND %s %s",
									   schema, condition, limit),
							  1, &type, &value, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look for the API keys of dropped roles");
	ids = apikey_storage_ids(context);
	apikey_storage_close(&storage);
	return ids;
}

/* Returns how many could not be locked, if locked ones are left alone. */
static int
retire_all(List *ids, ApikeyLock lock)
{
	int			left = 0;
	ListCell   *cell;

	foreach(cell, ids)
	{
		ApikeyRow	key;

		if (!apikey_table_lock(&apikey_key_table, lfirst(cell), lock, &key))
			left++;
		else if (key.nulls[APIKEY_KEY_REVOKED_AT])
			apikey_manage_retire(&key);
	}
	return left;
}

/* A role is being dropped in this session. */
void
apikey_retire_role(Oid role)
{
	dropped_role = true;
	if (IsTransactionState() &&
		OidIsValid(get_extension_oid("apikey", true)))
		(void) retire_all(find_ids("owner = $1", OIDOID,
								   ObjectIdGetDatum(role), ""),
						  APIKEY_LOCK_UPDATE);
}

/*
 * A project's key is about to get its name: keys that roles dropped since have
 * left there under it make way.
 */
void
apikey_retire_name(const ApikeyRow *key)
{
	static ApikeyStatement statement;
	MemoryContext context = CurrentMemoryContext;
	ApikeyStorage storage;
	List	   *ids;
	Datum		values[2];

	if (apikey_key_project(key) == NULL)
		return;
	apikey_storage_open(&storage);
	if (apikey_storage_stale(&statement))
	{
		Oid			types[2] = {UUIDOID, TEXTOID};

		apikey_storage_prepare(&statement,
							   psprintf("SELECT id FROM %s.apikey_key"
										" WHERE project = $1 AND name = $2 COLLATE \"C\""
										" AND revoked_at IS NULL AND rotated_to IS NULL AND NOT EXISTS"
										" (SELECT FROM pg_authid a WHERE a.oid = owner)",
										apikey_catalog_schema()),
							   2, types);
	}
	values[0] = key->values[APIKEY_KEY_PROJECT];
	values[1] = key->values[APIKEY_KEY_NAME];
	apikey_storage_run(&statement, values, NULL);
	ids = apikey_storage_ids(context);
	apikey_storage_close(&storage);
	(void) retire_all(ids, APIKEY_LOCK_UPDATE);
}

/*
 * For the worker, in a transaction: keys of roles that were dropped in other
 * databases, or where the library was not loaded.
 */
void
apikey_retire_found(void)
{
	uint64		dropped = apikey_stats_roles_dropped();
	List	   *ids = find_ids("NOT EXISTS (SELECT FROM pg_catalog.pg_authid a"
							   " WHERE a.oid = owner)",
							   INT4OID, Int32GetDatum(FOUND_MAX), "LIMIT $1");

	if (retire_all(ids, APIKEY_LOCK_UPDATE_SKIP) == 0 &&
		list_length(ids) < FOUND_MAX)
		apikey_stats_retired(dropped);
}
