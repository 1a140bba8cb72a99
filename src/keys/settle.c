/*
 * settle.c
 *		Settling what stands beside keys' rows: revocations, and removals.
 *
 * See revocation.c.  This is the worker's, and a superuser's who purges.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "access/access.h"
#include "keys/keys_internal.h"

/* What stands beside the row of a key, or of a member. */
typedef struct Beside
{
	pg_uuid_t	id;
	pg_uuid_t	key;			/* or member */
	bool		of_member;
	bool		restored;		/* or it has arrived by replication */
} Beside;

static bool
note_found(const ApikeyRow *row pg_attribute_unused(), void *found)
{
	*(bool *) found = true;
	return false;
}

/* Is there a row beside which it stands?  Nothing of it is kept. */
static bool
has_row(const Beside *beside)
{
	const ApikeyTable *table = beside->of_member ? &apikey_member_table :
		&apikey_key_table;
	Snapshot	snapshot = apikey_latest_snapshot();
	bool		found = false;
	ScanKeyData key;

	apikey_table_key(&key, &beside->key);
	apikey_table_walk(table, table->pkey, &key, 1, snapshot, note_found, &found);
	UnregisterSnapshot(snapshot);
	return found;
}

/* The search for the next: pass->found says that it has passed by something. */
typedef struct Search
{
	ApikeyPass *pass;
	List	   *found;
} Search;

/*
 * What is there since the pass began is the next one's.  It may have any id, so there
 * may be others behind it.
 *
 * Of what was restored the keys may come later, as a restore goes on with many
 * tables at once: it awaits them, however long, and takes no room from others.
 */
static bool
found_visit(const ApikeyRow *row, void *state)
{
	Search	   *search = state;
	Beside	   *beside;

	if (list_length(search->found) == APIKEY_STEP_CHANGES)
		return false;
	if (apikey_pass_since(search->pass,
						  DatumGetTimestampTz(row->values[APIKEY_REVOCATION_REVOKED_AT])))
	{
		search->pass->found = true;
		return true;
	}
	beside = palloc(sizeof(Beside));
	beside->id = *apikey_row_id(row);
	beside->key = *DatumGetUUIDP(row->values[APIKEY_REVOCATION_KEY]);
	beside->of_member = apikey_revocation_of_member(row);
	beside->restored = apikey_row_bool(row, APIKEY_REVOCATION_RESTORED);
	if (!beside->restored || has_row(beside))
		search->found = lappend(search->found, beside);
	return true;
}

/*
 * Do such rows, or those beside which they stand, come from another database, or
 * may they?  Then what settles a revocation comes from there: done here, it could
 * be undone by what was written there before.
 */
static bool
arrives(void)
{
	return apikey_fleet_arrives(APIKEY_REL_REVOCATION) != APIKEY_ANSWER_NO ||
		apikey_fleet_arrives(APIKEY_REL_KEY) != APIKEY_ANSWER_NO ||
		apikey_fleet_arrives(APIKEY_REL_MEMBER) != APIKEY_ANSWER_NO;
}

/*
 * Is there nothing beside which it stands, nor a member that is being made?  What
 * was written here had a key, which is gone then; of what was restored nobody
 * knows.
 */
static bool
is_left_over(const Beside *beside)
{
	return !beside->restored &&
		!(beside->of_member &&
		  apikey_table_changing(&apikey_member_table, &beside->key)) &&
		!has_row(beside);
}

/*
 * Settles what stands beside a key's row, or a member's, and removes it where
 * there is none, unless somebody has it, or is making the member.  Who imports a
 * key has what is left over under its id.
 */
static void
settle(const Beside *beside)
{
	const pg_uuid_t *key = &beside->key;
	ApikeyRow	row;

	if (beside->of_member ?
		apikey_member_finish(key, APIKEY_LOCK_UPDATE_SKIP) :
		(apikey_key_lock(key, APIKEY_LOCK_UPDATE_SKIP, &row) ||
		 apikey_key_finish(key, APIKEY_LOCK_UPDATE_SKIP)))
		return;
	if (is_left_over(beside))
		apikey_table_delete_by(&apikey_revocation_table, &beside->id,
							   APIKEY_LOCK_UPDATE_SKIP, false);
}

static void
settle_one(void *beside, void *state pg_attribute_unused())
{
	settle(beside);
}

static void
settle_found(List *found, void *state)
{
	apikey_turns_each(found, settle_one, state);
}

/* Finds the next ones, in the order of their ids; pass->begun: there may be more. */
static List *
find_next(ApikeyPass *pass)
{
	Search		search = {.pass = pass};
	ApikeyWalk	walk = {
		.table = &apikey_revocation_table,
		.index = APIKEY_REL_REVOCATION_PKEY,
		.order = {APIKEY_REVOCATION_ID},
		.columns = 1,
		.snapshot = apikey_latest_snapshot(),
		.visit = found_visit,
		.state = &search
	};

	pass->begun = apikey_walk_step(&walk, &pass->place) ||
		list_length(search.found) == APIKEY_STEP_CHANGES;
	UnregisterSnapshot(walk.snapshot);
	return search.found;
}

static void
begin_pass(ApikeyPass *pass)
{
	uint64		asked = apikey_stats_visits_asked(APIKEY_VISIT_SETTLE);

	apikey_pass_begin(pass);
	pass->asked = asked;
}

/*
 * In a transaction: a step through what stands beside keys' rows, that settles
 * it where nobody has them; false for the last.  What somebody has is passed by,
 * and holds up nothing that comes after it.  For what is there since the pass began,
 * which is passed by or may be behind it, the worker comes once more.
 */
bool
apikey_revocation_settle_found(ApikeyPass *pass)
{
	List	   *found;

	if (!apikey_revocation_any() || arrives())
	{
		pass->begun = false;
		return false;
	}
	if (!pass->begun)
		begin_pass(pass);
	found = find_next(pass);
	(void) apikey_attempt_each(settle_found, found, NULL);
	if (!pass->begun &&
		(pass->found ||
		 pass->asked != apikey_stats_visits_asked(APIKEY_VISIT_SETTLE)))
		apikey_stats_visit(APIKEY_VISIT_SETTLE, GetCurrentTimestamp());
	return pass->begun;
}
