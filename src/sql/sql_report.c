/*
 * sql_report.c
 *		The SQL functions by which other servers report what they have gathered,
 *		and keys that they have verified by a pepper of before.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "limits/limits.h"
#include "servers/servers.h"
#include "sql/server_arguments.h"

#define PROOFS_MAX	100

/* The arguments of apikey_server_report, by their numbers. */
enum
{
	ARG_SEQUENCE = 2,
	ARG_LAG,
	ARG_KEYS,
	ARG_USES,
	ARG_DENIALS,
	ARG_LAST_USED_AT,
	ARG_LAST_USED_ADDR,
	ARG_COUNTED,
	ARG_OF_UNIT,
	ARG_NAMES,
	ARG_COUNTS,
	ARG_DENIED,
	ARG_CODES,
	ARG_DENIED_COUNTS,
	ARG_ACTORS,
	ARG_DENIED_ADDRS,
	ARG_MARKED
};

/* Lists of which the elements together are rows. */
static void
read_lists(FunctionCallInfo fcinfo, int first, const char *const *arguments,
		   int count, ApikeyList *lists)
{
	for (int i = 0; i < count; i++)
	{
		apikey_list_argument(fcinfo, first + i, arguments[i], &lists[i]);
		apikey_list_like(&lists[i], &lists[0]);
	}
	apikey_list_no_nulls(&lists[0]);
}

static int
compare_keys(const void *one, const void *two)
{
	return memcmp(&((const ApikeyReported *) one)->key,
				  &((const ApikeyReported *) two)->key, sizeof(pg_uuid_t));
}

/*
 * A number of what was counted.  One that is beyond what is told at once counts as
 * that: to refuse it would be to refuse what there is of others.
 */
static int64
count_element(const ApikeyList *list, int element, int64 least)
{
	int64		count = apikey_list_number(list, element, least);

	return Max(Min(count, APIKEY_COUNT_MOST), -APIKEY_COUNT_MOST);
}

/* A time before the year 2000, by a clock that is wrong, is none. */
static TimestampTz
time_element(const ApikeyList *list, int element)
{
	TimestampTz time;

	if (list->nulls[element])
		return 0;
	time = DatumGetTimestampTz(list->values[element]);
	if (TIMESTAMP_NOT_FINITE(time))
		apikey_refuse(list->argument, "Its elements are finite.");
	return Max(time, 0);
}

static inet *
inet_element(const ApikeyList *list, int element)
{
	return list->nulls[element] ? NULL :
		DatumGetInetPP(list->values[element]);
}

/* Adds what there is of the same key beside. */
static void
add_reported(ApikeyReported *key, const ApikeyReported *more)
{
	key->uses += more->uses;
	key->denials += more->denials;
	if (more->last_used_at <= key->last_used_at)
		return;
	key->last_used_at = more->last_used_at;
	key->addr = more->addr;
}

/*
 * Sorts keys, each once: one that was evicted while what has gathered was moved, and
 * used again, may stand there twice.
 */
static void
sort_keys(ApikeyReport *report)
{
	int			kept = 0;

	qsort(report->keys, report->key_count, sizeof(ApikeyReported), compare_keys);
	for (int i = 0; i < report->key_count; i++)
	{
		if (kept > 0 &&
			compare_keys(&report->keys[kept - 1], &report->keys[i]) == 0)
			add_reported(&report->keys[kept - 1], &report->keys[i]);
		else
			report->keys[kept++] = report->keys[i];
	}
	report->key_count = kept;
}

/* What there is of keys' use, a row a key. */
static void
read_keys(FunctionCallInfo fcinfo, ApikeyReport *report)
{
	static const char *const arguments[] = {
		"keys", "uses", "denials", "last_used_at", "last_used_addr"
	};
	ApikeyList	lists[lengthof(arguments)];

	read_lists(fcinfo, ARG_KEYS, arguments, lengthof(arguments), lists);
	for (int i = 0; i < lists[0].count; i++)
	{
		ApikeyReported *key = &report->keys[report->key_count++];

		key->key = *DatumGetUUIDP(lists[0].values[i]);
		key->uses = (uint64) count_element(&lists[1], i, 0);
		key->denials = (uint64) count_element(&lists[2], i, 0);
		key->last_used_at = time_element(&lists[3], i);
		key->addr = inet_element(&lists[4], i);
	}
	sort_keys(report);
}

/* The name of a refusal, or of a unit. */
static const char *
name_element(const ApikeyList *list, int element, bool of_unit)
{
	text	   *name;

	if (list->nulls[element])
		apikey_refuse_null(list->argument);
	name = DatumGetTextPP(list->values[element]);
	if (of_unit ? !apikey_limit_unit_valid(name) :
		apikey_code_of_refusal(name) == APIKEY_CODE_VALID)
		apikey_refuse(list->argument, "Its elements are codes of refusals, or units.");
	return text_to_cstring(name);
}

/* The row of a key among those that are sorted, or a new one behind them. */
static ApikeyReported *
find_reported(ApikeyReport *report, int sorted, const pg_uuid_t *id)
{
	ApikeyReported wanted = {.key = *id};
	ApikeyReported *found = bsearch(&wanted, report->keys, sorted,
									sizeof(ApikeyReported), compare_keys);

	for (int i = sorted; found == NULL && i < report->key_count; i++)
	{
		if (compare_keys(&report->keys[i], &wanted) == 0)
			found = &report->keys[i];
	}
	if (found == NULL)
	{
		found = &report->keys[report->key_count++];
		*found = wanted;
	}
	return found;
}

/* What there is for the history beside. */
static void
read_counts(FunctionCallInfo fcinfo, ApikeyReport *report)
{
	static const char *const arguments[] = {"counted", "of_unit", "names", "counts"};
	ApikeyList	lists[lengthof(arguments)];
	int			sorted = report->key_count;

	read_lists(fcinfo, ARG_COUNTED, arguments, lengthof(arguments), lists);
	apikey_list_no_nulls(&lists[1]);
	for (int i = 0; i < lists[0].count; i++)
	{
		ApikeyReported *key = find_reported(report, sorted,
											DatumGetUUIDP(lists[0].values[i]));
		ApikeyHistoryCount *count = palloc(sizeof(ApikeyHistoryCount));

		count->of_unit = DatumGetBool(lists[1].values[i]);
		count->name = name_element(&lists[2], i, count->of_unit);
		count->count = count_element(&lists[3], i,
									 count->of_unit ? PG_INT64_MIN : 0);
		key->counts = lappend(key->counts, count);
	}
	qsort(report->keys, report->key_count, sizeof(ApikeyReported), compare_keys);
}

/* The events of refusals. */
static void
read_denials(FunctionCallInfo fcinfo, ApikeyReport *report)
{
	static const char *const arguments[] = {
		"denied", "codes", "denied_counts", "actors", "denied_addrs"
	};
	ApikeyList	lists[lengthof(arguments)];

	read_lists(fcinfo, ARG_DENIED, arguments, lengthof(arguments), lists);
	for (int i = 0; i < lists[0].count; i++)
	{
		ApikeyReportedDenial *denial = palloc0(sizeof(ApikeyReportedDenial));

		denial->key = *DatumGetUUIDP(lists[0].values[i]);
		denial->code = name_element(&lists[1], i, false);
		denial->count = count_element(&lists[2], i, 0);
		if (!lists[3].nulls[i])
			denial->actor = DatumGetTextPP(lists[3].values[i]);
		if (denial->actor != NULL && VARSIZE_ANY_EXHDR(denial->actor) >= NAMEDATALEN)
			apikey_refuse("actors", "Its elements are names of roles.");
		denial->addr = inet_element(&lists[4], i);
		/* It has just been told, perhaps. */
		if (denial->count > 0)
			report->denials = lappend(report->denials, denial);
	}
}

/* What a mark is of, by its name. */
static ApikeyMarkKind
kind_element(const ApikeyList *list, int element)
{
	static const char *const kinds[] = {"low", "exhausted", "overdrawn"};
	char	   *name;

	if (list->nulls[element])
		apikey_refuse_null(list->argument);
	name = TextDatumGetCString(list->values[element]);
	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		if (strcmp(name, kinds[i]) == 0)
			return (ApikeyMarkKind) i;
	}
	apikey_refuse(list->argument, "Its elements are \"low\", \"exhausted\" or \"overdrawn\".");
}

/* The events of limits. */
static void
read_marks(FunctionCallInfo fcinfo, ApikeyReport *report)
{
	static const char *const arguments[] = {
		"marked", "mark_kinds", "mark_keys", "mark_amounts"
	};
	ApikeyList	lists[lengthof(arguments)];

	read_lists(fcinfo, ARG_MARKED, arguments, lengthof(arguments), lists);
	apikey_list_no_nulls(&lists[2]);
	for (int i = 0; i < lists[0].count; i++)
	{
		ApikeyMark *mark = palloc(sizeof(ApikeyMark));

		mark->database = MyDatabaseId;
		mark->limit = *DatumGetUUIDP(lists[0].values[i]);
		mark->kind = kind_element(&lists[1], i);
		mark->key = *DatumGetUUIDP(lists[2].values[i]);
		mark->amount = count_element(&lists[3], i, PG_INT64_MIN);
		report->marks = lappend(report->marks, mark);
	}
}

/* How far a server is behind; NULL where it does not know. */
static Interval *
lag_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(ARG_LAG))
		return NULL;
	apikey_rule_span("lag", PG_GETARG_INTERVAL_P(ARG_LAG));
	return PG_GETARG_INTERVAL_P(ARG_LAG);
}

/*
 * apikey_server_report(server uuid, epoch bigint, sequence bigint,
 *						lag interval, ...) returns boolean
 *		True where the report is applied now, false where it was before.
 */
PG_FUNCTION_INFO_V1(apikey_server_report);
Datum
apikey_server_report(PG_FUNCTION_ARGS)
{
	ApikeyReport report = {0};
	const pg_uuid_t *id;
	ApikeyRow	server;
	int64		epoch;

	apikey_server_serve("apikey_server_report()");
	id = apikey_server_argument(fcinfo, &epoch);
	apikey_require(fcinfo, ARG_SEQUENCE, "sequence");
	report.sequence = PG_GETARG_INT64(ARG_SEQUENCE);
	report.lag = lag_argument(fcinfo);
	report.keys = palloc0(2 * APIKEY_SERVER_BATCH * sizeof(ApikeyReported));
	read_keys(fcinfo, &report);
	read_counts(fcinfo, &report);
	read_denials(fcinfo, &report);
	read_marks(fcinfo, &report);
	apikey_server_open(id, epoch, &server);
	PG_RETURN_BOOL(apikey_report_apply(&server, &report));
}

/*
 * apikey_server_rehash(server uuid, epoch bigint, keys uuid[], proofs bytea[])
 *		returns bigint
 *		How many keys get a digest by the current pepper: those that are proved.
 */
PG_FUNCTION_INFO_V1(apikey_server_rehash);
Datum
apikey_server_rehash(PG_FUNCTION_ARGS)
{
	ApikeyList	keys;
	ApikeyList	proofs;
	const pg_uuid_t *server;
	int64		epoch;
	int64		count = 0;

	apikey_server_serve("apikey_server_rehash()");
	server = apikey_server_argument(fcinfo, &epoch);
	apikey_list_argument(fcinfo, 2, "keys", &keys);
	apikey_list_argument(fcinfo, 3, "proofs", &proofs);
	apikey_list_like(&proofs, &keys);
	apikey_list_no_nulls(&keys);
	apikey_list_no_nulls(&proofs);
	if (keys.count > PROOFS_MAX)
		apikey_refuse("keys", psprintf("There are at most %d.", PROOFS_MAX));
	apikey_server_require(server, epoch);
	AcceptInvalidationMessages();
	for (int i = 0; i < keys.count; i++)
	{
		bytea	   *proof = DatumGetByteaPP(proofs.values[i]);

		if (VARSIZE_ANY_EXHDR(proof) != APIKEY_DIGEST_BYTES)
			apikey_refuse("proofs", psprintf("Each has %d bytes.", APIKEY_DIGEST_BYTES));
		count += apikey_rehash_proved(DatumGetUUIDP(keys.values[i]),
									  (const uint8 *) VARDATA_ANY(proof));
	}
	PG_RETURN_INT64(count);
}
