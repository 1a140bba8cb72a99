/*
 * member_change.c
 *		Making somebody a member, changing its role, and ending it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access_internal.h"

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
		apikey_revocation_insert(id, NULL, APIKEY_BESIDE_MEMBER_REMOVED);
}

/* Has a member, whose row is locked, been removed beside it? */
static bool
is_removed(const pg_uuid_t *id)
{
	Snapshot	snapshot;
	bool		removed;

	if (!apikey_revocation_any())
		return false;
	snapshot = apikey_latest_snapshot();
	removed = apikey_revocation_member_removed(id, snapshot);
	UnregisterSnapshot(snapshot);
	return removed;
}

/*
 * Removes the row of a member that has been removed beside it; false where it
 * has not, or somebody has it.
 */
bool
apikey_member_finish(const pg_uuid_t *id, ApikeyLock lock)
{
	ApikeyRow	row;

	if (!apikey_table_lock(&apikey_member_table, id, lock, &row) ||
		!is_removed(id))
		return false;
	apikey_table_delete(&apikey_member_table, id, true);
	apikey_revocation_member_forget(id, lock);
	return true;
}

/* The search for a member's row. */
typedef struct MemberSearch
{
	pg_uuid_t	id;
	bool		found;
} MemberSearch;

static bool
member_visit(const ApikeyRow *row, void *state)
{
	MemberSearch *search = state;

	search->id = *apikey_row_id(row);
	search->found = true;
	return false;
}

/* Finds the id of a member's row, which may have been removed beside it. */
static bool
find_id(const ApikeyTenant *tenant, Oid member, const text *subject,
		Snapshot snapshot, pg_uuid_t *id)
{
	MemberSearch search = {.found = false};

	apikey_member_scan_one(apikey_tenant_organization(tenant),
						   apikey_tenant_project(tenant), member, subject,
						   snapshot, member_visit, &search);
	*id = search.id;
	return search.found;
}

/* The search for an owner but for one, of a role that exists. */
typedef struct OwnerSearch
{
	const pg_uuid_t *but;
	bool		found;
} OwnerSearch;

static bool
owner_visit(const ApikeyRow *row, void *state)
{
	OwnerSearch *search = state;

	search->found = apikey_row_role(row, APIKEY_MEMBER_ROLE) == APIKEY_ROLE_OWNER &&
		memcmp(apikey_row_id(row), search->but, sizeof(pg_uuid_t)) != 0 &&
		apikey_member_stands(row);
	return !search->found;
}

/* Does a row make a member the last owner of an organization? */
static bool
is_last_owner(const ApikeyTenant *tenant, const ApikeyRow *row)
{
	OwnerSearch search = {.but = apikey_row_id(row)};

	if (apikey_tenant_project(tenant) != NULL ||
		apikey_row_role(row, APIKEY_MEMBER_ROLE) != APIKEY_ROLE_OWNER ||
		!apikey_member_stands(row))
		return false;
	apikey_member_scan(apikey_tenant_organization(tenant), NULL, owner_visit,
					   &search);
	return !search.found;
}

/* Finds a member's row, and whether an organization has owners but for it. */
static bool
find_member(const ApikeyTenant *tenant, Oid member, const text *subject,
			ApikeyRow *row, bool *last_owner)
{
	bool		removals = apikey_revocation_any();
	Snapshot	snapshot = apikey_latest_snapshot();
	pg_uuid_t	id;
	bool		found = find_id(tenant, member, subject, snapshot, &id) &&
		!(removals && apikey_revocation_member_removed(&id, snapshot));

	UnregisterSnapshot(snapshot);
	found = found &&
		apikey_table_fetch_latest(&apikey_member_table, &id, row);
	*last_owner = found && is_last_owner(tenant, row);
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
	Snapshot	snapshot;
	pg_uuid_t	id;
	bool		found;

	if (!apikey_revocation_any())
		return;
	snapshot = apikey_latest_snapshot();
	found = find_id(tenant, member, subject, snapshot, &id);
	UnregisterSnapshot(snapshot);
	if (found && !apikey_member_finish(&id, APIKEY_LOCK_UPDATE))
		apikey_table_require_seen(&apikey_member_table, &id);
}

/* Makes somebody that has no row a member of a tenant. */
static void
add_row(const ApikeyTenant *tenant, Oid member, text *subject, ApikeyRole role)
{
	ApikeyRow	row;
	pg_uuid_t	id;

	make_way(tenant, member, subject);
	apikey_row_clear(&row);
	/* What was removed by that id, here or by others, was so before this. */
	if (apikey_member_new_id(tenant, member, subject, &id))
		apikey_revocation_member_forget(&id, APIKEY_LOCK_UPDATE);
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

/* Gives a member's row, of its last owner or not, a role. */
static void
change_row(const ApikeyTenant *tenant, ApikeyRow *row, bool last_owner,
		   ApikeyRole role)
{
	Oid			member = apikey_member_oid(row);
	const text *subject = apikey_row_text(row, APIKEY_MEMBER_SUBJECT);
	bool		stands = apikey_member_stands(row);
	ApikeyRole	before = apikey_row_role(row, APIKEY_MEMBER_ROLE);
	bool		owner = stands && before == APIKEY_ROLE_OWNER;
	List	   *committing = NIL;

	if (last_owner)
		refuse_last_owner(tenant);
	if (owner)
		committing = apikey_standing_ending(tenant, apikey_row_id(row));
	apikey_row_set(row, APIKEY_MEMBER_ROLE, apikey_role_datum(role));
	apikey_row_set_pointer(row, APIKEY_MEMBER_MEMBER_NAME,
						   apikey_role_name_text(member, NULL));
	apikey_table_update(&apikey_member_table, row);
	apikey_event_member(tenant, stands ? APIKEY_EVENT_MEMBER_CHANGED :
						APIKEY_EVENT_MEMBER_ADDED, member, subject, role,
						stands ? before : APIKEY_ROLE_NONE);
	if (owner)
		apikey_standing_ended(tenant, committing);
}

/* Has a member the role that it is to have? */
static bool
has_role(const ApikeyRow *row, ApikeyRole role)
{
	return apikey_member_stands(row) &&
		apikey_row_role(row, APIKEY_MEMBER_ROLE) == role;
}

/* Locks a member's row that was found as it is committed now; false where it is gone. */
static bool
lock_found(ApikeyRow *row)
{
	pg_uuid_t	id = *apikey_row_id(row);

	if (apikey_table_lock(&apikey_member_table, &id, APIKEY_LOCK_CHANGE, row))
		return true;
	apikey_table_require_seen(&apikey_member_table, &id);
	return false;
}

/* Adds a member, or changes its role. */
static void
put(const ApikeyTenant *tenant, Oid member, text *subject, ApikeyRole role,
	bool founding)
{
	ApikeyRow	row;
	bool		last_owner;
	bool		found = find_member(tenant, member, subject, &row, &last_owner);

	/* Who reads as of before cannot lock what has changed since, and need not here. */
	if (found && IsolationUsesXactSnapshot() && has_role(&row, role))
		return;
	/*
	 * What it is once nobody else has it, if it has not been removed meanwhile, and
	 * before anybody is kept from changes.
	 */
	if (found)
		found = lock_found(&row) && !is_removed(apikey_row_id(&row));
	if (found && has_role(&row, role))
		return;
	if (!founding)
		apikey_standing_note(tenant);
	if (found)
		change_row(tenant, &row, last_owner, role);
	else
		add_row(tenant, member, subject, role);
}

/*
 * Adds a member to a tenant that the caller, an owner of it, has locked, or
 * changes its role.
 */
void
apikey_member_put(const ApikeyTenant *tenant, Oid member, text *subject,
				  ApikeyRole role)
{
	put(tenant, member, subject, role, false);
}

/* The caller has made an organization, whose first owner it becomes. */
void
apikey_member_found(const ApikeyTenant *tenant, text *subject)
{
	put(tenant, GetUserId(), subject, APIKEY_ROLE_OWNER, true);
}

/* Removes a member from an opened tenant; false where it is none. */
bool
apikey_member_remove_from(const ApikeyTenant *tenant, Oid member,
						  text *subject)
{
	ApikeyRow	row;
	bool		last_owner;
	bool		owner;
	List	   *committing = NIL;

	if (!find_member(tenant, member, subject, &row, &last_owner))
		return false;
	if (last_owner)
		refuse_last_owner(tenant);
	owner = apikey_row_role(&row, APIKEY_MEMBER_ROLE) == APIKEY_ROLE_OWNER;
	if (owner)
		committing = apikey_standing_ending(tenant, apikey_row_id(&row));
	apikey_member_end(&row);
	apikey_member_note_removed(tenant, member, subject, apikey_row_id(&row));
	apikey_event_member(tenant, APIKEY_EVENT_MEMBER_REMOVED, member, subject,
						apikey_row_role(&row, APIKEY_MEMBER_ROLE),
						APIKEY_ROLE_NONE);
	if (owner)
		apikey_standing_ended(tenant, committing);
	return true;
}
