/*
 * walk.c
 *		Ways of a worker through an index, in steps.
 *
 * A step bounds how long it takes by what it has looked at, of rows that are to be
 * seen and of others: anybody may have made and removed any number of rows, or be
 * making them, of which the entries stay in the index for as long as somebody's
 * old snapshot could see them.  So the time is asked for each so many entries, and
 * the next step goes on behind the last one, whatever that was of.
 *
 * Entries of the same values stand in the order of where their rows are, and are
 * few: an index to go by ends with the rows' id.  So what is behind an entry is
 * what has the same values and is further on in the table;
 * then what has the same in all columns but the last, and more in that; and so on.
 *
 * Who goes so is the worker or a superuser: what is read counts.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "store/store_internal.h"

#define ENTRIES_AT_ONCE	64		/* between two looks at the time */
#define KEYS_MAX		(APIKEY_WALK_KEYS + APIKEY_PLACE_COLUMNS + 1)

/* How a column's values are compared. */
static RegProcedure
comparison(Oid type, bool greater)
{
	switch (type)
	{
		case UUIDOID:
			return greater ? F_UUID_GT : F_UUID_EQ;
		case TIMESTAMPTZOID:
			return greater ? F_TIMESTAMPTZ_GT : F_TIMESTAMPTZ_EQ;
		case INT8OID:
			return greater ? F_INT8GT : F_INT8EQ;
		default:
			elog(ERROR, "no way through an index goes by type %u", type);
	}
}

static bool
by_value(Oid type)
{
	return type != UUIDOID;
}

/* Where a way begins that has nothing to do with rows of a lesser time. */
void
apikey_place_begin(ApikeyPlace *place, Datum first)
{
	memset(place, 0, sizeof(*place));
	place->set = true;
	memcpy(place->values[0], &first, sizeof(Datum));
}

/* The value of a column at a place. */
static Datum
value_at(const ApikeyWalk *walk, const ApikeyPlace *place, int number)
{
	Datum		value;

	if (!by_value(walk->table->columns[walk->order[number]].type))
		return PointerGetDatum(place->values[number]);
	memcpy(&value, place->values[number], sizeof(Datum));
	return value;
}

/* Copies the keys that all of a way's scans have; how many. */
static int
begin_keys(const ApikeyWalk *walk, ScanKeyData *keys)
{
	if (walk->fixed > 0)
		memcpy(keys, walk->keys, walk->fixed * sizeof(ScanKeyData));
	return walk->fixed;
}

/*
 * Makes the keys of what has the same as a place in so many of the columns, and
 * more in the next; or of all, where nothing was looked at yet.
 */
static int
make_keys(const ApikeyWalk *walk, const ApikeyPlace *place, int same,
		  ScanKeyData *keys)
{
	int			count = begin_keys(walk, keys);

	for (int i = 0; place->set && i <= same && i < walk->columns; i++)
	{
		int			column = walk->order[i];

		ScanKeyInit(&keys[count++], column + 1,
					i < same ? BTEqualStrategyNumber : BTGreaterStrategyNumber,
					comparison(walk->table->columns[column].type, i == same),
					value_at(walk, place, i));
		if (i == 0 && walk->until != NULL)
			keys[count++] = *walk->until;
	}
	if (!place->set && walk->until != NULL)
		keys[count++] = *walk->until;
	return count;
}

/* One scan of a step. */
typedef struct Stretch
{
	const ApikeyWalk *walk;
	Relation	rel;
	ApikeyScan	scan;
	MemoryContext copies;		/* of rows; or NULL */
	ApikeyPlace *place;
	ItemPointerData behind;		/* of the same values; or not valid */
	ItemPointerData row;		/* of the entry that is looked at */
	int		   *entries;		/* until the time is asked for */
	bool	   *cut;			/* it was over */
} Stretch;

/* A scan's entry is the last that was looked at. */
static void
set_place(const Stretch *stretch)
{
	const ApikeyWalk *walk = stretch->walk;
	IndexScanDesc scan = stretch->scan.scan->iscan;
	ApikeyPlace *place = stretch->place;

	place->set = true;
	place->row = stretch->row;
	for (int i = 0; i < walk->columns; i++)
	{
		bool		isnull;
		Datum		value = index_getattr(scan->xs_itup, walk->fixed + i + 1,
										  scan->xs_itupdesc, &isnull);

		memset(place->values[i], 0, sizeof(place->values[i]));
		if (isnull)
			continue;
		if (by_value(walk->table->columns[walk->order[i]].type))
			memcpy(place->values[i], &value, sizeof(Datum));
		else
			memcpy(place->values[i], DatumGetPointer(value), UUID_LEN);
	}
}

/*
 * The next entry; *tuple is its row, or NULL where that is not to be seen.  False
 * for none.
 */
static bool
next_entry(Stretch *stretch, HeapTuple *tuple)
{
	IndexScanDesc of_index = stretch->scan.scan->iscan;
	TupleTableSlot *slot = stretch->scan.scan->slot;
	ItemPointer where;

	do
	{
		CHECK_FOR_INTERRUPTS();
		where = index_getnext_tid(of_index, ForwardScanDirection);
	} while (where != NULL && ItemPointerIsValid(&stretch->behind) &&
			 ItemPointerCompare(where, &stretch->behind) <= 0);
	if (where == NULL)
		return false;
	/* To read the row finds a later place in its chain of versions. */
	stretch->row = *where;
	*tuple = index_fetch_heap(of_index, slot) ?
		ExecFetchSlotHeapTuple(slot, false, NULL) : NULL;
	return true;
}

/* Goes through a stretch of the index; false where the step is to end. */
static bool
go_through(Stretch *stretch)
{
	const ApikeyWalk *walk = stretch->walk;
	HeapTuple	tuple;

	while (next_entry(stretch, &tuple))
	{
		if (tuple != NULL &&
			!apikey_table_visit_row(walk->table, stretch->rel, tuple, stretch->copies,
									walk->visit, walk->state))
			return false;
		set_place(stretch);
		if (--*stretch->entries > 0)
			continue;
		*stretch->entries = ENTRIES_AT_ONCE;
		*stretch->cut = apikey_step_full(0);
		if (*stretch->cut)
			return false;
	}
	return true;
}

/* The index is to be ordered by just these columns: then by where rows are. */
static void
require_order(const ApikeyWalk *walk, Relation index)
{
	ScanKeyData keys[KEYS_MAX];
	int			count = begin_keys(walk, keys);

	for (int i = 0; i < walk->columns; i++)
		keys[count++].sk_attno = walk->order[i] + 1;
	apikey_scan_require(index, keys, count);
	if (index->rd_index->indnkeyatts != count)
		apikey_scan_refuse(index);
}

/*
 * A step of a way: visits the rows behind a place, which moves on with each entry
 * of the index.  Visit returns false before a row that is not for this step: then
 * the place is before it.  True where the time of the step has ended before.
 */
bool
apikey_walk_step(const ApikeyWalk *walk, ApikeyPlace *place)
{
	Relation	rel = apikey_table_relation(walk->table, AccessShareLock);
	Relation	index = apikey_table_index(walk->table, rel, walk->index);
	ApikeyPlace from = *place;
	MemoryContext copies = walk->copied ?
		AllocSetContextCreate(CurrentMemoryContext, "apikey row", ALLOCSET_SMALL_SIZES) : NULL;
	int			entries = ENTRIES_AT_ONCE;
	bool		cut = false;
	bool		on = true;

	require_order(walk, index);
	for (int same = from.set ? walk->columns : 0; on && same >= 0; same--)
	{
		Stretch		stretch = {
			.walk = walk,.rel = rel,.copies = copies,.place = place,
			.entries = &entries,.cut = &cut
		};
		ScanKeyData keys[KEYS_MAX];

		if (from.set && same == walk->columns)
			stretch.behind = from.row;
		apikey_scan_begin_entries(&stretch.scan, rel, index, walk->snapshot, keys,
								  make_keys(walk, &from, same, keys));
		on = go_through(&stretch);
		apikey_scan_end(&stretch.scan);
	}
	apikey_table_close_index(index);
	table_close(rel, NoLock);
	if (copies != NULL)
		MemoryContextDelete(copies);
	return cut;
}
