/*
 * server_lease.c
 *		Credits that are leased to other servers: their rows.
 *
 * A server has one lease of an account at most, whose row has an id made of
 * both.  The credits were taken out of the account's row in the transaction
 * that wrote the lease's, before the first of them was spent; they go back when
 * the server returns them, or are forfeited: given out again to nobody.
 *
 *		none -- lease --> out -- lease: more, another number --> out
 *		 ^				   |
 *		 +--- returned, forfeited, void (the account's period or generation
 *			  is another, or it is gone)
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "limits/limits.h"
#include "servers/server_lease.h"
#include "servers/servers.h"

static const ApikeyColumn lease_columns[] = {
	[SERVER_LEASE_ID] = {"id", UUIDOID, false, true},
	[SERVER_LEASE_SERVER] = {"server", UUIDOID, false, true},
	[SERVER_LEASE_ACCOUNT] = {"account", UUIDOID, false, true},
	[SERVER_LEASE_NUMBER] = {"number", INT8OID, false, true},
	[SERVER_LEASE_GRANTED] = {"granted", INT8OID, false, true},
	[SERVER_LEASE_AMOUNT] = {"amount", INT8OID, false, true},
	[SERVER_LEASE_GENERATION] = {"generation", INT8OID, false, true},
	[SERVER_LEASE_UNTIL] = {"until", TIMESTAMPTZOID, false},
	[SERVER_LEASE_LEFT_OVER] = {"left_over", INT8OID, false, true},
	[SERVER_LEASE_GRANTED_AT] = {"granted_at", TIMESTAMPTZOID, false, true}
};

const ApikeyTable apikey_server_lease_table = {
	.name = "apikey_server_lease",
	.relation = APIKEY_REL_SERVER_LEASE,
	.pkey = APIKEY_REL_SERVER_LEASE_PKEY,
	.columns = lease_columns,
	.count = lengthof(lease_columns)
};

/* Calls visit with each lease of a server; its row is gone when visit returns. */
void
apikey_server_lease_walk(const pg_uuid_t *server, ApikeyVisit visit,
						 void *state)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData key;

	ScanKeyInit(&key, SERVER_LEASE_SERVER + 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(server));
	apikey_table_scan(&apikey_server_lease_table, APIKEY_REL_SERVER_LEASE_SERVER,
					  &key, 1, snapshot, visit, state);
	UnregisterSnapshot(snapshot);
}

static bool
collect_id(const ApikeyRow *lease, void *state)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	*id = *apikey_row_id(lease);
	*(List **) state = lappend(*(List **) state, id);
	return true;
}

/* All that a server, whose row is locked, has leased is gone; returns how many. */
int64
apikey_server_lease_forfeit(const pg_uuid_t *server)
{
	List	   *ids = NIL;
	ListCell   *cell;

	apikey_server_lease_walk(server, collect_id, &ids);
	foreach(cell, ids)
		apikey_table_delete(&apikey_server_lease_table, lfirst(cell), false);
	return list_length(ids);
}

/* How much of each unit is leased. */
typedef struct Sum
{
	char	   *unit;
	int64		amount;
} Sum;

static Sum *
sum_of(List **sums, const char *unit)
{
	ListCell   *cell;
	Sum		   *sum;

	foreach(cell, *sums)
	{
		sum = lfirst(cell);
		if (strcmp(sum->unit, unit) == 0)
			return sum;
	}
	sum = palloc0(sizeof(Sum));
	sum->unit = pstrdup(unit);
	*sums = lappend(*sums, sum);
	return sum;
}

static bool
take_unit(const ApikeyRow *limit, void *unit)
{
	text_to_cstring_buffer(apikey_row_text(limit, APIKEY_LIMIT_UNIT), unit,
						   APIKEY_UNIT_MAX + 1);
	return false;
}

/* The unit that an account is of. */
static void
unit_of(const pg_uuid_t *account, char *unit)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData key;

	strcpy(unit, APIKEY_REQUESTS);
	apikey_table_key(&key, account);
	apikey_table_walk(&apikey_limit_table, APIKEY_REL_LIMIT_PKEY, &key, 1,
					  snapshot, take_unit, unit);
	UnregisterSnapshot(snapshot);
}

static bool
add_lease(const ApikeyRow *lease, void *state)
{
	char		unit[APIKEY_UNIT_MAX + 1];
	Sum		   *sum;

	if (!lease->nulls[SERVER_LEASE_UNTIL] &&
		DatumGetTimestampTz(lease->values[SERVER_LEASE_UNTIL]) <=
		GetCurrentTimestamp())
		return true;
	unit_of(DatumGetUUIDP(lease->values[SERVER_LEASE_ACCOUNT]), unit);
	sum = sum_of(state, unit);
	sum->amount = apikey_credits_sum(sum->amount,
									 DatumGetInt64(lease->values[SERVER_LEASE_AMOUNT]));
	return true;
}

static char *
sums_json(List *sums)
{
	StringInfoData json;
	ListCell   *cell;

	apikey_detail_begin(&json);
	foreach(cell, sums)
	{
		Sum		   *sum = lfirst(cell);

		apikey_detail_json(&json, sum->unit, psprintf(INT64_FORMAT, sum->amount));
	}
	return apikey_detail_end(&json);
}

/* What a server has leased, by unit. */
char *
apikey_server_lease_json(const pg_uuid_t *server)
{
	List	   *sums = NIL;

	apikey_server_lease_walk(server, add_lease, &sums);
	return sums_json(sums);
}

/* The same of what this server has of its own. */
char *
apikey_server_own_lease_json(void)
{
	List	   *sums = NIL;

	for (int i = 0; i < apikey_slot_count(); i++)
	{
		/* Read without a lock: it is a figure of a moment. */
		const ApikeySlot *slot = apikey_slot_at(i);
		pg_uuid_t	account = slot->key.id;
		char		unit[APIKEY_UNIT_MAX + 1];
		Sum		   *sum;

		if (!slot->used || slot->key.database != MyDatabaseId ||
			slot->lease.number == 0 || slot->lease.available <= 0)
			continue;
		unit_of(&account, unit);
		sum = sum_of(&sums, unit);
		sum->amount = apikey_credits_sum(sum->amount, slot->lease.available);
	}
	return sums_json(sums);
}
