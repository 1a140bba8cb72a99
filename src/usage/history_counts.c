/*
 * history_counts.c
 *		What a row of the history counts by name: refusals by code, and what was
 *		spent by unit.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "text/text.h"
#include "store/store.h"
#include "usage/usage_internal.h"

#define NAMES_MAX		64		/* in a row, of units or codes */

static const ApikeyHistoryColumn counted_columns[] = {HISTORY_DENIED, HISTORY_SPENT};

/*
 * What a row counts, by name: a bounded number of names, those that came first.
 * All others stand together under one, the first here.
 */
typedef struct Counts
{
	int			used;
	ApikeyHistoryCount of[1 + NAMES_MAX];
} Counts;

static void
count(Counts *counts, const char *name, int64 amount)
{
	int			place = 0;

	while (place < counts->used && strcmp(counts->of[place].name, name) != 0)
		place++;
	if (place == lengthof(counts->of))
		place = 0;
	else if (place == counts->used)
		counts->of[counts->used++] = (ApikeyHistoryCount) {.name = name};
	counts->of[place].count = apikey_credits_sum(counts->of[place].count, amount);
}

/* Counts what is in {"name": number, ...}. */
static void
count_json(Counts *counts, Datum json)
{
	Jsonb	   *object = DatumGetJsonbP(json);
	JsonbIterator *iterator = JsonbIteratorInit(&object->root);
	JsonbValue	value;

	(void) JsonbIteratorNext(&iterator, &value, false);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_KEY)
	{
		char	   *name = pnstrdup(value.val.string.val, value.val.string.len);

		(void) JsonbIteratorNext(&iterator, &value, true);
		if (value.type == jbvNumeric)
			count(counts, name,
				  DatumGetInt64(DirectFunctionCall1(numeric_int8,
													NumericGetDatum(value.val.numeric))));
	}
}

/* Begins with what a row has in a column. */
static void
begin_counts(Counts *counts, const ApikeyRow *row, ApikeyHistoryColumn column)
{
	counts->used = 1;
	counts->of[0] = (ApikeyHistoryCount) {.name = "other"};
	count_json(counts, row->values[column]);
}

static void
set_counts(ApikeyRow *row, ApikeyHistoryColumn column, const Counts *counts)
{
	StringInfoData json;

	apikey_detail_begin(&json);
	for (int i = 0; i < counts->used; i++)
	{
		if (i > 0 || counts->of[i].count != 0)
			apikey_detail_json(&json, counts->of[i].name,
							   psprintf(INT64_FORMAT, counts->of[i].count));
	}
	row->values[column] = DirectFunctionCall1(jsonb_in,
											  CStringGetDatum(apikey_detail_end(&json)));
}

/* Adds what was counted. */
void
apikey_history_count(ApikeyRow *row, const List *added)
{
	for (size_t i = 0; i < lengthof(counted_columns); i++)
	{
		Counts		counts;
		ListCell   *cell;

		begin_counts(&counts, row, counted_columns[i]);
		foreach(cell, added)
		{
			const ApikeyHistoryCount *more = lfirst(cell);

			if (more->of_unit == (counted_columns[i] == HISTORY_SPENT))
				count(&counts, more->name, more->count);
		}
		set_counts(row, counted_columns[i], &counts);
	}
}

/* Adds what another row counts. */
void
apikey_history_sum(ApikeyRow *row, const ApikeyRow *added)
{
	for (size_t i = 0; i < lengthof(counted_columns); i++)
	{
		Counts		counts;

		begin_counts(&counts, row, counted_columns[i]);
		count_json(&counts, added->values[counted_columns[i]]);
		set_counts(row, counted_columns[i], &counts);
	}
}
