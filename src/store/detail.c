/*
 * detail.c
 *		What an event tells beside its columns: a JSON object, as text.
 *
 * Values stand there as they were.  No secret is among them: nothing that a
 * key could be verified by is a column that this file is given.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "store/store_internal.h"

#define VALUE_BYTES_MAX	8192	/* of a value; a longer one is left out */

void
apikey_detail_begin(StringInfo json)
{
	initStringInfo(json);
	appendStringInfoChar(json, '{');
}

/* Adds a member whose value is JSON already. */
void
apikey_detail_json(StringInfo json, const char *name, const char *value)
{
	if (json->len > 1)
		appendStringInfoString(json, ", ");
	escape_json(json, name);
	appendStringInfoString(json, ": ");
	appendStringInfoString(json, value);
}

/* Adds a member whose value is a string; null for NULL. */
void
apikey_detail_string(StringInfo json, const char *name, const char *value)
{
	StringInfoData quoted;

	if (value == NULL)
	{
		apikey_detail_json(json, name, "null");
		return;
	}
	initStringInfo(&quoted);
	escape_json(&quoted, value);
	apikey_detail_json(json, name, quoted.data);
}

void
apikey_detail_text(StringInfo json, const char *name, const text *value)
{
	apikey_detail_string(json, name,
						 value == NULL ? NULL : text_to_cstring(value));
}

char *
apikey_detail_end(StringInfo json)
{
	appendStringInfoChar(json, '}');
	apikey_encoding_clean(GetDatabaseEncoding(), json->data, json->len);
	return json->data;
}

/* {"name": "value"} */
char *
apikey_json_text(const char *name, const text *value)
{
	StringInfoData json;

	apikey_detail_begin(&json);
	apikey_detail_text(&json, name, value);
	return apikey_detail_end(&json);
}

/*
 * "value", as JSON has times: in UTC, for the zone of whoever writes an event may be
 * one that nobody else can read.
 */
char *
apikey_json_time(TimestampTz time)
{
	char		buffer[MAXDATELEN + 1];
	int			utc = 0;

	JsonEncodeDateTime(buffer, TimestampTzGetDatum(time), TIMESTAMPTZOID, &utc);
	return psprintf("\"%s\"", buffer);
}

/* A value of one of the server's own types as JSON, by to_jsonb. */
static char *
value_json(Datum value, Oid type)
{
	LOCAL_FCINFO(call, 1);
	FmgrInfo	to_jsonb;
	Const	   *argument = makeNullConst(type, -1, InvalidOid);	/* its type alone */
	Jsonb	   *json;

	fmgr_info(F_TO_JSONB, &to_jsonb);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID,
											 list_make1(argument), InvalidOid,
											 InvalidOid, COERCE_EXPLICIT_CALL),
					   &to_jsonb);
	InitFunctionCallInfoData(*call, &to_jsonb, 1, InvalidOid, NULL, NULL);
	call->args[0].value = value;
	call->args[0].isnull = false;
	json = DatumGetJsonbP(FunctionCallInvoke(call));
	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

/*
 * Adds a column's value; InvalidOid is the type apikey_role.  What is too long
 * to be kept in each event is told by its length alone.
 */
void
apikey_detail_value(StringInfo json, const char *name, Oid type, Datum value,
					bool isnull)
{
	char	   *text;

	if (isnull)
		apikey_detail_string(json, name, NULL);
	else if (!OidIsValid(type))
		apikey_detail_string(json, name,
							 apikey_role_label(apikey_role_from_datum(value)));
	else
	{
		text = type == TIMESTAMPTZOID ?
			apikey_json_time(DatumGetTimestampTz(value)) : value_json(value, type);
		if (strlen(text) > VALUE_BYTES_MAX)
			text = psprintf("{\"bytes\": %zu}", strlen(text));
		apikey_detail_json(json, name, text);
	}
}
