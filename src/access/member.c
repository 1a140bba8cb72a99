/*
 * member.c
 *		Who belongs to an organization or project, and as what.
 *
 * An organization's row has no project; it holds in each of its projects.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
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

/* Makes a scan key for a column that is null. */
static void
null_key(ScanKey key, AttrNumber column)
{
	ScanKeyEntryInitialize(key, SK_ISNULL | SK_SEARCHNULL, column,
						   InvalidStrategy, InvalidOid, InvalidOid,
						   InvalidOid, (Datum) 0);
}

/*
 * Makes the two scan keys of the rows of an organization itself or of one of its
 * projects.
 */
void
apikey_member_keys(ScanKeyData *keys, const pg_uuid_t *organization,
				   const pg_uuid_t *project)
{
	ScanKeyInit(&keys[0], APIKEY_MEMBER_ORGANIZATION + 1,
				BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(organization));
	if (project == NULL)
		null_key(&keys[1], APIKEY_MEMBER_PROJECT + 1);
	else
		ScanKeyInit(&keys[1], APIKEY_MEMBER_PROJECT + 1,
					BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(project));
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

	apikey_member_keys(keys, organization, project);
	apikey_table_walk(&apikey_member_table, APIKEY_REL_MEMBER_WHO, keys, 2,
					  snapshot, visit, state);
}

/* The same of the row, if any, of a role and a subject, which may be NULL. */
void
apikey_member_scan_one(const pg_uuid_t *organization,
					   const pg_uuid_t *project, Oid member,
					   const text *subject, Snapshot snapshot,
					   ApikeyVisit visit, void *state)
{
	ScanKeyData keys[4];

	apikey_member_keys(keys, organization, project);
	if (subject == NULL)
		null_key(&keys[2], APIKEY_MEMBER_SUBJECT + 1);
	else
		ScanKeyEntryInitialize(&keys[2], 0, APIKEY_MEMBER_SUBJECT + 1,
							   BTEqualStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXTEQ,
							   PointerGetDatum(subject));
	ScanKeyInit(&keys[3], APIKEY_MEMBER_MEMBER + 1, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(member));
	apikey_table_walk(&apikey_member_table, APIKEY_REL_MEMBER_WHO, keys,
					  lengthof(keys), snapshot, visit, state);
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
 * Visits the members of an organization itself or of one of its projects, as
 * committed now and with our own transaction's changes.
 */
void
apikey_member_scan(const pg_uuid_t *organization, const pg_uuid_t *project,
				   ApikeyVisit visit, void *state)
{
	bool		removals = apikey_revocation_any();
	Snapshot	snapshot = apikey_latest_snapshot();
	Visiting	visiting = {snapshot, visit, state};

	if (removals)
		apikey_member_scan_rows(organization, project, snapshot, visit_present,
								&visiting);
	else
		apikey_member_scan_rows(organization, project, snapshot, visit, state);
	UnregisterSnapshot(snapshot);
}

/*
 * Is what a role is in a place read by the index for that?  While subjects are in
 * use, the unique index leads to what there may be of each role.
 */
bool
apikey_member_place_read(void)
{
	return !apikey_principal_subjects_in_use() &&
		!apikey_catalog_lacks(APIKEY_REL_MEMBER_PLACE);
}

/*
 * Locks and looks up what decides who may see something.  Who looks for a thing
 * that the caller may know nothing of does this first: the locks that it is left
 * with, and what it has looked up, are the same then whether there is such a thing
 * or not.
 */
void
apikey_member_keep(void)
{
	list_free(apikey_roles_of(GetUserId(), false));
	apikey_administrator_keep();
	apikey_table_keep(&apikey_project_table, APIKEY_REL_PROJECT_PKEY);
	apikey_table_keep_long(&apikey_project_table);
	apikey_table_keep(&apikey_member_table, APIKEY_REL_MEMBER_WHO);
	if (apikey_member_place_read())
		apikey_table_keep(&apikey_member_table, APIKEY_REL_MEMBER_PLACE);
	if (apikey_revocation_any())
	{
		apikey_table_keep(&apikey_revocation_table, APIKEY_REL_REVOCATION_KEY);
		apikey_table_keep_long(&apikey_revocation_table);
	}
}

/*
 * Does a row make a principal a member?  Whether its role stands is asked last,
 * and so of no other member's: see apikey_principal_meant.
 */
bool
apikey_member_covers(const ApikeyRow *row, Oid role, const text *subject)
{
	return apikey_principal_covered(role, subject, apikey_member_oid(row),
									apikey_row_text(row, APIKEY_MEMBER_SUBJECT)) &&
		apikey_member_stands(row);
}
