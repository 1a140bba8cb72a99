/*
 * undo.c
 *		Removing the members that certain transactions have made or changed.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/procarray.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access_internal.h"

#define MOMENT	100				/* milliseconds */

/* What they are about to commit is awaited, but for no longer than a moment. */
static void
await(const List *committing)
{
	const ListCell *cell;
	int			left = MOMENT;

	foreach(cell, committing)
	{
		while (left > 0 && TransactionIdIsInProgress(lfirst_oid(cell)))
		{
			CHECK_FOR_INTERRUPTS();
			pg_usleep(1000);
			left--;
		}
	}
}

/* A member that is removed beside its row. */
typedef struct Undone
{
	pg_uuid_t	id;
	bool		in_project;
	pg_uuid_t	project;
	Oid			member;
	text	   *subject;		/* or NULL */
	ApikeyRole	role;
} Undone;

/* Versions of a row come one after the other, the last one last. */
static bool
collect_undone(const ApikeyRow *row, void *state)
{
	List	  **found = state;
	const pg_uuid_t *project = apikey_row_uuid(row, APIKEY_MEMBER_PROJECT);
	const text *subject = apikey_row_text(row, APIKEY_MEMBER_SUBJECT);
	Undone	   *undone;

	if (*found == NIL ||
		memcmp(llast(*found), apikey_row_id(row), UUID_LEN) != 0)
	{
		undone = palloc0(sizeof(Undone));
		undone->id = *apikey_row_id(row);
		undone->in_project = project != NULL;
		if (project != NULL)
			undone->project = *project;
		undone->member = apikey_member_oid(row);
		if (subject != NULL)
			undone->subject = DatumGetTextPCopy(PointerGetDatum(subject));
		*found = lappend(*found, undone);
	}
	undone = llast(*found);
	undone->role = apikey_row_role(row, APIKEY_MEMBER_ROLE);
	return true;
}

/* Which members of a tenant have these transactions made or changed? */
static List *
find_undone(const ApikeyTenant *tenant, const List *committing)
{
	ScanKeyData keys[2];
	List	   *found = NIL;

	/* Those of an organization's projects are among them. */
	apikey_member_keys(keys, apikey_tenant_organization(tenant),
					   apikey_tenant_project(tenant));
	apikey_table_walk_written(&apikey_member_table, APIKEY_REL_MEMBER_WHO,
							  keys, tenant->is_project ? 2 : 1, committing,
							  collect_undone, &found);
	return found;
}

/* Removes a member of a tenant beside its row, and tells so. */
static void
undo(void *item, void *state)
{
	const Undone *undone = item;
	const ApikeyTenant *tenant = state;
	ApikeyTenant project;

	apikey_revocation_insert(&undone->id, NULL, APIKEY_BESIDE_MEMBER_REMOVED);
	if (undone->in_project &&
		apikey_tenant_fetch_project(&undone->project, &project))
		tenant = &project;
	apikey_event_member(tenant, APIKEY_EVENT_MEMBER_REMOVED, undone->member,
						undone->subject, undone->role, APIKEY_ROLE_NONE);
}

/*
 * Removes the members of a tenant that these transactions, at least one, have
 * made or changed, beside their rows, unless they roll back within a moment.
 */
void
apikey_undo(const ApikeyTenant *tenant, const List *committing)
{
	await(committing);
	apikey_turns_each(find_undone(tenant, committing), undo,
					  unconstify(ApikeyTenant *, tenant));
}
