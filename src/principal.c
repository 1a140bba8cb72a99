/*
 * principal.c
 *		Who is calling, and whose keys that lets him see and manage.
 *
 * A principal is the current role and, where apikey.subject_setting names a
 * setting that carries the application's own user, that user: the subject.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "common/jsonapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/syscache.h"

#include "apikey.h"

#define JSON_DEPTH_MAX	64

/* What reading one member of a JSON object has come to. */
typedef struct SubjectMember
{
	JsonLexContext *lex;
	const char *wanted;
	bool		is_next;		/* the next value is the member's */
	char	   *value;
} SubjectMember;

bool
apikey_role_exists(Oid role)
{
	return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role));
}

/* The name of a role, or the last one known where it has been dropped. */
char *
apikey_role_name(Oid role, const text *last_known)
{
	char	   *name = GetUserNameFromId(role, true);

	return name != NULL ? name : text_to_cstring(last_known);
}

static ApikeyJsonAction
member_field_start(void *state, char *fname,
				   bool isnull pg_attribute_unused())
{
	SubjectMember *member = state;

	if (member->lex->lex_level == 1 && strcmp(fname, member->wanted) == 0)
	{
		member->is_next = true;
		member->value = NULL;	/* of two, the last counts */
	}
	APIKEY_JSON_GO_ON;
}

static ApikeyJsonAction
member_field_end(void *state, char *fname pg_attribute_unused(),
				 bool isnull pg_attribute_unused())
{
	SubjectMember *member = state;

	if (member->lex->lex_level == 1)
		member->is_next = false;
	APIKEY_JSON_GO_ON;
}

static ApikeyJsonAction
member_scalar(void *state, char *token, JsonTokenType tokentype)
{
	SubjectMember *member = state;

	if (member->is_next && member->lex->lex_level == 1 &&
		tokentype != JSON_TOKEN_NULL)
		member->value = token;
	APIKEY_JSON_GO_ON;
}

/* Is the text nested so deep that parsing it might exhaust the stack? */
static bool
json_too_deep(const char *json)
{
	int			depth = 0;
	bool		in_string = false;

	for (const char *c = json; *c != '\0'; c++)
	{
		if (in_string && *c == '\\' && c[1] != '\0')
			c++;
		else if (*c == '"')
			in_string = !in_string;
		else if (!in_string && (*c == '{' || *c == '['))
		{
			if (++depth > JSON_DEPTH_MAX)
				return true;
		}
		else if (!in_string && (*c == '}' || *c == ']'))
			depth--;
	}
	return false;
}

/*
 * The scalar that a member of a JSON object has; NULL where there is none, or
 * where the text is no JSON object that can be read.
 */
static char *
json_member(const char *json, const char *wanted)
{
	SubjectMember member = {.wanted = wanted};
	JsonSemAction actions = {
		.semstate = &member,
		.object_field_start = member_field_start,
		.object_field_end = member_field_end,
		.scalar = member_scalar
	};
	int			len = strlen(json);

	if (!pg_verify_mbstr(GetDatabaseEncoding(), json, len, true) ||
		json_too_deep(json))
		return NULL;
	member.lex = apikey_json_lexer(json, len);
	if (pg_parse_json(member.lex, &actions) != JSON_SUCCESS)
		return NULL;
	return member.value;
}

/*
 * The caller's subject; NULL for none.  apikey.subject_setting is the name of
 * a setting or, where no setting has that whole name, a setting's name, a
 * colon and a member of the JSON object it holds.
 */
static text *
principal_subject(void)
{
	const char *colon = strchr(apikey_subject_setting, ':');
	const char *value;

	if (colon == NULL)
		value = GetConfigOption(apikey_subject_setting, true, false);
	else
	{
		char	   *name = pnstrdup(apikey_subject_setting,
									colon - apikey_subject_setting);

		value = GetConfigOption(name, true, false);
		if (value != NULL)
			value = json_member(value, colon + 1);
	}
	if (value == NULL || value[0] == '\0')
		return NULL;
	return cstring_to_text(value);
}

static bool
subjects_in_use(void)
{
	return apikey_subject_setting[0] != '\0';
}

static bool
subject_equal(const text *one, const text *two)
{
	if (one == NULL || two == NULL)
		return one == two;
	return VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(two) &&
		memcmp(VARDATA_ANY(one), VARDATA_ANY(two),
			   VARSIZE_ANY_EXHDR(one)) == 0;
}

/* Is the caller the principal of a role and subject? */
static bool
principal_matches(Oid role, const text *subject)
{
	if (superuser())
		return true;
	return has_privs_of_role(GetUserId(), role) &&
		(!subjects_in_use() ||
		 subject_equal(principal_subject(), subject));
}

/* May the caller list a key of this owner? */
bool
apikey_principal_may_see(Oid owner, const text *subject)
{
	return has_bypassrls_privilege(GetUserId()) ||
		principal_matches(owner, subject);
}

/* May the caller change a key of this owner? */
bool
apikey_principal_may_manage(Oid owner, const text *subject)
{
	return principal_matches(owner, subject);
}

/*
 * The subject of what the caller creates: his own.  Another one is for
 * superusers; where subjects are not in use it is a label, free to choose.
 */
text *
apikey_principal_new_subject(text *wanted)
{
	text	   *own;

	if (wanted != NULL)
		apikey_rule_subject(wanted);
	if (!subjects_in_use())
		return wanted;

	own = principal_subject();
	if (wanted == NULL)
	{
		if (own != NULL)
			apikey_rule_subject(own);
		return own;
	}
	if (!subject_equal(own, wanted) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for \"subject\""),
				 errdetail("What you create carries your own subject.")));
	return wanted;
}
