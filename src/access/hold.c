/*
 * hold.c
 *		Names of organizations that were dropped, and who may have them again.
 *
 * Who waits for a name to be dropped would get what is still sent there: keys
 * that are asked for by the path, links, configurations.  So for a time a name
 * is taken for all but the organization's former owners, and superusers.  A row
 * without a role holds the name; others say who may have it, and stand for
 * themselves as members do: by number and name.  A dump leaves out those whose
 * roles are gone, and the hold stays.
 *
 * The paths of projects need none: none but the organization's owners make
 * them, and who may make the organization may have its projects' names.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "access/access_internal.h"

/* The columns of apikey_name_hold, in their order there. */
enum
{
	HOLD_ID,
	HOLD_NAME,
	HOLD_UNTIL,
	HOLD_ROLE,
	HOLD_ROLE_NAME,
	HOLD_SUBJECT
};

static const ApikeyColumn hold_columns[] = {
	[HOLD_ID] = {"id", UUIDOID, false, true},
	[HOLD_NAME] = {"name", TEXTOID, false, true},
	[HOLD_UNTIL] = {"until", TIMESTAMPTZOID, false, true},
	[HOLD_ROLE] = {"role", REGROLEOID, false},
	[HOLD_ROLE_NAME] = {"role_name", TEXTOID, false},
	[HOLD_SUBJECT] = {"subject", TEXTOID, false}
};

static const ApikeyTable hold_table = {
	.name = "apikey_name_hold",
	.relation = APIKEY_REL_NAME_HOLD,
	.pkey = APIKEY_REL_NAME_HOLD_PKEY,
	.columns = hold_columns,
	.count = lengthof(hold_columns)
};

/* Visits the rows of a name. */
static void
visit_name(text *name, ApikeyVisit visit, void *state)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, HOLD_NAME + 1, BTEqualStrategyNumber,
						   InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   PointerGetDatum(name));
	apikey_table_scan(&hold_table, APIKEY_REL_NAME_HOLD_NAME, &key, 1,
					  snapshot, visit, state);
	UnregisterSnapshot(snapshot);
}

/* Locks the table of names, before it is known whether one is taken. */
void
apikey_hold_keep(void)
{
	apikey_table_keep(&hold_table, APIKEY_REL_NAME_HOLD_NAME);
}

static void
add_row(text *name, TimestampTz until, const ApikeyRow *member)
{
	ApikeyRow	row;
	pg_uuid_t	id;

	apikey_row_clear(&row);
	apikey_generate_id(&id);
	apikey_row_set_pointer(&row, HOLD_ID, &id);
	apikey_row_set_pointer(&row, HOLD_NAME, name);
	apikey_row_set(&row, HOLD_UNTIL, TimestampTzGetDatum(until));
	if (member != NULL)
	{
		apikey_row_set(&row, HOLD_ROLE, member->values[APIKEY_MEMBER_MEMBER]);
		apikey_row_set_pointer(&row, HOLD_ROLE_NAME,
							   apikey_row_text(member, APIKEY_MEMBER_MEMBER_NAME));
		apikey_row_set_pointer(&row, HOLD_SUBJECT,
							   apikey_row_text(member, APIKEY_MEMBER_SUBJECT));
	}
	apikey_table_insert(&hold_table, &row);
}

/* A name that is to be held, and until when. */
typedef struct Hold
{
	text	   *name;
	TimestampTz until;
} Hold;

static bool
add_owner(const ApikeyRow *member, void *state)
{
	const Hold *hold = state;

	if (apikey_row_role(member, APIKEY_MEMBER_ROLE) == APIKEY_ROLE_OWNER)
		add_row(hold->name, hold->until, member);
	return true;
}

/* An organization is being dropped, and its members are there still. */
void
apikey_hold_name(const ApikeyTenant *organization)
{
	Hold		hold;
	ApikeyTurns turns;

	if (apikey_name_hold == 0 || apikey_catalog()->first_script)
		return;
	hold.name = cstring_to_text(organization->path);
	hold.until = GetCurrentTimestamp() +
		(TimestampTz) apikey_name_hold * USECS_PER_SEC;
	add_row(hold.name, hold.until, NULL);
	apikey_turns_begin(&turns, add_owner, &hold);
	apikey_member_scan(apikey_tenant_organization(organization), NULL,
					   apikey_turns_visit, &turns);
	apikey_turns_end(&turns);
}

/* What the rows of a name say of the caller. */
typedef struct Claim
{
	TimestampTz now;
	const text *subject;
	bool		held;
	bool		mine;
	List	   *ids;
} Claim;

static bool
read_claim(const ApikeyRow *row, void *state)
{
	Claim	   *claim = state;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	Oid			role = DatumGetObjectId(row->values[HOLD_ROLE]);

	*id = *apikey_row_id(row);
	claim->ids = lappend(claim->ids, id);
	if (claim->now >= DatumGetTimestampTz(row->values[HOLD_UNTIL]))
		return true;
	claim->held = true;
	if (!row->nulls[HOLD_ROLE] &&
		apikey_principal_covered(GetUserId(), claim->subject, role,
								 apikey_row_text(row, HOLD_SUBJECT)) &&
		apikey_role_stands(role, apikey_row_text(row, HOLD_ROLE_NAME)))
		claim->mine = true;
	return true;
}

/*
 * The caller has made an organization, whose row is written: so whoever was
 * dropping one of the name has committed.  False where the name is held for
 * others; else nobody holds it any more.
 */
bool
apikey_hold_take(const ApikeyTenant *organization)
{
	Claim		claim = {.now = GetCurrentTimestamp()};
	ListCell   *cell;

	if (apikey_catalog()->first_script)
		return true;
	claim.subject = apikey_principal_subject();
	visit_name(cstring_to_text(organization->path), read_claim, &claim);
	if (claim.held && !claim.mine && !superuser())
		return false;
	foreach(cell, claim.ids)
		apikey_table_delete_found(&hold_table, lfirst(cell));
	return true;
}
