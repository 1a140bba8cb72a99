/*
 * client.c
 *		What pgbench cannot do: one prepared statement with another key each
 *		time, and the first statement of many connections.
 *
 *	client rate SECONDS STATEMENT [pipeline] [zipf] [unprepared] <KEYS
 *		executions a second, each with a random one of the keys; 100 in a
 *		pipeline; the first keys more often (of rank n one in n); parsed anew
 *		each time, as a pooler of transactions may have it
 *	client first CONNECTIONS STATEMENT <KEYS
 *		median, in milliseconds, of the first execution in a new connection
 *
 * Where to connect is libpq's environment.  The statement's first column must
 * be true.
 */
#include <libpq-fe.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KEY_BYTES	128
#define WARM_SECONDS	0.3
#define PAUSE_NS		5000000 /* for a server process to be gone */

#define PIPELINE		100

static char (*keys)[KEY_BYTES] = NULL;
static size_t key_count = 0;

/* How often one of the first keys is taken, for each of them; NULL: alike. */
static double *ranks = NULL;

static void
fail(const char *message)
{
	fprintf(stderr, "client: %s\n", message);
	exit(1);
}

static void
read_keys(void)
{
	size_t		room = 0;
	char		line[KEY_BYTES];

	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		if (key_count == room)
		{
			room = room * 2 + 1024;
			keys = realloc(keys, room * KEY_BYTES);
			if (keys == NULL)
				fail("out of memory");
		}
		line[strcspn(line, "\n")] = '\0';
		strcpy(keys[key_count++], line);
	}
	if (key_count == 0)
		fail("no keys");
}

/* Makes the first keys likelier, by Zipf's law with exponent 1. */
static void
rank_keys(void)
{
	double		sum = 0;

	ranks = calloc(key_count, sizeof(double));
	if (ranks == NULL)
		fail("out of memory");
	for (size_t i = 0; i < key_count; i++)
		ranks[i] = sum += 1.0 / (i + 1);
}

/* The first key up to which all together are as likely as that. */
static size_t
ranked(double likelihood)
{
	size_t		low = 0;
	size_t		high = key_count - 1;

	while (low < high)
	{
		size_t		middle = (low + high) / 2;

		if (ranks[middle] < likelihood)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* A random key: which, is of no other importance (xorshift). */
static const char *
random_key(void)
{
	static uint64_t state = UINT64_C(0x9E3779B97F4A7C15);

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	if (ranks != NULL)
		return keys[ranked((state >> 11) * 0x1p-53 * ranks[key_count - 1])];
	return keys[state % key_count];
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static PGconn *
connect_server(void)
{
	PGconn	   *connection = PQconnectdb("");

	if (PQstatus(connection) != CONNECTION_OK)
		fail(PQerrorMessage(connection));
	return connection;
}

static void
expect_true(PGconn *connection, PGresult *result)
{
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail(PQerrorMessage(connection));
	if (PQntuples(result) != 1 || strcmp(PQgetvalue(result, 0, 0), "t") != 0)
		fail("the answer is not true");
	PQclear(result);
}

/* What is executed, and how. */
static const char *statement;
static int	unprepared = 0;
static int	pipeline = 0;

static void
execute(PGconn *connection)
{
	const char *key = random_key();

	expect_true(connection, unprepared ?
				PQexecParams(connection, statement, 1, NULL, &key, NULL, NULL, 0) :
				PQexecPrepared(connection, "statement", 1, &key, NULL, NULL, 0));
}

static void
execute_pipeline(PGconn *connection)
{
	for (int i = 0; i < PIPELINE; i++)
	{
		const char *key = random_key();

		if (!PQsendQueryPrepared(connection, "statement", 1, &key, NULL, NULL, 0))
			fail(PQerrorMessage(connection));
	}
	if (!PQpipelineSync(connection))
		fail(PQerrorMessage(connection));
	for (int i = 0; i < PIPELINE; i++)
	{
		expect_true(connection, PQgetResult(connection));
		PQclear(PQgetResult(connection));	/* the end of its results */
	}
	PQclear(PQgetResult(connection));	/* the sync */
}

/* Executes for so long; returns how often. */
static uint64_t
execute_for(PGconn *connection, double duration)
{
	double		end = seconds() + duration;
	uint64_t	executions = 0;

	while (seconds() < end)
	{
		if (pipeline)
			execute_pipeline(connection);
		else
			execute(connection);
		executions += pipeline ? PIPELINE : 1;
	}
	return executions;
}

static void
prepare(PGconn *connection)
{
	PGresult   *result = PQprepare(connection, "statement", statement, 0, NULL);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail(PQerrorMessage(connection));
	PQclear(result);
}

static void
rate(double duration)
{
	PGconn	   *connection = connect_server();
	double		start;
	uint64_t	executions;

	if (!unprepared)
		prepare(connection);
	if (pipeline && !PQenterPipelineMode(connection))
		fail(PQerrorMessage(connection));
	execute_for(connection, WARM_SECONDS);
	start = seconds();
	executions = execute_for(connection, duration);
	printf("%.1f\n", executions / (seconds() - start));
	PQfinish(connection);
}

static int
compare(const void *one, const void *two)
{
	double		a = *(const double *) one;
	double		b = *(const double *) two;

	return (a > b) - (a < b);
}

static void
first(int connections)
{
	struct timespec pause = {.tv_nsec = PAUSE_NS};
	double	   *times = calloc(connections, sizeof(double));

	if (times == NULL)
		fail("out of memory");
	for (int i = 0; i < connections; i++)
	{
		PGconn	   *connection = connect_server();
		const char *key = random_key();
		double		start = seconds();

		expect_true(connection, PQexecParams(connection, statement, 1, NULL,
											 &key, NULL, NULL, 0));
		times[i] = seconds() - start;
		PQfinish(connection);
		nanosleep(&pause, NULL);
	}
	qsort(times, connections, sizeof(double), compare);
	printf("%.4f\n", times[connections / 2] * 1000);
}

int
main(int argc, char **argv)
{
	if (argc < 4)
		fail("usage: client rate SECONDS STATEMENT [pipeline] [zipf] [unprepared] | first CONNECTIONS STATEMENT");
	read_keys();
	statement = argv[3];
	for (int i = 4; i < argc; i++)
	{
		if (strcmp(argv[i], "pipeline") == 0)
			pipeline = 1;
		else if (strcmp(argv[i], "zipf") == 0)
			rank_keys();
		else if (strcmp(argv[i], "unprepared") == 0)
			unprepared = 1;
		else
			fail("unknown option");
	}
	if (strcmp(argv[1], "rate") == 0)
		rate(atof(argv[2]));
	else
		first(atoi(argv[2]));
	return 0;
}
