/*
 * costs.c
 *		What a request costs, or turned out to cost, beside one request: so much
 *		of each unit that a JSON object names.
 *
 * It may name any number of units, as those without a limit cost nothing.  All are
 * looked at, to refuse what is no cost, and none is copied: what a limit's unit
 * costs is looked up in the object.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "compat.h"
#include "store/store.h"
#include "limits/limits_internal.h"

pg_noreturn static void
refuse(bool charge)
{
	apikey_refuse("costs", charge ?
				  "Costs are a JSON object of units and whole numbers from -9007199254740992 to 9007199254740992." :
				  "Costs are a JSON object of units and whole numbers from 0 to 9007199254740992; of requests, the cost says how many.");
}

static int
compare(Numeric one, Numeric other)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp,
											 NumericGetDatum(one),
											 NumericGetDatum(other)));
}

/* Is it a whole number within bounds?  Leaves no memory behind. */
static bool
is_amount(const JsonbValue *value, Numeric least, Numeric most)
{
	Numeric		whole;
	bool		result;

	if (value->type != jbvNumeric ||
		compare(value->val.numeric, least) < 0 ||
		compare(value->val.numeric, most) > 0)
		return false;
	whole = DatumGetNumeric(DirectFunctionCall2(numeric_trunc,
												NumericGetDatum(value->val.numeric),
												Int32GetDatum(0)));
	result = compare(whole, value->val.numeric) == 0;
	pfree(whole);
	return result;
}

/*
 * Reads costs: of a verification, or of a charge, which may give back, and has
 * requests among its units.  Raises 22023 for what is none.
 */
Jsonb *
apikey_costs_read(Datum costs_json, bool charge)
{
	Jsonb	   *costs = DatumGetJsonbP(costs_json);
	Numeric		least = int64_to_numeric(charge ? -APIKEY_LIMIT_MOST : 0);
	Numeric		most = int64_to_numeric(APIKEY_LIMIT_MOST);
	JsonbIterator *iterator;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(costs))
		refuse(charge);
	iterator = JsonbIteratorInit(&costs->root);
	(void) JsonbIteratorNext(&iterator, &value, false);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_KEY)
	{
		CHECK_FOR_INTERRUPTS();
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (!is_amount(&value, least, most))
			refuse(charge);
	}
	if (!charge && getKeyJsonValueFromContainer(&costs->root, APIKEY_REQUESTS,
												strlen(APIKEY_REQUESTS), &value) != NULL)
		refuse(charge);
	return costs;
}

/* What is named of a unit; 0 for nothing. */
int64
apikey_costs_of(Jsonb *costs, const char *unit)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(&costs->root, unit, strlen(unit),
									 &value) == NULL)
		return 0;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 NumericGetDatum(value.val.numeric)));
}
