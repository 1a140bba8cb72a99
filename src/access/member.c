/*
 * member.c
 *		Who belongs to an organization or project, and as what.
 *
 * An organization's row has no project; it holds in each of its projects.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access_internal.h"

static const ApikeyColumn member_columns[] = {
	[APIKEY_MEMBER_ID] = {"id", UUIDOID, false, true},
	[APIKEY_MEMBER_ORGANIZATION] = {"organization", UUIDOID, false, true},
	[APIKEY_MEMBER_PROJECT] = {"project", UUIDOID, false},
	[APIKEY_MEMBER_SUBJECT] = {"subject", TEXTOID, false},
	[APIKEY_MEMBER_MEMBER] = {"member", REGROLEOID, false, true},
	[APIKEY_MEMBER_MEMBER_NAME] = {"member_name", TEXTOID, false, true},
	[APIKEY_MEMBER_ROLE] = {"role", InvalidOid, false, true},
	[APIKEY_MEMBER_CREATED_AT] = {"created_at", TIMESTAMPTZOID, false, true},
	[APIKEY_MEMBER_CREATED_BY] = {"created_by", TEXTOID, false, true}
};

ApikeyTable apikey_member_table = {
	.name = "apikey_member",
	.taken = "this member is being added by somebody else",
	.argument = "member",
	.relation = APIKEY_REL_MEMBER,
	.pkey = APIKEY_REL_MEMBER_PKEY,
	.columns = member_columns,
	.count = lengthof(member_columns)
};

/* The role that a row makes a member. */
Oid
apikey_member_oid(const ApikeyRow *row)
{
	return DatumGetObjectId(row->values[APIKEY_MEMBER_MEMBER]);
}

/* Is there a row's role still, rather than another of its number? */
bool
apikey_member_stands(const ApikeyRow *row)
{
	return apikey_role_stands(apikey_member_oid(row),
							  apikey_row_text(row, APIKEY_MEMBER_MEMBER_NAME));
}

/* Makes a scan key for a column that is a uuid, or null. */
static void
uuid_or_null_key(ScanKey key, AttrNumber column, const pg_uuid_t *value)
{
	if (value != NULL)
		ScanKeyInit(key, column, BTEqualStrategyNumber, F_UUID_EQ,
					UUIDPGetDatum(value));
	else
		ScanKeyEntryInitialize(key, SK_ISNULL | SK_SEARCHNULL, column,
							   InvalidStrategy, InvalidOid, InvalidOid,
							   InvalidOid, (Datum) 0);
}

/* A visit of members but for those that have been removed beside their rows. */
typedef struct Visiting
{
	Snapshot	snapshot;
	ApikeyVisit visit;
	void	   *state;
} Visiting;

static bool
visit_present(const ApikeyRow *row, void *state)
{
	const Visiting *visiting = state;

	return apikey_revocation_member_removed(apikey_row_id(row), visiting->snapshot) ||
		visiting->visit(row, visiting->state);
}

/*
 * Visits the rows of an organization itself or of one of its projects.  What a
 * row points to is gone when visit returns.
 */
void
apikey_member_scan_rows(const pg_uuid_t *organization,
						const pg_uuid_t *project, Snapshot snapshot,
						ApikeyVisit visit, void *state)
{
	ScanKeyData keys[2];

	uuid_or_null_key(&keys[0], APIKEY_MEMBER_ORGANIZATION + 1, organization);
	uuid_or_null_key(&keys[1], APIKEY_MEMBER_PROJECT + 1, project);
	apikey_table_walk(&apikey_member_table, APIKEY_REL_MEMBER_WHO, keys, 2,
					  snapshot, visit, state);
}

/*
 * The same of those that are members still.  removals: what
 * apikey_revocation_any said before the snapshot was taken.
 */
static void
scan_members(const pg_uuid_t *organization, const pg_uuid_t *project,
			 Snapshot snapshot, bool removals, ApikeyVisit visit, void *state)
{
	Visiting	visiting = {snapshot, visit, state};

	if (removals)
		apikey_member_scan_rows(organization, project, snapshot, visit_present,
								&visiting);
	else
		apikey_member_scan_rows(organization, project, snapshot, visit, state);
}

/* The same as committed now, with our own transaction's changes. */
void
apikey_member_scan(const pg_uuid_t *organization, const pg_uuid_t *project,
				   ApikeyVisit visit, void *state)
{
	bool		removals = apikey_revocation_any();
	Snapshot	snapshot = apikey_latest_snapshot();

	scan_members(organization, project, snapshot, removals, visit, state);
	UnregisterSnapshot(snapshot);
}

/*
 * Locks what decides who may see something.  Who looks for a thing that the
 * caller may know nothing of does this first: the locks that it is left with
 * are the same then whether there is such a thing or not.
 */
void
apikey_member_keep(void)
{
	apikey_table_keep(&apikey_project_table, APIKEY_REL_PROJECT_PKEY);
	apikey_table_keep(&apikey_member_table, APIKEY_REL_MEMBER_WHO);
	if (apikey_revocation_any())
		apikey_table_keep(&apikey_revocation_table,
						  APIKEY_REL_REVOCATION_KEY);
}

/* Does a row make a principal a member? */
bool
apikey_member_covers(const ApikeyRow *row, Oid role, const text *subject)
{
	return apikey_member_stands(row) &&
		apikey_principal_covered(role, subject, apikey_member_oid(row),
								 apikey_row_text(row, APIKEY_MEMBER_SUBJECT));
}

/* What the search for a principal's role in a tenant has come to. */
typedef struct RoleSearch
{
	Oid			role;
	const text *subject;
	ApikeyRole	highest;
} RoleSearch;

static bool
role_visit(const ApikeyRow *row, void *state)
{
	RoleSearch *search = state;
	ApikeyRole	role = apikey_row_role(row, APIKEY_MEMBER_ROLE);

	if (role > search->highest &&
		apikey_member_covers(row, search->role, search->subject))
		search->highest = role;
	return search->highest < APIKEY_ROLE_OWNER;
}

/*
 * What a principal is in an organization or, where one is given, in a project
 * of it: the higher of both, in one snapshot, so that who is moved from the one
 * to the other is at no time in neither.  A superuser is an owner everywhere.
 */
ApikeyRole
apikey_member_role(Oid role, const text *subject,
				   const pg_uuid_t *organization, const pg_uuid_t *project)
{
	RoleSearch	search = {.role = role, .subject = subject};
	bool		removals;
	Snapshot	snapshot;

	if (superuser_arg(role))
		return APIKEY_ROLE_OWNER;
	removals = apikey_revocation_any();
	snapshot = apikey_latest_snapshot();
	scan_members(organization, NULL, snapshot, removals, role_visit, &search);
	if (project != NULL && search.highest < APIKEY_ROLE_OWNER)
		scan_members(organization, project, snapshot, removals, role_visit,
					 &search);
	UnregisterSnapshot(snapshot);
	return search.highest;
}

/* Does a row cover a principal, whether or not its role is a superuser? */
static bool
row_names(Oid role, const text *subject, const ApikeyRow *row)
{
	Oid			member = apikey_member_oid(row);

	/* A superuser has the privileges of every role, and is none of them. */
	return apikey_member_stands(row) &&
		(!superuser_arg(role) ||
		 is_member_of_role_nosuper(role, member)) &&
		apikey_principal_covered(role, subject, member,
								 apikey_row_text(row, APIKEY_MEMBER_SUBJECT));
}

static bool
named_visit(const ApikeyRow *row, void *state)
{
	RoleSearch *search = state;

	if (row_names(search->role, search->subject, row))
		search->highest = apikey_row_role(row, APIKEY_MEMBER_ROLE);
	return search->highest == APIKEY_ROLE_NONE;
}

/*
 * Has somebody made a principal a member of a project or of its organization?
 * Of a superuser, which is an owner everywhere, that is asked too.
 */
bool
apikey_member_named(Oid role, const text *subject, const ApikeyTenant *tenant)
{
	RoleSearch	search = {.role = role, .subject = subject};
	bool		removals = apikey_revocation_any();
	Snapshot	snapshot = apikey_latest_snapshot();

	scan_members(apikey_tenant_organization(tenant), NULL, snapshot, removals,
				 named_visit, &search);
	if (search.highest == APIKEY_ROLE_NONE)
		scan_members(apikey_tenant_organization(tenant),
					 apikey_tenant_project(tenant), snapshot, removals,
					 named_visit, &search);
	UnregisterSnapshot(snapshot);
	return search.highest != APIKEY_ROLE_NONE;
}
