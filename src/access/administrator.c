/*
 * administrator.c
 *		The roles that see every key and event of the database, and may disable
 *		and revoke.
 *
 * A role is stored by its OID with its name beside it, and is an administrator
 * while both are its own.  So the right ends with the role: one that is made
 * anew under the name has another OID, one that gets the OID another name, and
 * a dump is resolved by names where it is restored.  It ends with the name,
 * too: a renamed role is granted it again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "access/access_internal.h"

/* The columns of apikey_administrator, in their order there. */
enum
{
	ADMINISTRATOR_ID,
	ADMINISTRATOR_ROLE,
	ADMINISTRATOR_ROLE_NAME,
	ADMINISTRATOR_GRANTED_AT,
	ADMINISTRATOR_GRANTED_BY
};

static const ApikeyColumn administrator_columns[] = {
	[ADMINISTRATOR_ID] = {"id", UUIDOID, false, true},
	[ADMINISTRATOR_ROLE] = {"role", REGROLEOID, false, true},
	[ADMINISTRATOR_ROLE_NAME] = {"role_name", TEXTOID, false, true},
	[ADMINISTRATOR_GRANTED_AT] = {"granted_at", TIMESTAMPTZOID, false, true},
	[ADMINISTRATOR_GRANTED_BY] = {"granted_by", TEXTOID, false, true}
};

static const ApikeyTable administrator_table = {
	.name = "apikey_administrator",
	.relation = APIKEY_REL_ADMINISTRATOR,
	.pkey = APIKEY_REL_ADMINISTRATOR_PKEY,
	.columns = administrator_columns,
	.count = lengthof(administrator_columns)
};

/* Visits all; there are few. */
static void
visit_all(ApikeyVisit visit, void *state)
{
	Snapshot	snapshot = apikey_latest_snapshot();

	apikey_table_scan(&administrator_table, APIKEY_REL_ADMINISTRATOR, NULL, 0,
					  snapshot, visit, state);
	UnregisterSnapshot(snapshot);
}

static Oid
role_of(const ApikeyRow *row)
{
	return DatumGetObjectId(row->values[ADMINISTRATOR_ROLE]);
}

static bool
in_force(const ApikeyRow *row)
{
	return apikey_role_is(role_of(row),
						  apikey_row_text(row, ADMINISTRATOR_ROLE_NAME));
}

static bool
find_mine(const ApikeyRow *row, void *state)
{
	bool	   *found = state;

	*found = apikey_role_has(GetUserId(), role_of(row)) && in_force(row);
	return !*found;
}

/* Locks what is read to tell that: see apikey_member_keep. */
void
apikey_administrator_keep(void)
{
	if (!apikey_catalog()->first_script)
		apikey_table_keep(&administrator_table, APIKEY_REL_ADMINISTRATOR);
}

/* Has the caller the privileges of an administrator?  The SQL of 0.1.0 has none. */
bool
apikey_administers(void)
{
	bool		found = false;

	if (!apikey_catalog()->first_script)
		visit_all(find_mine, &found);
	return found;
}

/* What is looked for, and the ids of what is to go. */
typedef struct Search
{
	Oid			role;
	bool		found;			/* in force */
	List	   *ids;
} Search;

static bool
find_role(const ApikeyRow *row, void *state)
{
	Search	   *search = state;
	pg_uuid_t  *id;

	if (role_of(row) != search->role)
		return true;
	search->found |= in_force(row);
	id = palloc(sizeof(pg_uuid_t));
	*id = *apikey_row_id(row);
	search->ids = lappend(search->ids, id);
	return true;
}

/* Removes a role, and whoever had its OID; false where it was none. */
bool
apikey_administrator_remove(Oid role)
{
	Search		search = {.role = role};
	ListCell   *cell;

	visit_all(find_role, &search);
	foreach(cell, search.ids)
		apikey_table_delete_found(&administrator_table, lfirst(cell));
	return search.found;
}

/* Makes a role an administrator; false where it is one. */
bool
apikey_administrator_add(Oid role)
{
	Search		search = {.role = role};
	ApikeyRow	row;
	pg_uuid_t	id;

	visit_all(find_role, &search);
	if (search.found)
		return false;
	(void) apikey_administrator_remove(role);
	apikey_row_clear(&row);
	apikey_generate_id(&id);
	apikey_row_set_pointer(&row, ADMINISTRATOR_ID, &id);
	apikey_row_set(&row, ADMINISTRATOR_ROLE, ObjectIdGetDatum(role));
	apikey_row_set_pointer(&row, ADMINISTRATOR_ROLE_NAME,
						   apikey_role_name_text(role, NULL));
	apikey_row_set(&row, ADMINISTRATOR_GRANTED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_row_set_pointer(&row, ADMINISTRATOR_GRANTED_BY,
						   apikey_role_name_text(GetUserId(), NULL));
	apikey_table_insert(&administrator_table, &row);
	return true;
}
