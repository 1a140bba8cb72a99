/*
 * listing.c
 *		Reading the rows of a view out of parts of indexes, newest first.
 *
 * A list is put together from ranges, each of one owner, project or the like,
 * one after the other.  Where only the newest rows are wanted, so many are
 * kept, and a range that has the list's order ends with its first row that is
 * older than all of them: what is read is little more than what is wanted, and
 * once more for each range.  A row that two ranges hold must be shown by one
 * of them only.
 *
 * Rows are those of the query's snapshot.  They come in no particular order;
 * the executor puts them into one.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "store/store.h"
#include "access/access.h"
#include "sql/listing.h"

/* More than these are not kept, but all rows are returned. */
#define MOST_KEPT	10000

/* A row that is among the newest so far. */
typedef struct Kept
{
	int64		major;
	pg_uuid_t	minor;
	HeapTuple	tuple;
} Kept;

void
apikey_range_start(ApikeyRange *range, ApikeyRelation index)
{
	range->index = index;
	range->newest_first = true;
	range->count = 0;
}

/* Bounds a range by a column of the table. */
void
apikey_range_key(ApikeyRange *range, int column, StrategyNumber strategy,
				 RegProcedure procedure, Datum value)
{
	Assert(range->count < APIKEY_RANGE_KEYS);
	ScanKeyEntryInitialize(&range->keys[range->count++], 0, column + 1,
						   strategy, InvalidOid, C_COLLATION_OID, procedure,
						   value);
}

static void
range_null(ApikeyRange *range, int column)
{
	Assert(range->count < APIKEY_RANGE_KEYS);
	ScanKeyEntryInitialize(&range->keys[range->count++],
						   SK_ISNULL | SK_SEARCHNULL, column + 1,
						   InvalidStrategy, InvalidOid, InvalidOid, InvalidOid,
						   (Datum) 0);
}

/* The rows in which a column has a value; NULL is one. */
void
apikey_range_uuid(ApikeyRange *range, int column, const pg_uuid_t *value)
{
	if (value == NULL)
		range_null(range, column);
	else
		apikey_range_key(range, column, BTEqualStrategyNumber, F_UUID_EQ,
						 UUIDPGetDatum(value));
}

void
apikey_range_text(ApikeyRange *range, int column, const text *value)
{
	if (value == NULL)
		range_null(range, column);
	else
		apikey_range_key(range, column, BTEqualStrategyNumber, F_TEXTEQ,
						 PointerGetDatum(value));
}

static void
open_with(ApikeyListing *listing, Snapshot snapshot)
{
	memset(listing, 0, sizeof(*listing));
	listing->minor = -1;
	listing->row_context = AllocSetContextCreate(CurrentMemoryContext,
												 "apikey listed row",
												 ALLOCSET_DEFAULT_SIZES);
	apikey_known_roles_begin(&listing->known_roles);
	apikey_viewer_open(&listing->viewer, RegisterSnapshot(snapshot));
}

/*
 * Begins to answer a call.  The caller fills in what makes the list before
 * apikey_listing_read.
 */
void
apikey_listing_open(ApikeyListing *listing, FunctionCallInfo fcinfo)
{
	InitMaterializedSRF(fcinfo, 0);
	open_with(listing, GetActiveSnapshot());
	listing->result = (ReturnSetInfo *) fcinfo->resultinfo;
}

/*
 * The same for a trigger that has changed a row of the view: it is made as the
 * next statement sees it.
 */
void
apikey_listing_open_one(ApikeyListing *listing, TupleDesc desc)
{
	open_with(listing, GetTransactionSnapshot());
	listing->desc = desc;
}

/* Compares two rows by time; the result is positive where one is the older. */
static int
older(Datum one, Datum two, void *arg pg_attribute_unused())
{
	const Kept *a = (const Kept *) DatumGetPointer(one);
	const Kept *b = (const Kept *) DatumGetPointer(two);

	if (a->major != b->major)
		return a->major < b->major ? 1 : -1;
	return memcmp(b->minor.data, a->minor.data, UUID_LEN);
}

/* So many rows of the newest, after some that are left out, will do. */
void
apikey_listing_bound(ApikeyListing *listing, int64 most, int64 skip)
{
	if (most < 0 || skip < 0 || most > MOST_KEPT || skip > MOST_KEPT - most)
		return;
	listing->most = Max(most + skip, 1);
	listing->newest = binaryheap_allocate(listing->most, older, NULL);
}

/* Where a row stands in time. */
static void
place_of(const ApikeyListing *listing, const ApikeyRow *row, Kept *kept)
{
	kept->major = DatumGetInt64(row->values[listing->major]);
	memset(&kept->minor, 0, sizeof(kept->minor));
	if (listing->minor >= 0)
		kept->minor = *DatumGetUUIDP(row->values[listing->minor]);
}

/* Are there enough rows that are newer? */
static bool
superseded(const ApikeyListing *listing, Kept *kept)
{
	return listing->newest->bh_size >= listing->most &&
		older(PointerGetDatum(kept), binaryheap_first(listing->newest),
			  NULL) >= 0;
}

/* Keeps a row in the place of the oldest one; it is copied. */
static void
keep(ApikeyListing *listing, const Kept *kept, HeapTuple tuple)
{
	MemoryContext context = MemoryContextSwitchTo(listing->viewer.context);
	Kept	   *copy;

	if (listing->newest->bh_size < listing->most)
	{
		copy = palloc(sizeof(Kept));
		*copy = *kept;
		copy->tuple = heap_copytuple(tuple);
		binaryheap_add(listing->newest, PointerGetDatum(copy));
	}
	else
	{
		copy = (Kept *) DatumGetPointer(binaryheap_first(listing->newest));
		heap_freetuple(copy->tuple);
		*copy = *kept;
		copy->tuple = heap_copytuple(tuple);
		binaryheap_replace_first(listing->newest, PointerGetDatum(copy));
	}
	MemoryContextSwitchTo(context);
}

/* The one row that is wanted, of all that has been made for it. */
static void
make_one(ApikeyListing *listing, Datum *values, bool *nulls)
{
	MemoryContext context = MemoryContextSwitchTo(listing->viewer.context);

	listing->made = heap_form_tuple(listing->desc, values, nulls);
	MemoryContextSwitchTo(context);
}

/* Returns a row of the view. */
static void
put(ApikeyListing *listing, TupleDesc desc, HeapTuple tuple)
{
	Datum		values[APIKEY_COLUMNS_MAX] = {0};
	bool		nulls[APIKEY_COLUMNS_MAX];
	TupleDesc	made = listing->result == NULL ? listing->desc :
		listing->result->setDesc;
	ApikeyRow	row;

	if (made->natts > APIKEY_COLUMNS_MAX)
		elog(ERROR, "too many columns");
	memset(nulls, true, sizeof(nulls));
	apikey_table_take_apart(listing->table, heap_copytuple(tuple), desc,
							&row);
	listing->makes(listing, &row, values, nulls);
	if (listing->result == NULL)
		make_one(listing, values, nulls);
	else
		tuplestore_putvalues(listing->result->setResult, made, values, nulls);
}

/* Takes a row of a range; false where the rest of it is not wanted. */
static bool
take(ApikeyListing *listing, const ApikeyRange *range, TupleDesc desc,
	 HeapTuple tuple)
{
	ApikeyRow	row;
	Kept		kept;

	apikey_table_deform(listing->table, tuple, desc, &row);
	if (listing->newest != NULL)
	{
		place_of(listing, &row, &kept);
		if (superseded(listing, &kept))
			return !range->newest_first;
	}
	if (!listing->shows(listing, &row))
		return true;
	if (listing->newest != NULL)
		keep(listing, &kept, tuple);
	else
		put(listing, desc, tuple);
	return true;
}

/* A range that is being read. */
typedef struct Reading
{
	Relation	rel;
	Relation	index;
	ApikeyScan	scan;
} Reading;

static void
reading_begin(ApikeyListing *listing, ApikeyRange *range, Reading *reading)
{
	reading->rel = apikey_table_relation(listing->table, AccessShareLock);
	reading->index = apikey_table_index(listing->table, reading->rel,
											range->index);
	apikey_scan_begin(&reading->scan, reading->rel, reading->index,
					  listing->viewer.snapshot, range->keys, range->count);
}

/* Table and index stay locked to the end of the transaction: see table.c. */
static void
reading_end(Reading *reading)
{
	apikey_scan_end(&reading->scan);
	index_close(reading->index, NoLock);
	table_close(reading->rel, NoLock);
}

/* Adds the rows of a range. */
void
apikey_listing_read(ApikeyListing *listing, ApikeyRange *range)
{
	MemoryContext context = CurrentMemoryContext;
	Reading		reading;
	HeapTuple	tuple;
	bool		more = true;

	reading_begin(listing, range, &reading);
	while (more &&
		   HeapTupleIsValid(tuple = apikey_scan_next(&reading.scan,
													 BackwardScanDirection)))
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(listing->row_context);
		more = take(listing, range, RelationGetDescr(reading.rel), tuple);
		MemoryContextSwitchTo(context);
		MemoryContextReset(listing->row_context);
	}
	reading_end(&reading);
}

/*
 * Reads a range's first row in a direction; false where it is empty.  It is
 * there until another row of the list is read.
 */
static bool
read_one(ApikeyListing *listing, ApikeyRange *range, ScanDirection direction,
		 ApikeyRow *row)
{
	MemoryContext context;
	Reading		reading;
	HeapTuple	tuple;

	MemoryContextReset(listing->row_context);
	context = MemoryContextSwitchTo(listing->row_context);
	reading_begin(listing, range, &reading);
	tuple = apikey_scan_next(&reading.scan, direction);
	if (HeapTupleIsValid(tuple))
		apikey_table_take_apart(listing->table,
								apikey_scan_copy(reading.scan.rel, tuple),
								RelationGetDescr(reading.rel), row);
	reading_end(&reading);
	MemoryContextSwitchTo(context);
	return HeapTupleIsValid(tuple);
}

/* Reads the newest row of a range alone; false where it is empty. */
bool
apikey_listing_first(ApikeyListing *listing, ApikeyRange *range, ApikeyRow *row)
{
	return read_one(listing, range, BackwardScanDirection, row);
}

/* The same of the oldest. */
bool
apikey_listing_last(ApikeyListing *listing, ApikeyRange *range, ApikeyRow *row)
{
	return read_one(listing, range, ForwardScanDirection, row);
}

/*
 * The values that a column, the first of an index and never null in it, holds: it
 * is a uuid or a role.  One descent for each, for who sees all rows.
 */
Datum *
apikey_listing_distinct(ApikeyListing *listing, ApikeyRelation index,
						int column, RegProcedure less, int *count)
{
	bool		is_uuid = listing->table->columns[column].type == UUIDOID;
	int			room = 16;
	Datum	   *values = palloc(room * sizeof(Datum));
	ApikeyRange range;
	ApikeyRow	row;

	*count = 0;
	apikey_range_start(&range, index);
	while (apikey_listing_first(listing, &range, &row))
	{
		CHECK_FOR_INTERRUPTS();
		if (*count == room)
			values = repalloc(values, (room *= 2) * sizeof(Datum));
		values[*count] = datumCopy(row.values[column], !is_uuid, UUID_LEN);
		apikey_range_start(&range, index);
		apikey_range_key(&range, column, BTLessStrategyNumber, less,
						 values[(*count)++]);
	}
	return values;
}

/* Ends the answer: what was kept is returned. */
void
apikey_listing_close(ApikeyListing *listing)
{
	Relation	rel = apikey_table_relation(listing->table, AccessShareLock);
	MemoryContext context = MemoryContextSwitchTo(listing->row_context);

	while (listing->newest != NULL && !binaryheap_empty(listing->newest))
	{
		Kept	   *kept = (Kept *) DatumGetPointer(binaryheap_remove_first(listing->newest));

		put(listing, RelationGetDescr(rel), kept->tuple);
		MemoryContextReset(listing->row_context);
	}
	MemoryContextSwitchTo(context);
	table_close(rel, NoLock);
	apikey_known_roles_end(&listing->known_roles);
	UnregisterSnapshot(listing->viewer.snapshot);
}
