/*
 * viewer.h
 *		Who reads a view, and where what it may see is found.
 */
#ifndef APIKEY_VIEWER_H
#define APIKEY_VIEWER_H

#include "nodes/pg_list.h"
#include "utils/hsearch.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/authority.h"

/* A project that a listing has met. */
typedef struct ApikeyViewedProject
{
	pg_uuid_t	id;				/* hash key */
	bool		visited;		/* by apikey_viewer_projects */
	bool		listed;			/* what it holds is read by itself */
	bool		exists;			/* as committed now */
	pg_uuid_t	organization;	/* where it exists */
	ApikeyAuthority authority;	/* what the caller is in it */
	text	   *path;			/* NULL where the query's snapshot has none */
} ApikeyViewedProject;

/* An organization that a listing has met. */
typedef struct ApikeyViewedOrganization
{
	pg_uuid_t	id;				/* hash key */
	bool		visited;		/* by apikey_viewer_organizations */
	bool		listed;			/* what it holds is read by itself */
	ApikeyRole	member_role;
} ApikeyViewedOrganization;

/* Whoever reads a view, during one listing. */
typedef struct ApikeyViewer
{
	bool		sees_tenants;	/* every organization, project, member */
	bool		sees_all;		/* every key and event */
	bool		sees_nothing;	/* it cannot be told who that is */
	bool		by_subject;		/* only what is of its own subject is its own */
	text	   *subject;
	List	   *roles;			/* whose privileges it has */
	Snapshot	snapshot;		/* the query's */
	MemoryContext context;
	HTAB	   *projects;
	HTAB	   *organizations;
	HTAB	   *member_roles;	/* once its memberships have been read */
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

/* viewer.c */
extern void apikey_viewer_open(ApikeyViewer *viewer, Snapshot snapshot);
extern void apikey_viewer_open_own(ApikeyViewer *viewer, Snapshot snapshot);
extern ApikeyViewedProject *apikey_viewer_project(ApikeyViewer *viewer,
												  const pg_uuid_t *id);
extern void apikey_viewer_tenant(const ApikeyViewedProject *project,
								 ApikeyTenant *tenant);
extern ApikeyViewedOrganization *apikey_viewer_organization(ApikeyViewer *viewer,
															const pg_uuid_t *id);
extern bool apikey_viewer_sees_key(ApikeyViewer *viewer, const ApikeyRow *key);
extern const pg_uuid_t *apikey_viewer_find_project(ApikeyViewer *viewer,
												   const text *path);
extern void apikey_viewer_projects(ApikeyViewer *viewer, const text *path,
								   ApikeyVisitProject visit, void *state);

/* viewer_tenants.c */
extern void apikey_viewer_organizations(ApikeyViewer *viewer,
										ApikeyVisitOrganization visit,
										void *state);
extern void apikey_viewer_owned(ApikeyViewer *viewer, ApikeyVisitOwned visit,
								void *state);
extern bool apikey_viewer_listed(ApikeyViewer *viewer,
								 const pg_uuid_t *organization,
								 const pg_uuid_t *project);
extern bool apikey_viewer_owns(ApikeyViewer *viewer,
							   const pg_uuid_t *organization,
							   const pg_uuid_t *project);

#endif							/* APIKEY_VIEWER_H */
