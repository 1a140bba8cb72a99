/*
 * pulse.c
 *		The heartbeat of a standby: how fresh is what it has replayed?
 *
 * Each apikey.fleet_heartbeat it asks the primary how far its WAL is flushed.
 * Once so much is replayed here, on the same timeline, all that the primary had
 * committed when it was asked is here, too: the standby is fresh as of then.
 * What was asked and is not replayed yet waits in a ring, of which the newest
 * gives way where it is full.
 *
 *		OFF -> CONNECTING -> KNOWING -> IDLE <-> ASKING
 *		 ^________|____________|_________|_________|		what fails, or is late
 *
 * KNOWING asks which cluster this is: the wal of another says nothing.  No step
 * waits: the worker calls apikey_pulse_step whenever it wakes up, and while it
 * waits for other answers.
 *
 * The log is told once when the primary answers, and once when it does not.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "storage/latch.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define RING			64
#define REPLAY_STEP		20		/* milliseconds between looks at the replay */
#define PATIENCE_MOST	60000	/* milliseconds, of an attempt to connect */
#define AGAIN_FIRST		100		/* milliseconds, doubled up to */
#define AGAIN_MOST		3000

#define QUERY_SYSTEM	"SELECT system_identifier FROM pg_catalog.pg_control_system()"
#define QUERY_WAL		"SELECT pg_catalog.pg_current_wal_flush_lsn(), pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn())"

typedef enum PulseState
{
	PULSE_OFF,
	PULSE_CONNECTING,
	PULSE_KNOWING,
	PULSE_IDLE,
	PULSE_ASKING
} PulseState;

/* What the log has been told of the primary. */
typedef enum Primary
{
	PRIMARY_UNKNOWN,
	PRIMARY_HEARD,
	PRIMARY_CUT
} Primary;

/* What the primary had flushed when it was asked. */
typedef struct Beat
{
	ApikeyTick	asked_at;
	XLogRecPtr	wal;
	TimeLineID	timeline;
} Beat;

static const ApikeyWire *wire = NULL;
static PulseState state = PULSE_OFF;
static Primary primary = PRIMARY_UNKNOWN;
static ApikeyWireConn *conn = NULL;
static ApikeyWireAnswer *answer = NULL;
static ApikeyWireStep wanted = APIKEY_WIRE_READS;
static ApikeyTick begun_at = 0; /* what is being waited for */
static ApikeyTick next_at = 0;	/* the next beat, or attempt to connect */
static unsigned attempts = 0;
static int	again = AGAIN_FIRST;
static int	late = 0;			/* attempts in a row that were given up */
static Beat ring[RING];
static int	waiting = 0;		/* in the ring */

void
apikey_pulse_begin(const ApikeyWire *table)
{
	wire = table;
}

static ApikeyTick
later(int milliseconds)
{
	return apikey_tick() + (ApikeyTick) milliseconds * 1000;
}

/* Where there is a bound, often enough to hold it. */
static int
interval(void)
{
	return apikey_max_staleness == 0 ? apikey_fleet_heartbeat :
		Min(apikey_fleet_heartbeat, apikey_max_staleness / 4 + 1);
}

/*
 * How long something is waited for, in milliseconds.  A database may be kept from
 * everybody, and the primary keeps its end of each attempt to connect to it: where
 * no other is known to be reached, each is waited for longer.
 */
static int
patience(void)
{
	if (state != PULSE_CONNECTING || apikey_target_reached())
		return apikey_fleet_timeout;
	return Max(apikey_fleet_timeout,
			   Min(apikey_fleet_timeout << Min(late, 6), PATIENCE_MOST));
}

static void
close_connection(void)
{
	if (answer != NULL)
		wire->free(answer);
	if (conn != NULL)
		wire->close(conn);
	answer = NULL;
	conn = NULL;
	state = PULSE_OFF;
}

/* The primary has answered. */
static void
tell_heard(void)
{
	if (primary != PRIMARY_HEARD)
		ereport(LOG,
				(errmsg("the primary of the API keys' fleet answers")));
	primary = PRIMARY_HEARD;
}

/* It has not. */
static void
tell_cut(const char *reason)
{
	if (primary != PRIMARY_CUT)
		ereport(LOG,
				(errmsg("the primary of the API keys' fleet cannot be reached"),
				 errdetail_internal("%s", reason),
				 apikey_primary_conninfo[0] != '\0' ? 0 :
				 errhint("\"apikey.primary_conninfo\" is not set, so \"primary_conninfo\" is used.")));
	primary = PRIMARY_CUT;
}

/* The connection has failed: another one, after a while. */
static void
fail(const char *reason)
{
	char		detail[256];

	if (reason == NULL)
	{
		wire->tell(conn, answer, detail, sizeof(detail));
		reason = detail;
	}
	tell_cut(reason);
	close_connection();
	attempts++;
	next_at = later(again);
	again = Min(again * 2, AGAIN_MOST);
}

static void
connect_begin(void)
{
	ApikeyWireTarget target;

	if (!apikey_target_any(wire, attempts, &target))
	{
		tell_cut("No primary is configured.");
		next_at = later(AGAIN_MOST);
		return;
	}
	begun_at = apikey_tick();
	conn = wire->connect(&target);
	if (conn == NULL)
	{
		fail(NULL);
		return;
	}
	state = PULSE_CONNECTING;
	wanted = APIKEY_WIRE_WRITES;
}

static void
ask(PulseState asking, const char *query)
{
	begun_at = apikey_tick();
	if (!wire->ask(conn, query, 0, NULL))
	{
		fail(NULL);
		return;
	}
	state = asking;
	wanted = APIKEY_WIRE_WRITES;
}

/* Is the primary of this cluster the one that answers? */
static void
take_system(void)
{
	const char *system = wire->value(answer, 0, 0);

	if (system == NULL || strtou64(system, NULL, 10) != GetSystemIdentifier())
	{
		fail("The server is of another cluster.");
		return;
	}
	again = AGAIN_FIRST;
	late = 0;
	state = PULSE_IDLE;
	next_at = 0;
}

/* So far the WAL is flushed: the name of its file begins with the timeline. */
static void
take_wal(void)
{
	const char *wal = wire->value(answer, 0, 0);
	const char *file = wire->value(answer, 0, 1);
	uint32		high;
	uint32		low;
	Beat	   *beat;

	state = PULSE_IDLE;
	if (wal == NULL || file == NULL || sscanf(wal, "%X/%X", &high, &low) != 2)
	{
		fail("The primary's answer cannot be read.");
		return;
	}
	tell_heard();
	if (waiting == RING)
		waiting--;
	beat = &ring[waiting++];
	beat->asked_at = begun_at;
	beat->wal = ((uint64) high << 32) | low;
	beat->timeline = 0;
	(void) sscanf(file, "%8X", &beat->timeline);
}

/* An answer has come. */
static void
take_answer(void)
{
	const char *error = wire->error_code(answer);

	if (error != NULL || wire->rows(answer) != 1)
		fail(NULL);
	else if (state == PULSE_KNOWING)
		take_system();
	else
		take_wal();
	if (answer != NULL)
		wire->free(answer);
	answer = NULL;
}

/* What has been asked is replayed, perhaps. */
static void
look_at_replay(void)
{
	TimeLineID	timeline;
	XLogRecPtr	replayed = GetXLogReplayRecPtr(&timeline);
	int			kept = 0;

	for (int i = 0; i < waiting; i++)
	{
		if (ring[i].timeline == timeline && ring[i].wal <= replayed)
			apikey_fresh_as_of(ring[i].asked_at);
		else if (ring[i].timeline >= timeline)
			ring[kept++] = ring[i];
	}
	waiting = kept;
}

/* Goes on with what the socket was waited for. */
static void
go_on(void)
{
	ApikeyTick	late_at = begun_at + (ApikeyTick) patience() * 1000;

	wanted = state == PULSE_CONNECTING ? wire->connect_step(conn, wanted) :
		wire->ask_step(conn, &answer);
	if (wanted == APIKEY_WIRE_FAILED)
		fail(NULL);
	else if (wanted != APIKEY_WIRE_DONE)
	{
		if (apikey_tick() >= late_at)
		{
			late += state == PULSE_CONNECTING;
			fail("The primary does not answer.");
		}
	}
	else if (state == PULSE_CONNECTING)
		ask(PULSE_KNOWING, QUERY_SYSTEM);
	else
		take_answer();
}

/*
 * Does what can be done now.  Only a standby has a pulse, and only where it is
 * asked for one.
 */
void
apikey_pulse_step(void)
{
	if (!RecoveryInProgress())
	{
		apikey_pulse_stop();
		return;
	}
	if (state == PULSE_CONNECTING || state == PULSE_KNOWING ||
		state == PULSE_ASKING)
		go_on();
	else if (apikey_tick() >= next_at)
	{
		if (state == PULSE_OFF)
			connect_begin();
		else
		{
			next_at = later(interval());
			ask(PULSE_ASKING, QUERY_WAL);
		}
	}
	look_at_replay();
}

void
apikey_pulse_stop(void)
{
	close_connection();
	waiting = 0;
	next_at = 0;
	again = AGAIN_FIRST;
}

/* How long nothing is to be done, in milliseconds, and the socket it is of. */
long
apikey_pulse_wait(pgsocket *socket, uint32 *events)
{
	int64		timeout = ((int64) next_at - (int64) apikey_tick()) / 1000 + 1;

	*socket = PGINVALID_SOCKET;
	*events = 0;
	if (conn != NULL)
		*socket = wire->socket(conn);
	/* Between two addresses there is none. */
	if (*socket == PGINVALID_SOCKET && state == PULSE_CONNECTING)
		timeout = 1;
	else if (state == PULSE_CONNECTING || state == PULSE_KNOWING ||
			 state == PULSE_ASKING)
	{
		*events = wanted == APIKEY_WIRE_WRITES ? WL_SOCKET_WRITEABLE :
			WL_SOCKET_READABLE;
		timeout = ((int64) begun_at - (int64) apikey_tick()) / 1000 +
			patience() + 1;
	}
	if (waiting > 0)
		timeout = Min(timeout, REPLAY_STEP);
	if (*events == 0)
		*socket = PGINVALID_SOCKET;
	return Max(timeout, 1);
}
