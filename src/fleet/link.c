/*
 * link.c
 *		A member's connection to a database of the primary, and calls on it.
 *
 * One call is on its way at a time, and the worker waits for its answer: no
 * longer than apikey.fleet_timeout, and meanwhile the pulse goes on.  For a
 * connection it waits a moment only, and looks again in later turns: somebody may
 * keep everybody from that database.  The primary keeps its end of an attempt that
 * is given up, until it can go on: so each is waited for twice as long as the last.
 * What fails closes the connection, and the next attempt waits a while, longer each
 * time.  The log is told once that it works, and once that it does not.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "credits/credits.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define WAIT_STEP		20		/* milliseconds: the pulse may have to be seen
								 * to */
#define CONNECT_WITHIN	200		/* milliseconds, before others have their turn */
#define PATIENCE_MOST	3600000 /* milliseconds, of an attempt to connect; */
#define PATIENCE_AMONG	60000	/* with several hosts, of which another may be it */
#define AGAIN_FIRST		100		/* milliseconds, doubled up to */
#define AGAIN_MOST		3000
#define END_WITHIN		1000	/* milliseconds, of a server that ends */
#define ABSENT_AGAIN	60000	/* milliseconds: the extension is not there, and
								 * nobody asks */

/*
 * The functions are called by names, which whoever owns the schema there chooses.
 * So it is asked, too, whether the role is one that may do what no owner may.
 */
#define QUERY_TENANT	"SELECT pg_catalog.quote_ident(n.nspname), c.system_identifier," \
	" pg_catalog.current_setting('is_superuser')" \
	" FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace," \
	" pg_catalog.pg_control_system() c WHERE e.extname OPERATOR(pg_catalog.=) 'apikey'"

static const ApikeyWire *wire = NULL;

void
apikey_link_begin(const ApikeyWire *table)
{
	wire = table;
}

static ApikeyTick
later(int milliseconds)
{
	return apikey_tick() + (ApikeyTick) milliseconds * 1000;
}

static void
close_connection(ApikeyLink *link)
{
	if (link->conn != NULL)
		wire->close(link->conn);
	link->conn = NULL;
	link->connecting = link->joined = false;
}

void
apikey_link_close(ApikeyLink *link)
{
	close_connection(link);
	apikey_fleet_tell(link->database.oid, 0, false);
}

/*
 * Others need the connection: it is opened when it is asked for, or something is
 * due.  As the primary has answered, it is believed to until that is overdue.
 */
void
apikey_link_rest(ApikeyLink *link)
{
	close_connection(link);
	apikey_fleet_tell(link->database.oid,
					  Max(link->report_at, apikey_tick()) +
					  (ApikeyTick) apikey_fleet_timeout * 1000, false);
}

/* What a database has to tell is not told; it is tried again later each time. */
static void
not_told(ApikeyLink *link, const char *reason)
{
	if (!link->told || link->working)
		ereport(LOG,
				(errmsg("the use of API keys of database \"%s\" cannot be reported to the primary",
						link->database.name),
				 errdetail_internal("%s", reason)));
	link->told = true;
	link->working = false;
	link->again = Min(Max(link->again, AGAIN_FIRST) * 2, AGAIN_MOST);
}

/* Who asks the primary is not answered. */
static void
not_answered(const ApikeyLink *link)
{
	apikey_fleet_fail(link->database.oid);
	apikey_lease_drop(link->database.oid);
}

/* The connection is given up; the next attempt is to be made later. */
void
apikey_link_fail(ApikeyLink *link, const char *reason)
{
	not_told(link, reason);
	apikey_link_close(link);
	apikey_target_lose(link->database.oid);
	not_answered(link);
	link->attempts++;
	link->try_at = later(link->again);
}

/*
 * The primary does not take reports.  The connection is as good as it was, for
 * whoever asks for what may be spent.
 */
void
apikey_link_refused(ApikeyLink *link, const char *reason)
{
	not_told(link, reason);
	link->refused = true;
}

/* It has joined, or a report was taken; the former says nothing of reports. */
void
apikey_link_works(ApikeyLink *link, bool reported)
{
	if (reported)
		link->refused = false;
	else if (link->refused)
		return;
	if (!link->working)
		ereport(LOG,
				(errmsg("the use of API keys of database \"%s\" is reported to the primary",
						link->database.name)));
	link->told = link->working = true;
	link->again = 0;
}

static void
fail_by_wire(ApikeyLink *link, const ApikeyWireAnswer *answer)
{
	char		reason[256];

	wire->tell(link->conn, answer, reason, sizeof(reason));
	apikey_link_fail(link, reason);
}

/* Waits for the socket, or a moment. */
static void
wait_step(ApikeyLink *link, ApikeyWireStep wanted)
{
	pgsocket	socket = wire->socket(link->conn);
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;

	if (socket != PGINVALID_SOCKET)
		events |= wanted == APIKEY_WIRE_WRITES ? WL_SOCKET_WRITEABLE :
			WL_SOCKET_READABLE;
	(void) WaitLatchOrSocket(MyLatch, events, socket,
							 socket == PGINVALID_SOCKET ? 1 : WAIT_STEP,
							 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	apikey_pulse_step();
}

/* When a server that ends has waited long enough, for all databases together. */
static ApikeyTick
end_at(void)
{
	static ApikeyTick at = 0;

	if (at == 0)
		at = later(END_WITHIN);
	return at;
}

/* Takes steps until an answer is there; false where it has failed. */
static bool
wait_for(ApikeyLink *link, ApikeyWireAnswer **answer)
{
	ApikeyTick	until = later(apikey_fleet_timeout);

	for (;;)
	{
		ApikeyWireStep step = wire->ask_step(link->conn, answer);

		if (step == APIKEY_WIRE_DONE)
			return true;
		if (step == APIKEY_WIRE_FAILED)
		{
			fail_by_wire(link, NULL);
			return false;
		}
		if (apikey_tick() >= until ||
			(ShutdownRequestPending && apikey_tick() >= end_at()))
		{
			apikey_link_fail(link, "The primary does not answer.");
			return false;
		}
		wait_step(link, step);
	}
}

/* Asks for something; NULL where it has failed, and the connection is closed. */
static ApikeyWireAnswer *
ask(ApikeyLink *link, const char *query, int count, const char *const *values)
{
	ApikeyWireAnswer *answer = NULL;

	if (!wire->ask(link->conn, query, count, values))
		fail_by_wire(link, NULL);
	else if (!wait_for(link, &answer) && answer != NULL)
	{
		wire->free(answer);
		answer = NULL;
	}
	return answer;
}

/*
 * Is it this server that answers?  One connection string may serve all servers,
 * the primary, too.
 */
static bool
leads_here(const ApikeyWireAnswer *answer)
{
	return !RecoveryInProgress() &&
		strtoi64(wire->value(answer, 0, 1), NULL, 10) ==
		(int64) GetSystemIdentifier();
}

/*
 * There is nobody to speak to: no connection is held, and none is made for a
 * while; soon where a session asks, since the extension is there now, perhaps.
 */
static void
set_aside(ApikeyLink *link, bool own)
{
	apikey_link_close(link);
	if (own)
		apikey_fleet_tell(link->database.oid, 0, true);
	else
		apikey_fleet_forget(link->database.oid);
	link->try_at = later(AGAIN_MOST);
	link->report_at = link->beat_at = later(ABSENT_AGAIN);
}

/* Finds where the extension is; false where it is not, or does not answer. */
static bool
find_extension(ApikeyLink *link)
{
	ApikeyWireAnswer *answer = ask(link, QUERY_TENANT, 0, NULL);
	bool		found = false;

	if (answer == NULL)
		return false;
	if (wire->error_code(answer) != NULL)
		fail_by_wire(link, answer);
	else if (wire->rows(answer) != 1 || leads_here(answer))
		set_aside(link, wire->rows(answer) == 1);
	else if (wire->value(answer, 0, 2) == NULL ||
			 strcmp(wire->value(answer, 0, 2), "off") != 0)
		apikey_link_fail(link, "The role of the connection is a superuser there: who owns the extension's schema could have it do anything.");
	else
	{
		strlcpy(link->schema, wire->value(answer, 0, 0), sizeof(link->schema));
		found = true;
	}
	wire->free(answer);
	return found;
}

/* Begins to connect, unless it is too early; false where that has failed. */
static bool
begin_to_connect(ApikeyLink *link)
{
	ApikeyWireTarget target;

	if (apikey_tick() < link->try_at)
		return false;
	if (!apikey_target_of(wire, link->attempts, &link->database, &target))
	{
		link->try_at = later(AGAIN_MOST);
		return false;
	}
	link->conn = wire->connect(&target);
	if (link->conn == NULL)
	{
		fail_by_wire(link, NULL);
		return false;
	}
	link->connecting = true;
	link->waited = APIKEY_WIRE_WRITES;
	link->patience = Max(apikey_fleet_timeout,
						 Min(link->patience,
							 target.hosts > 1 ? PATIENCE_AMONG : PATIENCE_MOST));
	link->connect_until = later(link->patience);
	return true;
}

/*
 * It takes long to connect: others have their turn, and who asks meanwhile is not
 * answered.  What is given up is waited for longer the next time.
 */
static void
connect_later(ApikeyLink *link)
{
	if (apikey_tick() >= link->connect_until)
	{
		apikey_link_fail(link, "The primary does not answer.");
		link->patience *= 2;
		return;
	}
	apikey_fleet_tell(link->database.oid, 0, false);
	not_answered(link);
	link->try_at = later(WAIT_STEP);
}

/* Goes on connecting for some time; false where it is not connected then. */
static bool
go_on_connecting(ApikeyLink *link, int milliseconds)
{
	ApikeyTick	until = ShutdownRequestPending ? end_at() : later(milliseconds);

	for (;;)
	{
		link->waited = wire->connect_step(link->conn, link->waited);
		if (link->waited == APIKEY_WIRE_DONE)
		{
			link->connecting = false;
			link->patience = 0;
			apikey_target_reach(link->database.oid);
			return true;
		}
		if (link->waited == APIKEY_WIRE_FAILED)
		{
			fail_by_wire(link, NULL);
			return false;
		}
		if (apikey_tick() >= until)
		{
			connect_later(link);
			return false;
		}
		wait_step(link, link->waited);
	}
}

/* Connects, unless it is connected or too early; false where it is not. */
bool
apikey_link_open(ApikeyLink *link)
{
	int			wait = link->connecting ? 0 : CONNECT_WITHIN;

	if (link->conn != NULL && !link->connecting)
		return true;
	if (link->conn == NULL && !begin_to_connect(link))
		return false;
	return go_on_connecting(link, wait) && find_extension(link);
}

void
apikey_call_add(ApikeyCall *call, const char *type, const char *value)
{
	Assert(call->count < APIKEY_QUERY_VALUES);
	call->types[call->count] = type;
	call->values[call->count++] = value;
}

/*
 * Who calls.  A server is one and the same in each of its databases; but those of
 * a subscriber may all come from one database of the primary, in which each is
 * known by itself: so each has an id of its own, made of the server's.
 */
void
apikey_link_server(const ApikeyLink *link, pg_uuid_t *id)
{
	struct
	{
		pg_uuid_t	server;
		Oid			database;
	}			what = {.database = link->database.oid};

	apikey_server_own_id(id);
	if (RecoveryInProgress())
		return;
	what.server = *id;
	apikey_digest_id(&what, sizeof(what), id);
}

/* Each call but a join says who calls, and in which epoch. */
void
apikey_call_begin(ApikeyCall *call, const char *function, const char *result,
				  const ApikeyLink *link)
{
	pg_uuid_t	id;

	memset(call, 0, sizeof(*call));
	call->function = function;
	call->result = result;
	apikey_link_server(link, &id);
	apikey_call_add(call, "uuid", apikey_id_string(&id));
	apikey_call_add(call, "int8",
					psprintf(INT64_FORMAT,
							 apikey_membership_epoch(link->database.oid)));
}

/*
 * Calls a function on the primary; NULL where the connection has failed.  The
 * answer, an error perhaps, is for the caller to free.
 */
ApikeyWireAnswer *
apikey_call(ApikeyLink *link, const ApikeyCall *call)
{
	StringInfoData query;
	ApikeyWireAnswer *answer;

	initStringInfo(&query);
	appendStringInfo(&query, "SELECT %s FROM %s.apikey_server_%s(",
					 call->result, link->schema, call->function);
	for (int i = 0; i < call->count; i++)
		appendStringInfo(&query, "%s$%d::pg_catalog.%s", i == 0 ? "" : ", ",
						 i + 1, call->types[i]);
	appendStringInfoString(&query, ") r");
	answer = ask(link, query.data, call->count, call->values);
	pfree(query.data);
	return answer;
}

/*
 * Has an answer so many rows, whose first columns are not null?  Else the
 * connection is given up, as after an error.  Whoever owns the extension's
 * schema there may have put anything in a function's place.
 */
bool
apikey_answer_holds(ApikeyLink *link, const ApikeyWireAnswer *answer,
					int rows, int columns)
{
	bool		holds = true;

	if (wire->error_code(answer) != NULL)
	{
		fail_by_wire(link, answer);
		return false;
	}
	for (int i = 0; holds && i < rows * columns; i++)
		holds = wire->rows(answer) == rows &&
			wire->value(answer, i / columns, i % columns) != NULL;
	if (!holds)
		apikey_link_fail(link, "The primary's answer cannot be read.");
	return holds;
}
