/*
 * report.c
 *		Reports: what this server has counted goes to the primary.
 *
 * What has gathered is moved into a batch, which is sent with its number until
 * the primary has acknowledged that: see batch.c.  A row that somebody has
 * locked there is left out, and its counts go back.  Without anything to tell a
 * report is a sign of life.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "fleet/link.h"
#include "memory/server_id.h"
#include "usage/batch.h"
#include "usage/history.h"
#include "usage/usage.h"

static const ApikeyWire *wire = NULL;

void
apikey_report_begin(const ApikeyWire *table)
{
	wire = table;
}

/* Arrays, as they are being written. */
typedef struct Array
{
	StringInfoData text;
	bool		any;
} Array;

static void
array_begin(Array *array)
{
	initStringInfo(&array->text);
	appendStringInfoChar(&array->text, '{');
	array->any = false;
}

/* An element, in quotes; NULL for null. */
static void
array_add(Array *array, const char *value)
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

static void
array_add_number(Array *array, int64 number)
{
	array_add(array, psprintf(INT64_FORMAT, number));
}

static void
array_add_address(Array *array, bool any, const inet_struct *addr)
{
	array_add(array, !any ? NULL :
			  DatumGetCString(DirectFunctionCall1(inet_out,
												  InetPGetDatum(apikey_usage_inet(addr)))));
}

static void
array_put(Array *array, ApikeyCall *call, const char *type)
{
	appendStringInfoChar(&array->text, '}');
	apikey_call_add(call, type, array->text.data);
}

static void
put_uses(const ApikeyBatch *batch, ApikeyCall *call)
{
	Array		keys;
	Array		uses;
	Array		denials;
	Array		times;
	Array		addresses;

	array_begin(&keys);
	array_begin(&uses);
	array_begin(&denials);
	array_begin(&times);
	array_begin(&addresses);
	for (int i = 0; i < batch->use_count; i++)
	{
		const ApikeyBatchUse *use = &batch->uses[i];

		array_add(&keys, apikey_id_string(&use->key));
		array_add_number(&uses, (int64) use->uses);
		array_add_number(&denials, (int64) use->denials);
		array_add(&times, use->last_used_at == 0 ? NULL :
				  DatumGetCString(DirectFunctionCall1(timestamptz_out,
													  TimestampTzGetDatum(use->last_used_at))));
		array_add_address(&addresses, use->has_addr, &use->addr);
	}
	array_put(&keys, call, "uuid[]");
	array_put(&uses, call, "int8[]");
	array_put(&denials, call, "int8[]");
	array_put(&times, call, "timestamptz[]");
	array_put(&addresses, call, "inet[]");
}

static void
put_counts(const ApikeyBatch *batch, ApikeyCall *call)
{
	Array		keys;
	Array		units;
	Array		names;
	Array		counts;

	array_begin(&keys);
	array_begin(&units);
	array_begin(&names);
	array_begin(&counts);
	for (int i = 0; i < batch->count_count; i++)
	{
		const ApikeyBatchCount *count = &batch->counts[i];

		array_add(&keys, apikey_id_string(&count->key));
		array_add(&units, count->of_unit ? "t" : "f");
		array_add(&names, count->name);
		array_add_number(&counts, count->count);
	}
	array_put(&keys, call, "uuid[]");
	array_put(&units, call, "bool[]");
	array_put(&names, call, "text[]");
	array_put(&counts, call, "int8[]");
}

/* Roles have other numbers on a subscriber: they are told by name. */
static void
put_denials(const ApikeyBatch *batch, ApikeyCall *call)
{
	Array		keys;
	Array		codes;
	Array		counts;
	Array		actors;
	Array		addresses;

	array_begin(&keys);
	array_begin(&codes);
	array_begin(&counts);
	array_begin(&actors);
	array_begin(&addresses);
	for (int i = 0; i < batch->denial_count; i++)
	{
		const ApikeyDenial *denial = &batch->denials[i].denial;

		array_add(&keys, apikey_id_string(&batch->denials[i].key));
		array_add(&codes, apikey_code_name((ApikeyCode) denial->code));
		array_add_number(&counts, denial->count);
		array_add(&actors, GetUserNameFromId(denial->actor, true));
		array_add_address(&addresses, denial->has_addr, &denial->addr);
	}
	array_put(&keys, call, "uuid[]");
	array_put(&codes, call, "text[]");
	array_put(&counts, call, "int8[]");
	array_put(&actors, call, "text[]");
	array_put(&addresses, call, "inet[]");
}

static ApikeyWireAnswer *
call_report(ApikeyLink *link, const ApikeyMembership *membership,
			const ApikeyBatch *batch)
{
	ApikeyCall	call = {.function = "report", .result = "r"};
	int64		lag = apikey_fresh_age();
	MemoryContext context = CurrentMemoryContext;
	pg_uuid_t	id;

	apikey_server_own_id(&id);
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	apikey_call_add(&call, "uuid", apikey_id_string(&id));
	apikey_call_add(&call, "int8", psprintf(INT64_FORMAT, membership->epoch));
	apikey_call_add(&call, "int8", psprintf(INT64_FORMAT, batch->sequence));
	apikey_call_add(&call, "interval", !RecoveryInProgress() || lag < 0 ? NULL :
					psprintf(INT64_FORMAT " microseconds", lag));
	put_uses(batch, &call);
	put_counts(batch, &call);
	put_denials(batch, &call);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return apikey_call(link, &call);
}

/* Moves what has gathered into a batch. */
static ApikeyBatch *
fill_batch(const ApikeyMembership *membership)
{
	ApikeyBatch *batch;

	apikey_batch_lock(true);
	batch = apikey_batch_begin(membership->database, membership->sequence + 1);
	if (batch != NULL)
	{
		apikey_usage_move(batch);
		apikey_history_move(batch);
		apikey_denial_move(batch);
	}
	apikey_batch_unlock();
	return batch;
}

/* The primary has it. */
static void
acknowledged(ApikeyMembership *membership, ApikeyBatch *batch)
{
	apikey_batch_lock(true);
	membership->sequence = batch->sequence;
	apikey_batch_end(batch);
	apikey_batch_unlock();
	apikey_stats_flushed_in(membership->database);
}

/* The rows of these keys are locked there: their counts go back. */
static bool
leave_out(ApikeyBatch *batch, const char *list)
{
	int			kept = 0;

	if (list == NULL)
		return false;
	apikey_batch_lock(true);
	for (int i = 0; i < batch->use_count; i++)
	{
		if (strstr(list, apikey_id_string(&batch->uses[i].key)) != NULL)
			apikey_usage_move_back(batch->database, &batch->uses[i]);
		else
			batch->uses[kept++] = batch->uses[i];
	}
	list = kept < batch->use_count ? list : NULL;
	batch->use_count = kept;
	apikey_batch_unlock();
	return list != NULL;
}

/* The primary does not take it, however often it is sent. */
static void
refused(ApikeyMembership *membership, ApikeyBatch *batch, const char *reason)
{
	ereport(LOG,
			(errmsg("the primary refuses a report of the use of API keys"),
			 errdetail_internal("%s", reason)));
	apikey_stats_not_attributed_to(batch->database, apikey_batch_sum(batch));
	acknowledged(membership, batch);
}

/* What an error means for a batch; false where the link is given up for now. */
static bool
take_error(ApikeyLink *link, ApikeyMembership *membership, ApikeyBatch *batch,
		   const ApikeyWireAnswer *answer)
{
	const char *code = wire->error_code(answer);
	char		reason[256];

	wire->tell(link->conn, answer, reason, sizeof(reason));
	if (strcmp(code, "55P03") == 0 &&
		leave_out(batch, wire->detail(answer)))
		return true;
	if (strncmp(code, "22", 2) == 0)
	{
		refused(membership, batch, reason);
		return true;
	}
	/* Who has joined anew has to join again: the number tells what was taken. */
	apikey_link_fail(link, reason);
	return false;
}

/*
 * Sends a batch, the one that is on its way or another.  False where that has
 * failed; "more" where there may be more to tell now.
 */
bool
apikey_link_report(ApikeyLink *link, bool *more)
{
	ApikeyMembership *membership = apikey_membership(link->database.oid, false);
	ApikeyBatch *batch = apikey_batch_of(link->database.oid);
	ApikeyWireAnswer *answer;
	bool		works;

	*more = false;
	if (batch == NULL)
		batch = fill_batch(membership);
	if (batch == NULL)
		return true;
	answer = call_report(link, membership, batch);
	if (answer == NULL)
		return false;
	works = wire->error_code(answer) == NULL;
	if (works)
	{
		*more = batch->use_count == APIKEY_BATCH_USES ||
			batch->count_count == APIKEY_BATCH_COUNTS ||
			batch->denial_count == APIKEY_BATCH_DENIALS;
		acknowledged(membership, batch);
		apikey_link_works(link);
	}
	else
		*more = works = take_error(link, membership, batch, answer);
	wire->free(answer);
	return works;
}
