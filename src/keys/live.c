/*
 * live.c
 *		How many keys occupy their names: what bounds them.
 *
 * A project may have a bound (max_keys), and so may a role for its personal
 * keys (apikey.max_keys_per_role).  Nobody waits for anybody over it: a key is
 * inserted first, and then all that are there are counted, with those that
 * others have inserted or revoked and not committed yet.  Of two who come to
 * the last place at once none may get it, but never both.
 *
 * The indexes of names hold live keys alone, so it is their entries that are
 * counted, mostly without a look at a row.  Only where these are too many are
 * the rows read: a key may have been revoked beside its row, its owner have
 * been dropped, or it may be there twice, as somebody is changing it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "store/store.h"
#include "rows/rows.h"
#include "keys/keys_internal.h"

int			apikey_max_keys_per_role = 0;

/* The keys that a bound is about: those of a project, or a role's own. */
typedef struct Bounded
{
	ApikeyRelation index;
	AttrNumber	column;			/* of the table; the first of the index */
	RegProcedure equal;
	Datum		value;
	int64		most;
} Bounded;

/* Counts entries of the index, up to one too many. */
static int64
count_entries(const Bounded *bounded)
{
	Relation	rel = apikey_table_relation(&apikey_key_table, AccessShareLock);
	Relation	index = apikey_table_index(&apikey_key_table, rel, bounded->index);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Buffer		map = InvalidBuffer;
	SnapshotData dirty;
	IndexScanDesc scan;
	ScanKeyData key;
	ItemPointer tid;
	int64		count = 0;

	InitDirtySnapshot(dirty);
	ScanKeyInit(&key, bounded->column, BTEqualStrategyNumber, bounded->equal,
				bounded->value);
	apikey_scan_require(index, &key, 1);
	key.sk_attno = 1;
	scan = apikey_index_beginscan(rel, index, &dirty, 1);
	index_rescan(scan, &key, 1, NULL, 0);
	while (count <= bounded->most &&
		   (tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (VM_ALL_VISIBLE(rel, ItemPointerGetBlockNumber(tid), &map) ||
			index_fetch_heap(scan, slot))
			count++;
	}
	index_endscan(scan);
	if (BufferIsValid(map))
		ReleaseBuffer(map);
	ExecDropSingleTupleTableSlot(slot);
	apikey_table_close_index(index);
	table_close(rel, NoLock);
	return count;
}

/* The live keys that have been seen. */
typedef struct Seen
{
	HTAB	   *ids;
	int64		most;
} Seen;

static bool
see(const ApikeyRow *row, void *state)
{
	Seen	   *seen = state;
	ApikeyRow	key = *row;

	if (apikey_revocation_apply_latest(&key) && apikey_key_live(&key))
		(void) hash_search(seen->ids, apikey_row_id(&key), HASH_ENTER, NULL);
	return hash_get_num_entries(seen->ids) <= seen->most;
}

/* Are there too many keys, when they are looked at one by one? */
static bool
too_many_keys(const Bounded *bounded)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey live keys",
												  ALLOCSET_DEFAULT_SIZES);
	HASHCTL		control = {
		.keysize = sizeof(pg_uuid_t),
		.entrysize = sizeof(pg_uuid_t),
		.hcxt = context
	};
	Seen		seen = {
		.ids = hash_create("apikey live keys", 256, &control,
						   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT),
		.most = bounded->most
	};
	SnapshotData dirty;
	ApikeyTurns turns;
	ScanKeyData key;
	bool		result;

	InitDirtySnapshot(dirty);
	ScanKeyInit(&key, bounded->column, BTEqualStrategyNumber, bounded->equal,
				bounded->value);
	apikey_turns_begin(&turns, see, &seen);
	apikey_table_walk(&apikey_key_table, bounded->index, &key, 1, &dirty,
					  apikey_turns_visit, &turns);
	apikey_turns_end(&turns);
	result = hash_get_num_entries(seen.ids) > bounded->most;
	MemoryContextDelete(context);
	return result;
}

static bool
too_many(const Bounded *bounded)
{
	return count_entries(bounded) > bounded->most && too_many_keys(bounded);
}

static void
require_room_in_project(const ApikeyRow *key, const ApikeyTenant *tenant)
{
	Bounded		bounded = {
		.index = APIKEY_REL_KEY_PROJECT_NAME,
		.column = APIKEY_KEY_PROJECT + 1,
		.equal = F_UUID_EQ,
		.value = key->values[APIKEY_KEY_PROJECT]
	};

	if (tenant->project.nulls[APIKEY_PROJECT_MAX_KEYS])
		return;
	bounded.most =
		DatumGetInt32(tenant->project.values[APIKEY_PROJECT_MAX_KEYS]);
	if (too_many(&bounded))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("project \"%s\" has as many API keys as it may",
						tenant->path),
				 errdetail("Its \"max_keys\" is %d.", (int) bounded.most),
				 errhint("Revoke or delete keys that are not used any more."),
				 apikey_error_about("project", "apikey_project_full")));
}

static void
require_room_of_role(const ApikeyRow *key)
{
	Bounded		bounded = {
		.index = APIKEY_REL_KEY_NAME,
		.column = APIKEY_KEY_OWNER + 1,
		.equal = F_OIDEQ,
		.value = key->values[APIKEY_KEY_OWNER],
		.most = apikey_max_keys_per_role
	};

	if (apikey_max_keys_per_role > 0 && too_many(&bounded))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("role \"%s\" has as many API keys as it may",
						text_to_cstring(apikey_role_name_text(apikey_key_owner(key),
															  NULL))),
				 errdetail("\"apikey.max_keys_per_role\" is %d.",
						   apikey_max_keys_per_role),
				 errhint("Revoke or delete keys that are not used any more."),
				 err_generic_string(PG_DIAG_CONSTRAINT_NAME,
									"apikey_role_full")));
}

/*
 * Raises where a key that has just been inserted is one too many.  tenant is its
 * project, as it was before; NULL for a personal key.
 */
void
apikey_live_require_room(const ApikeyRow *key, const ApikeyTenant *tenant)
{
	if (tenant != NULL)
		require_room_in_project(key, tenant);
	else
		require_room_of_role(key);
}
