/*
 * leases.c
 *		Leases of the primary: asked for, and returned.
 *
 * What sessions ask for is asked of the primary in one call.  Time runs from
 * before the question, so that no clock is compared.  What was not spent for a
 * while, and all there is when the server ends, is taken out of memory and then
 * returned; what does not get there is forfeited.  What somebody has locked there
 * is held, for its database alone, and keeps nothing else from going back.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "credits/credits.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define CALLS_AT_ONCE	2
#define ASKED_AT_ONCE	100
#define TRIES_AT_ONCE	3		/* for what is locked there from one to the next */
#define IDLE_AFTER		(60 * USECS_PER_SEC)

static const ApikeyWire *wire = NULL;

/* What of a database is out of memory, and could not be returned yet. */
typedef struct Held
{
	Oid			database;
	int			count;
	int			room;
	ApikeyFleetReturn *returns; /* those that were tried longest ago first */
} Held;

static List *held = NIL;

void
apikey_leases_begin(const ApikeyWire *table)
{
	wire = table;
}

static Held *
held_of(Oid database)
{
	ListCell   *cell;

	foreach(cell, held)
	{
		if (((Held *) lfirst(cell))->database == database)
			return lfirst(cell);
	}
	return NULL;
}

/* Nothing of a database is held any more, as it is returned, or gone with it. */
void
apikey_leases_forget(Oid database)
{
	Held	   *of = held_of(database);

	if (of == NULL)
		return;
	held = list_delete_ptr(held, of);
	if (of->returns != NULL)
		pfree(of->returns);
	pfree(of);
}

/* Holds what could not be returned, behind all else. */
static void
hold(Oid database, const ApikeyFleetReturn *returns, int count)
{
	Held	   *of = held_of(database);
	MemoryContext context;

	if (count == 0)
		return;
	context = MemoryContextSwitchTo(TopMemoryContext);
	if (of == NULL)
	{
		of = palloc0(sizeof(Held));
		of->database = database;
		held = lappend(held, of);
	}
	if (of->count + count > of->room)
	{
		of->room = Max(ASKED_AT_ONCE, 2 * (of->count + count));
		of->returns = of->returns == NULL ?
			palloc(of->room * sizeof(ApikeyFleetReturn)) :
			repalloc(of->returns, of->room * sizeof(ApikeyFleetReturn));
	}
	memcpy(of->returns + of->count, returns, count * sizeof(ApikeyFleetReturn));
	of->count += count;
	MemoryContextSwitchTo(context);
}

/* Takes those that were tried longest ago. */
static int
take_held(Oid database, ApikeyFleetReturn *returns, int most)
{
	Held	   *of = held_of(database);
	int			count = of == NULL ? 0 : Min(of->count, most);

	if (count == 0)
		return 0;
	memcpy(returns, of->returns, count * sizeof(ApikeyFleetReturn));
	of->count -= count;
	memmove(of->returns, of->returns + count, of->count * sizeof(ApikeyFleetReturn));
	if (of->count == 0)
		apikey_leases_forget(database);
	return count;
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
call_return(ApikeyLink *link, const ApikeyFleetReturn *returns, int count)
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

/*
 * Holds those whose accounts are locked there, as the answer says; returns how many
 * others there are.
 */
static int
hold_locked(ApikeyLink *link, const char *locked, ApikeyFleetReturn *returns,
			int count)
{
	int			others = 0;

	for (int i = 0; i < count; i++)
	{
		if (locked != NULL &&
			strstr(locked, apikey_id_string(&returns[i].account)) != NULL)
			hold(link->database.oid, &returns[i], 1);
		else
			returns[others++] = returns[i];
	}
	return others;
}

/*
 * Sends what is out of memory; what does not get there is held.  False where the
 * connection has failed.
 */
static bool
send_returns(ApikeyLink *link, ApikeyFleetReturn *returns, int count)
{
	for (int tries = 0; tries < TRIES_AT_ONCE && count > 0 && link->joined; tries++)
	{
		ApikeyWireAnswer *answer = call_return(link, returns, count);
		const char *code;
		int			others = count;

		if (answer == NULL)
			break;
		code = wire->error_code(answer);
		if (code == NULL)
			others = 0;
		else if (strcmp(code, "55P03") == 0)
			others = hold_locked(link, wire->detail(answer), returns, count);
		if (others == count)
			fail(link, answer);
		count = others;
		wire->free(answer);
	}
	hold(link->database.oid, returns, count);
	return link->joined;
}

/* Those that are held have one call a turn; all have theirs where the server ends. */
static bool
return_held(ApikeyLink *link, ApikeyFleetReturn *returns, int count, bool all)
{
	bool		works = true;

	while (works && count > 0)
	{
		int			taken = take_held(link->database.oid, returns,
									  Min(count, ASKED_AT_ONCE));

		works = send_returns(link, returns, taken);
		count = all ? count - taken : 0;
	}
	return works;
}

/* Is there anything to return, even of what is spent of? */
bool
apikey_link_owes(const ApikeyLink *link)
{
	return held_of(link->database.oid) != NULL ||
		apikey_fleet_lease_held(link->database.oid);
}

/*
 * Returns what was not spent for a while, or all; false where the connection has
 * failed.
 */
bool
apikey_link_return(ApikeyLink *link, bool even_used)
{
	TimestampTz before = even_used ? DT_NOEND :
		GetCurrentTimestamp() - IDLE_AFTER;
	ApikeyFleetReturn *returns = palloc(ASKED_AT_ONCE * sizeof(ApikeyFleetReturn));
	const Held *of = held_of(link->database.oid);
	int			earlier = of == NULL ? 0 : of->count;
	bool		works;
	int			taken;

	do
	{
		taken = apikey_fleet_lease_idle(link->database.oid, before, returns,
										ASKED_AT_ONCE);
		works = send_returns(link, returns, taken);
	} while (works && taken > 0);
	works = works && return_held(link, returns, earlier, even_used);
	pfree(returns);
	return works;
}
