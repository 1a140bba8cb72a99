/*
 * sql_usage.c
 *		What the views tell of use: counts that are not in the tables yet.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "access/access.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "sql/sql_internal.h"

/* A row of what a function returns. */
static Datum
result_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values,
											 nulls));
}

/* Whoever calls _apikey_pending may do so with any id. */
static bool
may_see(const pg_uuid_t *id)
{
	ApikeyRow	key;

	apikey_key_keep();
	return !apikey_latest_hidden() && apikey_key_fetch_latest(id, &key) &&
		apikey_authority_sees(&key);
}

/*
 * _apikey_pending(id uuid, flushed bigint, OUT use_count bigint,
 *				   OUT denied_count bigint, OUT last_used_at timestamptz,
 *				   OUT last_used_addr inet)
 *		What this server has counted of a key and not yet written; nothing of
 *		a key that the caller may not see.  For the views of 0.1.0.
 */
PG_FUNCTION_INFO_V1(_apikey_pending);
Datum
_apikey_pending(PG_FUNCTION_ARGS)
{
	ApikeyUse	use = {0};
	Datum		values[4];
	bool		nulls[4] = {0};

	if (!PG_ARGISNULL(0) &&
		apikey_usage_pending(PG_GETARG_UUID_P(0),
							 PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1), &use) &&
		!may_see(PG_GETARG_UUID_P(0)))
		memset(&use, 0, sizeof(use));
	values[0] = Int64GetDatum((int64) use.uses);
	values[1] = Int64GetDatum((int64) use.denials);
	values[2] = TimestampTzGetDatum(use.last_used_at);
	nulls[2] = use.last_used_at == 0;
	values[3] = use.has_addr ? InetPGetDatum(apikey_use_inet(&use.addr)) : (Datum) 0;
	nulls[3] = !use.has_addr;
	PG_RETURN_DATUM(result_row(fcinfo, values, nulls));
}

/*
 * _apikey_credits(id uuid, OUT credits bigint, OUT credits_refill bigint,
 *				   OUT credits_interval interval)
 *		What is left of a key's credits, and its refill; nothing of a key that
 *		the caller may not see.  For the views of 0.1.0.
 */
PG_FUNCTION_INFO_V1(_apikey_credits);
Datum
_apikey_credits(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	Datum		values[3] = {0};
	bool		nulls[3] = {true, true, true};

	apikey_key_keep();
	if (!apikey_latest_hidden() &&
		apikey_key_fetch_latest(PG_GETARG_UUID_P(0), &key) &&
		apikey_key_account(&key) != NULL &&
		apikey_authority_sees(&key) &&
		apikey_account_fetch(apikey_key_account(&key), &key))
	{
		memcpy(values, &key.values[APIKEY_KEY_CREDITS], sizeof(values));
		memcpy(nulls, &key.nulls[APIKEY_KEY_CREDITS], sizeof(nulls));
	}
	PG_RETURN_DATUM(result_row(fcinfo, values, nulls));
}

/* {"valid": 3, ...}: of the codes, those that have occurred. */
static Datum
codes_json(const ApikeyStats *stats)
{
	StringInfoData json;
	const char *separator = "";

	initStringInfo(&json);
	appendStringInfoChar(&json, '{');
	for (int i = 0; i <= APIKEY_CODE_VALID; i++)
	{
		if (stats->codes[i] == 0)
			continue;
		appendStringInfo(&json, "%s\"%s\": " UINT64_FORMAT, separator,
						 apikey_code_name(i), stats->codes[i]);
		separator = ", ";
	}
	appendStringInfoChar(&json, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

static bool
may_read(const char *view_name)
{
	Oid			view = get_relname_relid(view_name, apikey_catalog()->schema);

	return OidIsValid(view) &&
		(pg_class_aclcheck(view, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
		 pg_attribute_aclcheck_all(view, GetUserId(), ACL_SELECT,
								   ACLMASK_ANY) == ACLCHECK_OK);
}

/* A view's functions are called as its reader: who may read it may ask. */
void
apikey_require_reader(const char *view)
{
	if (!may_read(view) && !may_read("apikey_stats"))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_VIEW, view);
}

/*
 * _apikey_stats(OUT since timestamptz, OUT verifications jsonb,
 *				 OUT tracked_keys bigint, OUT evictions bigint,
 *				 OUT not_attributed bigint, OUT last_flush_at timestamptz)
 *		All null where nothing is counted in memory.
 */
PG_FUNCTION_INFO_V1(_apikey_stats);
Datum
_apikey_stats(PG_FUNCTION_ARGS)
{
	ApikeyStats stats;
	Datum		values[6] = {0};
	bool		nulls[6];

	apikey_require_reader("apikey_stats");
	memset(nulls, true, sizeof(nulls));
	if (apikey_usage_shared() && apikey_stats_read(&stats))
	{
		values[0] = TimestampTzGetDatum(stats.since);
		values[1] = codes_json(&stats);
		values[2] = Int64GetDatum(apikey_slot_used(MyDatabaseId));
		values[3] = Int64GetDatum((int64) stats.evictions);
		values[4] = Int64GetDatum((int64) stats.not_attributed);
		values[5] = TimestampTzGetDatum(stats.last_flush_at);
		memset(nulls, false, 5);
		nulls[5] = stats.last_flush_at == 0;
	}
	PG_RETURN_DATUM(result_row(fcinfo, values, nulls));
}

/*
 * _apikey_stats_codes() returns setof (code text, verifications bigint)
 *		Every code; null where nothing is counted in memory.
 */
PG_FUNCTION_INFO_V1(_apikey_stats_codes);
Datum
_apikey_stats_codes(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ApikeyStats stats;
	bool		counted;

	apikey_require_reader("apikey_stats_codes");
	InitMaterializedSRF(fcinfo, 0);
	memset(&stats, 0, sizeof(stats));
	counted = apikey_usage_shared() && apikey_stats_read(&stats);
	for (int i = 0; i <= APIKEY_CODE_VALID; i++)
	{
		Datum		values[2] = {
			CStringGetTextDatum(apikey_code_name((ApikeyCode) i)),
			Int64GetDatum((int64) stats.codes[i])
		};
		bool		nulls[2] = {false, !counted};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	PG_RETURN_NULL();
}

/* Adds a pepper to the result. */
static void
put_pepper(const ReturnSetInfo *result, int32 fingerprint,
		   const ApikeyPepper *pepper, int64 keys)
{
	bool		usable = apikey_pepper_usable();
	bool		placed = pepper != NULL && pepper->line > 0;
	Datum		values[4] = {
		CStringGetTextDatum(psprintf("%08x", (uint32) fingerprint)),
		Int32GetDatum(placed ? pepper->line : 0),
		BoolGetDatum(usable && fingerprint == apikey_pepper_current()->fingerprint),
		Int64GetDatum(keys)
	};
	bool		nulls[4] = {false, !placed, false, false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static int64
keys_of(const ApikeyPepperCounts *counts, int32 fingerprint)
{
	for (int i = 0; i < counts->count; i++)
	{
		if (counts->peppers[i].fingerprint == fingerprint)
			return counts->peppers[i].keys;
	}
	return 0;
}

/* Is a pepper in the file, or in what the command prints? */
static bool
has_place(int32 fingerprint)
{
	const ApikeyPepper *pepper = apikey_pepper_find(fingerprint);

	return pepper != NULL && pepper->line > 0;
}

/*
 * _apikey_peppers() returns setof (fingerprint text, place integer,
 *									current boolean, keys bigint)
 *		The peppers that there are, in their order, then those that keys hang
 *		on; the empty one where it is current, or keys are keyed with it.
 */
PG_FUNCTION_INFO_V1(_apikey_peppers);
Datum
_apikey_peppers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		usable;
	ApikeyPepperCounts counts;
	const ApikeyPepper *pepper;

	apikey_require_reader("apikey_peppers");
	InitMaterializedSRF(fcinfo, 0);
	usable = apikey_pepper_usable();
	(void) apikey_pepper_count(&counts, true);
	for (int i = 0; usable && (pepper = apikey_pepper_nth(i)) != NULL; i++)
	{
		if ((pepper->line > 0 || pepper == apikey_pepper_current()) &&
			apikey_pepper_find(pepper->fingerprint) == pepper)
			put_pepper(result, pepper->fingerprint, pepper,
					   keys_of(&counts, pepper->fingerprint));
	}
	for (int i = 0; i < counts.count; i++)
	{
		int32		fingerprint = counts.peppers[i].fingerprint;

		if (!has_place(fingerprint) &&
			!(usable && fingerprint == apikey_pepper_current()->fingerprint))
			put_pepper(result, fingerprint, NULL, counts.peppers[i].keys);
	}
	PG_RETURN_NULL();
}
