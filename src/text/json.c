/*
 * json.c
 *		Reading one member of a JSON object that anybody may have written, and
 *		how long a jsonb is as a text.
 *
 * There is one reader of JSON, the server's own jsonb: what it reads is read
 * here, in every encoding, and what it refuses is unreadable here.  A second
 * reader would some day take for nobody what the first takes for somebody.
 * Nothing here raises an error for what a text says; what raises is the
 * server's own affair (a cancel, no memory).
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "text/text.h"

/* Is an error about the text, rather than about the server? */
static bool
concerns_text(int code)
{
	return ERRCODE_TO_CATEGORY(code) == ERRCODE_DATA_EXCEPTION ||
		ERRCODE_TO_CATEGORY(code) == ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

/*
 * Reads a text as jsonb; NULL where that is not possible.  Input functions of
 * servers up to 15 raise for what they cannot read.  This one touches no more
 * than memory, so that its error can be caught without a subtransaction.
 */
static Jsonb *
read_jsonb(const char *json)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb	   *volatile result = NULL;

	if (!pg_verify_mbstr(GetDatabaseEncoding(), json, strlen(json), true))
		return NULL;
	PG_TRY();
	{
		result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													CStringGetDatum(json)));
	}
	PG_CATCH();
	{
		if (!concerns_text(geterrcode()))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
	return result;
}

/* What a member's value is as a text, in the given context. */
static ApikeyJson
read_value(const JsonbValue *value, MemoryContext context, char **text)
{
	MemoryContext inner = MemoryContextSwitchTo(context);
	ApikeyJson	result = APIKEY_JSON_FOUND;

	if (value == NULL || value->type == jbvNull)
		result = APIKEY_JSON_NONE;
	else if (value->type == jbvString)
		*text = pnstrdup(value->val.string.val, value->val.string.len);
	else if (value->type == jbvNumeric)
		*text = DatumGetCString(DirectFunctionCall1(numeric_out,
													NumericGetDatum(value->val.numeric)));
	else
		result = APIKEY_JSON_UNREADABLE;
	MemoryContextSwitchTo(inner);
	return result;
}

/*
 * Reads the string or number that a member of a JSON object has.  A member
 * that is missing or null is none; a text that is no JSON object, or a member
 * of another kind, is unreadable.
 */
ApikeyJson
apikey_json_member(const char *json, const char *member, char **value)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext own = AllocSetContextCreate(context, "apikey JSON",
											  ALLOCSET_SMALL_SIZES);
	ApikeyJson	result = APIKEY_JSON_UNREADABLE;
	Jsonb	   *object;

	*value = NULL;
	MemoryContextSwitchTo(own);
	object = read_jsonb(json);
	if (object != NULL && JB_ROOT_IS_OBJECT(object))
		result = read_value(getKeyJsonValueFromContainer(&object->root, member,
														 strlen(member), NULL),
							context, value);
	MemoryContextSwitchTo(context);
	MemoryContextDelete(own);
	return result;
}

/* How long a string is, quoted and with what has to be escaped. */
static size_t
string_length(const char *string, int len)
{
	size_t		length = strlen("\"\"");

	for (int i = 0; i < len; i++)
	{
		unsigned char c = string[i];

		if (c == '"' || c == '\\' || (c >= '\b' && c <= '\r' && c != '\v'))
			length += strlen("\\n");
		else
			length += c < ' ' ? strlen("\\u0001") : 1;
	}
	return length;
}

/* A number may be many times as long as what is stored of it. */
static size_t
number_length(Numeric number)
{
	char	   *digits = DatumGetCString(DirectFunctionCall1(numeric_out,
															 NumericGetDatum(number)));
	size_t		length = strlen(digits);

	pfree(digits);
	return length;
}

static size_t
scalar_length(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return string_length(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return number_length(value->val.numeric);
		case jbvBool:
			return strlen(value->val.boolean ? "true" : "false");
		default:
			return strlen("null");
	}
}

/* The brackets, and what stands between so many elements. */
static size_t
frame_length(int elements)
{
	return strlen("[]") + (elements > 1 ? (elements - 1) * strlen(", ") : 0);
}

/* What of a jsonb an iterator has come to; the end of what was begun is told. */
static size_t
token_length(JsonbIteratorToken token, const JsonbValue *value)
{
	switch (token)
	{
		case WJB_BEGIN_ARRAY:
			return value->val.array.rawScalar ? 0 :
				frame_length(value->val.array.nElems);
		case WJB_BEGIN_OBJECT:
			return frame_length(value->val.object.nPairs) +
				value->val.object.nPairs * strlen(": ");
		case WJB_KEY:
		case WJB_VALUE:
		case WJB_ELEM:
			return scalar_length(value);
		default:
			return 0;
	}
}

/*
 * Has a jsonb more bytes than that as a text?  The text is not made, and not
 * counted further.
 */
bool
apikey_json_longer(Datum json, size_t most)
{
	JsonbIterator *iterator = JsonbIteratorInit(&DatumGetJsonbP(json)->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	size_t		length = 0;

	while (length <= most &&
		   (token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
		length += token_length(token, &value);
	return length > most;
}
