/*
 * wire.c
 *		The library "apikey_fleet": libpq, behind the table of wire.h.
 *
 * It is linked with libpq, and with nothing of the library "apikey", which
 * finds it by the name of its one function.
 *
 * Of a conninfo nothing is told: not even what libpq's own messages have of it
 * before they come to the reason.
 */
#include "postgres.h"

#include <poll.h>

#include "fmgr.h"
#include "libpq-fe.h"

#include "fleet/wire.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT const ApikeyWire *apikey_fleet_wire(void);

#define PARAMETERS_MAX	64

/*
 * What a session there runs with, whatever the role or the database has set: a
 * role may have set for itself what keeps it from all databases, by a function
 * that the owner of one of them has put into the place of ours.  It waits for
 * locks no longer than others may wait for their turn.  That a server is read
 * only may be its operator's will, so that is not among it.
 */
#define SETTINGS	"-c search_path=pg_catalog -c lock_timeout=50 -c statement_timeout=%d" \
	" -c client_min_messages=error" \
	" -c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off" \
	" -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0" \
	" -c local_preload_libraries= -c role=none -c datestyle=ISO -c timezone=UTC"

/* The value of a parameter; NULL where it is not given. */
static const char *
given(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword != NULL; options++)
	{
		if (strcmp(options->keyword, keyword) == 0)
			return options->val != NULL && options->val[0] != '\0' ?
				options->val : NULL;
	}
	return NULL;
}

static int
list_length_of(const char *list)
{
	int			count = 1;

	for (; list != NULL && *list != '\0'; list++)
		count += *list == ',';
	return count;
}

/* An item of a list, or the only one, in a buffer. */
static const char *
list_item(const char *list, int number, char *buffer, size_t size)
{
	if (list == NULL)
		return NULL;
	if (list_length_of(list) == 1)
		number = 0;
	for (; number > 0; number--)
		list = strchr(list, ',') + 1;
	strlcpy(buffer, list, Min(size, strcspn(list, ",") + 1));
	return buffer;
}

static int
hosts_in(const PQconninfoOption *options)
{
	const char *addresses = given(options, "hostaddr");

	return list_length_of(addresses != NULL ? addresses : given(options, "host"));
}

static int
wire_hosts(const char *conninfo, bool *database)
{
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	int			count = 1;

	*database = false;
	if (options == NULL)
		return count;
	count = hosts_in(options);
	*database = given(options, "dbname") != NULL;
	PQconninfoFree(options);
	return count;
}

/* The parameters of a connection. */
typedef struct Parameters
{
	int			count;
	const char *keywords[PARAMETERS_MAX];
	const char *values[PARAMETERS_MAX];
} Parameters;

static void
add(Parameters *parameters, const char *keyword, const char *value)
{
	if (value == NULL || parameters->count + 1 >= PARAMETERS_MAX)
		return;
	parameters->keywords[parameters->count] = keyword;
	parameters->values[parameters->count] = value;
	parameters->count++;
	parameters->keywords[parameters->count] = NULL;
	parameters->values[parameters->count] = NULL;
}

/*
 * Connects to one host of those that are named: libpq would try them in turn,
 * but wait for one that does not answer as long as the system does.
 */
static ApikeyWireConn *
wire_connect(const ApikeyWireTarget *target)
{
	static const char *const lists[] = {"host", "hostaddr", "port"};
	char		items[3][1024];
	char		settings[sizeof(SETTINGS) + 16];
	char		timeout[16];
	Parameters	parameters = {0};
	PQconninfoOption *options = PQconninfoParse(target->conninfo, NULL);
	int			host;
	PGconn	   *conn;

	if (options == NULL)
		return NULL;
	host = (int) (target->attempt % (unsigned) target->hosts);
	snprintf(settings, sizeof(settings), SETTINGS, target->timeout);
	add(&parameters, "fallback_application_name", "apikey_fleet");
	add(&parameters, "options", settings);
	/* A host that is gone fails the attempt, however long that is waited for. */
	snprintf(timeout, sizeof(timeout), "%d", target->timeout);
	add(&parameters, "tcp_user_timeout", timeout);
	add(&parameters, "keepalives_idle", "10");
	add(&parameters, "keepalives_interval", "5");
	add(&parameters, "keepalives_count", "3");
	for (const PQconninfoOption *option = options; option->keyword != NULL;
		 option++)
		add(&parameters, option->keyword, given(option, option->keyword));
	for (int i = 0; i < 3; i++)
		add(&parameters, lists[i],
			list_item(given(options, lists[i]), host, items[i],
					  sizeof(items[i])));
	if (!target->own_database)
		add(&parameters, "dbname", target->database);
	add(&parameters, "target_session_attrs", "read-write");
	/* Nothing is converted: one name that cannot be would fail a whole call. */
	add(&parameters, "client_encoding", "SQL_ASCII");
	conn = PQconnectStartParams(parameters.keywords, parameters.values, 0);
	PQconninfoFree(options);
	return conn;
}

/* Is the socket as it was waited for?  There is none between two addresses. */
static bool
is_ready(const ApikeyWireConn *conn, ApikeyWireStep waited)
{
	struct pollfd socket = {
		.fd = PQsocket(conn),
		.events = waited == APIKEY_WIRE_WRITES ? POLLOUT : POLLIN
	};

	return socket.fd < 0 || poll(&socket, 1, 0) != 0;
}

/* libpq takes a socket for connected when it is asked to go on, and waits then. */
static ApikeyWireStep
wire_connect_step(ApikeyWireConn *conn, ApikeyWireStep waited)
{
	if (PQstatus(conn) == CONNECTION_BAD)
		return APIKEY_WIRE_FAILED;
	if (!is_ready(conn, waited))
		return waited;
	switch (PQconnectPoll(conn))
	{
		case PGRES_POLLING_OK:
			return PQsetnonblocking(conn, 1) == 0 ?
				APIKEY_WIRE_DONE : APIKEY_WIRE_FAILED;
		case PGRES_POLLING_READING:
			return APIKEY_WIRE_READS;
		case PGRES_POLLING_WRITING:
			return APIKEY_WIRE_WRITES;
		default:
			return APIKEY_WIRE_FAILED;
	}
}

static bool
wire_ask(ApikeyWireConn *conn, const char *query, int count,
		 const char *const *values)
{
	return PQsendQueryParams(conn, query, count, NULL, values, NULL, NULL,
							 0) == 1;
}

/* The last answer is the one, as there is one statement. */
static ApikeyWireStep
wire_ask_step(ApikeyWireConn *conn, ApikeyWireAnswer **answer)
{
	int			unsent = PQflush(conn);
	PGresult   *result;

	if (unsent < 0 || PQconsumeInput(conn) == 0)
		return APIKEY_WIRE_FAILED;
	while (!PQisBusy(conn))
	{
		result = PQgetResult(conn);
		if (result == NULL)
			return *answer == NULL ? APIKEY_WIRE_FAILED : APIKEY_WIRE_DONE;
		PQclear(*answer);
		*answer = result;
	}
	return unsent > 0 ? APIKEY_WIRE_WRITES : APIKEY_WIRE_READS;
}

static int
wire_socket(ApikeyWireConn *conn)
{
	return PQsocket(conn);
}

static const char *
wire_encoding(const ApikeyWireConn *conn)
{
	return PQparameterStatus(conn, "server_encoding");
}

static void
wire_close(ApikeyWireConn *conn)
{
	PQfinish(conn);
}

static const char *
wire_error_code(const ApikeyWireAnswer *answer)
{
	const char *code;

	if (PQresultStatus(answer) == PGRES_TUPLES_OK ||
		PQresultStatus(answer) == PGRES_COMMAND_OK)
		return NULL;
	code = PQresultErrorField(answer, PG_DIAG_SQLSTATE);
	return code == NULL ? "08006" : code;
}

/* What ends a session may have come after the statement was committed. */
static bool
wire_goes_on(const ApikeyWireConn *conn, const ApikeyWireAnswer *answer)
{
	const char *severity = PQresultErrorField(answer, PG_DIAG_SEVERITY_NONLOCALIZED);

	return severity != NULL && strcmp(severity, "ERROR") == 0 &&
		PQstatus(conn) == CONNECTION_OK &&
		PQtransactionStatus(conn) == PQTRANS_IDLE;
}

static const char *
wire_detail(const ApikeyWireAnswer *answer)
{
	return PQresultErrorField(answer, PG_DIAG_MESSAGE_DETAIL);
}

static int
wire_rows(const ApikeyWireAnswer *answer)
{
	return PQntuples(answer);
}

static const char *
wire_value(const ApikeyWireAnswer *answer, int row, int column)
{
	return PQgetisnull(answer, row, column) ? NULL :
		PQgetvalue(answer, row, column);
}

static void
wire_free(ApikeyWireAnswer *answer)
{
	PQclear(answer);
}

/* Of libpq's messages, the last reason: what stands behind "failed: ". */
static void
wire_tell(ApikeyWireConn *conn, const ApikeyWireAnswer *answer, char *buffer,
		  size_t size)
{
	const char *message = answer == NULL ? NULL :
		PQresultErrorField(answer, PG_DIAG_MESSAGE_PRIMARY);
	const char *reason;

	if (message == NULL && conn != NULL)
	{
		for (reason = PQerrorMessage(conn);
			 (reason = strstr(reason, "failed: ")) != NULL;)
			message = reason += strlen("failed: ");
	}
	if (message == NULL || *message == '\0')
		message = conn == NULL ? "The connection cannot be begun." :
			"The connection was lost.";
	strlcpy(buffer, message, size);
	buffer[strcspn(buffer, "\n")] = '\0';
}

const ApikeyWire *
apikey_fleet_wire(void)
{
	static const ApikeyWire wire = {
		.connect = wire_connect,
		.connect_step = wire_connect_step,
		.ask = wire_ask,
		.ask_step = wire_ask_step,
		.socket = wire_socket,
		.encoding = wire_encoding,
		.close = wire_close,
		.error_code = wire_error_code,
		.goes_on = wire_goes_on,
		.detail = wire_detail,
		.rows = wire_rows,
		.value = wire_value,
		.free = wire_free,
		.tell = wire_tell,
		.hosts = wire_hosts
	};

	return &wire;
}
