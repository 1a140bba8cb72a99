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

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"

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
	return apikey_role_has(role, member) &&
		(!apikey_principal_subjects_in_use() || member_subject == NULL ||
		 apikey_same_text(subject, member_subject));
}

/* Is the caller the principal of a role and subject? */
bool
apikey_principal_matches(Oid role, const text *subject)
{
	if (superuser())
		return true;
	return apikey_role_has(GetUserId(), role) &&
		(!apikey_principal_subjects_in_use() ||
		 apikey_same_text(apikey_principal_subject(), subject));
}

/*
 * Is the caller the principal that a row means, which keeps a role's name beside
 * its number?  What hangs on the caller alone is asked first, so that of a row of
 * others nothing is looked up: the server's caches would keep it, and whoever has
 * called could count what they hold, and wait where somebody has a catalog.
 */
bool
apikey_principal_meant(Oid role, const text *name, const text *subject)
{
	return apikey_principal_matches(role, subject) &&
		apikey_role_stands(role, name);
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
