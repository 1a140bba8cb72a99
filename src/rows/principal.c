/*
 * principal.c
 *		Who is calling, and whose keys that lets him see and manage.
 *
 * A principal is the current role and, where apikey.subject_setting names a
 * setting that carries the application's own user, that user: the subject.
 *
 * A caller whose subject cannot be read is nobody that anything is given to:
 * functions that ask who is calling raise, and the views show it nothing.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"

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
 * Is a role, stored by its OID, the one whose name was stored beside it?  Both
 * have to fit; after ALTER ROLE RENAME they do not.
 */
bool
apikey_role_is(Oid role, const text *name)
{
	char	   *now = GetUserNameFromId(role, true);

	return now != NULL && name != NULL &&
		strlen(now) == VARSIZE_ANY_EXHDR(name) &&
		memcmp(now, VARDATA_ANY(name), strlen(now)) == 0;
}

static const char *
tuple_name(HeapTuple tuple)
{
	return NameStr(((Form_pg_authid) GETSTRUCT(tuple))->rolname);
}

/*
 * May a row tell of a role by its number, where that has another name?  Not while
 * what arrives by replication is not settled, as its numbers are those of
 * elsewhere: then the name alone tells.
 */
static bool
numbers_tell(void)
{
	return apikey_intact_to_remember(NULL, APIKEY_REL_KEY) &&
		apikey_intact_to_remember(NULL, APIKEY_REL_MEMBER);
}

/* The rule of apikey_role_stands, of a role's row. */
static bool
tuple_stands(HeapTuple tuple, const text *name)
{
	const char *now = tuple_name(tuple);

	return name == NULL ||
		(strlen(now) == VARSIZE_ANY_EXHDR(name) &&
		 memcmp(now, VARDATA_ANY(name), strlen(now)) == 0) ||
		((tuple->t_data->t_infomask & HEAP_UPDATED) != 0 && numbers_tell());
}

/*
 * Is a role the one that a row means, which keeps the name beside the number?
 * Where a number comes again after a drop that nobody has marked, the name is
 * another.  So it is after a rename, but then the role's own row was updated,
 * and one that was never updated since it was made was not renamed.
 */
bool
apikey_role_stands(Oid role, const text *name)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		stands;

	if (!HeapTupleIsValid(tuple))
		return false;
	stands = tuple_stands(tuple, name);
	ReleaseSysCache(tuple);
	return stands;
}

/*
 * The name of the role that a row means or, where that has been dropped, the
 * last one known, if any, or else its number.
 */
text *
apikey_role_name_text(Oid role, const text *last_known)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	text	   *name = NULL;

	if (HeapTupleIsValid(tuple))
	{
		if (tuple_stands(tuple, last_known))
			name = cstring_to_text(tuple_name(tuple));
		ReleaseSysCache(tuple);
	}
	if (name != NULL)
		return name;
	return cstring_to_text(last_known != NULL ? text_to_cstring(last_known) :
						   psprintf("%u", role));
}

/* Adds those roles of which a member is one that a role is as well. */
static List *
add_groups(List *roles, Oid member, Oid role, ApikeyIsRole is_role)
{
	CatCList   *groups = SearchSysCacheList1(AUTHMEMMEMROLE,
											 ObjectIdGetDatum(member));

	for (int i = 0; i < groups->n_members; i++)
	{
		HeapTuple	tuple = &groups->members[i]->tuple;
		Oid			group = ((Form_pg_auth_members) GETSTRUCT(tuple))->roleid;

		if (is_role(role, group))
			roles = list_append_unique_oid(roles, group);
	}
	ReleaseSysCacheList(groups);
	return roles;
}

/*
 * The roles that a role is, itself among them: is_role says by what memberships,
 * as has_privs_of_role does.
 */
List *
apikey_roles_of(Oid role, ApikeyIsRole is_role)
{
	List	   *roles = list_make1_oid(role);

	for (int i = 0; i < list_length(roles); i++)
		roles = add_groups(roles, list_nth_oid(roles, i), role, is_role);
	/* No row says who is a member of that, and it is a member of none. */
	return is_role(role, ROLE_PG_DATABASE_OWNER) ?
		list_append_unique_oid(roles, ROLE_PG_DATABASE_OWNER) : roles;
}

/* Do subjects tell principals apart, rather than label keys? */
bool
apikey_principal_subjects_in_use(void)
{
	return apikey_subject_setting[0] != '\0';
}

static bool nobody = false;

/*
 * What this process does from now on nobody asks for: whatever is set for its
 * database, it has no subject.
 */
void
apikey_principal_be_nobody(void)
{
	nobody = true;
}

/* What the last reading of the caller's subject has come to, and of what. */
typedef struct Reading
{
	char	   *setting;		/* apikey.subject_setting */
	char	   *value;			/* of the setting that it names */
	char	   *subject;		/* NULL for none */
	bool		readable;
} Reading;

/*
 * Reads the subject in what apikey.subject_setting leads to: it is the name of
 * a setting or, with a colon, a setting's name and a member of the JSON object
 * it holds.  A value that cannot be read is never taken for no subject.
 */
static void
read_subject(const char *value, const char *colon, Reading *reading)
{
	ApikeyJson	found = APIKEY_JSON_NONE;
	char	   *subject = NULL;

	if (colon != NULL && value[0] != '\0')
		found = apikey_json_member(value, colon + 1, &subject);
	else if (!pg_verify_mbstr(GetDatabaseEncoding(), value, strlen(value), true))
		found = APIKEY_JSON_UNREADABLE;
	else
		subject = pstrdup(value);
	reading->readable = found != APIKEY_JSON_UNREADABLE;
	reading->subject = subject != NULL && subject[0] == '\0' ? NULL : subject;
}

static void
forget(char **text)
{
	if (*text != NULL)
		pfree(*text);
	*text = NULL;
}

/*
 * The reading of what the setting holds now.  A view asks for it with each
 * row, so the last one is kept.
 */
static const Reading *
current_reading(void)
{
	static Reading last;
	static const Reading none = {.readable = true};
	const char *colon = strchr(apikey_subject_setting, ':');
	const char *name = colon == NULL ? apikey_subject_setting :
		pnstrdup(apikey_subject_setting, colon - apikey_subject_setting);
	const char *value = GetConfigOption(name, true, false);
	Reading		reading = {0};
	MemoryContext context;

	if (value == NULL || nobody)
		return &none;
	if (last.value != NULL && strcmp(last.value, value) == 0 &&
		strcmp(last.setting, apikey_subject_setting) == 0)
		return &last;

	read_subject(value, colon, &reading);
	forget(&last.value);
	forget(&last.setting);
	forget(&last.subject);
	context = MemoryContextSwitchTo(TopMemoryContext);
	last.readable = reading.readable;
	last.subject = reading.subject == NULL ? NULL : pstrdup(reading.subject);
	last.setting = pstrdup(apikey_subject_setting);
	last.value = pstrdup(value);
	MemoryContextSwitchTo(context);
	return &last;
}

/* Can it be told who is calling?  The views show nothing where it cannot. */
bool
apikey_principal_readable(void)
{
	return !apikey_principal_subjects_in_use() || current_reading()->readable;
}

/*
 * The caller's subject; NULL for none, and while subjects are not in use.
 * Raises 22023 where it cannot be read.
 */
text *
apikey_principal_subject(void)
{
	const Reading *reading;

	if (!apikey_principal_subjects_in_use())
		return NULL;
	reading = current_reading();
	if (!reading->readable)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot tell the caller's subject"),
				 errdetail("The value to which \"apikey.subject_setting\" leads is no JSON object with a string, a number or null as that member.")));
	return reading->subject == NULL ? NULL : cstring_to_text(reading->subject);
}

/*
 * Raises 22023 where the caller's subject cannot be read.  Whoever looks for
 * what the caller names does this first: what cannot be told who asks is told
 * neither that there is such a thing nor that there is none.
 */
void
apikey_principal_require(void)
{
	(void) apikey_principal_subject();
}

/* The same for telling of what is done: NULL where it cannot be read, too. */
text *
apikey_principal_subject_if_known(void)
{
	return apikey_principal_readable() ? apikey_principal_subject() : NULL;
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
		(!apikey_principal_subjects_in_use() || member_subject == NULL ||
		 apikey_same_text(subject, member_subject));
}

/* Is the caller the principal of a role and subject? */
bool
apikey_principal_matches(Oid role, const text *subject)
{
	if (superuser())
		return true;
	return has_privs_of_role(GetUserId(), role) &&
		(!apikey_principal_subjects_in_use() ||
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
	if (!apikey_principal_subjects_in_use())
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
