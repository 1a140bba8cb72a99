/*
 * authority.c
 *		Who may do what with a key: the table, in one place.
 *
 *						  owner	admin		developer		creators
 * see					  yes	yes			members_can_view yes
 * revoke				  yes	yes			no				yes
 * disable, delete		  yes	yes			no				no
 * change (all else)	  yes	up to admin	no				no
 *
 * Owner, admin and developer are what the caller is in the key's project or
 * its organization.  A project's key has two creators: its owner, and whoever
 * vouches for it (see status.c).  A personal key is its owner's alone.
 * Superusers may do everything, BYPASSRLS roles see everything.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"

#include "store/store.h"
#include "rows/rows.h"
#include "access/access_internal.h"

/* May the caller see everything?  Superusers are among these. */
bool
apikey_authority_sees_all(void)
{
	return has_bypassrls_privilege(GetUserId());
}

/* May it see every key and event of the database?  They raise nothing. */
bool
apikey_authority_sees_keys(void)
{
	return apikey_authority_sees_all() ||
		(apikey_principal_readable() && apikey_administers());
}

/*
 * What the caller is in a project, and whether its developers see its keys;
 * nothing, where it is gone.
 */
void
apikey_authority_in_project(const pg_uuid_t *project, ApikeyAuthority *result)
{
	ApikeyTenant tenant;

	result->member_role = APIKEY_ROLE_NONE;
	result->members_can_view = false;
	apikey_member_keep();
	if (!apikey_tenant_fetch_project(project, &tenant))
		return;
	result->member_role = apikey_tenant_role(&tenant);
	result->members_can_view =
		apikey_row_bool(&tenant.project, APIKEY_PROJECT_MEMBERS_CAN_VIEW);
}

/*
 * May the caller do this with a key of a project in which it is that?  The key is
 * looked at for a change alone.
 */
static bool
granted_by_role(const ApikeyAuthority *authority, ApikeyRight right,
				const ApikeyRow *key)
{
	switch (authority->member_role)
	{
		case APIKEY_ROLE_OWNER:
			return true;
		case APIKEY_ROLE_ADMIN:
			return right != APIKEY_RIGHT_CHANGE ||
				apikey_row_role(key, APIKEY_KEY_ROLE) <= APIKEY_ROLE_ADMIN;
		case APIKEY_ROLE_DEVELOPER:
			return right == APIKEY_RIGHT_SEE && authority->members_can_view;
		default:
			return false;
	}
}

/* May it see all keys of a project in which it is that? */
bool
apikey_authority_lists(const ApikeyAuthority *authority)
{
	return granted_by_role(authority, APIKEY_RIGHT_SEE, NULL);
}

/* Is the caller a key's owner or, of a project's key, whoever vouches? */
static bool
own(const ApikeyRow *key)
{
	const text *subject;
	Oid			voucher;

	if (apikey_principal_meant(apikey_key_owner(key),
							   apikey_row_text(key, APIKEY_KEY_OWNER_NAME),
							   apikey_row_text(key, APIKEY_KEY_SUBJECT)))
		return true;
	if (apikey_key_project(key) == NULL)
		return false;
	voucher = apikey_status_voucher(key, &subject);
	return apikey_principal_meant(voucher, apikey_status_voucher_name(key),
								  subject);
}

/*
 * May the caller do this with a key?  authority is what it is in the key's
 * project; NULL for a personal key.
 */
bool
apikey_authority_grants(const ApikeyAuthority *authority, ApikeyRight right,
						const ApikeyRow *key)
{
	if (superuser() ||
		(right == APIKEY_RIGHT_SEE && apikey_authority_sees_all()))
		return true;
	if (authority == NULL ? own(key) :
		granted_by_role(authority, right, key) ||
		((right == APIKEY_RIGHT_SEE || right == APIKEY_RIGHT_REVOKE) &&
		 own(key)))
		return true;
	return (right == APIKEY_RIGHT_SEE || right == APIKEY_RIGHT_REVOKE ||
			right == APIKEY_RIGHT_DISABLE) && apikey_administers();
}

/* The same where what the caller is in the project is to be read. */
bool
apikey_authority_may(ApikeyRight right, const ApikeyRow *key)
{
	ApikeyAuthority authority;
	const pg_uuid_t *project = apikey_key_project(key);

	if (project != NULL)
		apikey_authority_in_project(project, &authority);
	return apikey_authority_grants(project == NULL ? NULL : &authority, right,
								   key);
}

/* Do the views show the caller a key?  They raise nothing. */
bool
apikey_authority_sees(const ApikeyRow *key)
{
	return apikey_authority_sees_all() ||
		(apikey_principal_readable() &&
		 apikey_authority_may(APIKEY_RIGHT_SEE, key));
}
