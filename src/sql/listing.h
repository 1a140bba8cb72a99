/*
 * listing.h
 *		How the rows of a view are read, and when it is enough of them.
 */
#ifndef APIKEY_LISTING_H
#define APIKEY_LISTING_H

#include "access/skey.h"
#include "access/stratnum.h"
#include "fmgr.h"
#include "lib/binaryheap.h"
#include "nodes/execnodes.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "access/access.h"

#define APIKEY_RANGE_KEYS	6

/* A part of an index: its first columns, and at last a bound. */
typedef struct ApikeyRange
{
	ApikeyRelation index;
	bool		newest_first;	/* read backwards, it has the list's order */
	int			count;
	ScanKeyData keys[APIKEY_RANGE_KEYS];
} ApikeyRange;

typedef struct ApikeyListing ApikeyListing;

/* Is a row one of the list? */
typedef bool (*ApikeyShows) (ApikeyListing *listing, const ApikeyRow *row);

/* Makes the values of a row of the view. */
typedef void (*ApikeyMakes) (ApikeyListing *listing, ApikeyRow *row,
							 Datum *values, bool *nulls);

/* What a call of a function below a view returns. */
struct ApikeyListing
{
	const ApikeyTable *table;	/* that is read */
	ApikeyViewer viewer;
	int			major;			/* the column that orders rows in time */
	int			minor;			/* and a uuid that does next; or -1 */
	ApikeyShows shows;
	ApikeyMakes makes;
	void	   *state;			/* theirs */
	/* The rest is listing.c's. */
	ReturnSetInfo *result;		/* NULL: one row is wanted */
	TupleDesc	desc;			/* of it */
	HeapTuple	made;
	ApikeyKnownRoles known_roles;	/* for who makes rows */
	MemoryContext row_context;
	int			most;			/* rows that are wanted; 0: all */
	binaryheap *newest;			/* so many, the oldest first */
};

/* listing.c */
extern void apikey_range_start(ApikeyRange *range, ApikeyRelation index);
extern void apikey_range_uuid(ApikeyRange *range, int column,
							  const pg_uuid_t *value);
extern void apikey_range_text(ApikeyRange *range, int column,
							  const text *value);
extern void apikey_range_key(ApikeyRange *range, int column,
							 StrategyNumber strategy, RegProcedure procedure,
							 Datum value);
extern void apikey_listing_open(ApikeyListing *listing,
								FunctionCallInfo fcinfo);
extern void apikey_listing_open_one(ApikeyListing *listing, TupleDesc desc);
extern void apikey_listing_bound(ApikeyListing *listing, int64 most,
								 int64 skip);
extern void apikey_listing_read(ApikeyListing *listing, ApikeyRange *range);
extern bool apikey_listing_first(ApikeyListing *listing, ApikeyRange *range,
								 ApikeyRow *row);
extern bool apikey_listing_last(ApikeyListing *listing, ApikeyRange *range,
								ApikeyRow *row);
extern Datum *apikey_listing_distinct(ApikeyListing *listing,
									  ApikeyRelation index, int column,
									  RegProcedure less, int *count);
extern void apikey_listing_close(ApikeyListing *listing);

/* sql_list_keys.c */
extern HeapTuple apikey_list_one_key(const pg_uuid_t *id, TupleDesc desc);

/* sql_list_limits.c */
extern HeapTuple apikey_list_one_limit(const pg_uuid_t *id, TupleDesc desc);

/* sql_list_tenants.c */
extern HeapTuple apikey_list_one_project(const pg_uuid_t *id, TupleDesc desc);

#endif							/* APIKEY_LISTING_H */
