/*
 * viewer.c
 *		Who reads a view, and where what it may see is found.
 *
 * A listing begins here and never with a condition of the query: the roles
 * whose privileges the caller has, the organizations and projects in which it
 * is something, and from these the rows.  So nothing that it is told, counted
 * or timed hangs on rows that it may not see; nor does what it has locked.
 * Whether it may see a row is decided row by row all the same, by the rules of
 * authority.c and member.c; what is found here only says where to look.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/access_internal.h"

/* The roles whose privileges the caller has. */
static List *
caller_roles(void)
{
	return apikey_roles_of(GetUserId(), false);
}

/* A hash table by id, in the current context. */
static HTAB *
table_by_id(const char *name, Size entry_size)
{
	HASHCTL		control = {
		.keysize = sizeof(pg_uuid_t),
		.entrysize = entry_size,
		.hcxt = CurrentMemoryContext
	};

	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* What it holds lives as long as the current context. */
void
apikey_viewer_open(ApikeyViewer *viewer, Snapshot snapshot)
{
	if (!apikey_authority_sees_all())
		apikey_member_keep();
	viewer->snapshot = snapshot;
	viewer->context = CurrentMemoryContext;
	viewer->sees_tenants = apikey_authority_sees_all();
	viewer->sees_all = apikey_authority_sees_keys();
	viewer->sees_nothing = !viewer->sees_all && !apikey_principal_readable();
	viewer->by_subject = apikey_principal_subjects_in_use();
	viewer->subject = apikey_principal_subject_if_known();
	viewer->roles = viewer->sees_tenants ? NIL : caller_roles();
	viewer->projects = table_by_id("apikey viewed projects",
								   sizeof(ApikeyViewedProject));
	viewer->organizations = table_by_id("apikey viewed organizations",
										sizeof(ApikeyViewedOrganization));
	viewer->member_roles = NULL;
}

/* The same for what is the caller's own, whatever else it may see. */
void
apikey_viewer_open_own(ApikeyViewer *viewer, Snapshot snapshot)
{
	apikey_viewer_open(viewer, snapshot);
	viewer->sees_tenants = viewer->sees_all = false;
	viewer->roles = caller_roles();
}

/* What somebody is in an organization itself, or in a project itself. */
typedef struct MemberRole
{
	pg_uuid_t	id;
	ApikeyRole	role;
} MemberRole;

/* The same of the caller, from its memberships. */
static ApikeyRole
role_read(const ApikeyViewer *viewer, const pg_uuid_t *id)
{
	const MemberRole *member_role = hash_search(viewer->member_roles, id,
												HASH_FIND,
												NULL);

	return member_role == NULL ? APIKEY_ROLE_NONE : member_role->role;
}

/* Can it be told what the caller is anywhere? */
static bool
role_known(void)
{
	return superuser() || apikey_principal_readable();
}

/* What is known of an organization, read where it is met first. */
ApikeyViewedOrganization *
apikey_viewer_organization(ApikeyViewer *viewer, const pg_uuid_t *id)
{
	bool		found;
	ApikeyViewedOrganization *organization = hash_search(viewer->organizations,
														 id, HASH_ENTER,
														 &found);

	if (!found)
	{
		organization->visited = organization->listed = false;
		organization->member_role = !role_known() ? APIKEY_ROLE_NONE :
			viewer->member_roles != NULL ? role_read(viewer, id) :
			apikey_member_role(GetUserId(), viewer->subject, id, NULL);
	}
	return organization;
}

/* What the caller is in a project.  No more than an owner is it anywhere. */
static void
read_authority(ApikeyViewer *viewer, ApikeyViewedProject *project)
{
	ApikeyAuthority *authority = &project->authority;
	ApikeyRole	around;

	if (!role_known())
		return;
	around = apikey_viewer_organization(viewer,
										&project->organization)->member_role;
	if (around == APIKEY_ROLE_OWNER)
		authority->member_role = APIKEY_ROLE_OWNER;
	else if (viewer->member_roles == NULL)
		authority->member_role =
			apikey_member_role(GetUserId(), apikey_principal_subject(),
							   &project->organization, &project->id);
	else
		authority->member_role = Max(around, role_read(viewer, &project->id));
}

/* A project that is being read. */
typedef struct Reading
{
	ApikeyViewedProject *project;
	MemoryContext context;
	bool		found;
} Reading;

/* Of the rest its owners decide how long it is: none of it is kept. */
static bool
take_project(const ApikeyRow *row, void *state)
{
	Reading    *reading = state;
	ApikeyViewedProject *project = reading->project;
	MemoryContext outer = MemoryContextSwitchTo(reading->context);

	project->organization =
		*DatumGetUUIDP(row->values[APIKEY_PROJECT_ORGANIZATION]);
	project->authority.members_can_view =
		apikey_row_bool(row, APIKEY_PROJECT_MEMBERS_CAN_VIEW);
	project->path = DatumGetTextPCopy(row->values[APIKEY_PROJECT_PATH]);
	reading->found = true;
	MemoryContextSwitchTo(outer);
	return false;
}

static bool
find_project(const ApikeyViewer *viewer, ApikeyViewedProject *project,
			 Snapshot snapshot)
{
	Reading		reading = {project, viewer->context, false};
	ScanKeyData key;

	apikey_table_key(&key, &project->id);
	apikey_table_walk(&apikey_project_table, APIKEY_REL_PROJECT_PKEY, &key, 1,
					  snapshot, take_project, &reading);
	return reading.found;
}

/* Reads what there is to know of a project.  Its path never changes. */
static void
read_project(ApikeyViewer *viewer, ApikeyViewedProject *project)
{
	Snapshot	latest = apikey_latest_snapshot();

	memset(&project->visited, 0,
		   sizeof(*project) - offsetof(ApikeyViewedProject, visited));
	project->exists = find_project(viewer, project, latest);
	UnregisterSnapshot(latest);
	if (project->exists)
		read_authority(viewer, project);
	else
		(void) find_project(viewer, project, viewer->snapshot);
}

/* The same of a project. */
ApikeyViewedProject *
apikey_viewer_project(ApikeyViewer *viewer, const pg_uuid_t *id)
{
	bool		found;
	ApikeyViewedProject *project = hash_search(viewer->projects, id,
											   HASH_ENTER, &found);

	if (!found)
		read_project(viewer, project);
	return project;
}

/* Makes the tenant that a project is, of its ids alone. */
void
apikey_viewer_tenant(const ApikeyViewedProject *project, ApikeyTenant *tenant)
{
	tenant->is_project = true;
	tenant->path = NULL;
	apikey_row_clear(&tenant->project);
	apikey_row_set_pointer(&tenant->project, APIKEY_PROJECT_ID, &project->id);
	apikey_row_set_pointer(&tenant->project, APIKEY_PROJECT_ORGANIZATION,
						   &project->organization);
}

/* May the viewer see a key? */
bool
apikey_viewer_sees_key(ApikeyViewer *viewer, const ApikeyRow *key)
{
	const pg_uuid_t *project = apikey_key_project(key);

	if (viewer->sees_all || viewer->sees_nothing)
		return viewer->sees_all;
	return apikey_authority_grants(project == NULL ? NULL :
								   &apikey_viewer_project(viewer, project)->authority,
								   APIKEY_RIGHT_SEE, key);
}

static void
path_key(ScanKey key, const text *path)
{
	ScanKeyEntryInitialize(key, 0, APIKEY_PROJECT_PATH + 1,
						   BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, PointerGetDatum(path));
}

static bool
copy_id(const ApikeyRow *row, void *state)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	*id = *apikey_row_id(row);
	*(const pg_uuid_t **) state = id;
	return false;
}

/* The id of a project, for who sees all of them; NULL where there is none. */
const pg_uuid_t *
apikey_viewer_find_project(ApikeyViewer *viewer, const text *path)
{
	const pg_uuid_t *id = NULL;
	ScanKeyData key;

	Assert(viewer->sees_all);
	path_key(&key, path);
	apikey_table_walk(&apikey_project_table, APIKEY_REL_PROJECT_PATH, &key, 1,
					  viewer->snapshot, copy_id, &id);
	return id;
}

/* What apikey_viewer_memberships is about. */
typedef struct Memberships
{
	ApikeyViewer *viewer;
	ApikeyVisitMembership visit;
	void	   *state;
	bool		removals;		/* some may have been removed beside their rows */
	Snapshot	snapshot;
} Memberships;

static bool
visit_member(const ApikeyRow *row, void *state)
{
	Memberships *memberships = state;

	if (apikey_member_covers(row, GetUserId(), memberships->viewer->subject) &&
		!(memberships->removals &&
		  apikey_revocation_member_removed(apikey_row_id(row), memberships->snapshot)))
		memberships->visit(row, memberships->state);
	return true;
}

static void
note_role(const ApikeyRow *row, void *state)
{
	int			column = row->nulls[APIKEY_MEMBER_PROJECT] ?
		APIKEY_MEMBER_ORGANIZATION : APIKEY_MEMBER_PROJECT;
	ApikeyRole	role = apikey_row_role(row, APIKEY_MEMBER_ROLE);
	bool		found;
	MemberRole *member_role = hash_search(state,
										  DatumGetUUIDP(row->values[column]),
										  HASH_ENTER, &found);

	if (!found || member_role->role < role)
		member_role->role = role;
}

/*
 * Visits the rows that make the viewer a member of something.  How many these
 * are is for others to say, so what a visit takes of memory is given back.
 */
static void
visit_members(Memberships *memberships)
{
	ApikeyTurns turns;
	ListCell   *cell;

	apikey_turns_begin(&turns, visit_member, memberships);
	foreach(cell, memberships->viewer->roles)
	{
		ScanKeyData key;

		ScanKeyInit(&key, APIKEY_MEMBER_MEMBER + 1, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(lfirst_oid(cell)));
		apikey_table_walk(&apikey_member_table, APIKEY_REL_MEMBER_MEMBER, &key,
						  1, memberships->snapshot, apikey_turns_visit, &turns);
	}
	apikey_turns_end(&turns);
}

/*
 * The same as committed now: whoever has left sees nothing more, whatever its
 * snapshot.  What it is in each tenant is known from then on, so that of many
 * projects the members need not be looked through, one by one.
 */
void
apikey_viewer_memberships(ApikeyViewer *viewer, ApikeyVisitMembership visit,
						  void *state)
{
	Memberships memberships = {.viewer = viewer, .visit = visit, .state = state};

	if (viewer->sees_nothing)
		return;
	memberships.removals = apikey_revocation_any();
	memberships.snapshot = apikey_latest_snapshot();
	if (viewer->member_roles == NULL && !viewer->sees_tenants && !superuser())
	{
		MemoryContext context = MemoryContextSwitchTo(viewer->context);
		HTAB	   *member_roles = table_by_id("apikey viewer's roles",
											   sizeof(MemberRole));
		Memberships noting = {viewer, note_role, member_roles,
		memberships.removals, memberships.snapshot};

		MemoryContextSwitchTo(context);
		visit_members(&noting);
		viewer->member_roles = member_roles;
	}
	visit_members(&memberships);
	UnregisterSnapshot(memberships.snapshot);
}

/* What apikey_viewer_projects is about. */
typedef struct Projects
{
	ApikeyViewer *viewer;
	const text *path;			/* of the only one that is wanted; or NULL */
	ApikeyVisitProject visit;
	void	   *state;
} Projects;

static void
visit_project(Projects *projects, const pg_uuid_t *id)
{
	ApikeyViewedProject *project = apikey_viewer_project(projects->viewer, id);

	if (project->visited || !project->exists ||
		project->authority.member_role == APIKEY_ROLE_NONE)
		return;
	if (projects->path != NULL &&
		!apikey_same_text(projects->path, project->path))
		return;
	project->visited = true;
	projects->visit(project, projects->state);
}

static bool
visit_project_row(const ApikeyRow *row, void *state)
{
	visit_project(state, apikey_row_id(row));
	return true;
}

/* Is the path wanted that of a project of an organization? */
static bool
path_within(const text *path, const pg_uuid_t *organization)
{
	ApikeyRow	row;

	return apikey_table_fetch_latest(&apikey_organization_table, organization,
									 &row) &&
		apikey_tenant_within(text_to_cstring(path),
							 apikey_row_text(&row, APIKEY_ORGANIZATION_NAME));
}

/*
 * Of another path nobody is asked: the organization is the viewer's own.  What a
 * project's visit takes of memory is given back, as for members.
 */
static void
visit_organization(Projects *projects, const pg_uuid_t *organization)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ApikeyTurns turns;
	ScanKeyData key;

	apikey_turns_begin(&turns, visit_project_row, projects);
	if (projects->path == NULL)
	{
		ScanKeyInit(&key, APIKEY_PROJECT_ORGANIZATION + 1,
					BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(organization));
		apikey_table_walk(&apikey_project_table,
						  APIKEY_REL_PROJECT_ORGANIZATION, &key, 1, snapshot,
						  apikey_turns_visit, &turns);
	}
	else if (path_within(projects->path, organization))
	{
		path_key(&key, projects->path);
		apikey_table_walk(&apikey_project_table, APIKEY_REL_PROJECT_PATH, &key,
						  1, snapshot, apikey_turns_visit, &turns);
	}
	apikey_turns_end(&turns);
	UnregisterSnapshot(snapshot);
}

static void
visit_membership(const ApikeyRow *member, void *state)
{
	const pg_uuid_t *organization =
		DatumGetUUIDP(member->values[APIKEY_MEMBER_ORGANIZATION]);

	if (member->nulls[APIKEY_MEMBER_PROJECT])
		visit_organization(state, organization);
	else
		visit_project(state, DatumGetUUIDP(member->values[APIKEY_MEMBER_PROJECT]));
}

/*
 * Visits the projects in which the viewer is something, itself or through
 * their organization; with a path only that one.
 */
void
apikey_viewer_projects(ApikeyViewer *viewer, const text *path,
					   ApikeyVisitProject visit, void *state)
{
	Projects	projects = {viewer, path, visit, state};

	apikey_viewer_memberships(viewer, visit_membership, &projects);
}
