/*
 * sql_token.c
 *		The SQL function that makes tokens: arguments in, text out.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "verify/verify.h"

/* How long a token is to last, in microseconds. */
static int64
ttl_argument(FunctionCallInfo fcinfo, int argument)
{
	const Interval *ttl;
	int64		most = APIKEY_TOKEN_TTL_MAX * USECS_PER_SEC;

	apikey_require(fcinfo, argument, "ttl");
	ttl = PG_GETARG_INTERVAL_P(argument);
	/* Each field by itself, so that the sum has room. */
	if (ttl->month != 0 || ttl->day < -1000 || ttl->day > 1000 ||
		ttl->time < -1000 * USECS_PER_DAY || ttl->time > 1000 * USECS_PER_DAY ||
		ttl->day * USECS_PER_DAY + ttl->time < USECS_PER_SEC ||
		ttl->day * USECS_PER_DAY + ttl->time > most)
		apikey_refuse("ttl", "A token lasts from 1 second to 24 hours.");
	return ttl->day * USECS_PER_DAY + ttl->time;
}

/*
 * apikey_token_create(key text, ttl interval, scopes text[]) returns text
 *		For whoever holds a key: a token that verifies like it, for so long.
 */
PG_FUNCTION_INFO_V1(apikey_token_create);
Datum
apikey_token_create(PG_FUNCTION_ARGS)
{
	ApikeyCredential credential;
	int64		ttl = ttl_argument(fcinfo, 1);
	ArrayType  *scopes = NULL;

	if (!PG_ARGISNULL(2))
	{
		apikey_rule_scopes(PG_GETARG_DATUM(2));
		scopes = PG_GETARG_ARRAYTYPE_P(2);
	}
	apikey_credential_from_key(fcinfo->args[0], &credential);
	PG_RETURN_TEXT_P(apikey_token_make(&credential, ttl, scopes));
}
