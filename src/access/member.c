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

static Oid
member_role_oid(const ApikeyRow *row)
{
	return DatumGetObjectId(row->values[APIKEY_MEMBER_MEMBER]);
}

/* Is there a row's role still, rather than another of its number? */
static bool
member_stands(const ApikeyRow *row)
{
	return apikey_role_stands(member_role_oid(row),
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

	return apikey_revocation_removed(apikey_row_id(row), visiting->snapshot) ||
		visiting->visit(row, visiting->state);
}

/*
 * Visits the rows of an organization itself or of one of its projects.  What a
 * row points to is gone when visit returns.
 */
static void
scan_rows(const pg_uuid_t *organization, const pg_uuid_t *project,
		  Snapshot snapshot, ApikeyVisit visit, void *state)
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
		scan_rows(organization, project, snapshot, visit_present, &visiting);
	else
		scan_rows(organization, project, snapshot, visit, state);
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
	return member_stands(row) &&
		apikey_principal_covered(role, subject, member_role_oid(row),
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
	Oid			member = member_role_oid(row);

	/* A superuser has the privileges of every role, and is none of them. */
	return member_stands(row) &&
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

/* What the search for one member's row has come to. */
typedef struct MemberSearch
{
	Oid			member;
	const text *subject;
	pg_uuid_t	id;
	bool		found;
	int			other_owners;	/* of roles that exist */
} MemberSearch;

static bool
member_visit(const ApikeyRow *row, void *state)
{
	MemberSearch *search = state;

	if (member_role_oid(row) == search->member &&
		apikey_same_text(apikey_row_text(row, APIKEY_MEMBER_SUBJECT),
						 search->subject))
	{
		search->id = *apikey_row_id(row);
		search->found = true;
	}
	else if (apikey_row_role(row, APIKEY_MEMBER_ROLE) == APIKEY_ROLE_OWNER &&
			 member_stands(row))
		search->other_owners++;
	return true;
}

/*
 * Removes a member's row; where somebody has it, beside it.  So it waits for
 * nobody, and holds from the commit on.
 */
void
apikey_member_end(const ApikeyRow *row)
{
	const pg_uuid_t *id = apikey_row_id(row);

	if (apikey_table_row_free(&apikey_member_table, id))
		apikey_table_delete(&apikey_member_table, id, true);
	else
		apikey_revocation_insert(id, NULL, APIKEY_BESIDE_REMOVED);
}

/*
 * Removes the row of a member that has been removed beside it; false where it
 * has not, or somebody has it.
 */
bool
apikey_member_finish(const pg_uuid_t *id, ApikeyLock lock)
{
	ApikeyRow	row;
	Snapshot	snapshot;
	bool		removed;

	if (!apikey_table_lock(&apikey_member_table, id, lock, &row))
		return false;
	snapshot = apikey_latest_snapshot();
	removed = apikey_revocation_removed(id, snapshot);
	UnregisterSnapshot(snapshot);
	if (!removed)
		return false;
	apikey_table_delete(&apikey_member_table, id, true);
	apikey_revocation_forget(id);
	return true;
}

/* Finds a member's row, and whether an organization has owners but for it. */
static bool
find_member(const ApikeyTenant *tenant, Oid member, const text *subject,
			ApikeyRow *row, bool *last_owner)
{
	MemberSearch search = {.member = member, .subject = subject};
	bool		found;

	apikey_member_scan(apikey_tenant_organization(tenant),
					   apikey_tenant_project(tenant), member_visit, &search);
	found = search.found &&
		apikey_table_fetch_latest(&apikey_member_table, &search.id, row);
	*last_owner = found && search.other_owners == 0 &&
		apikey_tenant_project(tenant) == NULL &&
		apikey_row_role(row, APIKEY_MEMBER_ROLE) == APIKEY_ROLE_OWNER &&
		member_stands(row);
	return found;
}

pg_noreturn static void
refuse_last_owner(const ApikeyTenant *tenant)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("organization \"%s\" must keep an owner", tenant->path),
			 errhint("Make somebody else an owner first.")));
}

/* The row of a member that has been removed beside it makes way for another. */
static void
make_way(const ApikeyTenant *tenant, Oid member, const text *subject)
{
	MemberSearch search = {.member = member, .subject = subject};
	Snapshot	snapshot;

	if (!apikey_revocation_any())
		return;
	snapshot = apikey_latest_snapshot();
	scan_rows(apikey_tenant_organization(tenant), apikey_tenant_project(tenant),
			  snapshot, member_visit, &search);
	UnregisterSnapshot(snapshot);
	if (search.found)
		(void) apikey_member_finish(&search.id, APIKEY_LOCK_UPDATE);
}

/*
 * Adds a member to a tenant that the caller has locked, or changes its role.
 */
void
apikey_member_put(const ApikeyTenant *tenant, Oid member, text *subject,
				  ApikeyRole role)
{
	ApikeyRow	row;
	bool		last_owner;
	pg_uuid_t	id;

	if (find_member(tenant, member, subject, &row, &last_owner))
	{
		bool		stands = member_stands(&row);
		ApikeyRole	before = apikey_row_role(&row, APIKEY_MEMBER_ROLE);

		if (stands && before == role)
			return;
		if (last_owner)
			refuse_last_owner(tenant);
		apikey_row_set(&row, APIKEY_MEMBER_ROLE, apikey_role_datum(role));
		apikey_row_set_pointer(&row, APIKEY_MEMBER_MEMBER_NAME,
							   apikey_role_name_text(member, NULL));
		apikey_table_update(&apikey_member_table, &row);
		apikey_event_member(tenant, stands ? APIKEY_EVENT_MEMBER_CHANGED :
							APIKEY_EVENT_MEMBER_ADDED, member, subject, role,
							stands ? before : APIKEY_ROLE_NONE);
		return;
	}

	make_way(tenant, member, subject);
	apikey_row_clear(&row);
	apikey_member_new_id(tenant, member, subject, &id);
	apikey_row_set_pointer(&row, APIKEY_MEMBER_ID, &id);
	apikey_row_set_pointer(&row, APIKEY_MEMBER_ORGANIZATION,
						   apikey_tenant_organization(tenant));
	apikey_row_set_pointer(&row, APIKEY_MEMBER_PROJECT,
						   apikey_tenant_project(tenant));
	apikey_row_set_pointer(&row, APIKEY_MEMBER_SUBJECT, subject);
	apikey_row_set(&row, APIKEY_MEMBER_MEMBER, ObjectIdGetDatum(member));
	apikey_row_set_pointer(&row, APIKEY_MEMBER_MEMBER_NAME,
						   apikey_role_name_text(member, NULL));
	apikey_row_set(&row, APIKEY_MEMBER_ROLE, apikey_role_datum(role));
	apikey_row_set(&row, APIKEY_MEMBER_CREATED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_row_set_pointer(&row, APIKEY_MEMBER_CREATED_BY,
						   apikey_role_name_text(GetUserId(), NULL));
	apikey_table_insert(&apikey_member_table, &row);
	apikey_event_member(tenant, APIKEY_EVENT_MEMBER_ADDED, member, subject,
						role, APIKEY_ROLE_NONE);
}

/* Removes a member from an opened tenant; false where it is none. */
bool
apikey_member_remove_from(const ApikeyTenant *tenant, Oid member,
						  text *subject)
{
	ApikeyRow	row;
	bool		last_owner;

	if (!find_member(tenant, member, subject, &row, &last_owner))
		return false;
	if (last_owner)
		refuse_last_owner(tenant);
	apikey_member_end(&row);
	apikey_member_note_removed(tenant, member, subject, apikey_row_id(&row));
	apikey_event_member(tenant, APIKEY_EVENT_MEMBER_REMOVED, member, subject,
						apikey_row_role(&row, APIKEY_MEMBER_ROLE),
						APIKEY_ROLE_NONE);
	return true;
}
