/*
 * principal.c
 *		Who is calling, and whose keys that lets him see and manage.
 *
 * A principal is the current role and, where apikey.subject_setting names a
 * setting that carries the application's own user, that user: the subject.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "apikey.h"

bool
apikey_role_exists(Oid role)
{
	return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role));
}

/* Raises 42704 where a role does not exist. */
void
apikey_role_require(Oid role)
{
	if (!apikey_role_exists(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", role)));
}

/*
 * The name of a role or, where it has been dropped, the last one known, if
 * any, or else its number.
 */
text *
apikey_role_name_text(Oid role, const text *last_known)
{
	char	   *name = GetUserNameFromId(role, true);

	if (name != NULL)
		return cstring_to_text(name);
	return cstring_to_text(last_known != NULL ? text_to_cstring(last_known) :
						   psprintf("%u", role));
}

static bool
subjects_in_use(void)
{
	return apikey_subject_setting[0] != '\0';
}

/*
 * What apikey.subject_setting leads to: it is the name of a setting or, with
 * a colon, a setting's name and a member of the JSON object it holds.
 */
static const char *
read_subject(void)
{
	const char *colon = strchr(apikey_subject_setting, ':');
	const char *value;

	if (colon == NULL)
		return GetConfigOption(apikey_subject_setting, true, false);
	value = GetConfigOption(pnstrdup(apikey_subject_setting,
									 colon - apikey_subject_setting),
							true, false);
	return value == NULL ? NULL : apikey_json_member(value, colon + 1);
}

/* The caller's subject; NULL for none, and while subjects are not in use. */
text *
apikey_principal_subject(void)
{
	const char *value = subjects_in_use() ? read_subject() : NULL;

	return value == NULL || value[0] == '\0' ? NULL : cstring_to_text(value);
}

/* Are two texts the same, byte by byte?  NULL is one of its own. */
bool
apikey_same_text(const text *one, const text *two)
{
	if (one == NULL || two == NULL)
		return one == two;
	return VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(two) &&
		memcmp(VARDATA_ANY(one), VARDATA_ANY(two),
			   VARSIZE_ANY_EXHDR(one)) == 0;
}

/*
 * Does a member's row cover a principal?  Without a subject it covers all
 * subjects of its role.
 */
bool
apikey_principal_covered(Oid role, const text *subject, Oid member,
						 const text *member_subject)
{
	return has_privs_of_role(role, member) &&
		(!subjects_in_use() || member_subject == NULL ||
		 apikey_same_text(subject, member_subject));
}

/* Is the caller the principal of a role and subject? */
bool
apikey_principal_matches(Oid role, const text *subject)
{
	if (superuser())
		return true;
	return has_privs_of_role(GetUserId(), role) &&
		(!subjects_in_use() ||
		 apikey_same_text(apikey_principal_subject(), subject));
}

/*
 * The subject of what the caller creates: his own.  Another one is for
 * superusers and where any is allowed; while subjects are not in use it is a
 * label, free to choose.
 */
text *
apikey_principal_new_subject(text *wanted, bool any)
{
	text	   *own;

	if (wanted != NULL)
		apikey_rule_subject(wanted);
	if (!subjects_in_use())
		return wanted;

	own = apikey_principal_subject();
	if (wanted == NULL)
	{
		if (own != NULL)
			apikey_rule_subject(own);
		return own;
	}
	if (!any && !apikey_same_text(own, wanted) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for \"subject\""),
				 errdetail("What you create carries your own subject.")));
	return wanted;
}
