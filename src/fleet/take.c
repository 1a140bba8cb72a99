/*
 * take.c
 *		Tokens of the rates that servers share, asked of the primary: see
 *		shared_rate_member.c.
 *
 * All that is wanted meanwhile goes into one call.  What is not answered is lost,
 * if the primary has handed it out: it is good for a second only.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "limits/limits.h"
#include "fleet/link.h"
#include "fleet/wire.h"

#define TAKES_MAX	100			/* limits in a call */

static const ApikeyWire *wire = NULL;

void
apikey_take_begin(const ApikeyWire *table)
{
	wire = table;
}

static char *
numbers(const ApikeyFleetTake *takes, int count, bool most)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < count; i++)
		appendStringInfo(&text, "%c" INT64_FORMAT, i == 0 ? '{' : ',',
						 most ? takes[i].most : takes[i].least);
	appendStringInfoChar(&text, '}');
	return text.data;
}

static ApikeyWireAnswer *
call_take(ApikeyLink *link, const ApikeyFleetTake *takes, int count)
{
	ApikeyCall	call;
	StringInfoData limits;
	StringInfoData charging;

	initStringInfo(&limits);
	initStringInfo(&charging);
	for (int i = 0; i < count; i++)
	{
		appendStringInfo(&limits, "%c%s", i == 0 ? '{' : ',',
						 apikey_id_string(&takes[i].limit));
		appendStringInfo(&charging, "%c%c", i == 0 ? '{' : ',',
						 takes[i].charging ? 't' : 'f');
	}
	appendStringInfoChar(&limits, '}');
	appendStringInfoChar(&charging, '}');
	apikey_call_begin(&call, "take", "r.limit_id, r.granted, r.wait_ms", link);
	apikey_call_add(&call, "uuid[]", limits.data);
	apikey_call_add(&call, "int8[]", numbers(takes, count, false));
	apikey_call_add(&call, "int8[]", numbers(takes, count, true));
	apikey_call_add(&call, "bool[]", charging.data);
	return apikey_call(link, &call);
}

/* Rows come in the order of what was asked. */
static void
take_answer(ApikeyLink *link, const ApikeyWireAnswer *answer,
			const ApikeyFleetTake *takes, int count, TimestampTz sent_at)
{
	for (int i = 0; i < count; i++)
	{
		const char *wait = wire->value(answer, i, 2);
		ApikeyFleetTaken taken = {
			.limit = takes[i].limit,
			.granted = strtoi64(wire->value(answer, i, 1), NULL, 10),
			.wait = wait == NULL ? -1 : strtoi64(wait, NULL, 10)
		};

		apikey_fleet_rate_answered(link->database.oid, &taken, sent_at);
	}
}

/* Asks for what is wanted; false where the connection has failed. */
bool
apikey_link_take(ApikeyLink *link)
{
	ApikeyFleetTake takes[TAKES_MAX];
	TimestampTz sent_at = GetCurrentTimestamp();
	int			count = apikey_fleet_rate_asked(link->database.oid, takes, TAKES_MAX);
	ApikeyWireAnswer *answer;
	bool		works;

	if (count == 0)
		return true;
	answer = call_take(link, takes, count);
	/* It may have joined anew, or the functions are not there: join again. */
	works = answer != NULL && apikey_answer_holds(link, answer, count, 2);
	if (works)
		take_answer(link, answer, takes, count, sent_at);
	else
	{
		for (int i = 0; i < count; i++)
			apikey_fleet_rate_unanswered(link->database.oid, &takes[i].limit);
	}
	if (answer != NULL)
		wire->free(answer);
	return works;
}
