/*
 * viewer_tenants.c
 *		The organizations of whoever reads a view, and the tenants that it owns:
 *		each is visited once, whatever makes it one.
 */
#include "postgres.h"

#include "utils/uuid.h"

#include "store/store.h"
#include "access/access_internal.h"

/* What apikey_viewer_organizations is about. */
typedef struct Organizations
{
	ApikeyViewer *viewer;
	ApikeyVisitOrganization visit;
	void	   *state;
} Organizations;

static void
visit_own_organization(const ApikeyRow *member, void *state)
{
	Organizations *organizations = state;
	ApikeyViewedOrganization *organization;

	if (!member->nulls[APIKEY_MEMBER_PROJECT])
		return;
	organization = apikey_viewer_organization(organizations->viewer,
											  DatumGetUUIDP(member->values[APIKEY_MEMBER_ORGANIZATION]));
	if (organization->visited)
		return;
	organization->visited = true;
	organizations->visit(organization, organizations->state);
}

/* Visits the organizations of which the viewer itself is a member. */
void
apikey_viewer_organizations(ApikeyViewer *viewer,
							ApikeyVisitOrganization visit, void *state)
{
	Organizations organizations = {viewer, visit, state};

	apikey_viewer_memberships(viewer, visit_own_organization, &organizations);
}

/* What apikey_viewer_owned is about. */
typedef struct Owned
{
	ApikeyViewer *viewer;
	ApikeyVisitOwned visit;
	void	   *state;
} Owned;

static void
visit_owned_organization(ApikeyViewedOrganization *organization, void *state)
{
	Owned	   *owned = state;

	if (organization->member_role != APIKEY_ROLE_OWNER)
		return;
	organization->listed = true;
	owned->visit(&organization->id, NULL, owned->state);
}

static void
visit_owned_project(const ApikeyRow *member, void *state)
{
	Owned	   *owned = state;
	ApikeyViewedProject *project;
	const pg_uuid_t *organization =
		DatumGetUUIDP(member->values[APIKEY_MEMBER_ORGANIZATION]);

	if (member->nulls[APIKEY_MEMBER_PROJECT] ||
		apikey_viewer_organization(owned->viewer, organization)->listed)
		return;
	project = apikey_viewer_project(owned->viewer,
									DatumGetUUIDP(member->values[APIKEY_MEMBER_PROJECT]));
	if (project->listed || !project->exists ||
		project->authority.member_role != APIKEY_ROLE_OWNER)
		return;
	project->listed = true;
	owned->visit(organization, project, owned->state);
}

/*
 * Visits the organizations that the viewer owns, and then, with their
 * organization, the projects that it owns elsewhere; they are listed from then
 * on.
 */
void
apikey_viewer_owned(ApikeyViewer *viewer, ApikeyVisitOwned visit, void *state)
{
	Owned		owned = {viewer, visit, state};

	apikey_viewer_organizations(viewer, visit_owned_organization, &owned);
	apikey_viewer_memberships(viewer, visit_owned_project, &owned);
}

/* Has what is of an organization or project been listed with it? */
bool
apikey_viewer_listed(ApikeyViewer *viewer, const pg_uuid_t *organization,
					 const pg_uuid_t *project)
{
	return (organization != NULL &&
			apikey_viewer_organization(viewer, organization)->listed) ||
		(project != NULL && apikey_viewer_project(viewer, project)->listed);
}

/* Does the viewer own a project or, where that is gone, the organization? */
bool
apikey_viewer_owns(ApikeyViewer *viewer, const pg_uuid_t *organization,
				   const pg_uuid_t *project)
{
	if (project != NULL)
	{
		const ApikeyViewedProject *viewed = apikey_viewer_project(viewer, project);

		if (viewed->exists)
			return viewed->authority.member_role == APIKEY_ROLE_OWNER;
	}
	return organization != NULL &&
		apikey_viewer_organization(viewer, organization)->member_role ==
		APIKEY_ROLE_OWNER;
}
