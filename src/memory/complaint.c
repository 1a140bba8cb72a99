/*
 * complaint.c
 *		What the server's log is told of keys that cannot be verified.
 *
 * The caller gets the code alone, "unavailable".  The log gets the reason and
 * what an operator can do: each reason once a minute at most, on the whole
 * server where there is shared memory, and else in each process.  Times of
 * shared memory are claimed by compare-and-swap, so no lock is taken.
 */
#include "postgres.h"

#include "storage/lwlock.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"

#define TOLD_EVERY	USECS_PER_MINUTE

/* WARNING where nothing gets better unless somebody acts. */
static const struct
{
	int			level;
	const char *hint;
}			complaints[APIKEY_COMPLAINTS] = {
	[APIKEY_COMPLAINT_PEPPER_FILE] = {WARNING,
	"Make the file that \"apikey.pepper_file\" names, or what \"apikey.pepper_command\" prints, usable, and reload the server's configuration."},
	[APIKEY_COMPLAINT_PEPPER_GONE] = {WARNING,
	"Add the pepper to the file that \"apikey.pepper_file\" names, or to what \"apikey.pepper_command\" prints, below the current one, and reload the server's configuration."},
	[APIKEY_COMPLAINT_TABLES] = {WARNING,
	APIKEY_MISSING_HINT},
	[APIKEY_COMPLAINT_LOCKED] = {LOG_SERVER_ONLY,
	"This passes with what locks it, as VACUUM FULL, REINDEX or ALTER TABLE; \"pg_locks\" and pg_blocking_pids() tell who has it or waits for it."},
	[APIKEY_COMPLAINT_IMPORT] = {WARNING,
	"See that \"pgcrypto\" is complete, that its libraries allow bcrypt, that the file that \"apikey.import_secret_file\" names can be used, and that no pepper is missing."},
	[APIKEY_COMPLAINT_PRELOAD] = {WARNING,
	"Add \"apikey\" to \"shared_preload_libraries\", and restart the server."},
	[APIKEY_COMPLAINT_ROOM] = {WARNING,
	"Raise \"apikey.max_tracked_keys\", and restart the server."},
	[APIKEY_COMPLAINT_CREDITS] = {LOG_SERVER_ONLY,
	"This is so on a standby, and passes elsewhere once the worker \"apikey worker\" can run."},
	[APIKEY_COMPLAINT_LIMITS] = {WARNING,
	"Drop some of them by apikey_limit_drop()."},
	[APIKEY_COMPLAINT_CHAIN] = {WARNING,
	"Use the text of the last key that has replaced it."},
	[APIKEY_COMPLAINT_STALE] = {LOG_SERVER_ONLY,
	"See whether the primary can be reached, and what holds up replay here; \"apikey.max_staleness\" is the bound."},
	[APIKEY_COMPLAINT_PARALLEL] = {LOG_SERVER_ONLY,
	"Verify keys before the query, or in a transaction that is READ COMMITTED."}
};

/* When each was told last; of this process alone where nothing is shared. */
typedef struct Told
{
	pg_atomic_uint64 at[APIKEY_COMPLAINTS];
} Told;

static Told own;
static Told *told = NULL;

/* What the server's start has told is not told again by the first session. */
static void
make_memory(void)
{
	for (int i = 0; i < APIKEY_COMPLAINTS; i++)
		pg_atomic_init_u64(&told->at[i], pg_atomic_read_u64(&own.at[i]));
}

const ApikeyMemoryPart apikey_complaint_memory = {
	APIKEY_MEMORY_STRUCT("apikey complaints", told),
	.make = make_memory
};

/* Once, when the library is loaded. */
void
apikey_complaint_init(void)
{
	for (int i = 0; i < APIKEY_COMPLAINTS; i++)
		pg_atomic_init_u64(&own.at[i], 0);
	told = &own;
}

/* Is it time to tell a reason?  Then it is told by nobody else. */
static bool
claim(ApikeyComplaint complaint)
{
	pg_atomic_uint64 *at = &told->at[complaint];
	TimestampTz now = GetCurrentTimestamp();
	uint64		last = pg_atomic_read_u64(at);

	/* A clock that was set back does not silence anything. */
	if (last != 0 && (TimestampTz) last <= now &&
		now - (TimestampTz) last < TOLD_EVERY)
		return false;
	return pg_atomic_compare_exchange_u64(at, &last, (uint64) now);
}

/* The next complaint for a reason is told, whenever the last one was. */
void
apikey_complaint_again(ApikeyComplaint complaint)
{
	pg_atomic_write_u64(&told->at[complaint], 0);
}

/*
 * Tells the server's log, if it is time, why keys cannot be verified; without
 * the statement, which may hold a key, and nothing to the client, which is not
 * to learn how the server is set up.
 */
void
apikey_complain(ApikeyComplaint complaint, const char *format,...)
{
	int			for_client = client_min_messages;
	char		detail[MAXPGPATH + 512];
	va_list		arguments;

	if (!claim(complaint))
		return;
	va_start(arguments, format);
	vsnprintf(detail, sizeof(detail), format, arguments);
	va_end(arguments);

	client_min_messages = ERROR;
	PG_TRY();
	{
		ereport(complaints[complaint].level,
				(errmsg("some API keys cannot be verified"),
				 errdetail_internal("%s", detail),
				 errhint("%s", complaints[complaint].hint),
				 errhidestmt(true),
				 errhidecontext(true)));
	}
	PG_FINALLY();
	{
		client_min_messages = for_client;
	}
	PG_END_TRY();
}
