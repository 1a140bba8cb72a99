/*
 * costs.c
 *		What a request costs, or turned out to cost, beside one request: so much
 *		of each unit that a JSON object names.
 */
#include "postgres.h"

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
compare(Numeric value, int64 with)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp,
											 NumericGetDatum(value),
											 NumericGetDatum(int64_to_numeric(with))));
}

/* A whole number within the bounds. */
static int64
read_amount(const JsonbValue *value, bool charge)
{
	Numeric		number;
	Datum		whole;

	if (value->type != jbvNumeric)
		refuse(charge);
	number = value->val.numeric;
	if (compare(number, charge ? -APIKEY_LIMIT_MOST : 0) < 0 ||
		compare(number, APIKEY_LIMIT_MOST) > 0)
		refuse(charge);
	whole = DirectFunctionCall2(numeric_trunc, NumericGetDatum(number),
								Int32GetDatum(0));
	if (DatumGetInt32(DirectFunctionCall2(numeric_cmp, whole,
										  NumericGetDatum(number))) != 0)
		refuse(charge);
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, whole));
}

/*
 * Reads costs: of a verification, or of a charge, which may give back, and has
 * requests among its units.  Raises 22023 for what is none.
 */
ApikeyCosts *
apikey_costs_read(Datum costs_json, bool charge)
{
	Jsonb	   *json = DatumGetJsonbP(costs_json);
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	value;
	ApikeyCosts *costs;

	if (!JB_ROOT_IS_OBJECT(json))
		refuse(charge);
	costs = palloc(offsetof(ApikeyCosts, list) +
				   JB_ROOT_COUNT(json) * sizeof(ApikeyCost));
	costs->count = 0;
	iterator = JsonbIteratorInit(&json->root);
	(void) JsonbIteratorNext(&iterator, &value, false);
	while ((token = JsonbIteratorNext(&iterator, &value, true)) == WJB_KEY)
	{
		ApikeyCost *cost = &costs->list[costs->count++];

		cost->unit = value.val.string.val;
		cost->len = value.val.string.len;
		(void) JsonbIteratorNext(&iterator, &value, true);
		cost->amount = read_amount(&value, charge);
		if (!charge && cost->len == (int) strlen(APIKEY_REQUESTS) &&
			memcmp(cost->unit, APIKEY_REQUESTS, cost->len) == 0)
			refuse(charge);
	}
	return costs;
}

/* What is named of a unit; 0 for nothing. */
int64
apikey_costs_of(const ApikeyCosts *costs, const char *unit)
{
	int			len = strlen(unit);

	for (int i = 0; i < costs->count; i++)
	{
		if (costs->list[i].len == len &&
			memcmp(costs->list[i].unit, unit, len) == 0)
			return costs->list[i].amount;
	}
	return 0;
}
