/*
 * report.c
 *		Reports: what this server has counted goes to the primary.
 *
 * What has gathered is moved into a batch, which is sent with its number until
 * the primary has acknowledged that: see batch.c.  What it refuses: see refused.c.
 * Without anything to tell a report is a sign of life.
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "limits/limits.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

static const ApikeyWire *wire = NULL;

void
apikey_report_begin(const ApikeyWire *table)
{
	wire = table;
}

static void
put_uses(const ApikeyBatch *batch, ApikeyCall *call)
{
	ApikeyArray keys;
	ApikeyArray uses;
	ApikeyArray denials;
	ApikeyArray times;
	ApikeyArray addresses;

	apikey_array_begin(&keys);
	apikey_array_begin(&uses);
	apikey_array_begin(&denials);
	apikey_array_begin(&times);
	apikey_array_begin(&addresses);
	for (int i = 0; i < batch->use_count; i++)
	{
		const ApikeyBatchUse *use = &batch->uses[i];

		apikey_array_add_id(&keys, &use->key);
		apikey_array_add_number(&uses, (int64) use->uses);
		apikey_array_add_number(&denials, (int64) use->denials);
		apikey_array_add(&times, use->last_used_at == 0 ? NULL :
				  DatumGetCString(DirectFunctionCall1(timestamptz_out,
													  TimestampTzGetDatum(use->last_used_at))));
		apikey_array_add_address(&addresses, use->has_addr, &use->addr);
	}
	apikey_array_put(&keys, call, "uuid[]");
	apikey_array_put(&uses, call, "int8[]");
	apikey_array_put(&denials, call, "int8[]");
	apikey_array_put(&times, call, "timestamptz[]");
	apikey_array_put(&addresses, call, "inet[]");
}

static void
put_counts(const ApikeyBatch *batch, ApikeyCall *call)
{
	ApikeyArray keys;
	ApikeyArray units;
	ApikeyArray names;
	ApikeyArray counts;

	apikey_array_begin(&keys);
	apikey_array_begin(&units);
	apikey_array_begin(&names);
	apikey_array_begin(&counts);
	for (int i = 0; i < batch->count_count; i++)
	{
		const ApikeyBatchCount *count = &batch->counts[i];

		apikey_array_add_id(&keys, &count->key);
		apikey_array_add(&units, count->of_unit ? "t" : "f");
		apikey_array_add(&names, count->name);
		apikey_array_add_number(&counts, count->count);
	}
	apikey_array_put(&keys, call, "uuid[]");
	apikey_array_put(&units, call, "bool[]");
	apikey_array_put(&names, call, "text[]");
	apikey_array_put(&counts, call, "int8[]");
}

/*
 * Roles have other numbers on a subscriber: they are told by name.  That is in the
 * encoding of whichever database has given it, of which nothing may be a text of
 * the primary's.
 */
static const char *
actor_name(Oid role, int encoding)
{
	char	   *name;

	/* What is told waits for nobody: then it is not told who that was. */
	if (!apikey_lookup_try(APIKEY_LOOKUP_ROLE))
		return NULL;
	name = GetUserNameFromId(role, true);
	apikey_lookup_end(APIKEY_LOOKUP_ROLE);
	if (name != NULL)
		apikey_encoding_clean(encoding, name, (int) strlen(name));
	return name;
}

static void
put_denials(const ApikeyBatch *batch, int encoding, ApikeyCall *call)
{
	ApikeyArray keys;
	ApikeyArray codes;
	ApikeyArray counts;
	ApikeyArray actors;
	ApikeyArray addresses;

	apikey_array_begin(&keys);
	apikey_array_begin(&codes);
	apikey_array_begin(&counts);
	apikey_array_begin(&actors);
	apikey_array_begin(&addresses);
	for (int i = 0; i < batch->denial_count; i++)
	{
		const ApikeyDenial *denial = &batch->denials[i].denial;

		apikey_array_add_id(&keys, &batch->denials[i].key);
		apikey_array_add(&codes, apikey_code_name((ApikeyCode) denial->code));
		apikey_array_add_number(&counts, denial->count);
		apikey_array_add(&actors, actor_name(denial->actor, encoding));
		apikey_array_add_address(&addresses, denial->has_addr, &denial->addr);
	}
	apikey_array_put(&keys, call, "uuid[]");
	apikey_array_put(&codes, call, "text[]");
	apikey_array_put(&counts, call, "int8[]");
	apikey_array_put(&actors, call, "text[]");
	apikey_array_put(&addresses, call, "inet[]");
}

static void
put_marks(const ApikeyBatch *batch, ApikeyCall *call)
{
	static const char *const kinds[] = {
		[APIKEY_MARK_LOW] = "low",
		[APIKEY_MARK_EXHAUSTED] = "exhausted",
		[APIKEY_MARK_OVERDRAWN] = "overdrawn"
	};
	ApikeyArray limits;
	ApikeyArray names;
	ApikeyArray keys;
	ApikeyArray amounts;

	apikey_array_begin(&limits);
	apikey_array_begin(&names);
	apikey_array_begin(&keys);
	apikey_array_begin(&amounts);
	for (int i = 0; i < batch->mark_count; i++)
	{
		const ApikeyMark *mark = &batch->marks[i];

		apikey_array_add_id(&limits, &mark->limit);
		apikey_array_add(&names, kinds[mark->kind]);
		apikey_array_add_id(&keys, &mark->key);
		apikey_array_add_number(&amounts, mark->amount);
	}
	apikey_array_put(&limits, call, "uuid[]");
	apikey_array_put(&names, call, "text[]");
	apikey_array_put(&keys, call, "uuid[]");
	apikey_array_put(&amounts, call, "int8[]");
}

static ApikeyWireAnswer *
call_report(ApikeyLink *link, const ApikeyBatch *batch)
{
	ApikeyCall	call;
	int64		lag = apikey_fresh_age_of(link->database.oid);
	const char *encoding_name = wire->encoding(link->conn);
	int			encoding = encoding_name == NULL ? PG_UTF8 :
		pg_char_to_encoding(encoding_name);
	MemoryContext context = CurrentMemoryContext;

	/* Names of roles are looked up. */
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	apikey_call_begin(&call, "report", "r", link);
	apikey_call_add(&call, "int8", psprintf(INT64_FORMAT, batch->sequence));
	apikey_call_add(&call, "interval", lag < 0 ? NULL :
					psprintf(INT64_FORMAT " microseconds", lag));
	put_uses(batch, &call);
	put_counts(batch, &call);
	put_denials(batch, encoding, &call);
	put_marks(batch, &call);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return apikey_call(link, &call);
}

/* Moves what has gathered into a batch, going on where the last one was full. */
static ApikeyBatch *
fill_batch(const ApikeyMembership *membership, ApikeySweep *sweep)
{
	ApikeyBatch *batch;

	apikey_batch_lock(true);
	batch = apikey_batch_begin(membership, membership->sequence + 1);
	sweep->more = apikey_usage_move(batch, &sweep->uses);
	sweep->more |= apikey_history_move(batch, &sweep->counts);
	sweep->more |= apikey_denial_move(batch, &sweep->denials);
	sweep->more |= apikey_mark_move(batch);
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

/* A report of a batch's number that says nothing. */
static ApikeyBatch *
empty_like(const ApikeyBatch *batch)
{
	ApikeyBatch *empty = palloc0(sizeof(ApikeyBatch));

	empty->database = batch->database;
	empty->sequence = batch->sequence;
	return empty;
}

/* What is sent of a batch is taken. */
static ApikeyReportEnd
taken(ApikeyLink *link, ApikeyMembership *membership, ApikeyBatch *batch)
{
	if (link->sweep.alone)
		apikey_report_give_up(batch, link->sweep.reason);
	link->sweep.alone = false;
	acknowledged(membership, batch);
	apikey_link_works(link, true);
	return link->sweep.more ? APIKEY_REPORT_MORE : APIKEY_REPORT_DONE;
}

/* Sends a batch, the one that is on its way or another. */
ApikeyReportEnd
apikey_link_report(ApikeyLink *link)
{
	ApikeyMembership *membership = apikey_membership(link->database.oid, false);
	ApikeyBatch *batch = apikey_batch_of(link->database.oid);
	ApikeyReportEnd end = APIKEY_REPORT_FAILED;
	ApikeyWireAnswer *answer;

	if (membership == NULL)
		return APIKEY_REPORT_FAILED;
	if (batch == NULL)
	{
		/* What was found of the last one, which may have ended meanwhile, is not of this. */
		link->sweep.alone = false;
		link->sweep.refusals = 0;
		batch = fill_batch(membership, &link->sweep);
	}
	answer = call_report(link, link->sweep.alone ? empty_like(batch) : batch);
	if (answer != NULL)
	{
		end = wire->error_code(answer) == NULL ? taken(link, membership, batch) :
			apikey_report_refused(link, batch, answer);
		wire->free(answer);
	}
	if (end != APIKEY_REPORT_MORE && end != APIKEY_REPORT_AGAIN)
		memset(&link->sweep, 0, sizeof(link->sweep));
	return end;
}
