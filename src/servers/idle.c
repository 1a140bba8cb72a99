/*
 * idle.c
 *		Keys that nobody uses: those of a project with a max_idle are revoked by
 *		the worker.
 *
 * A key is idle since the latest of its creation, start, enabling and last use,
 * of those of what it has replaced and is in its grace, and of the project's
 * max_idle_at.  It is revoked when that is max_idle ago, and all uses since are
 * known here.  Where max_idle is long, an event tells of it before, once for
 * the time that the key has been idle.
 *
 * While a server is connected whose uses are never known, nothing is counted:
 * max_idle_at moves on.  So what that server has used is not revoked as soon
 * as its connection breaks, nor after a restart, nor by who is promoted.  It moves
 * on, too, to when uses were lost here, for which there was no room in memory.
 *
 * The worker goes through all such projects in small steps, and through each
 * one's keys in the order in which they were made, up to those that are too
 * young.  Then it knows when the first may be due; later uses only put that
 * off.  A key that becomes due while a pass is under way is the next one's, which
 * is due then: so who goes on making keys that are due at once keeps the pass from
 * no other project.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"
#include "servers/servers_internal.h"

#define REASON			"idle"
#define SEEN_AT_ONCE	1000	/* keys that are looked at in a step */
#define LOOK_EACH		USECS_PER_DAY	/* at what came by COPY, perhaps */
#define LOOK_AGAIN		USECS_PER_MINUTE	/* at what was locked, or lost meanwhile */

static bool to_be_looked_at = false;
static bool logged = false;		/* in this pass, of uses that nobody tells */

static void
on_transaction_end(ApikeyEnd end)
{
	if (end != APIKEY_END_ROLLBACK && to_be_looked_at)
		apikey_stats_visit(APIKEY_VISIT_IDLE, GetCurrentTimestamp());
	to_be_looked_at = false;
}

ApikeyTransactionPart apikey_idle_transaction = {.end = on_transaction_end};

/* A project is being given another max_idle. */
void
apikey_idle_set(ApikeyRow *project)
{
	apikey_row_set(project, APIKEY_PROJECT_MAX_IDLE_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	project->nulls[APIKEY_PROJECT_MAX_IDLE_AT] =
		project->nulls[APIKEY_PROJECT_MAX_IDLE];
	apikey_idle_look_soon();
}

/* With the commit: the worker is to look at all projects. */
void
apikey_idle_look_soon(void)
{
	to_be_looked_at = true;
}

/* The search for keys of a project with which something is to be done. */
typedef struct Search
{
	ApikeyPass *pass;
	const ApikeyRow *project;
	TimestampTz now;			/* when the pass began */
	Snapshot	snapshot;
	MemoryContext scratch;
	int			seen;
	bool		full;			/* there may be more */
	List	   *ids;
} Search;

static TimestampTz
due_as_found(const Search *search, const ApikeyRow *key)
{
	MemoryContext outer = MemoryContextSwitchTo(search->scratch);
	TimestampTz due = DT_NOEND;
	ApikeyRow	use;

	if (key->nulls[APIKEY_KEY_REVOKED_AT])
	{
		apikey_idle_fetch_use(apikey_row_id(key), search->snapshot, &use);
		due = apikey_idle_due_at(search->project, &use,
								 apikey_idle_since(search->project, key, &use));
	}
	MemoryContextSwitchTo(outer);
	MemoryContextReset(search->scratch);
	return due;
}

static bool
collect_due(const ApikeyRow *key, void *state)
{
	Search	   *search = state;
	TimestampTz created_at = DatumGetTimestampTz(key->values[APIKEY_KEY_CREATED_AT]);
	TimestampTz due;

	due = apikey_idle_none_due_before(search->project, created_at);
	if (due > search->now)
	{
		/* Neither are those that were made later. */
		apikey_pass_next_at(search->pass, due);
		return false;
	}
	search->full = search->seen == SEEN_AT_ONCE ||
		(search->seen > 0 && apikey_step_full(list_length(search->ids)));
	if (search->full)
		return false;
	search->seen++;
	due = due_as_found(search, key);
	if (due <= search->now)
	{
		pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

		*id = *apikey_row_id(key);
		search->ids = lappend(search->ids, id);
	}
	else
		apikey_pass_next_at(search->pass, due);
	return true;
}

/*
 * Looks at the next keys of a project; pass->in_project says whether there are
 * more.
 */
static List *
find_due(ApikeyPass *pass, const ApikeyRow *project)
{
	Search		search = {.pass = pass, .project = project, .now = pass->began_at};
	ScanKeyData key;
	ApikeyWalk	walk = {
		.table = &apikey_key_table,
		.index = APIKEY_REL_KEY_PROJECT,
		.keys = &key,
		.fixed = 1,
		.order = {APIKEY_KEY_CREATED_AT, APIKEY_KEY_ID},
		.columns = 2,
		.visit = collect_due,
		.state = &search
	};

	walk.snapshot = search.snapshot = apikey_latest_snapshot();
	search.scratch = AllocSetContextCreate(CurrentMemoryContext, "apikey idle",
										   ALLOCSET_SMALL_SIZES);
	ScanKeyInit(&key, APIKEY_KEY_PROJECT + 1, BTEqualStrategyNumber,
				F_UUID_EQ, UUIDPGetDatum(apikey_row_id(project)));
	if (!pass->in_project)
		memset(&pass->place, 0, sizeof(pass->place));
	pass->in_project = apikey_walk_step(&walk, &pass->place) || search.full;
	MemoryContextDelete(search.scratch);
	UnregisterSnapshot(search.snapshot);
	return search.ids;
}

/* {"idle_since": ..., "stops_at": ...} */
static char *
idle_detail(TimestampTz since, TimestampTz due)
{
	StringInfoData json;

	apikey_detail_begin(&json);
	apikey_detail_json(&json, "idle_since", apikey_json_time(since));
	apikey_detail_json(&json, "stops_at", apikey_json_time(due));
	return apikey_detail_end(&json);
}

/* Tells of a locked key; false where that would be waiting for somebody. */
static bool
tell(ApikeyWriter *writer, const ApikeyRow *key, TimestampTz since,
	 TimestampTz due)
{
	ApikeyRow	use;
	bool		is_new;

	if (!apikey_use_take(writer, apikey_row_id(key), &use, &is_new))
		return false;
	apikey_row_set(&use, APIKEY_USE_IDLE_TOLD,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_use_put(writer, &use, is_new);
	apikey_event_key(key, APIKEY_EVENT_IDLE, idle_detail(since, due));
	return true;
}

/* A project at which the pass is, and up to when all uses are known. */
typedef struct Place
{
	ApikeyPass *pass;
	ApikeyRow  *project;
	ApikeyUsesKnown uses;
	TimestampTz known;
	bool		found;			/* something that is to be done */
	ApikeyWriter *writer;		/* of uses, while it is done */
} Place;

/* Does what is to be done with a key; false where it is left for the next time. */
static bool
deal_with(const Place *place, const pg_uuid_t *id)
{
	const ApikeyRow *project = place->project;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz since;
	TimestampTz due;
	TimestampTz next;
	ApikeyRow	key;
	ApikeyRow	use;

	if (!apikey_key_lock(id, APIKEY_LOCK_UPDATE_SKIP, &key))
		return false;
	if (apikey_key_status(&key, now) == APIKEY_STATUS_REVOKED)
		return true;
	apikey_idle_fetch_use_latest(id, &use);
	since = apikey_idle_since_with_replaced(project, &key, &use);
	due = apikey_idle_and_max(since, project);
	if (due <= now)
	{
		if (due <= place->known)
			apikey_manage_end(&key, REASON);
		return due <= place->known;
	}
	next = apikey_idle_due_at(project, &use, since);
	/* It is looked at again when that is, told of now or before. */
	apikey_pass_next_at(place->pass, next <= now ? due : next);
	return next > now || tell(place->writer, &key, since, due);
}

static void
deal_with_one(void *id, void *state)
{
	const Place *place = state;

	if (!deal_with(place, id))
		place->pass->left = true;
}

/* Does what is to be done with some that were found. */
static void
deal_with_some(List *ids, void *state)
{
	Place	   *place = state;

	place->writer = apikey_table_open(&apikey_use_table);
	apikey_turns_each(ids, deal_with_one, place);
	apikey_table_close(place->writer);
}

/* The same with all. */
static void
deal_with_all(Place *place, List *ids)
{
	place->found = ids != NIL;
	if (ids != NIL &&
		(!apikey_idle_keep_setting(place->project) ||
		 apikey_attempt_each(deal_with_some, ids, place) != NIL))
		place->pass->left = true;
}

static void
log_unseen(void)
{
	if (!logged)
		ereport(LOG,
				(errmsg("no API key is revoked as idle while a server is connected that does not report their use"),
				 errhint("Set \"apikey.fleet\" and \"apikey.primary_conninfo\" on each standby and subscriber.")));
	logged = true;
}

/* While somebody is there who tells of no use, nothing is counted. */
static void
move_on(Place *place)
{
	TimestampTz now = GetCurrentTimestamp();

	apikey_pass_next_at(place->pass,
						now + Max(apikey_idle_move_wait(place->project, now),
								  USECS_PER_SEC));
	place->found = apikey_idle_move_on(place->project, now);
	if (place->found)
		log_unseen();
}

/*
 * The same up to when uses were lost, the next step is at this project's keys; but
 * for what is lost since the pass began, which is the next one's.
 */
static bool
move_on_to_lost(Place *place)
{
	ApikeyPass *pass = place->pass;
	TimestampTz lost_at = apikey_stats_use_lost_at();

	if (lost_at == 0)
		return false;
	lost_at = Min(lost_at, pass->began_at);
	place->found = apikey_idle_move_on(place->project, lost_at);
	/* Somebody has the row, perhaps. */
	pass->left |= !place->found && apikey_idle_behind(place->project, lost_at);
	if (place->found && !pass->in_project)
		memset(&pass->place, 0, sizeof(pass->place));
	pass->in_project |= place->found;
	return place->found;
}

/* The search for the next project. */
typedef struct Next
{
	ApikeyPass *pass;
	pg_uuid_t	id;
	bool		found;
} Next;

/* One that was made since the pass began is the next one's, at once. */
static bool
take_project(const ApikeyRow *row, void *state)
{
	Next	   *next = state;

	if (next->found)
		return false;
	if (row->nulls[APIKEY_PROJECT_MAX_IDLE])
		return true;
	next->found =
		!apikey_pass_since(next->pass,
						   DatumGetTimestampTz(row->values[APIKEY_PROJECT_CREATED_AT]));
	if (!next->found)
		apikey_pass_next_at(next->pass, next->pass->began_at);
	next->id = *apikey_row_id(row);
	return true;
}

/*
 * Finds the next project, in the order of their ids; false for none, of which
 * *more says whether that is for this step.
 */
static bool
next_project(ApikeyPass *pass, bool *more)
{
	Next		next = {.pass = pass, .found = false};
	ApikeyWalk	walk = {
		.table = &apikey_project_table,
		.index = APIKEY_REL_PROJECT_PKEY,
		.order = {APIKEY_PROJECT_ID},
		.columns = 1,
		.snapshot = apikey_latest_snapshot(),
		.visit = take_project,
		.state = &next
	};

	*more = apikey_walk_step(&walk, &pass->projects) || next.found;
	UnregisterSnapshot(walk.snapshot);
	pass->project = next.id;
	return next.found;
}

/* Reads the project at which the pass goes on; false for none, with *more as above. */
static bool
read_project(ApikeyPass *pass, ApikeyRow *project, bool *more)
{
	*more = true;
	while (pass->in_project || next_project(pass, more))
	{
		if (apikey_table_fetch_latest(&apikey_project_table, &pass->project,
									  project) &&
			!project->nulls[APIKEY_PROJECT_MAX_IDLE])
			return true;
		pass->in_project = false;
	}
	return false;
}

static void
begin_pass(ApikeyPass *pass)
{
	uint64		asked = apikey_stats_visits_asked(APIKEY_VISIT_IDLE);

	apikey_pass_begin(pass);
	pass->asked = asked;
	pass->next = pass->began_at + LOOK_EACH;
	logged = false;
}

static void
add_project(void *project)
{
	errcontext("project \"%s\"",
			   text_to_cstring(apikey_row_text(project, APIKEY_PROJECT_PATH)));
}

/* Looks at the next keys of a project. */
static void
look_at(List *places, void *state pg_attribute_unused())
{
	Place	   *place = linitial(places);
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = add_project,
		.arg = place->project
	};

	error_context_stack = &callback;
	if (place->uses == APIKEY_USES_UNSEEN)
	{
		place->pass->in_project = false;
		move_on(place);
	}
	else if (!move_on_to_lost(place))
	{
		/* No key that is made meanwhile is due before. */
		apikey_pass_next_at(place->pass,
							apikey_idle_none_due_before(place->project, GetCurrentTimestamp()));
		deal_with_all(place, find_due(place->pass, place->project));
	}
	error_context_stack = callback.previous;
}

/*
 * Goes through projects until there is something to be done in one, or the step's
 * time is over; false where there is no more of them.  One whose row was restored
 * may have a max_idle that no time can be added to: that is told, and the pass
 * goes on.
 */
static bool
look_at_next(Place *place)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "apikey idle",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(scratch);
	bool		more;

	do
	{
		MemoryContextReset(scratch);
		if (read_project(place->pass, place->project, &more) &&
			apikey_attempt_each(look_at, list_make1(place), NULL) != NIL)
		{
			place->pass->in_project = false;
			place->pass->left = true;
		}
	} while (more && !place->found && !apikey_step_full(0));
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(scratch);
	return more;
}

/*
 * For the worker, in a transaction: a step through the keys of projects with a
 * max_idle, and when to take the next; true where that is now.
 */
bool
apikey_idle_step(ApikeyPass *pass, TimestampTz *again)
{
	ApikeyRow	project;
	Place		place = {.pass = pass, .project = &project};

	place.uses = apikey_uses_known(&place.known);
	if (place.uses == APIKEY_USES_UNTOLD)
	{
		/* The pass stays where it is, and no round of a flush waits for it. */
		pass->round = apikey_pass_awaited();
		*again = GetCurrentTimestamp() + LOOK_AGAIN;
		return false;
	}
	if (!pass->begun)
		begin_pass(pass);
	if (place.uses == APIKEY_USES_ELSEWHERE || !look_at_next(&place))
	{
		pass->begun = false;
		if (apikey_stats_use_lost_at() >= pass->began_at)
			apikey_pass_next_at(pass, GetCurrentTimestamp() + LOOK_AGAIN);
		/* What was asked for since it began may be behind it: once more. */
		*again = pass->asked != apikey_stats_visits_asked(APIKEY_VISIT_IDLE) ? 0 :
			!pass->left ? pass->next :
			Min(pass->next, GetCurrentTimestamp() + LOOK_AGAIN);
		return false;
	}
	*again = 0;
	return true;
}
