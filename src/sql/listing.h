/*
 * listing.h
 *		What the views are made of: who looks, and the rows that it may see.
 */
#ifndef APIKEY_LISTING_H
#define APIKEY_LISTING_H

#include "apikey.h"
#include "lib/binaryheap.h"
#include "nodes/execnodes.h"
#include "utils/hsearch.h"

/* viewer.c */

/* A project that a listing has met. */
typedef struct ApikeyViewedProject
{
	pg_uuid_t	id;				/* hash key */
	bool		visited;		/* by apikey_viewer_projects */
	bool		listed;			/* what it holds is read by itself */
	bool		exists;			/* as committed now */
	ApikeyPlace place;			/* where it exists */
	ApikeyAuthority authority;	/* what the caller is in it */
	text	   *path;			/* NULL where the query's snapshot has none */
} ApikeyViewedProject;

/* An organization that a listing has met. */
typedef struct ApikeyViewedOrganization
{
	pg_uuid_t	id;				/* hash key */
	bool		visited;		/* by apikey_viewer_organizations */
	bool		listed;			/* what it holds is read by itself */
	ApikeyRole	standing;
} ApikeyViewedOrganization;

/* Whoever reads a view, during one listing. */
typedef struct ApikeyViewer
{
	bool		sees_places;	/* every organization, project, member */
	bool		sees_all;		/* every key and event */
	bool		sees_nothing;	/* it cannot be told who that is */
	bool		by_subject;		/* only what is of its own subject is its own */
	text	   *subject;
	List	   *roles;			/* whose privileges it has */
	Snapshot	snapshot;		/* the query's */
	MemoryContext context;
	HTAB	   *projects;
	HTAB	   *organizations;
	HTAB	   *standings;		/* once its memberships have been read */
} ApikeyViewer;

/* Is called with a row of apikey_member that covers the viewer. */
typedef void (*ApikeyVisitMembership) (const ApikeyRow *member, void *state);

/* Is called once with each organization of which the viewer is a member. */
typedef void (*ApikeyVisitOrganization) (ApikeyViewedOrganization *organization,
										 void *state);

/*
 * Is called once with each organization that the viewer owns, and with each
 * other project.
 */
typedef void (*ApikeyVisitOwned) (const pg_uuid_t *organization,
								  const ApikeyViewedProject *project,
								  void *state);

/* Is called once with each project in which the viewer is something. */
typedef void (*ApikeyVisitProject) (ApikeyViewedProject *project, void *state);

extern void apikey_viewer_open(ApikeyViewer *viewer, Snapshot snapshot);
extern void apikey_viewer_open_own(ApikeyViewer *viewer, Snapshot snapshot);
extern ApikeyViewedProject *apikey_viewer_project(ApikeyViewer *viewer,
												  const pg_uuid_t *id);
extern ApikeyViewedOrganization *apikey_viewer_organization(ApikeyViewer *viewer,
															const pg_uuid_t *id);
extern bool apikey_viewer_sees_key(ApikeyViewer *viewer, const ApikeyRow *key);
extern bool apikey_viewer_owns(ApikeyViewer *viewer,
							   const pg_uuid_t *organization,
							   const pg_uuid_t *project);
extern const pg_uuid_t *apikey_viewer_find_project(ApikeyViewer *viewer,
												   const text *path);
extern void apikey_viewer_memberships(ApikeyViewer *viewer,
									  ApikeyVisitMembership visit,
									  void *state);
extern void apikey_viewer_organizations(ApikeyViewer *viewer,
										ApikeyVisitOrganization visit,
										void *state);
extern void apikey_viewer_owned(ApikeyViewer *viewer, ApikeyVisitOwned visit,
								void *state);
extern bool apikey_viewer_listed(ApikeyViewer *viewer,
								 const pg_uuid_t *organization,
								 const pg_uuid_t *project);
extern void apikey_viewer_projects(ApikeyViewer *viewer, const text *path,
								   ApikeyVisitProject visit, void *state);

/* listing.c */

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
	ReturnSetInfo *result;
	MemoryContext row_context;
	int			most;			/* rows that are wanted; 0: all */
	binaryheap *newest;			/* so many, the oldest first */
};

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

#endif							/* APIKEY_LISTING_H */
