/*
 * lease_upkeep.c
 *		What the worker does with the leases of servers: one that has become the
 *		primary takes its own back, and those that nobody asks about are
 *		forfeited.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "servers/server_lease.h"
#include "servers/servers_internal.h"

#define AT_ONCE		50			/* leases in a transaction */

/* Leases that were found, copies of their rows. */
typedef struct Found
{
	List	   *leases;
	int			most;
} Found;

static bool
collect(const ApikeyRow *lease, void *state)
{
	Found	   *found = state;
	ApikeyRow  *copy = palloc(sizeof(ApikeyRow));

	apikey_row_copy(&apikey_server_lease_table, lease, copy);
	found->leases = lappend(found->leases, copy);
	return list_length(found->leases) < found->most;
}

/*
 * For the worker: a server that was promoted has leases of the primary that was
 * before, and what is left of them goes back into the accounts; true while
 * there may be more.
 */
bool
apikey_lease_adopt_own(void)
{
	Found		found = {.most = AT_ONCE};
	int64		adopted = 0;
	pg_uuid_t	id;
	ListCell   *cell;
	bool		more;

	if (!apikey_step_begin())
		return false;
	apikey_server_own_id(&id);
	apikey_server_lease_walk(&id, collect, &found);
	more = list_length(found.leases) == AT_ONCE;
	foreach(cell, found.leases)
		adopted += apikey_lease_adopt(lfirst(cell));
	apikey_step_commit();
	return adopted > 0 && more;
}

/*
 * For the worker: what was leased a day ago and was not asked about since comes
 * back to nobody; true while there may be more than what somebody has.
 */
bool
apikey_lease_forfeit_old(void)
{
	Found		found = {.most = AT_ONCE};
	Snapshot	snapshot;
	ScanKeyData key;
	ListCell   *cell;
	int			removed = 0;

	if (!apikey_step_begin())
		return false;
	ScanKeyInit(&key, SERVER_LEASE_GRANTED_AT + 1, BTLessStrategyNumber,
				F_TIMESTAMPTZ_LT,
				TimestampTzGetDatum(GetCurrentTimestamp() - APIKEY_LEASE_KEPT_FOR));
	snapshot = apikey_latest_snapshot();
	if (apikey_fleet_arrives(APIKEY_REL_KEY) == APIKEY_ANSWER_NO)
		apikey_table_scan(&apikey_server_lease_table,
					  APIKEY_REL_SERVER_LEASE_GRANTED_AT, &key, 1, snapshot,
					  collect, &found);
	UnregisterSnapshot(snapshot);
	foreach(cell, found.leases)
	{
		ApikeyRow	lease;

		if (!apikey_table_lock(&apikey_server_lease_table,
							   apikey_row_id(lfirst(cell)),
							   APIKEY_LOCK_UPDATE_SKIP, &lease) ||
			DatumGetTimestampTz(lease.values[SERVER_LEASE_GRANTED_AT]) >=
			GetCurrentTimestamp() - APIKEY_LEASE_KEPT_FOR)
			continue;
		apikey_table_delete(&apikey_server_lease_table,
							apikey_row_id(&lease), false);
		removed++;
	}
	apikey_step_commit();
	return list_length(found.leases) == AT_ONCE && removed > 0;
}
