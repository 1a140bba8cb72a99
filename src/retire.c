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

static void
retire_all(List *ids)
{
	ListCell   *cell;

	foreach(cell, ids)
	{
		ApikeyRow	key;

		apikey_manage_lock(lfirst(cell), &key);
		if (key.nulls[APIKEY_KEY_REVOKED_AT])
			apikey_manage_retire(&key);
	}
}

/* A role is being dropped in this session. */
void
apikey_retire_role(Oid role)
{
	dropped_role = true;
	if (IsTransactionState() &&
		OidIsValid(get_extension_oid("apikey", true)))
		retire_all(find_ids("owner = $1", OIDOID, ObjectIdGetDatum(role), ""));
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

	retire_all(ids);
	if (list_length(ids) < FOUND_MAX)
		apikey_stats_retired(dropped);
}
