/*
 * rules.c
 *		What each value of a key may be; how it is refused: refuse.c.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows_internal.h"

#define CLOCKS_CHANGED_BY	(2 * USECS_PER_HOUR)
#define SCOPE_MAX			200
#define LIST_MAX			1000
#define METADATA_BYTES_MAX	65536

/* Has a text control characters (category Cc)? */
static bool
has_control_characters(const text *value)
{
	int			count;
	pg_wchar   *codes = apikey_unicode_decode(value, &count);

	/* Bytes of unknown meaning: what ASCII calls a control is one. */
	if (codes == NULL)
	{
		for (size_t i = 0; i < VARSIZE_ANY_EXHDR(value); i++)
		{
			unsigned char c = VARDATA_ANY(value)[i];

			if (c < 0x20 || c == 0x7F)
				return true;
		}
		return false;
	}

	for (int i = 0; i < count; i++)
	{
		if (codes[i] < 0x20 || (codes[i] >= 0x7F && codes[i] <= 0x9F))
			return true;
	}
	return false;
}

/* The reason of a revocation. */
void
apikey_rule_reason(const text *value)
{
	if (apikey_unicode_length(value) > 500 || has_control_characters(value))
		apikey_refuse("reason", "A reason has at most 500 characters, none of them control characters.");
}

/* What an imported key begins with; of a part, how short it may be is known. */
void
apikey_rule_lookup(const text *value, bool of_part)
{
	int			length = apikey_unicode_length(value);

	if (length > 100 || (!of_part && length < 8) || length == 0)
		apikey_refuse("lookup", "A lookup is what the key begins with, 8 to 100 characters.");
}

/*
 * Is a length not negative, in none of its fields, and at most so much that a
 * date it leads to can be written anywhere?  PostgreSQL compares lengths as a
 * whole, and adds them to a time field by field: where one of them takes off what
 * another has, the time in between can be out of range.
 */
static bool
within_century(const Interval *value)
{
	Interval	century = {.month = 12 * 100};

	return value->month >= 0 && value->day >= 0 && value->time >= 0 &&
		DatumGetBool(DirectFunctionCall2(interval_le, IntervalPGetDatum(value),
										 IntervalPGetDatum(&century)));
}

/* A length of time from now, back or ahead, that leads to a date. */
void
apikey_rule_span(const char *argument, const Interval *value)
{
	if (!within_century(value))
		apikey_refuse(argument, "The interval is not negative, and at most 100 years.");
}

/* The application's user that a key belongs to. */
void
apikey_rule_subject(const text *value)
{
	int			length = apikey_unicode_length(value);

	if (length < 1 || length > 255 || has_control_characters(value))
		apikey_refuse("subject", "A subject has 1 to 255 characters, none of them control characters.");
}

void
apikey_rule_prefix(const char *prefix, int len)
{
	if (!apikey_text_prefix_new(prefix, len))
		apikey_refuse("prefix", APIKEY_PREFIX_RULE);
}

/*
 * The elements of a one-dimensional array without NULLs and not too long.
 */
static Datum *
list_elements(const char *argument, ArrayType *list, Oid type, int typlen,
			  bool typbyval, char typalign, int *count)
{
	Datum	   *elements;

	if (ARR_NDIM(list) > 1)
		apikey_refuse_by(psprintf("apikey_%s_dimensions", argument), argument,
						 "The array must have one dimension.");
	if (array_contains_nulls(list))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("\"%s\" must not contain nulls", argument),
				 apikey_error_about(argument,
									psprintf("apikey_%s_elements_required", argument))));
	deconstruct_array(list, type, typlen, typbyval, typalign,
					  &elements, NULL, count);
	if (*count > LIST_MAX)
		apikey_refuse_by(psprintf("apikey_%s_count", argument), argument,
						 psprintf("The array has at most %d elements.", LIST_MAX));
	return elements;
}

/* 1 to 200 visible characters; "*" only alone or after a final ":". */
static bool
scope_valid(const text *scope)
{
	int			count;
	pg_wchar   *codes;

	if (VARSIZE_ANY_EXHDR(scope) > SCOPE_MAX * MAX_MULTIBYTE_CHAR_LEN)
		return false;
	codes = apikey_unicode_decode(scope, &count);
	if (codes == NULL || count < 1 || count > SCOPE_MAX)
		return false;
	for (int i = 0; i < count; i++)
	{
		ApikeyCharClass class = apikey_unicode_class(codes[i]);

		if (class == APIKEY_CHAR_NONE || class == APIKEY_CHAR_HIDDEN)
			return false;
		if (codes[i] == '*' &&
			(i != count - 1 || (i > 0 && codes[i - 1] != ':')))
			return false;
	}
	return true;
}

/* The scopes of a key, or of a token. */
void
apikey_rule_scopes(Datum scopes)
{
	int			count;
	Datum	   *elements = list_elements("scopes", DatumGetArrayTypeP(scopes),
										 TEXTOID, -1, false, TYPALIGN_INT,
										 &count);

	for (int i = 0; i < count; i++)
	{
		if (!scope_valid(DatumGetTextPP(elements[i])))
			apikey_refuse("scopes", "A scope has 1 to 200 printable characters, no blank, and \"*\" only alone or after a final \":\".");
	}
}

static void
rule_addresses(ArrayType *addresses)
{
	int			count;

	list_elements("allowed_ips", addresses, CIDROID, -1, false, TYPALIGN_INT,
				  &count);
	if (count == 0)
		apikey_refuse("allowed_ips", "The array must not be empty; null allows every address.");
}

/* A limit of 1 or more in 1 second to 31 days. */
static void
rule_rate(const ApikeyRow *key)
{
	Interval   *window;

	if (key->nulls[APIKEY_KEY_RATE_WINDOW])
		apikey_refuse_null("rate_window");
	window = DatumGetIntervalP(key->values[APIKEY_KEY_RATE_WINDOW]);
	if (window->month != 0 || window->day < -31 || window->day > 31 ||
		window->time < -31 * USECS_PER_DAY || window->time > 31 * USECS_PER_DAY ||
		window->day * USECS_PER_DAY + window->time < USECS_PER_SEC ||
		window->day * USECS_PER_DAY + window->time > 31 * USECS_PER_DAY)
		apikey_refuse("rate_window", "A window is 1 second to 31 days long, without months.");
	if (!key->nulls[APIKEY_KEY_RATE_LIMIT] &&
		DatumGetInt32(key->values[APIKEY_KEY_RATE_LIMIT]) < 1)
		apikey_refuse("rate_limit", "A limit is 1 or more; null is none.");
}

/* Whoever sets a limit needs somebody to hold it. */
void
apikey_rule_limit_held(const ApikeyRow *key)
{
	if (!key->nulls[APIKEY_KEY_RATE_LIMIT] && !apikey_usage_shared())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a rate limit needs the library \"apikey\" to be preloaded"),
				 errhint("Add it to shared_preload_libraries and restart the server.")));
}

/* Credits of 0 or more; a refill and its interval go together, with credits. */
static void
rule_credits(const ApikeyRow *key)
{
	Interval   *interval;

	if (!key->nulls[APIKEY_KEY_CREDITS] &&
		DatumGetInt64(key->values[APIKEY_KEY_CREDITS]) < 0)
		apikey_refuse("credits", "Credits are 0 or more; null is no limit.");
	if (key->nulls[APIKEY_KEY_CREDITS_REFILL] !=
		key->nulls[APIKEY_KEY_CREDITS_INTERVAL])
		apikey_refuse_by("apikey_credits_refill_pair",
						 key->nulls[APIKEY_KEY_CREDITS_REFILL] ?
						 "credits_interval" : "credits_refill",
						 "A refill needs both an amount and an interval.");
	if (key->nulls[APIKEY_KEY_CREDITS_REFILL])
		return;
	if (key->nulls[APIKEY_KEY_CREDITS])
		apikey_refuse_by("apikey_credits_refill_held", "credits_refill",
						 "Only a key with credits can be refilled.");
	if (DatumGetInt64(key->values[APIKEY_KEY_CREDITS_REFILL]) < 1)
		apikey_refuse("credits_refill", "A refill is 1 or more.");
	interval = DatumGetIntervalP(key->values[APIKEY_KEY_CREDITS_INTERVAL]);
	if (interval->month < 0 || interval->month > 1200 ||
		interval->day < 0 || interval->day > 36500 ||
		interval->time < 0 || interval->time > 36500 * USECS_PER_DAY ||
		(interval->month == 0 && interval->day == 0 &&
		 interval->time < USECS_PER_SEC))
		apikey_refuse("credits_interval", "An interval is 1 second to 100 years long.");
}

static void
rule_description(const text *value)
{
	if (apikey_unicode_length(value) > 1000)
		apikey_refuse("description", "A description has at most 1000 characters.");
}

/* The terms of a project, which whoever makes a key in it must accept. */
void
apikey_rule_terms(const text *accepted, const ApikeyRow *project)
{
	text	   *terms = project == NULL ? NULL :
		apikey_row_text(project, APIKEY_PROJECT_TERMS);

	if (terms == NULL && accepted != NULL)
		apikey_refuse_by("apikey_accept_terms_none", "accept_terms",
						 "There are no terms to accept.");
	if (!apikey_same_text(terms, accepted))
		apikey_refuse("accept_terms", "It must equal the \"terms\" of the project.");
}

static TimestampTz
column_time(const ApikeyRow *row, int column)
{
	return DatumGetTimestampTz(row->values[column]);
}

/* A date is one that people, and JSON, can write: no infinity, no year 10000. */
static void
rule_date(const ApikeyRow *key, int column, const char *argument)
{
	TimestampTz end = (date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) *
		USECS_PER_DAY;

	if (!key->nulls[column] &&
		(TIMESTAMP_NOT_FINITE(column_time(key, column)) ||
		 column_time(key, column) >= end))
		apikey_refuse_by("apikey_date", argument,
						 "A date is finite, and in the year 9999 or before.");
}

/*
 * The latest end that a project's max_ttl leaves to what begins at a time.  Days
 * are counted in the caller's time zone, as it does itself, but for no more than
 * clocks are changed by anywhere: a zone can be made up.
 */
TimestampTz
apikey_rule_latest_end(TimestampTz begin, const ApikeyRow *project)
{
	TimestampTz here;
	TimestampTz utc;

	if (project == NULL || project->nulls[APIKEY_PROJECT_MAX_TTL])
		return DT_NOEND;
	here = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(begin),
												   project->values[APIKEY_PROJECT_MAX_TTL]));
	utc = DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval,
												TimestampGetDatum(begin),
												project->values[APIKEY_PROJECT_MAX_TTL]));
	return Max(utc, Min(here, utc + CLOCKS_CHANGED_BY));
}

/* Does a key end later than that, or never? */
bool
apikey_rule_ends_after(const ApikeyRow *key, TimestampTz latest)
{
	return latest != DT_NOEND &&
		(key->nulls[APIKEY_KEY_EXPIRES_AT] ||
		 column_time(key, APIKEY_KEY_EXPIRES_AT) > latest);
}

/*
 * When a key starts and ends, for whoever makes it or changes either: what an
 * older key has stays, and its other columns can be written.
 */
void
apikey_rule_dates(const ApikeyRow *key, const ApikeyRow *project)
{
	TimestampTz latest = apikey_rule_latest_end(column_time(key, APIKEY_KEY_CREATED_AT),
												project);

	rule_date(key, APIKEY_KEY_STARTS_AT, "starts_at");
	rule_date(key, APIKEY_KEY_EXPIRES_AT, "expires_at");
	if (!key->nulls[APIKEY_KEY_STARTS_AT] &&
		!key->nulls[APIKEY_KEY_EXPIRES_AT] &&
		column_time(key, APIKEY_KEY_EXPIRES_AT) <=
		column_time(key, APIKEY_KEY_STARTS_AT))
		apikey_refuse_by("apikey_expires_after_start", "expires_at",
						 "A key must expire later than it starts.");
	if (apikey_rule_ends_after(key, latest))
		apikey_refuse_by("apikey_expires_within_max_ttl", "expires_at",
						 psprintf("A key of this project expires within %s of being created, its \"max_ttl\".",
								  DatumGetCString(DirectFunctionCall1(interval_out,
																	  project->values[APIKEY_PROJECT_MAX_TTL]))));
}

/* A key that is created is good for some time. */
void
apikey_rule_not_ended(const ApikeyRow *key)
{
	if (!key->nulls[APIKEY_KEY_EXPIRES_AT] &&
		column_time(key, APIKEY_KEY_EXPIRES_AT) <=
		column_time(key, APIKEY_KEY_CREATED_AT))
		apikey_refuse_by("apikey_expires_later", "expires_at",
						 "A key must expire later than it is created.");
}

/*
 * The attributes that creating and updating a key have in common; of its
 * project, NULL for a personal key, only that there is one counts.
 */
void
apikey_rule_attributes(const ApikeyRow *key, const ApikeyRow *project)
{
	if (key->nulls[APIKEY_KEY_SCOPES])
		apikey_refuse_null("scopes");
	if (key->nulls[APIKEY_KEY_METADATA])
		apikey_refuse_null("metadata");
	if (project != NULL && key->nulls[APIKEY_KEY_ROLE])
		apikey_refuse_null("role");
	if (project == NULL && !key->nulls[APIKEY_KEY_ROLE])
		apikey_refuse("role", "A personal key has no role.");

	apikey_rule_scopes(key->values[APIKEY_KEY_SCOPES]);
	if (!key->nulls[APIKEY_KEY_DESCRIPTION])
		rule_description(DatumGetTextPP(key->values[APIKEY_KEY_DESCRIPTION]));
	if (!key->nulls[APIKEY_KEY_ALLOWED_IPS])
		rule_addresses(DatumGetArrayTypeP(key->values[APIKEY_KEY_ALLOWED_IPS]));
	rule_rate(key);
	rule_credits(key);
}

/*
 * The metadata of a key, for whoever makes it or changes them: bounded as they
 * are stored and as the text that verification returns.
 */
void
apikey_rule_metadata(const ApikeyRow *key)
{
	Datum		metadata = key->values[APIKEY_KEY_METADATA];

	if (toast_raw_datum_size(metadata) > METADATA_BYTES_MAX ||
		apikey_json_longer(metadata, METADATA_BYTES_MAX))
		apikey_refuse("metadata", "The metadata of a key has at most 64 kB, as it is stored and as text.");
}

/* Is a column null, or a length of time that can be waited for? */
static bool
time_valid(const ApikeyRow *project, int column)
{
	const Interval *time = DatumGetIntervalP(project->values[column]);

	return project->nulls[column] ||
		(within_century(time) &&
		 (time->month > 0 || time->day > 0 || time->time > 0));
}

/* The settings of a project. */
void
apikey_rule_project(const ApikeyRow *project)
{
	const text *terms = apikey_row_text(project, APIKEY_PROJECT_TERMS);

	if (project->nulls[APIKEY_PROJECT_MEMBERS_CAN_VIEW])
		apikey_refuse_null("members_can_view");
	if (project->nulls[APIKEY_PROJECT_REVEALABLE])
		apikey_refuse_null("revealable");
	if (!project->nulls[APIKEY_PROJECT_NAME_PATTERN])
		apikey_rule_name_pattern(apikey_row_text(project, APIKEY_PROJECT_NAME_PATTERN));
	if (!time_valid(project, APIKEY_PROJECT_MAX_TTL))
		apikey_refuse("max_ttl", "The longest life of a key is positive, and at most 100 years.");
	if (!time_valid(project, APIKEY_PROJECT_MAX_IDLE))
		apikey_refuse("max_idle", "The longest time without a use is positive, and at most 100 years.");
	if (!project->nulls[APIKEY_PROJECT_MAX_KEYS] &&
		DatumGetInt32(project->values[APIKEY_PROJECT_MAX_KEYS]) < 0)
		apikey_refuse("max_keys", "The number of keys must not be negative.");
	if (terms != NULL &&
		(apikey_unicode_length(terms) < 1 || apikey_unicode_length(terms) > 10000))
		apikey_refuse("terms", "Terms have 1 to 10000 characters.");
}
