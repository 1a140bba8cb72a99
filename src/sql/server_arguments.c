/*
 * server_arguments.c
 *		Arguments of the functions that other servers call: arrays of equal
 *		lengths, whose elements together are rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "store/store.h"
#include "sql/server_arguments.h"

#define LABEL_BYTES_MAX	100

/* Which server calls, and in which epoch. */
const pg_uuid_t *
apikey_server_argument(FunctionCallInfo fcinfo, int64 *epoch)
{
	apikey_require(fcinfo, 0, "server");
	apikey_require(fcinfo, 1, "epoch");
	*epoch = PG_GETARG_INT64(1);
	return PG_GETARG_UUID_P(0);
}

/* Takes an array of at most APIKEY_SERVER_BATCH elements apart. */
void
apikey_list_argument(FunctionCallInfo fcinfo, int number, const char *argument,
					 ApikeyList *list)
{
	ArrayType  *array;
	Oid			type;
	int16		len;
	bool		by_value;
	char		align;

	apikey_require(fcinfo, number, argument);
	array = PG_GETARG_ARRAYTYPE_P(number);
	if (ARR_NDIM(array) > 1 ||
		ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) > APIKEY_SERVER_BATCH)
		apikey_refuse(argument, psprintf("It is an array of one dimension, of at most %d elements.",
										 APIKEY_SERVER_BATCH));
	type = ARR_ELEMTYPE(array);
	get_typlenbyvalalign(type, &len, &by_value, &align);
	list->argument = argument;
	deconstruct_array(array, type, len, by_value, align, &list->values,
					  &list->nulls, &list->count);
}

/* Raises unless a list is as long as another. */
void
apikey_list_like(const ApikeyList *list, const ApikeyList *like)
{
	if (list->count != like->count)
		apikey_refuse(list->argument,
					  psprintf("It has as many elements as \"%s\".", like->argument));
}

void
apikey_list_no_nulls(const ApikeyList *list)
{
	for (int i = 0; i < list->count; i++)
	{
		if (list->nulls[i])
			apikey_refuse_null(list->argument);
	}
}

/* An element that is a bigint, no less than so much, and not null. */
int64
apikey_list_number(const ApikeyList *list, int element, int64 least)
{
	int64		number;

	if (list->nulls[element])
		apikey_refuse_null(list->argument);
	number = DatumGetInt64(list->values[element]);
	if (number < least)
		apikey_refuse(list->argument,
					  psprintf("Its elements are no less than " INT64_FORMAT ".", least));
	return number;
}

/* A short text that is shown to people: ASCII that can be seen. */
text *
apikey_server_label(FunctionCallInfo fcinfo, int number, const char *argument)
{
	text	   *label = apikey_required_text(fcinfo, number, argument);
	int			len = VARSIZE_ANY_EXHDR(label);

	for (int i = 0; i < len; i++)
	{
		if (VARDATA_ANY(label)[i] < ' ' || VARDATA_ANY(label)[i] > '~')
			len = 0;
	}
	if (len == 0 || len > LABEL_BYTES_MAX)
		apikey_refuse(argument, psprintf("It is of 1 to %d characters of ASCII that can be seen.",
										 LABEL_BYTES_MAX));
	return label;
}
