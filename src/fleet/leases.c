/*
 * leases.c
 *		Leases of the primary: asked for, and returned.
 *
 * What sessions ask for is asked of the primary in one call.  Time runs from
 * before the question, so that no clock is compared.  What was not spent for a
 * while, and all there is when the server ends, is taken out of memory and then
 * returned; what does not get there is forfeited.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "credits/credits.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define CALLS_AT_ONCE	2
#define ASKED_AT_ONCE	100
#define IDLE_AFTER		(60 * USECS_PER_SEC)

static const ApikeyWire *wire = NULL;

/* What has been taken out of memory, and is not returned yet. */
static ApikeyFleetReturn returns[ASKED_AT_ONCE];
static int	return_count = 0;
static Oid	return_database = InvalidOid;

void
apikey_leases_begin(const ApikeyWire *table)
{
	wire = table;
}

/* A database is gone: what it has out keeps no other's from being returned. */
void
apikey_leases_forget(Oid database)
{
	if (return_database == database)
		return_count = 0;
}

static ApikeyWireAnswer *
call_lease(ApikeyLink *link, const ApikeyFleetAsk *asks, int count)
{
	static const char *const types[] = {"uuid[]", "int8[]", "int8[]", "int8[]",
	"int8[]", "int8[]", "bool[]"};
	ApikeyArray arrays[lengthof(types)];
	ApikeyCall	call;

	apikey_call_begin(&call, "lease",
					  "r.account, r.state, r.number, r.granted, r.left_over, r.generation, r.remaining_ms",
					  link);
	for (size_t i = 0; i < lengthof(types); i++)
		apikey_array_begin(&arrays[i]);
	for (int i = 0; i < count; i++)
	{
		apikey_array_add_id(&arrays[0], &asks[i].account);
		apikey_array_add_number(&arrays[1], asks[i].number);
		apikey_array_add_number(&arrays[2], asks[i].held_number);
		apikey_array_add_number(&arrays[3], asks[i].held);
		apikey_array_add_number(&arrays[4], asks[i].least);
		apikey_array_add_number(&arrays[5], asks[i].most);
		apikey_array_add(&arrays[6], asks[i].charging ? "t" : "f");
	}
	for (size_t i = 0; i < lengthof(types); i++)
		apikey_array_put(&arrays[i], &call, types[i]);
	return apikey_call(link, &call);
}

static int64
number_in(const ApikeyWireAnswer *answer, int row, int column, int64 otherwise)
{
	const char *value = wire->value(answer, row, column);

	return value == NULL ? otherwise : strtoi64(value, NULL, 10);
}

/* Takes the answers, in the order of the questions. */
static void
take_answers(Oid database, const ApikeyWireAnswer *answer,
			 const ApikeyFleetAsk *asks, TimestampTz sent_at)
{
	for (int i = 0; i < wire->rows(answer); i++)
	{
		ApikeyFleetGrant grant;

		grant.account = asks[i].account;
		grant.state = wire->value(answer, i, 1);
		grant.number = number_in(answer, i, 2, 0);
		grant.granted = number_in(answer, i, 3, 0);
		grant.left_over = number_in(answer, i, 4, 0);
		grant.generation = number_in(answer, i, 5, 0);
		grant.remaining = number_in(answer, i, 6, -1);
		apikey_fleet_lease_answered(database, &grant, sent_at);
	}
}

static void
fail(ApikeyLink *link, const ApikeyWireAnswer *answer)
{
	char		reason[256];

	wire->tell(link->conn, answer, reason, sizeof(reason));
	apikey_link_fail(link, reason);
}

/* Asks for what sessions ask for; false where the connection has failed. */
bool
apikey_link_lease(ApikeyLink *link)
{
	ApikeyFleetAsk *asks = palloc(ASKED_AT_ONCE * sizeof(ApikeyFleetAsk));

	/* Those that come meanwhile have their turn after other databases'. */
	for (int calls = 0; calls < CALLS_AT_ONCE && link->joined; calls++)
	{
		int			count = apikey_fleet_lease_asked(link->database.oid, asks,
														 ASKED_AT_ONCE);
		TimestampTz sent_at = GetCurrentTimestamp();
		ApikeyWireAnswer *answer;
		bool		answered;

		if (count == 0)
			break;
		answer = call_lease(link, asks, count);
		answered = answer != NULL && apikey_answer_holds(link, answer, count, 2);
		if (answered)
			take_answers(link->database.oid, answer, asks, sent_at);
		for (int i = 0; i < count && !answered; i++)
			apikey_fleet_lease_unanswered(link->database.oid,
										  &asks[i].account);
		if (answer != NULL)
			wire->free(answer);
	}
	pfree(asks);
	return link->joined;
}

static ApikeyWireAnswer *
call_return(ApikeyLink *link, int count)
{
	ApikeyCall	call;
	ApikeyArray accounts;
	ApikeyArray numbers;
	ApikeyArray unspent;

	apikey_call_begin(&call, "return", "r", link);
	apikey_array_begin(&accounts);
	apikey_array_begin(&numbers);
	apikey_array_begin(&unspent);
	for (int i = 0; i < count; i++)
	{
		apikey_array_add_id(&accounts, &returns[i].account);
		apikey_array_add_number(&numbers, returns[i].number);
		apikey_array_add_number(&unspent, returns[i].unspent);
	}
	apikey_array_put(&accounts, &call, "uuid[]");
	apikey_array_put(&numbers, &call, "int8[]");
	apikey_array_put(&unspent, &call, "int8[]");
	return apikey_call(link, &call);
}

/* Puts one whose account is locked there behind the others; false for none. */
static bool
put_behind(const char *locked, int count)
{
	for (int i = 0; i < count && locked != NULL; i++)
	{
		ApikeyFleetReturn held = returns[i];

		if (strstr(locked, apikey_id_string(&held.account)) == NULL)
			continue;
		returns[i] = returns[count - 1];
		returns[count - 1] = held;
		return true;
	}
	return false;
}

/*
 * Sends what is out of memory, but for accounts that are locked there: these
 * come the next time.  False where the connection has failed.
 */
static bool
send_returns(ApikeyLink *link)
{
	int			count = return_count;

	while (count > 0 && link->joined)
	{
		ApikeyWireAnswer *answer = call_return(link, count);
		const char *code;

		if (answer == NULL)
			break;
		code = wire->error_code(answer);
		if (code == NULL)
		{
			memmove(returns, returns + count,
					(return_count - count) * sizeof(ApikeyFleetReturn));
			return_count -= count;
			count = 0;
		}
		else if (strcmp(code, "55P03") == 0 &&
				 put_behind(wire->detail(answer), count))
			count--;
		else
			fail(link, answer);
		wire->free(answer);
	}
	return link->joined;
}

/*
 * Returns what was not spent for a while, or all; false where the connection has
 * failed.  What another database has out is sent on its own connection first.
 */
bool
apikey_link_return(ApikeyLink *link, bool even_used)
{
	TimestampTz before = even_used ? DT_NOEND :
		GetCurrentTimestamp() - IDLE_AFTER;
	int			taken;

	if (return_count > 0 && return_database != link->database.oid)
		return true;
	return_database = link->database.oid;
	do
	{
		taken = apikey_fleet_lease_idle(link->database.oid, before,
										returns + return_count,
										ASKED_AT_ONCE - return_count);
		return_count += taken;
	} while (send_returns(link) && taken > 0);
	return link->joined;
}
