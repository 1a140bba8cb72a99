/*
 * replicas.c
 *		Whether the uses of keys on other servers are known here.
 *
 * Whoever ends a key because nobody uses it has to know of all uses.  Those of
 * a server that reports are known up to its last report, or a little before:
 * what has gathered for long takes more than one.  Of a standby or subscriber
 * that is connected and does not report, none are known; nothing says which of
 * those connected is which server, so there must be no more of them than have
 * joined.  Keys that arrive by a subscription are their publisher's to end: its
 * decision arrives, too.
 *
 * What only takes the WAL, as pg_receivewal does, verifies nothing: it never
 * says what it has replayed.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/rel.h"

#include "store/store.h"
#include "memory/memory.h"
#include "servers/servers_internal.h"

#define LEFT_OVER	USECS_PER_MINUTE	/* so old may be what is reported next */

/* Does a process send WAL to who reads keys of this database? */
static bool
serves_us(pid_t pid)
{
	PGPROC	   *proc = BackendPidGetProc(pid);

	return proc != NULL && (!OidIsValid(proc->databaseId) ||
							proc->databaseId == MyDatabaseId);
}

/* How many that replay, so that they may verify, are connected? */
static int
replicas_connected(void)
{
	int			count = 0;

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *sender = &WalSndCtl->walsnds[i];
		pid_t		pid;
		bool		replays;

		SpinLockAcquire(&sender->mutex);
		pid = sender->pid;
		/* One that has not said anything yet may come to that. */
		replays = (sender->state == WALSNDSTATE_CATCHUP ||
				   sender->state == WALSNDSTATE_STREAMING) &&
			(sender->write == InvalidXLogRecPtr ||
			 sender->apply != InvalidXLogRecPtr);
		SpinLockRelease(&sender->mutex);
		if (pid != 0 && replays && serves_us(pid))
			count++;
	}
	return count;
}

/* The other servers that have joined, and up to when all have reported. */
typedef struct Joined
{
	int			count;
	TimestampTz until;
} Joined;

static bool
take_joined(const ApikeyRow *server, void *state)
{
	Joined	   *joined = state;

	/* A primary, this or a former one, has not joined. */
	if (server->nulls[SERVER_TOKEN])
		return true;
	joined->count++;
	if (server->nulls[SERVER_LAST_REPORT_AT])
		joined->until = DT_NOBEGIN;
	else
		joined->until = Min(joined->until,
							DatumGetTimestampTz(server->values[SERVER_LAST_REPORT_AT]) - LEFT_OVER);
	return true;
}

/*
 * Are all uses of this database's keys known, and up to when?  until is set
 * only where they are.
 */
ApikeyUsesKnown
apikey_uses_known(TimestampTz *until)
{
	ApikeyAnswer arrive = apikey_fleet_arrives(APIKEY_REL_KEY);
	Joined		joined = {.until = GetCurrentTimestamp()};

	if (arrive == APIKEY_ANSWER_NONE)
		return APIKEY_USES_UNTOLD;
	if (arrive == APIKEY_ANSWER_YES)
		return APIKEY_USES_ELSEWHERE;
	apikey_server_walk(take_joined, &joined);
	if (replicas_connected() > joined.count)
		return APIKEY_USES_UNSEEN;
	*until = joined.until;
	return APIKEY_USES_KNOWN;
}
