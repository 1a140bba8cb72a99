/*
 * configuration.c
 *		What a worker is and waits for, whatever is set for its database.
 *
 * The owner of a database can set for every session there what is no superuser's
 * alone to set; and that holds for a worker as well, once it is connected.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "rows/rows.h"
#include "worker/worker_internal.h"

/* What the server is configured with, whatever a database says, and since when. */
static int	server_commit = SYNCHRONOUS_COMMIT_ON;
static TimestampTz configured_at = 0;

/*
 * It is who it came as, and does what it does in nobody's name: whatever role,
 * session's role or subject a database's owner has set for every session there.
 */
static void
be_oneself(void)
{
	StartTransactionCommand();
	SetConfigOption("session_authorization",
					GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false),
					PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
	CommitTransactionCommand();
	apikey_principal_be_nobody();
}

/*
 * What a user or database has set must not stand in the way, nor a lock that
 * somebody holds, of the databases that come after: what is not done is done
 * the next time.  Other settings that a database's owner can change are about
 * queries, texts and clients, of which a worker has none.
 */
void
apikey_worker_set_defaults(void)
{
	static const char *const settings[][2] = {
		{"exit_on_error", "off"},
		{"intervalstyle", "postgres"},	/* an event may tell of one */
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"lock_timeout", "100ms"},
		{"statement_timeout", "0"},
		{"transaction_timeout", "0"}
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
	{
		/* One of them is of PostgreSQL 17. */
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
							PGC_S_OVERRIDE);
	}
	be_oneself();
}

/* Before there is a database that may say something else. */
void
apikey_worker_take_configuration(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	server_commit = synchronous_commit;
	configured_at = PgReloadTime;
}

/* Has the configuration changed since?  Then another worker is to come. */
bool
apikey_worker_configured_anew(void)
{
	return PgReloadTime != configured_at;
}

/*
 * What a commit waits for.  A lease is spent as soon as it is committed: a crash
 * must not undo it, nor a failover where the server waits for its standbys.  That
 * one of them has it on disk is enough for that, and no query there can hold it
 * up, as it can what is to be applied.  A database may have less waited for, but
 * not more: there is one worker that flushes, for all of them, and what a wait
 * for a standby takes nothing bounds.
 */
void
apikey_worker_set_commit(void)
{
	static const char *const names[] = {
		[SYNCHRONOUS_COMMIT_LOCAL_FLUSH] = "local",
		[SYNCHRONOUS_COMMIT_REMOTE_WRITE] = "remote_write",
		[SYNCHRONOUS_COMMIT_REMOTE_FLUSH] = "on"
	};
	int			level = Min(synchronous_commit, server_commit);

	level = Min(Max(level, SYNCHRONOUS_COMMIT_LOCAL_FLUSH),
				SYNCHRONOUS_COMMIT_REMOTE_FLUSH);
	SetConfigOption("synchronous_commit", names[level], PGC_SUSET,
					PGC_S_OVERRIDE);
}
