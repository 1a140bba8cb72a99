/*
 * sql_verify.c
 *		The SQL functions that read a key's text and verify it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "limits/limits.h"
#include "verify/verify.h"

/* The columns that a verification returns. */
enum
{
	RESULT_VALID,
	RESULT_CODE,
	RESULT_KEY_ID,
	RESULT_NAME,
	RESULT_PROJECT,
	RESULT_OWNER,
	RESULT_SUBJECT,
	RESULT_ROLE,
	RESULT_SCOPES,
	RESULT_METADATA,
	RESULT_EXPIRES_AT,
	RESULT_CREDITS,
	RESULT_RATE_REMAINING,
	RESULT_RATE_RESET_AT,
	RESULT_DETAIL,
	RESULT_COLUMNS
};

/*
 * Reads a text's shape, a key's or a token's, from an argument; false where it
 * is wrong or NULL.
 */
static bool
parse_argument(FunctionCallInfo fcinfo, int argument, text **value,
			   ApikeyText *parsed)
{
	ApikeyTokenText token;
	const char *bytes;
	size_t		len;

	if (PG_ARGISNULL(argument))
		return false;
	*value = PG_GETARG_TEXT_PP(argument);
	bytes = VARDATA_ANY(*value);
	len = VARSIZE_ANY_EXHDR(*value);
	if (apikey_text_parse(bytes, len, parsed))
		return true;
	if (!apikey_token_parse(bytes, len, &token))
		return false;
	parsed->prefix_len = token.prefix_len;
	memcpy(parsed->id, token.id, APIKEY_ID_BYTES);
	return true;
}

static Datum
uuid_datum(const uint8 *bytes)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	memcpy(id->data, bytes, UUID_LEN);
	return UUIDPGetDatum(id);
}

/*
 * apikey_id(key text) returns uuid
 *		The id that a key's text carries; NULL where the shape is wrong.
 */
PG_FUNCTION_INFO_V1(apikey_id);
Datum
apikey_id(PG_FUNCTION_ARGS)
{
	ApikeyText	parsed;
	text	   *value;

	if (!parse_argument(fcinfo, 0, &value, &parsed))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(uuid_datum(parsed.id));
}

/*
 * apikey_parse(key text, OUT prefix text, OUT id uuid, OUT checksum_ok boolean)
 */
PG_FUNCTION_INFO_V1(apikey_parse);
Datum
apikey_parse(PG_FUNCTION_ARGS)
{
	ApikeyText	parsed;
	text	   *value;
	TupleDesc	desc;
	Datum		values[3] = {0, 0, BoolGetDatum(false)};
	bool		nulls[3] = {true, true, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (parse_argument(fcinfo, 0, &value, &parsed))
	{
		values[0] = PointerGetDatum(cstring_to_text_with_len(VARDATA_ANY(value),
															 parsed.prefix_len));
		values[1] = uuid_datum(parsed.id);
		values[2] = BoolGetDatum(apikey_text_checksum_ok(VARDATA_ANY(value),
														 VARSIZE_ANY_EXHDR(value)));
		nulls[0] = nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

/* "rotated_to", "stops_at": of a key in its grace. */
static void
append_successor(StringInfo json, const ApikeyVerdict *verdict)
{
	const ApikeyRow *key = verdict->key;
	TimestampTz stops_at;

	if (key->nulls[APIKEY_KEY_ROTATED_TO] || !key->nulls[APIKEY_KEY_REVOKED_AT] ||
		key->nulls[APIKEY_KEY_EXPIRES_AT])
		return;
	stops_at = DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]);
	if (stops_at <= verdict->at)
		return;
	appendStringInfo(json, "%s\"rotated_to\": \"%s\", \"stops_at\": %s",
					 json->len > 0 ? ", " : "",
					 apikey_id_string(DatumGetUUIDP(key->values[APIKEY_KEY_ROTATED_TO])),
					 apikey_json_time(stops_at));
}

/*
 * "limit": the one that has refused; or, to whoever has named costs and may
 * pass, "limits": all.
 */
static void
append_limits(StringInfo json, const ApikeyVerdict *verdict,
			  const ApikeyRequirements *required)
{
	const char *separator = json->len > 0 ? ", " : "";

	if ((verdict->code == APIKEY_CODE_RATE_LIMITED ||
		 verdict->code == APIKEY_CODE_EXHAUSTED) && verdict->refused_by >= 0)
		appendStringInfo(json, "%s\"limit\": %s", separator,
						 apikey_bound_json(verdict, verdict->refused_by));
	else if (verdict->code == APIKEY_CODE_VALID && required->costs != NULL)
		appendStringInfo(json, "%s\"limits\": %s", separator,
						 apikey_bounds_json(verdict));
}

/* The object of all that there is to tell; false for nothing. */
static bool
verdict_detail(const ApikeyVerdict *verdict,
			   const ApikeyRequirements *required,
			   Datum *detail)
{
	StringInfoData json;
	const ApikeyRate *rate = apikey_bounds_own_rate(verdict->bounds);

	initStringInfo(&json);
	if (verdict->code == APIKEY_CODE_INSUFFICIENT_SCOPE)
		apikey_scope_missing(&json,
							 verdict->key->values[APIKEY_KEY_SCOPES],
							 required->scopes);
	if (verdict->code == APIKEY_CODE_IP_DENIED)
		appendStringInfo(&json, "\"client_addr\": \"%s\"",
						 required->client_addr == NULL ? "missing" : "denied");
	if (rate != NULL)
		appendStringInfo(&json, "%s\"rate_limit\": " INT64_FORMAT ", \"rate_window_seconds\": %.15g",
						 json.len > 0 ? ", " : "", rate->tokens,
						 (double) rate->window / APIKEY_LIMITER_UNITS / USECS_PER_SEC);
	append_limits(&json, verdict, required);
	append_successor(&json, verdict);
	if (verdict->span != NULL)
		appendStringInfo(&json, "%s\"token_expires_at\": %s",
						 json.len > 0 ? ", " : "",
						 apikey_json_time(verdict->span->end));
	if (json.len == 0)
		return false;
	*detail = DirectFunctionCall1(jsonb_in,
								  CStringGetDatum(psprintf("{%s}", json.data)));
	return true;
}

/* Copies a key's column into a result's, NULL or not. */
static void
set_from_key(const ApikeyRow *key, ApikeyKeyColumn from,
			 Datum *values, bool *nulls, int to)
{
	values[to] = key->values[from];
	nulls[to] = key->nulls[from];
}

/* Fills in what is told of a key whose secret has matched. */
static void
fill_key(const ApikeyVerdict *verdict, Name owner, Datum *values, bool *nulls)
{
	const ApikeyRow *key = verdict->key;

	set_from_key(key, APIKEY_KEY_ID, values, nulls, RESULT_KEY_ID);
	set_from_key(key, APIKEY_KEY_NAME, values, nulls, RESULT_NAME);
	set_from_key(key, APIKEY_KEY_SUBJECT, values, nulls, RESULT_SUBJECT);
	set_from_key(key, APIKEY_KEY_SCOPES, values, nulls, RESULT_SCOPES);
	set_from_key(key, APIKEY_KEY_METADATA, values, nulls, RESULT_METADATA);
	set_from_key(key, APIKEY_KEY_EXPIRES_AT, values, nulls, RESULT_EXPIRES_AT);
	namestrcpy(owner,
			   text_to_cstring(apikey_role_name_told(apikey_key_owner(key),
													 apikey_row_text(key, APIKEY_KEY_OWNER_NAME))));
	values[RESULT_OWNER] = NameGetDatum(owner);
	nulls[RESULT_OWNER] = false;
	if (verdict->project != NULL)
	{
		values[RESULT_PROJECT] = CStringGetTextDatum(verdict->project);
		nulls[RESULT_PROJECT] = false;
	}
	if (verdict->state.role != APIKEY_ROLE_NONE)
	{
		values[RESULT_ROLE] = apikey_role_datum(verdict->state.role);
		nulls[RESULT_ROLE] = false;
	}
	if (verdict->rated)
	{
		values[RESULT_RATE_REMAINING] = Int32GetDatum(verdict->rate_remaining);
		nulls[RESULT_RATE_REMAINING] = false;
		values[RESULT_RATE_RESET_AT] = TimestampTzGetDatum(verdict->rate_reset_at);
		nulls[RESULT_RATE_RESET_AT] = verdict->rate_reset_at == 0;
	}
	if (verdict->credited)
	{
		values[RESULT_CREDITS] = Int64GetDatum(verdict->credits);
		nulls[RESULT_CREDITS] = false;
	}
}

/* The one row that tells a verdict. */
static HeapTuple
verdict_row(TupleDesc desc, ApikeyVerdict *verdict,
			const ApikeyRequirements *required)
{
	Datum		values[RESULT_COLUMNS];
	bool		nulls[RESULT_COLUMNS];
	NameData	owner;

	memset(nulls, true, sizeof(nulls));
	values[RESULT_VALID] = BoolGetDatum(verdict->code == APIKEY_CODE_VALID);
	nulls[RESULT_VALID] = false;
	values[RESULT_CODE] = CStringGetTextDatum(apikey_code_name(verdict->code));
	nulls[RESULT_CODE] = false;
	if (verdict->known)
	{
		apikey_verdict_key(verdict);
		fill_key(verdict, &owner, values, nulls);
		nulls[RESULT_DETAIL] = !verdict_detail(verdict, required,
											   &values[RESULT_DETAIL]);
	}
	return heap_form_tuple(desc, values, nulls);
}

/*
 * Writes what limits leave into a row that is kept of a key, in the place of what
 * they left before.  False where other columns are NULL now.
 */
static bool
renew_limits(HeapTuple row, TupleDesc desc, const ApikeyVerdict *verdict)
{
	const struct
	{
		const void *value;
		bool		told;
	}			limits[] = {
		{&verdict->credits, verdict->credited},
		{&verdict->rate_remaining, verdict->rated},
		{&verdict->rate_reset_at, verdict->rated && verdict->rate_reset_at != 0}
	};
	char	   *data = (char *) row->t_data + row->t_data->t_hoff;
	long		at = 0;

	for (int i = 0; i < (int) lengthof(limits); i++)
	{
		if (heap_attisnull(row, RESULT_CREDITS + i + 1, desc) == limits[i].told)
			return false;
	}
	for (int column = 0; column <= RESULT_RATE_RESET_AT; column++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, column);

		if (heap_attisnull(row, column + 1, desc))
			continue;
		at = att_align_pointer(at, attribute->attalign, attribute->attlen,
							   data + at);
		if (column >= RESULT_CREDITS)
			memcpy(data + at, limits[column - RESULT_CREDITS].value,
				   attribute->attlen);
		at = att_addlength_pointer(at, attribute->attlen, data + at);
	}
	return true;
}

/*
 * The descriptor of the row, kept for the life of the process: being counted
 * it is not freed by the executor.  Only the type of one column can be another
 * one, after the extension was made anew.
 */
static TupleDesc
result_descriptor(TupleDesc expected)
{
	static TupleDesc desc = NULL;

	if (desc == NULL ||
		TupleDescAttr(desc, RESULT_ROLE)->atttypid !=
		TupleDescAttr(expected, RESULT_ROLE)->atttypid)
	{
		MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);

		desc = CreateTupleDescCopy(expected);
		desc->tdrefcount = 1;
		MemoryContextSwitchTo(context);
	}
	return desc;
}

/* Have two rows columns of the same types? */
static bool
same_types(TupleDesc one, TupleDesc two)
{
	for (int i = 0; i < RESULT_COLUMNS; i++)
	{
		if (TupleDescAttr(one, i)->atttypid != TupleDescAttr(two, i)->atttypid)
			return false;
	}
	return true;
}

/*
 * Sets up the result of a function that returns one row, and returns the row's
 * descriptor.  In FROM a tuplestore is asked for, and is cheaper.  Of that the
 * executor compares the descriptor with what it expects, which costs as much as
 * to find the key, so it is told only where it differs.
 */
static TupleDesc
begin_result(FunctionCallInfo fcinfo)
{
	TupleDesc	desc;
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context;

	if (result == NULL || !IsA(result, ReturnSetInfo) ||
		(result->allowedModes & SFRM_Materialize) == 0 ||
		result->expectedDesc == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	if (result->expectedDesc->natts != RESULT_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("result of verification has %d columns, and not %d",
						result->expectedDesc->natts, RESULT_COLUMNS),
				 errdetail("The library \"apikey\" and the extension \"apikey\" are of different versions."),
				 errhint("Use ALTER EXTENSION apikey UPDATE.")));

	desc = result_descriptor(result->expectedDesc);
	if ((result->allowedModes & SFRM_Materialize_Preferred) == 0 &&
		(result->allowedModes & SFRM_ValuePerCall) != 0 &&
		same_types(desc, result->expectedDesc))
		return desc;
	context = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	result->returnMode = SFRM_Materialize;
	result->setResult = tuplestore_begin_heap((result->allowedModes &
											   SFRM_Materialize_Random) != 0,
											  false, work_mem);
	MemoryContextSwitchTo(context);
	if (!same_types(desc, result->expectedDesc))
		result->setDesc = desc;
	return desc;
}

/* Verifies and returns the row, or stores it; ends the verification. */
static Datum
verify(FunctionCallInfo fcinfo, ApikeyCredential *credential,
	   const ApikeyRequirements *required)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ApikeyVerdict verdict;
	HeapTupleData kept;
	HeapTuple	row;
	bool		keep;
	bool		is_kept;
	TupleDesc	desc = begin_result(fcinfo);

	apikey_verify_credential(credential, required, &verdict);
	keep = verdict.code == APIKEY_CODE_VALID && required->costs == NULL &&
		verdict.entry != NULL;
	is_kept = keep && apikey_cache_row(&verdict, &kept);
	if (is_kept &&
		(verdict.bounds == NULL || renew_limits(&kept, desc, &verdict)))
		row = &kept;
	else
	{
		row = verdict_row(desc, &verdict, required);
		if (keep && !is_kept)
			apikey_cache_keep_row(&verdict, row);
	}
	apikey_verification_end();
	if (result->returnMode == SFRM_ValuePerCall)
		return heap_copy_tuple_as_datum(row, result->expectedDesc);
	tuplestore_puttuple(result->setResult, row);
	return (Datum) 0;
}

/*
 * apikey_verify(key text, scopes text[], project text, min_role apikey_role,
 *				 client_addr inet, cost integer, owner regrole)
 *		returns setof apikey_verification: one row, whatever the text.
 */
PG_FUNCTION_INFO_V1(apikey_verify);
Datum
apikey_verify(PG_FUNCTION_ARGS)
{
	ApikeyCredential credential;
	ApikeyRequirements required;

	apikey_verification_begin();
	apikey_requirements_of_key(fcinfo, &credential, &required);
	return verify(fcinfo, &credential, &required);
}

/*
 * apikey_verify_digest(handle text, digest bytea, ...)
 *		The same for a caller that keeps the plaintext to itself.
 */
PG_FUNCTION_INFO_V1(apikey_verify_digest);
Datum
apikey_verify_digest(PG_FUNCTION_ARGS)
{
	ApikeyCredential credential;
	ApikeyRequirements required;

	apikey_verification_begin();
	apikey_requirements_of_digest(fcinfo, &credential, &required);
	return verify(fcinfo, &credential, &required);
}

/*
 * apikey_check(key text, scopes text[], project text, owner regrole,
 *				client_addr inet) returns boolean
 *		The same verification for callers that need only yes or no.
 */
PG_FUNCTION_INFO_V1(apikey_check);
Datum
apikey_check(PG_FUNCTION_ARGS)
{
	ApikeyCredential credential;
	ApikeyRequirements required;
	ApikeyVerdict verdict;

	apikey_verification_begin();
	apikey_requirements_of_check(fcinfo, &credential, &required);
	apikey_verify_credential(&credential, &required, &verdict);
	apikey_verification_end();
	PG_RETURN_BOOL(verdict.code == APIKEY_CODE_VALID);
}
