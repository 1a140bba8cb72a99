/*
 * json.c
 *		Reading one member of a JSON object that anybody may have written.
 *
 * Nothing here raises an error, whatever the text: what cannot be read has no
 * members.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "mb/pg_wchar.h"

#include "apikey.h"

#define JSON_DEPTH_MAX	64

/* What reading one member of a JSON object has come to. */
typedef struct JsonMember
{
	JsonLexContext *lex;
	const char *wanted;
	bool		is_next;		/* the next value is the member's */
	char	   *value;
} JsonMember;

static ApikeyJsonAction
member_field_start(void *state, char *fname,
				   bool isnull pg_attribute_unused())
{
	JsonMember *member = state;

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
	JsonMember *member = state;

	if (member->lex->lex_level == 1)
		member->is_next = false;
	APIKEY_JSON_GO_ON;
}

static ApikeyJsonAction
member_scalar(void *state, char *token, JsonTokenType tokentype)
{
	JsonMember *member = state;

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
 * Would unescaping need a character that the database's encoding may not
 * have?  Older servers raise an error then, so such a text is not read; UTF-8
 * has them all.
 */
static bool
json_escapes_too_much(const char *json)
{
	if (GetDatabaseEncoding() == PG_UTF8)
		return false;
	for (const char *c = strchr(json, '\\'); c != NULL; c = strchr(c, '\\'))
	{
		if (c[1] == 'u' &&
			(c[2] != '0' || c[3] != '0' || c[4] < '0' || c[4] > '7'))
			return true;
		c += c[1] != '\0' ? 2 : 1;
	}
	return false;
}

/*
 * The scalar that a member of a JSON object has; NULL where there is none, or
 * where the text is no JSON object that can be read.
 */
char *
apikey_json_member(const char *json, const char *wanted)
{
	JsonMember member = {.wanted = wanted};
	JsonSemAction actions = {
		.semstate = &member,
		.object_field_start = member_field_start,
		.object_field_end = member_field_end,
		.scalar = member_scalar
	};
	int			len = strlen(json);

	if (!pg_verify_mbstr(GetDatabaseEncoding(), json, len, true) ||
		json_too_deep(json) || json_escapes_too_much(json))
		return NULL;
	member.lex = apikey_json_lexer(json, len);
	if (pg_parse_json(member.lex, &actions) != JSON_SUCCESS)
		return NULL;
	return member.value;
}
