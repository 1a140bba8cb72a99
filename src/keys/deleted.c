/*
 * deleted.c
 *		What is kept of a deleted key: whose it was, for a day.
 *
 * What a call has cost is known when it is over, and its key may have been
 * deleted by then.  Its subject, its project and its organization are charged
 * for it all the same.
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
#include "keys/keys_internal.h"

#define KEPT_FOR		USECS_PER_DAY

typedef enum DeletedColumn
{
	DELETED_ID,
	DELETED_OWNER,
	DELETED_OWNER_NAME,
	DELETED_SUBJECT,
	DELETED_ORGANIZATION,
	DELETED_PROJECT,
	DELETED_PATH,
	DELETED_AT
} DeletedColumn;

static const ApikeyColumn deleted_columns[] = {
	[DELETED_ID] = {"id", UUIDOID, false, true},
	[DELETED_OWNER] = {"owner", REGROLEOID, false, true},
	[DELETED_OWNER_NAME] = {"owner_name", TEXTOID, false, true},
	[DELETED_SUBJECT] = {"subject", TEXTOID, false},
	[DELETED_ORGANIZATION] = {"organization", UUIDOID, false},
	[DELETED_PROJECT] = {"project", UUIDOID, false},
	[DELETED_PATH] = {"path", TEXTOID, false},
	[DELETED_AT] = {"deleted_at", TIMESTAMPTZOID, false, true}
};

static const ApikeyTable deleted_table = {
	.name = "apikey_deleted",
	.relation = APIKEY_REL_DELETED,
	.pkey = APIKEY_REL_DELETED_PKEY,
	.columns = deleted_columns,
	.count = lengthof(deleted_columns)
};

/* What is kept of a key; false where its project is gone. */
static bool
make_row(const ApikeyRow *key, ApikeyRow *row)
{
	const pg_uuid_t *project = apikey_key_project(key);
	ApikeyTenant tenant;

	if (project != NULL && !apikey_tenant_fetch_project(project, &tenant))
		return false;
	apikey_row_clear(row);
	row->values[DELETED_ID] = key->values[APIKEY_KEY_ID];
	row->nulls[DELETED_ID] = false;
	apikey_row_set(row, DELETED_OWNER, key->values[APIKEY_KEY_OWNER]);
	apikey_row_set_pointer(row, DELETED_OWNER_NAME,
						   apikey_row_text(key, APIKEY_KEY_OWNER_NAME));
	apikey_row_set_pointer(row, DELETED_SUBJECT,
						   apikey_row_text(key, APIKEY_KEY_SUBJECT));
	if (project != NULL)
	{
		apikey_row_set_pointer(row, DELETED_ORGANIZATION,
							   apikey_tenant_organization(&tenant));
		apikey_row_set_pointer(row, DELETED_PROJECT, project);
		apikey_row_set(row, DELETED_PATH, CStringGetTextDatum(tenant.path));
	}
	apikey_row_set(row, DELETED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	return true;
}

/*
 * A key is being deleted, or its project, whose drop may be all that knows its
 * organization when its row goes.  Without the library nothing is ever charged.
 * One that had been deleted, and was imported or restored since, has a row
 * already.  Whoever is making a row of it meanwhile makes the same, and is not
 * waited for.
 */
void
apikey_deleted_note(const ApikeyRow *key, ApikeyLock lock)
{
	ApikeyWriter *writer;
	ScanKeyData id;
	ApikeyRow	row;

	if (!apikey_preloaded() || !make_row(key, &row))
		return;
	apikey_table_key(&id, apikey_row_id(key));
	writer = apikey_table_open(&deleted_table);
	if (!apikey_table_absent(writer, &deleted_table, &id) &&
		apikey_table_take(writer, &deleted_table, &id, lock, NULL))
		apikey_table_put(writer, &deleted_table, &row);
	else if (apikey_table_absent(writer, &deleted_table, &id))
		apikey_table_add(writer, &deleted_table, &row);
	apikey_table_close(writer);
}

/* Is a row of what a key would be: of its project, or as personal as it is? */
static bool
same_holder(const ApikeyRow *row, const ApikeyRow *key)
{
	const pg_uuid_t *project = apikey_key_project(key);
	const pg_uuid_t *before = apikey_row_uuid(row, DELETED_PROJECT);

	if (project != NULL || before != NULL)
		return project != NULL && before != NULL &&
			memcmp(project, before, sizeof(pg_uuid_t)) == 0;
	return DatumGetObjectId(row->values[DELETED_OWNER]) == apikey_key_owner(key) &&
		apikey_role_stands(apikey_key_owner(key),
						   apikey_row_text(row, DELETED_OWNER_NAME)) &&
		apikey_same_text(apikey_row_text(row, DELETED_SUBJECT),
						 apikey_row_text(key, APIKEY_KEY_SUBJECT));
}

/*
 * Was a key of somebody else deleted less than a day ago that had the id of a new
 * one?  What that costs still, and its last uses, would be taken for the new one's.
 */
bool
apikey_deleted_of_others(const ApikeyRow *key)
{
	ApikeyRow	row;

	return apikey_table_fetch_latest(&deleted_table, apikey_row_id(key), &row) &&
		DatumGetTimestampTz(row.values[DELETED_AT]) + KEPT_FOR >
		GetCurrentTimestamp() && !same_holder(&row, key);
}

/*
 * Finds what is kept of a key that is not there any more.  Where it has been
 * removed beside its row, that row is all there is of it.
 */
static bool
find_row(const pg_uuid_t *id, ApikeyRow *row)
{
	ApikeyRow	key;

	if (apikey_table_fetch_latest(&deleted_table, id, row))
		return true;
	return apikey_table_fetch_latest(&apikey_key_table, id, &key) &&
		make_row(&key, row);
}

/* Locks what that is found in: see apikey_member_keep. */
void
apikey_deleted_keep(void)
{
	apikey_table_keep(&deleted_table, deleted_table.pkey);
}

/*
 * What charges need of a key that was deleted less than a day ago, and of its
 * tenant, as both were; false where there is none.  Whether its owner stands is
 * the caller's to ask, once it may know of it.
 */
bool
apikey_deleted_fetch(const pg_uuid_t *id, ApikeyRow *key, ApikeyTenant *tenant)
{
	ApikeyRow	row;

	if (!find_row(id, &row) ||
		DatumGetTimestampTz(row.values[DELETED_AT]) + KEPT_FOR <=
		GetCurrentTimestamp())
		return false;
	apikey_row_clear(key);
	apikey_row_set_pointer(key, APIKEY_KEY_ID, id);
	apikey_row_set(key, APIKEY_KEY_OWNER, row.values[DELETED_OWNER]);
	apikey_row_set_pointer(key, APIKEY_KEY_OWNER_NAME,
						   apikey_row_text(&row, DELETED_OWNER_NAME));
	apikey_row_set_pointer(key, APIKEY_KEY_SUBJECT,
						   apikey_row_text(&row, DELETED_SUBJECT));
	/* Whoever asks for it; the owner has perhaps been handed it, unasked. */
	apikey_row_set(key, APIKEY_KEY_VOUCHED_BY, ObjectIdGetDatum(GetUserId()));
	memset(tenant, 0, sizeof(*tenant));
	if (row.nulls[DELETED_PROJECT])
		return true;
	apikey_row_set(key, APIKEY_KEY_PROJECT, row.values[DELETED_PROJECT]);
	tenant->is_project = true;
	tenant->path = text_to_cstring(apikey_row_text(&row, DELETED_PATH));
	apikey_row_set(&tenant->project, APIKEY_PROJECT_ID,
				   row.values[DELETED_PROJECT]);
	apikey_row_set(&tenant->project, APIKEY_PROJECT_ORGANIZATION,
				   row.values[DELETED_ORGANIZATION]);
	return true;
}

/* Rows that have been kept long enough. */
typedef struct Search
{
	List	   *ids;
	bool		full;			/* there may be more */
} Search;

static bool
collect_old(const ApikeyRow *row, void *state)
{
	Search	   *search = state;
	pg_uuid_t  *id;

	search->full = list_length(search->ids) == APIKEY_STEP_CHANGES;
	if (search->full)
		return false;
	id = palloc(sizeof(pg_uuid_t));
	*id = *apikey_row_id(row);
	search->ids = lappend(search->ids, id);
	return true;
}

/* Removes some, but those that somebody has. */
static void
forget_some(List *ids, void *state pg_attribute_unused())
{
	ApikeyWriter *writer = apikey_table_open(&deleted_table);
	ListCell   *cell;

	foreach(cell, ids)
	{
		ScanKeyData key;

		apikey_table_key(&key, lfirst(cell));
		if (apikey_table_take(writer, &deleted_table, &key,
							  APIKEY_LOCK_UPDATE_SKIP, NULL))
			apikey_table_remove(writer, &deleted_table);
	}
	apikey_table_close(writer);
}

/*
 * For the worker, in a transaction: a step through the rows that were kept long
 * enough, which removes them; true while there may be more.  What somebody has,
 * or cannot be removed, is passed by, and holds up nothing that is behind it.
 */
bool
apikey_deleted_forget(ApikeyPass *pass)
{
	Search		search = {0};
	ScanKeyData until;
	ApikeyWalk	walk = {
		.table = &deleted_table,
		.index = APIKEY_REL_DELETED_AT,
		.order = {DELETED_AT, DELETED_ID},
		.columns = 2,
		.until = &until,
		.snapshot = apikey_latest_snapshot(),
		.visit = collect_old,
		.state = &search
	};

	ScanKeyInit(&until, DELETED_AT + 1, BTLessEqualStrategyNumber,
				F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(GetCurrentTimestamp() - KEPT_FOR));
	if (!pass->begun)
		apikey_pass_begin(pass);
	pass->begun = apikey_walk_step(&walk, &pass->place) || search.full;
	UnregisterSnapshot(walk.snapshot);
	(void) apikey_attempt_each(forget_some, search.ids, NULL);
	return pass->begun;
}
