/*
 * beat.c
 *		How fresh a subscriber's database is.
 *
 * The primary raises a number in a row that is replicated with the others, and
 * tells which it is, and since when.  Once that number has arrived here, so has
 * all that the primary had committed by then.
 */
#include "postgres.h"

#include "access/xlog.h"

#include "memory/memory.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

static const ApikeyWire *wire = NULL;

void
apikey_beat_begin(const ApikeyWire *table)
{
	wire = table;
}

/* What has arrived, perhaps. */
void
apikey_link_look_at_beats(ApikeyLink *link)
{
	int64		number = apikey_fresh_beat_of(link->database.oid);
	int			kept = 0;

	for (int i = 0; i < link->beats; i++)
	{
		if (link->waiting[i].number <= number)
			apikey_fresh_database_as_of(link->database.oid,
										link->waiting[i].as_of);
		else
			link->waiting[kept++] = link->waiting[i];
	}
	link->beats = kept;
}

/* Asks for the number; false where the connection has failed. */
bool
apikey_link_beat(ApikeyLink *link)
{
	ApikeyTick	asked_at = apikey_tick();
	ApikeyWireAnswer *answer;
	ApikeyCall	call;
	char		reason[256];

	apikey_call_begin(&call, "beat", "r.number, r.age_ms", link);
	apikey_call_add(&call, "bool", "t");
	answer = apikey_call(link, &call);
	if (answer == NULL)
		return false;
	if (wire->error_code(answer) != NULL || wire->rows(answer) != 1 ||
		wire->value(answer, 0, 0) == NULL || wire->value(answer, 0, 1) == NULL)
	{
		wire->tell(link->conn, answer, reason, sizeof(reason));
		apikey_link_fail(link, reason);
	}
	else
	{
		ApikeyBeat *beat;

		if (link->beats == APIKEY_BEATS)
			link->beats--;
		beat = &link->waiting[link->beats++];
		beat->number = strtoi64(wire->value(answer, 0, 0), NULL, 10);
		beat->as_of = asked_at -
			1000 * strtoi64(wire->value(answer, 0, 1), NULL, 10);
	}
	wire->free(answer);
	return link->joined;
}
