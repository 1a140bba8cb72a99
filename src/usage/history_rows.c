/*
 * history_rows.c
 *		The rows of the history: what was counted of a key in an hour or a day.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "usage/usage_internal.h"

static const ApikeyColumn history_columns[] = {
	[HISTORY_ID] = {"id", UUIDOID, false, true},
	[HISTORY_KEY_ID] = {"key_id", UUIDOID, false, true},
	[HISTORY_KEY_NAME] = {"key_name", TEXTOID, false, true},
	[HISTORY_KEY_OWNER] = {"key_owner", REGROLEOID, false, true},
	[HISTORY_KEY_OWNER_NAME] = {"key_owner_name", TEXTOID, false},
	[HISTORY_KEY_SUBJECT] = {"key_subject", TEXTOID, false},
	[HISTORY_PLACE] = {"place", TEXTOID, false},
	[HISTORY_ORGANIZATION] = {"organization", UUIDOID, false},
	[HISTORY_PROJECT] = {"project", UUIDOID, false},
	[HISTORY_STARTS_AT] = {"starts_at", TIMESTAMPTZOID, false, true},
	[HISTORY_STEP] = {"step", INTERVALOID, false, true},
	[HISTORY_USE_COUNT] = {"use_count", INT8OID, false, true},
	[HISTORY_DENIED] = {"denied", JSONBOID, false, true},
	[HISTORY_SPENT] = {"spent", JSONBOID, false, true}
};
const ApikeyTable apikey_history_table = {
	.name = "apikey_history",
	.relation = APIKEY_REL_HISTORY,
	.pkey = APIKEY_REL_HISTORY_PKEY,
	.columns = history_columns,
	.count = lengthof(history_columns)
};

/* Is no history kept? */
bool
apikey_history_off(void)
{
	return apikey_history_hours == 0 && apikey_history_days == 0;
}

/* When the hour or day begins, in UTC, that a time is in. */
static TimestampTz
begin_of(TimestampTz time, bool day)
{
	return time - time % (day ? USECS_PER_DAY : USECS_PER_HOUR);
}

static void
set_tenant(const ApikeyRow *key, ApikeyRow *row)
{
	ApikeyTenant tenant;

	if (apikey_key_project(key) == NULL ||
		!apikey_tenant_fetch_project(apikey_key_project(key), &tenant))
		return;
	apikey_row_set(row, HISTORY_PLACE, CStringGetTextDatum(tenant.path));
	apikey_row_set_pointer(row, HISTORY_ORGANIZATION,
						   apikey_tenant_organization(&tenant));
	apikey_row_set(row, HISTORY_PROJECT, key->values[APIKEY_KEY_PROJECT]);
}

/* A row of a key that nothing has been counted in. */
static void
new_row(const ApikeyRow *key, ApikeyRow *row)
{
	apikey_row_clear(row);
	apikey_row_set(row, HISTORY_KEY_ID, key->values[APIKEY_KEY_ID]);
	apikey_row_set(row, HISTORY_KEY_NAME, key->values[APIKEY_KEY_NAME]);
	apikey_row_set(row, HISTORY_KEY_OWNER, key->values[APIKEY_KEY_OWNER]);
	apikey_row_set_pointer(row, HISTORY_KEY_OWNER_NAME,
						   apikey_role_name_text(apikey_key_owner(key),
												 apikey_row_text(key, APIKEY_KEY_OWNER_NAME)));
	apikey_row_set_pointer(row, HISTORY_KEY_SUBJECT,
						   apikey_row_text(key, APIKEY_KEY_SUBJECT));
	set_tenant(key, row);
}

/* Gives a row another id than the key's first one of that hour or day has. */
static void
set_later(ApikeyRow *row)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	apikey_history_later_id(apikey_row_id(row), row, id);
	apikey_row_set_pointer(row, HISTORY_ID, id);
}

/*
 * Makes a row one of an hour or day: the key's first one, unless that is there
 * and the key was another's then.
 */
static void
set_step(ApikeyRow *row, TimestampTz begin, bool day)
{
	Interval   *step = palloc0(sizeof(Interval));
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	ApikeyRow	first;

	apikey_history_first_id(apikey_row_uuid(row, HISTORY_KEY_ID), begin, day, id);
	if (day)
		step->day = 1;
	else
		step->time = USECS_PER_HOUR;
	apikey_row_set_pointer(row, HISTORY_ID, id);
	apikey_row_set(row, HISTORY_STARTS_AT, TimestampTzGetDatum(begin));
	apikey_row_set_pointer(row, HISTORY_STEP, step);
	apikey_row_set(row, HISTORY_USE_COUNT, Int64GetDatum(0));
	apikey_row_set(row, HISTORY_DENIED,
				   DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	row->values[HISTORY_SPENT] = row->values[HISTORY_DENIED];
	row->nulls[HISTORY_SPENT] = false;
	if (apikey_table_fetch_latest(&apikey_history_table, id, &first) &&
		apikey_history_row_whose(&first) != apikey_history_row_whose(row))
		set_later(row);
}

/* The same for what happens now: an hour's where these are kept. */
static void
new_row_of_now(const ApikeyRow *key, ApikeyRow *row)
{
	bool		day = apikey_history_hours == 0;

	new_row(key, row);
	set_step(row, begin_of(GetCurrentTimestamp(), day), day);
}

/* Finds and locks the row that "row" is about, or leaves it as a new one. */
static bool
find_row(ApikeyRow *row)
{
	ApikeyRow	found;

	if (!apikey_table_lock(&apikey_history_table, apikey_row_id(row),
						   APIKEY_LOCK_UPDATE, &found))
		return false;
	/* Somebody else's has been made since. */
	if (apikey_history_row_whose(&found) != apikey_history_row_whose(row))
	{
		set_later(row);
		return find_row(row);
	}
	*row = found;
	return true;
}

static void
put_row(const ApikeyRow *row, bool found)
{
	if (found)
		apikey_table_update(&apikey_history_table, row);
	else
		apikey_table_insert(&apikey_history_table, row);
}

/* Has somebody the row of a key for what happens now, or is just making it? */
bool
apikey_history_row_held(const ApikeyRow *key)
{
	ApikeyRow	row;

	new_row_of_now(key, &row);
	return !apikey_table_write_free(&apikey_history_table, apikey_row_id(&row));
}

static void
add_uses(ApikeyRow *row, int64 uses)
{
	apikey_row_set(row, HISTORY_USE_COUNT,
				   Int64GetDatum(apikey_credits_sum(DatumGetInt64(row->values[HISTORY_USE_COUNT]),
													uses)));
}

/* The same, and what else was counted. */
static void
add(ApikeyRow *row, uint64 uses, const List *added)
{
	add_uses(row, (int64) uses);
	if (added != NIL)
		apikey_history_count(row, added);
}

/* Is none kept, or is there no table for it yet? */
static bool
none_kept(void)
{
	return apikey_history_off() || apikey_catalog()->first_script;
}

/* The table, open to be written; NULL where no history is kept. */
ApikeyWriter *
apikey_history_open(void)
{
	return none_kept() ? NULL : apikey_table_open(&apikey_history_table);
}

void
apikey_history_close(ApikeyWriter *writer)
{
	if (writer != NULL)
		apikey_table_close(writer);
}

/*
 * Reads a key of which something is to be written; or, of one that was deleted,
 * whose it was: it gets no new row.
 */
bool
apikey_history_key(const pg_uuid_t *id, ApikeyRow *key, bool *deleted)
{
	ApikeyTenant tenant;

	*deleted = !apikey_key_fetch_latest(id, key);
	return !*deleted || (apikey_deleted_fetch(id, key, &tenant) &&
						 apikey_key_owner_stands(key));
}

/* Adds to a row, if it is there, is of whose the key is, and nobody has it. */
static bool
change_row(ApikeyWriter *writer, const pg_uuid_t *id, uint32 whose,
		   uint64 uses, const List *counts)
{
	ScanKeyData scan_key;
	ApikeyRow	row;

	apikey_table_key(&scan_key, id);
	if (!apikey_table_see(writer, &apikey_history_table, &scan_key, &row) ||
		apikey_history_row_whose(&row) != whose)
		return false;
	add(&row, uses, counts);
	return apikey_table_change(writer, &apikey_history_table, &row);
}

/* The same of a key's first row for what happens now. */
static bool
change_first(ApikeyWriter *writer, const pg_uuid_t *key, uint32 whose,
			 uint64 uses, const List *counts, pg_uuid_t *id)
{
	bool		day = apikey_history_hours == 0;

	apikey_history_first_id(key, begin_of(GetCurrentTimestamp(), day), day, id);
	return change_row(writer, id, whose, uses, counts);
}

/*
 * Adds to the row of a key for what happens now, if there is one that nobody
 * has; false otherwise.
 */
bool
apikey_history_change(ApikeyWriter *writer, const ApikeyRow *key, uint64 uses,
					  const List *counts)
{
	uint32		whose = apikey_history_whose(key);
	ApikeyRow	row;
	pg_uuid_t	id;

	if (change_first(writer, apikey_row_id(key), whose, uses, counts, &id))
		return true;
	new_row(key, &row);
	apikey_history_later_id(&id, &row, &id);
	return change_row(writer, &id, whose, uses, counts);
}

/* The same, or to a new one; who has it is waited for. */
void
apikey_history_put(const ApikeyRow *key, uint64 uses, const List *counts)
{
	ApikeyRow	row;
	bool		found;

	new_row_of_now(key, &row);
	found = find_row(&row);
	add(&row, uses, counts);
	put_row(&row, found);
}

/* Would to add to a key's first row for what happens now wait for nobody? */
static bool
first_free(ApikeyWriter *writer, const pg_uuid_t *key, uint32 whose)
{
	bool		day = apikey_history_hours == 0;
	ScanKeyData scan_key;
	ApikeyRow	row;
	pg_uuid_t	id;
	bool		found;

	apikey_history_first_id(key, begin_of(GetCurrentTimestamp(), day), day, &id);
	apikey_table_key(&scan_key, &id);
	return apikey_table_see_free(writer, &apikey_history_table, &scan_key, &row,
								 &found) &&
		(!found || apikey_history_row_whose(&row) == whose);
}

/* Would apikey_history_add wait for nobody?  The row it is about may be locked then. */
bool
apikey_history_free(ApikeyWriter *writer, const pg_uuid_t *id, uint32 whose,
					uint64 uses)
{
	ApikeyRow	key;
	bool		deleted;

	return uses == 0 || writer == NULL || first_free(writer, id, whose) ||
		!apikey_history_key(id, &key, &deleted) || deleted ||
		!apikey_history_row_held(&key);
}

/*
 * With what is written of a key's use: so many uses more.  The key is read for that,
 * unless it is known whose it was when it was used, and the first row is of that;
 * 0: not known.
 */
void
apikey_history_add(ApikeyWriter *writer, const pg_uuid_t *id, uint32 whose,
				   uint64 uses)
{
	ApikeyRow	key;
	pg_uuid_t	first;
	bool		deleted;

	if (uses > 0 && writer != NULL &&
		!(whose != 0 && change_first(writer, id, whose, uses, NIL, &first)) &&
		apikey_history_key(id, &key, &deleted) &&
		!apikey_history_change(writer, &key, uses, NIL) && !deleted)
		apikey_history_put(&key, uses, NIL);
}

/*
 * The same with what another server has counted of a key; false where somebody
 * has the row.
 */
bool
apikey_history_add_free(ApikeyWriter *writer, const pg_uuid_t *id, uint64 uses,
						const List *counts)
{
	ApikeyRow	key;
	bool		deleted;

	if ((uses == 0 && counts == NIL) || writer == NULL ||
		!apikey_history_key(id, &key, &deleted) ||
		apikey_history_change(writer, &key, uses, counts) || deleted)
		return true;
	if (apikey_history_row_held(&key))
		return false;
	apikey_history_put(&key, uses, counts);
	return true;
}

/* Adds a row of an hour to that of its day; false where somebody has that. */
static bool
sum_to_day(const ApikeyRow *hour)
{
	ApikeyRow	day = *hour;
	bool		found;

	set_step(&day, begin_of(DatumGetTimestampTz(hour->values[HISTORY_STARTS_AT]),
							true), true);
	if (!apikey_table_write_free(&apikey_history_table, apikey_row_id(&day)))
		return false;
	found = find_row(&day);
	add_uses(&day, DatumGetInt64(hour->values[HISTORY_USE_COUNT]));
	apikey_history_sum(&day, hour);
	put_row(&day, found);
	return true;
}

/* Rows that have been kept long enough. */
typedef struct Search
{
	TimestampTz hours_before;
	TimestampTz days_before;
	List	   *rows;
	bool		full;			/* there may be more */
} Search;

static bool
collect_old(const ApikeyRow *row, void *state)
{
	Search	   *search = state;
	ApikeyRow  *copy;

	search->full = list_length(search->rows) == APIKEY_STEP_CHANGES;
	if (search->full)
		return false;
	copy = palloc(sizeof(ApikeyRow));
	apikey_row_copy(&apikey_history_table, row, copy);
	search->rows = lappend(search->rows, copy);
	return true;
}

/* The next of one kind, in the order of their times; true while there may be more. */
static bool
find_of_step(Search *search, const Interval *step, TimestampTz before,
			 ApikeyPlace *place)
{
	ScanKeyData of_step;
	ScanKeyData until;
	ApikeyWalk	walk = {
		.table = &apikey_history_table,
		.index = APIKEY_REL_HISTORY_STEP,
		.keys = &of_step,
		.fixed = 1,
		.order = {HISTORY_STARTS_AT, HISTORY_ID},
		.columns = 2,
		.until = &until,
		.snapshot = apikey_latest_snapshot(),
		.copied = true,
		.visit = collect_old,
		.state = search
	};
	bool		cut;

	ScanKeyInit(&of_step, HISTORY_STEP + 1, BTEqualStrategyNumber,
				F_INTERVAL_EQ, IntervalPGetDatum(step));
	ScanKeyInit(&until, HISTORY_STARTS_AT + 1, BTLessStrategyNumber,
				F_TIMESTAMPTZ_LT, TimestampTzGetDatum(before));
	cut = apikey_walk_step(&walk, place);
	UnregisterSnapshot(walk.snapshot);
	return cut || search->full;
}

/*
 * The hours that are old, and then the days; pass->found: all of the hours were.
 * Pass->begun says whether there may be more.
 */
static void
find_old(ApikeyPass *pass, Search *search)
{
	static const Interval hour = {.time = USECS_PER_HOUR};
	static const Interval day = {.day = 1};

	if (!pass->begun)
		apikey_pass_begin(pass);
	if (!pass->found)
	{
		pass->found = !find_of_step(search, &hour, search->hours_before, &pass->place);
		if (!pass->found)
			return;
		memset(&pass->place, 0, sizeof(pass->place));
	}
	pass->begun = find_of_step(search, &day, search->days_before, &pass->place);
}

/* Sums a row, or removes it, unless somebody has it, or its day's. */
static void
retain(void *item, void *state)
{
	const ApikeyRow *row = item;
	const Search *search = state;

	if (apikey_table_row_free(&apikey_history_table, apikey_row_id(row)) &&
		(DatumGetTimestampTz(row->values[HISTORY_STARTS_AT]) <
		 search->days_before || sum_to_day(row)))
		apikey_table_delete(&apikey_history_table, apikey_row_id(row), false);
}

static void
retain_some(List *rows, void *state)
{
	apikey_turns_each(rows, retain, state);
}

/*
 * For the worker, in a transaction: a step through what has been kept long enough,
 * which sums hours to days, and removes days; true while there may be more.  What
 * somebody has, or fails, is passed by, and holds up nothing that is behind it.
 */
bool
apikey_history_retain(ApikeyPass *pass)
{
	TimestampTz now = GetCurrentTimestamp();
	Search		search = {
		.hours_before = apikey_history_hours == 0 ? now :
		begin_of(now, false) - apikey_history_hours * USECS_PER_HOUR,
		.days_before = begin_of(now, true) - apikey_history_days * USECS_PER_DAY
	};

	find_old(pass, &search);
	(void) apikey_attempt_each(retain_some, search.rows, &search);
	return pass->begun;
}
