/*
 * array.c
 *		Arrays as text, for the parameters of calls.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"

#include "store/store.h"
#include "memory/memory.h"
#include "fleet/link.h"

void
apikey_array_begin(ApikeyArray *array)
{
	initStringInfo(&array->text);
	appendStringInfoChar(&array->text, '{');
	array->any = false;
}

/* An element, in quotes; NULL for null. */
void
apikey_array_add(ApikeyArray *array, const char *value)
{
	if (array->any)
		appendStringInfoChar(&array->text, ',');
	array->any = true;
	if (value == NULL)
	{
		appendStringInfoString(&array->text, "NULL");
		return;
	}
	appendStringInfoChar(&array->text, '"');
	for (; *value != '\0'; value++)
	{
		if (*value == '"' || *value == '\\')
			appendStringInfoChar(&array->text, '\\');
		appendStringInfoChar(&array->text, *value);
	}
	appendStringInfoChar(&array->text, '"');
}

void
apikey_array_add_id(ApikeyArray *array, const pg_uuid_t *id)
{
	apikey_array_add(array, apikey_id_string(id));
}

void
apikey_array_add_number(ApikeyArray *array, int64 number)
{
	apikey_array_add(array, psprintf(INT64_FORMAT, number));
}

void
apikey_array_add_address(ApikeyArray *array, bool any, const inet_struct *addr)
{
	apikey_array_add(array, !any ? NULL :
					 DatumGetCString(DirectFunctionCall1(inet_out,
														 InetPGetDatum(apikey_use_inet(addr)))));
}

void
apikey_array_put(ApikeyArray *array, ApikeyCall *call, const char *type)
{
	appendStringInfoChar(&array->text, '}');
	apikey_call_add(call, type, array->text.data);
}
