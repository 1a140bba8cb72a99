/*
 * standing.c
 *		Whether whoever has made members is an owner still when that commits.
 *
 * Rights are asked when a call is made, and a transaction may stay open after
 * it: an owner that is removed meanwhile would leave behind a member that it has
 * made, itself under a subject for one.  So with such a change is noted who has
 * made it, and right before the commit it is looked at once more whether that
 * is an owner, as others have committed it: what the transaction itself has done
 * counts for nothing there.  Whom the transaction itself has made an owner is
 * not noted, as whoever has done so is; nor the founder of an organization that
 * nobody else sees yet.
 *
 * Time may pass between that look and the commit, as much as whoever commits
 * likes.  Who ends a membership is not to wait for that.  So each looks for the
 * other: who commits claims the row by which it is an owner, and then looks
 * whether somebody ends that; who is to end it claims the tenant, and then looks
 * by whom the row is claimed.  The members that these transactions have made or
 * changed are removed beside their rows, unless they roll back within a moment.
 * Whether they have committed by then does not matter: everybody sees when a
 * removal begins.
 *
 * While a tenant is claimed, nobody passes its look by a row of it or, where it is
 * an organization, of a project of it.  Else one of those members could make
 * others, which nobody would look for, before it is removed itself.  With an owner
 * of a project none but rows of that project are removed: so who is an owner by a
 * row of the organization is none of them, and those below do not keep it from
 * changing members.
 *
 * Nobody is asked when a prepared transaction commits, so none is prepared.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "access/access_internal.h"

/*
 * Whoever removes an owner has to remove what that has changed, too, and is to be
 * done with it soon.
 */
#define CHANGED_MOST	10000	/* members, in a transaction */

/* What is rolled back counts: it is in the way of who looks for the rest. */
static int	changed = 0;

/* Somebody who has changed members of a tenant as an owner of it. */
typedef struct Standing
{
	ApikeyNoted noted;
	Oid			role;
	text	   *subject;		/* or NULL */
	pg_uuid_t	organization;
	bool		in_project;
	pg_uuid_t	project;
	char	   *path;
} Standing;

/* A row that makes somebody an owner. */
typedef struct OwnerRow
{
	pg_uuid_t	id;
	bool		in_project;		/* rather than in the organization */
} OwnerRow;

/* All of them. */
typedef struct OwnerSearch
{
	const Standing *standing;
	List	   *rows;			/* of OwnerRow */
} OwnerSearch;

static bool
owner_visit(const ApikeyRow *row, void *state)
{
	OwnerSearch *search = state;
	OwnerRow   *found;

	if (apikey_row_role(row, APIKEY_MEMBER_ROLE) != APIKEY_ROLE_OWNER ||
		!apikey_member_covers(row, search->standing->role,
							  search->standing->subject))
		return true;
	found = palloc(sizeof(OwnerRow));
	found->id = *apikey_row_id(row);
	found->in_project = apikey_row_uuid(row, APIKEY_MEMBER_PROJECT) != NULL;
	search->rows = lappend(search->rows, found);
	return true;
}

/* Leaves out what a snapshot shows to be removed beside its row. */
static List *
not_removed(List *rows, Snapshot snapshot)
{
	List	   *left = NIL;
	ListCell   *cell;

	if (apikey_catalog_lacks(APIKEY_REL_REVOCATION))
		return rows;
	foreach(cell, rows)
	{
		OwnerRow   *row = lfirst(cell);

		if (!apikey_revocation_member_removed(&row->id, snapshot))
			left = lappend(left, row);
	}
	return left;
}

/*
 * By which rows is it an owner?  What stands beside them is looked for even
 * where the server has not told us yet that there is something.
 */
static List *
owner_rows(const Standing *standing, Snapshot snapshot)
{
	OwnerSearch search = {.standing = standing};

	apikey_member_scan_rows(&standing->organization, NULL, snapshot,
							owner_visit, &search);
	if (standing->in_project)
		apikey_member_scan_rows(&standing->organization, &standing->project,
								snapshot, owner_visit, &search);
	return not_removed(search.rows, snapshot);
}

/* The same of what others have committed: nothing of our own is seen. */
static List *
others_rows(const Standing *standing)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	List	   *rows;

	snapshot->curcid = FirstCommandId;
	rows = owner_rows(standing, snapshot);
	UnregisterSnapshot(snapshot);
	return rows;
}

pg_noreturn static void
refuse(const char *path)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not change members of \"%s\" due to a concurrent change",
					path),
			 errdetail("Whoever changed them is not an owner any more, or is being removed or changed.")));
}

/* Is it by what others have committed that the caller is an owner? */
static bool
by_others(const Standing *standing)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	CommandId	command = snapshot->curcid;
	bool		found;

	snapshot->curcid = FirstCommandId;
	found = owner_rows(standing, snapshot) != NIL;
	snapshot->curcid = command;
	if (!found && owner_rows(standing, snapshot) == NIL)
		refuse(standing->path);
	UnregisterSnapshot(snapshot);
	return found;
}

static const Standing *
standing_at(int number)
{
	return (const Standing *) apikey_standing_transaction.noted + number;
}

static bool
same_standing(const Standing *one, const Standing *two)
{
	return one->role == two->role &&
		one->in_project == two->in_project &&
		apikey_same_text(one->subject, two->subject) &&
		memcmp(&one->organization, &two->organization, UUID_LEN) == 0 &&
		memcmp(&one->project, &two->project, UUID_LEN) == 0;
}

/* Has it been noted before?  Then that stays for as long as another would. */
static bool
noted_already(const Standing *standing)
{
	for (int i = apikey_standing_transaction.count - 1; i >= 0; i--)
	{
		if (same_standing(standing, standing_at(i)))
			return true;
	}
	return false;
}

static void
count_changed(void)
{
	if (changed == CHANGED_MOST)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("cannot add or change more than %d members in a transaction",
						CHANGED_MOST),
				 errhint("Commit in between.")));
	changed++;
}

/*
 * The caller, an owner of a tenant, makes a member there or changes its role.
 * Superusers are asked nothing later.
 */
void
apikey_standing_note(const ApikeyTenant *tenant)
{
	const pg_uuid_t *project = apikey_tenant_project(tenant);
	Standing	standing = {.role = GetUserId(),.path = tenant->path};
	MemoryContext context;
	Standing   *noted;

	if (superuser())
		return;
	count_changed();
	standing.subject = apikey_principal_subject();
	standing.organization = *apikey_tenant_organization(tenant);
	standing.in_project = project != NULL;
	if (project != NULL)
		standing.project = *project;
	if (noted_already(&standing) || !by_others(&standing))
		return;

	context = MemoryContextSwitchTo(TopTransactionContext);
	standing.path = pstrdup(standing.path);
	if (standing.subject != NULL)
		standing.subject = DatumGetTextPCopy(PointerGetDatum(standing.subject));
	MemoryContextSwitchTo(context);
	noted = apikey_transaction_note(&apikey_standing_transaction);
	standing.noted = noted->noted;
	*noted = standing;
}

/* A row as what is claimed, which everybody sees: no id is told by it. */
typedef struct Claimed
{
	Oid			number;
	uint16		part;
} Claimed;

static Claimed
claimed(const pg_uuid_t *id)
{
	uint64		hash = hash_bytes_extended(id->data, UUID_LEN, 0);
	Claimed		result = {(Oid) hash, (uint16) (hash >> 32)};

	return result;
}

/* Is somebody else about to end that one is an owner of a tenant? */
static bool
end_begun(const ApikeyTable *table, const pg_uuid_t *tenant)
{
	Claimed		claim = claimed(tenant);

	return apikey_claimed(table, claim.number, claim.part);
}

/* Is somebody about to end that, so that this row may go with it? */
static bool
end_begun_around(const Standing *standing, const OwnerRow *row)
{
	return end_begun(&apikey_organization_table, &standing->organization) ||
		(row->in_project &&
		 end_begun(&apikey_project_table, &standing->project));
}

static bool
has_row(const List *rows, const pg_uuid_t *id)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		const OwnerRow *row = lfirst(cell);

		if (memcmp(&row->id, id, UUID_LEN) == 0)
			return true;
	}
	return false;
}

/* Is somebody, who has not committed yet, ending what makes one an owner? */
static bool
being_ended(const pg_uuid_t *id)
{
	return apikey_table_changing(&apikey_member_table, id) ||
		apikey_revocation_member_removing(id);
}

/* Is it an owner still?  Then the row by which it is stays claimed. */
static bool
stands_still(const Standing *standing)
{
	ListCell   *cell;

	if (apikey_role_superuser(standing->role))
		return true;
	foreach(cell, others_rows(standing))
	{
		const OwnerRow *row = lfirst(cell);
		Claimed		claim = claimed(&row->id);

		apikey_claim_shared(&apikey_member_table, claim.number, claim.part);
		/* Who commits in between is seen in the snapshot that comes after. */
		if (!end_begun_around(standing, row) && !being_ended(&row->id) &&
			has_row(others_rows(standing), &row->id))
			return true;
		apikey_claim_shared_end(&apikey_member_table, claim.number, claim.part);
	}
	return false;
}

/* Right before the commit, if it is one. */
static void
look_again(bool prepare)
{
	Oid			schema;

	if (apikey_standing_transaction.count == 0 ||
		!OidIsValid(apikey_extension_find("apikey", &schema, NULL)))
		return;
	if (prepare)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has added or changed members"),
				 errdetail("Whoever changed them has to be an owner when that commits.")));
	for (int i = 0; i < apikey_standing_transaction.count; i++)
	{
		if (!stands_still(standing_at(i)))
			refuse(standing_at(i)->path);
	}
}

static void
forget_changed(ApikeyEnd end pg_attribute_unused())
{
	changed = 0;
}

ApikeyTransactionPart apikey_standing_transaction = {
	.size = sizeof(Standing),
	.before = look_again,
	.end = forget_changed
};

static const ApikeyTable *
tenant_table(const ApikeyTenant *tenant)
{
	return tenant->is_project ? &apikey_project_table :
		&apikey_organization_table;
}

static Claimed
claimed_tenant(const ApikeyTenant *tenant)
{
	return claimed(tenant->is_project ? apikey_tenant_project(tenant) :
				   apikey_tenant_organization(tenant));
}

/* Is an owner of a tenant one of its organization, or of that project? */
static bool
is_about(const Standing *standing, const ApikeyTenant *tenant)
{
	const pg_uuid_t *project = apikey_tenant_project(tenant);

	return memcmp(&standing->organization, apikey_tenant_organization(tenant),
				  UUID_LEN) == 0 &&
		(!standing->in_project ||
		 (project != NULL &&
		  memcmp(&standing->project, project, UUID_LEN) == 0));
}

/*
 * Whoever has changed members of a tenant is an owner still.  Else this
 * transaction cannot commit, and does not keep others from that, either, as whom
 * it has made an owner, whom nobody else sees and could remove.
 */
static void
require_standing(const ApikeyTenant *tenant)
{
	for (int i = 0; i < apikey_standing_transaction.count; i++)
	{
		const Standing *standing = standing_at(i);

		if (is_about(standing, tenant) && !apikey_role_superuser(standing->role) &&
			others_rows(standing) == NIL)
			refuse(standing->path);
	}
}

/*
 * The caller is about to end, by the row of that id, that somebody is an owner of
 * a tenant.  Returns which transactions rest on that and may have looked already.
 */
List *
apikey_standing_ending(const ApikeyTenant *tenant, const pg_uuid_t *id)
{
	Claimed		begun = claimed_tenant(tenant);
	Claimed		claim = claimed(id);

	require_standing(tenant);
	apikey_claim_shared(tenant_table(tenant), begun.number, begun.part);
	return apikey_claimants(&apikey_member_table, claim.number, claim.part);
}

/* It has ended that, while these transactions were there. */
void
apikey_standing_ended(const ApikeyTenant *tenant, const List *committing)
{
	Claimed		begun = claimed_tenant(tenant);

	if (committing != NIL)
		apikey_undo(tenant, committing);
	apikey_claim_shared_end(tenant_table(tenant), begun.number, begun.part);
}
