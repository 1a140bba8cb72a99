/*
 * expiry.c
 *		Events of keys that will expire: once a key and time, by the worker.
 *
 * A database is visited when the next of its keys comes near: the worker says
 * when that is, and whoever gives a key another time says so with his commit.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys_internal.h"

#define SEEN_AT_ONCE	1000	/* keys that are looked at in a step */
#define LOOK_EACH		USECS_PER_HOUR
#define LOOK_AGAIN		USECS_PER_MINUTE	/* at what somebody has locked */

static TimestampTz earliest = DT_NOEND; /* that this transaction has set */

/* So long before it expires a key is told of. */
static TimestampTz
notice_before(TimestampTz expires_at)
{
	return expires_at - (TimestampTz) apikey_expiry_notice * USECS_PER_SEC;
}

/* A key is being written: when it will be told of. */
void
apikey_expiry_note(const ApikeyRow *key)
{
	TimestampTz expires_at;

	if (key->nulls[APIKEY_KEY_EXPIRES_AT] || apikey_expiry_notice == 0)
		return;
	expires_at = DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]);
	if (!TIMESTAMP_NOT_FINITE(expires_at))
		earliest = Min(earliest, notice_before(expires_at));
}

static void
on_transaction_end(ApikeyEnd end)
{
	if (end != APIKEY_END_ROLLBACK && earliest != DT_NOEND)
		apikey_stats_visit(APIKEY_VISIT_EXPIRY, earliest);
	earliest = DT_NOEND;
}

ApikeyTransactionPart apikey_expiry_transaction = {.end = on_transaction_end};

/* Has a key been told of, as far as a row of its use says? */
static bool
told(const ApikeyRow *use, const ApikeyRow *key)
{
	return !use->nulls[APIKEY_USE_EXPIRY_TOLD] &&
		DatumGetTimestampTz(use->values[APIKEY_USE_EXPIRY_TOLD]) ==
		DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]);
}

/*
 * The search for keys that are near and nobody was told of: a step through them,
 * in the order in which they expire.  Who has many makes the pass longer, and no step
 * of it; what is changed again and again, to be before it each time, is told of by
 * the next, which is asked for where pass->found says so.
 */
typedef struct Search
{
	ApikeyPass *pass;
	TimestampTz until;
	Snapshot	snapshot;
	MemoryContext scratch;
	int			seen;
	bool		full;			/* there may be more */
	TimestampTz next;			/* when the first expires that is not near yet */
	List	   *ids;
} Search;

/* Was a key made, or changed, since the pass began? */
static bool
is_changed(const ApikeyPass *pass, const ApikeyRow *key)
{
	ApikeyKeyColumn last = key->nulls[APIKEY_KEY_UPDATED_AT] ?
		APIKEY_KEY_CREATED_AT : APIKEY_KEY_UPDATED_AT;

	return apikey_pass_since(pass, DatumGetTimestampTz(key->values[last]));
}

static bool
collect_near(const ApikeyRow *key, void *state)
{
	Search	   *search = state;
	TimestampTz expires_at = DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]);
	MemoryContext context;
	ApikeyRow	use;
	bool		known;

	if (expires_at > search->until)
	{
		search->next = expires_at;
		return false;
	}
	search->full = search->seen == SEEN_AT_ONCE ||
		(search->seen > 0 && apikey_step_full(list_length(search->ids)));
	if (search->full)
		return false;
	search->seen++;
	context = MemoryContextSwitchTo(search->scratch);
	known = !key->nulls[APIKEY_KEY_ROTATED_TO] ||
		(apikey_table_fetch(&apikey_use_table, apikey_row_id(key),
							search->snapshot, &use) && told(&use, key));
	MemoryContextSwitchTo(context);
	MemoryContextReset(search->scratch);
	if (!known && is_changed(search->pass, key))
		search->pass->found = true;
	else if (!known)
	{
		pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

		*id = *apikey_row_id(key);
		search->ids = lappend(search->ids, id);
	}
	return true;
}

/*
 * The ids of the next keys that are near and nobody was told of; pass->begun says
 * whether there may be more.  If not, next is when the first expires that is not
 * near yet; the end of time for none.
 */
static List *
find_near(ApikeyPass *pass, TimestampTz until, TimestampTz *next)
{
	Search		search = {.pass = pass, .until = until, .next = DT_NOEND};
	ApikeyWalk	walk = {
		.table = &apikey_key_table,
		.index = APIKEY_REL_KEY_EXPIRES_AT,
		.order = {APIKEY_KEY_EXPIRES_AT, APIKEY_KEY_ID},
		.columns = 2,
		.visit = collect_near,
		.state = &search
	};

	walk.snapshot = search.snapshot = apikey_latest_snapshot();
	search.scratch = AllocSetContextCreate(CurrentMemoryContext,
										   "apikey expiry",
										   ALLOCSET_SMALL_SIZES);
	pass->begun = apikey_walk_step(&walk, &pass->place) || search.full;
	MemoryContextDelete(search.scratch);
	UnregisterSnapshot(search.snapshot);
	*next = search.next;
	return search.ids;
}

/*
 * Marks a key as told of; false where it is, or where that would be waiting
 * for somebody: it is left for the next time.
 */
static bool
mark(ApikeyWriter *writer, const ApikeyRow *key)
{
	ApikeyRow	use;
	bool		is_new;

	if (!apikey_use_take(writer, apikey_row_id(key), &use, &is_new) ||
		told(&use, key))
		return false;
	apikey_row_set(&use, APIKEY_USE_EXPIRY_TOLD,
				   key->values[APIKEY_KEY_EXPIRES_AT]);
	apikey_use_put(writer, &use, is_new);
	return true;
}

/* Telling of some keys. */
typedef struct Telling
{
	ApikeyWriter *writer;
	ApikeyPass *pass;
} Telling;

/* Tells of a key; false where it is left for the next time. */
static bool
tell(ApikeyWriter *writer, const pg_uuid_t *id)
{
	ApikeyRow	key;

	if (!apikey_key_fetch_latest(id, &key) ||
		key.nulls[APIKEY_KEY_EXPIRES_AT] || !mark(writer, &key))
		return false;
	if (apikey_key_status(&key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED)
		return true;
	apikey_event_key(&key, APIKEY_EVENT_EXPIRING,
					 psprintf("{\"expires_at\": %s}",
							  apikey_json_time(DatumGetTimestampTz(key.values[APIKEY_KEY_EXPIRES_AT]))));
	return true;
}

static void
tell_one(void *id, void *state)
{
	const Telling *telling = state;

	if (!tell(telling->writer, id))
		telling->pass->left = true;
}

static void
tell_some(List *ids, void *state)
{
	Telling		telling = {apikey_table_open(&apikey_use_table), state};

	apikey_turns_each(ids, tell_one, &telling);
	apikey_table_close(telling.writer);
}

static void
begin_pass(ApikeyPass *pass)
{
	uint64		asked = apikey_stats_visits_asked(APIKEY_VISIT_EXPIRY);

	apikey_pass_begin(pass);
	pass->asked = asked;
	apikey_place_begin(&pass->place, TimestampTzGetDatum(pass->began_at));
}

/*
 * For the worker, in a transaction: tells of keys that are near, and when to
 * look again; true where there may be more to tell now.  Keys that came by COPY
 * or replication have not been noted, so that is soon enough for them too.
 */
bool
apikey_expiry_tell(ApikeyPass *pass, TimestampTz *again)
{
	TimestampTz until;
	TimestampTz next;
	List	   *ids;

	*again = DT_NOEND;
	if (apikey_expiry_notice == 0)
		return pass->begun = false;
	if (!pass->begun)
		begin_pass(pass);
	until = pass->began_at + (TimestampTz) apikey_expiry_notice * USECS_PER_SEC;
	ids = find_near(pass, until, &next);
	if (apikey_attempt_each(tell_some, ids, pass) != NIL)
		pass->left = true;
	if (pass->begun)
		next = until;
	*again = Min(GetCurrentTimestamp() + LOOK_EACH,
				 next == DT_NOEND ? DT_NOEND : notice_before(next));
	if (pass->left)
		*again = Min(*again, GetCurrentTimestamp() + LOOK_AGAIN);
	/* What was asked for since it began may be behind it, or passed by: once more. */
	if (!pass->begun &&
		(pass->found ||
		 pass->asked != apikey_stats_visits_asked(APIKEY_VISIT_EXPIRY)))
		*again = 0;
	return pass->begun;
}
