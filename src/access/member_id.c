/*
 * member_id.c
 *		By which ids the rows of members are known.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "access/access_internal.h"

/* A member that this transaction has removed, with the id that its row had. */
typedef struct Removed
{
	ApikeyNoted noted;
	pg_uuid_t	id;
	pg_uuid_t	tenant;
	Oid			member;
	text	   *subject;		/* or NULL */
} Removed;

ApikeyTransactionPart apikey_member_transaction = {.size = sizeof(Removed)};

static const pg_uuid_t *
tenant_id(const ApikeyTenant *tenant)
{
	const pg_uuid_t *project = apikey_tenant_project(tenant);

	return project != NULL ? project : apikey_tenant_organization(tenant);
}

/* This transaction removes a member's row of that id. */
void
apikey_member_note_removed(const ApikeyTenant *tenant, Oid member,
						   const text *subject, const pg_uuid_t *id)
{
	Removed    *removed = apikey_transaction_note(&apikey_member_transaction);

	removed->id = *id;
	removed->tenant = *tenant_id(tenant);
	removed->member = member;
	if (subject != NULL)
	{
		removed->subject = MemoryContextAlloc(TopTransactionContext,
											  VARSIZE_ANY(subject));
		memcpy(removed->subject, subject, VARSIZE_ANY(subject));
	}
}

/*
 * The id of a new row.  Whoever removes a member while a transaction is open
 * that removes it, and adds it again, means that row too: so it has the id of
 * the one before; true where there was one.
 */
bool
apikey_member_new_id(const ApikeyTenant *tenant, Oid member, const text *subject,
					 pg_uuid_t *id)
{
	const Removed *removed = (const Removed *) apikey_member_transaction.noted;

	for (int i = apikey_member_transaction.count - 1; i >= 0; i--)
	{
		if (removed[i].member == member &&
			memcmp(&removed[i].tenant, tenant_id(tenant), sizeof(pg_uuid_t)) == 0 &&
			apikey_same_text(removed[i].subject, subject))
		{
			*id = removed[i].id;
			return true;
		}
	}
	apikey_generate_id(id);
	return false;
}
