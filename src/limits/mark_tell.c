/*
 * mark_tell.c
 *		Telling of limits: that one is low or exhausted, each once a period, and
 *		what charges were dropped.
 *
 * A verification writes nothing, and what it was may be rolled back, so it puts
 * what is to be told on a list; the worker writes the events.  Whether an account
 * has been told of in its period its row says.  Its slot says whether it stands on
 * the list or has been told, so that nobody puts it there again: never where
 * neither is so, or it would not be told any more.  Where somebody has the row the
 * mark stays on the list.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory.h"
#include "events/events.h"
#include "keys/keys.h"
#include "credits/credits.h"
#include "limits/limits_internal.h"
#include "limits/mark.h"

/* A mark that is being told of. */
typedef struct Telling
{
	ApikeyMark	mark;
	ApikeyMarkEnd end;
} Telling;

/* Marks an account, if this has not been told in its period. */
static void
mark_account(ApikeyBound *bound, const pg_uuid_t *key, ApikeyMarkKind kind,
			 const ApikeyBoundState *state)
{
	bool		exhausted = kind == APIKEY_MARK_EXHAUSTED;
	ApikeyMark	mark = {
		.database = MyDatabaseId,
		.kind = kind,
		.limit = bound->id,
		.key = *key,
		.amount = state->remaining
	};

	/* First, as the worker may find it not so as soon as it is on the list. */
	if (!apikey_lease_tell(MyDatabaseId, &bound->id, &bound->hint, exhausted,
						   true) &&
		!apikey_mark_put(&mark, bound->charged, true))
		(void) apikey_lease_tell(MyDatabaseId, &bound->id, &bound->hint,
								 exhausted, false);
}

/* Is a limit of an amount what a mark of a kind tells? */
static bool
is_so(ApikeyMarkKind kind, int64 remaining, int64 amount)
{
	return kind == APIKEY_MARK_EXHAUSTED ? remaining <= 0 :
		remaining <= amount / 5;
}

/* Marks what a limit has come to. */
static void
mark_bound(ApikeyBound *bound, const pg_uuid_t *key,
		   const ApikeyBoundState *state)
{
	static const ApikeyMarkKind kinds[] = {APIKEY_MARK_LOW, APIKEY_MARK_EXHAUSTED};

	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		if (is_so(kinds[i], state->remaining, bound->amount))
			mark_account(bound, key, kinds[i], state);
	}
}

/* What a verification has come to may be something to tell. */
void
apikey_mark_bounds(const ApikeyVerdict *verdict, ApikeyCode code)
{
	if (!apikey_preloaded())
		return;
	for (int i = 0; i < verdict->bounds->count; i++)
	{
		ApikeyBound *bound = &verdict->bounds->list[i];
		const ApikeyBoundState *state = &verdict->states[i];

		if (bound->kind == APIKEY_LIMIT_RATE || bound->short_form ||
			!state->known)
			continue;
		if (code == APIKEY_CODE_VALID || i == verdict->refused_by)
			mark_bound(bound, verdict->id, state);
	}
}

/* In a slot: it stands on the list, or has been told; or not. */
static void
set_told(const ApikeyMark *mark, bool told)
{
	if (mark->kind != APIKEY_MARK_OVERDRAWN)
		(void) apikey_lease_tell(mark->database, &mark->limit, NULL,
								 mark->kind == APIKEY_MARK_EXHAUSTED, told);
}

/* Puts one back, if there is room. */
void
apikey_mark_move_back(const ApikeyMark *mark)
{
	if (!apikey_mark_put(mark, InvalidOid, false))
		set_told(mark, false);
}

/* Tells of what a charge of a key has dropped; of credits as of the key. */
static void
tell_overdrawn(const ApikeyMark *mark, const ApikeyRow *limit)
{
	StringInfoData json;
	ApikeyRow	key;

	if (limit != NULL)
	{
		apikey_limit_tell(limit, APIKEY_EVENT_OVERDRAWN,
						  apikey_limit_detail_with(limit, "dropped", mark->amount, &mark->key));
		return;
	}
	if (!apikey_key_fetch_latest(&mark->key, &key))
		return;
	apikey_detail_begin(&json);
	apikey_detail_string(&json, "holder", "key");
	apikey_detail_string(&json, "unit", APIKEY_REQUESTS);
	apikey_detail_json(&json, "dropped", psprintf(INT64_FORMAT, mark->amount));
	apikey_event_key(&key, APIKEY_EVENT_OVERDRAWN, apikey_detail_end(&json));
}

/*
 * Tells that a limit is low or exhausted, unless it was told in its period.
 * What was spent may have come back since, as with a rollback: it is told then
 * when it is so once more.
 */
static ApikeyMarkEnd
tell_account(const ApikeyMark *mark, const ApikeyRow *limit)
{
	bool		exhausted = mark->kind == APIKEY_MARK_EXHAUSTED;
	ApikeyRow	account;
	bool		known;
	int64		left = apikey_account_left(&mark->limit, &account, &known);

	if (!known ||
		!is_so(mark->kind, left, apikey_limit_number(limit, APIKEY_LIMIT_AMOUNT)))
		return APIKEY_MARK_NOT_SO;
	switch (apikey_account_mark_told(&mark->limit, exhausted))
	{
		case APIKEY_TOLD_NOW:
			apikey_limit_tell(limit, exhausted ?
							  APIKEY_EVENT_LIMIT_EXHAUSTED : APIKEY_EVENT_LIMIT_LOW,
							  apikey_limit_detail_with(limit, "remaining",
													   Max(mark->amount, left), NULL));
			break;
		case APIKEY_TOLD_BEFORE:
			break;
		case APIKEY_TOLD_NEVER:
			return APIKEY_MARK_NOT_SO;
		case APIKEY_TOLD_LATER:
			return APIKEY_MARK_LATER;
	}
	return APIKEY_MARK_TOLD;
}

/* Writes the event of a mark. */
ApikeyMarkEnd
apikey_mark_write(const ApikeyMark *mark)
{
	ApikeyRow	limit;
	bool		found = apikey_table_fetch_latest(&apikey_limit_table,
												  &mark->limit, &limit);

	if (mark->kind != APIKEY_MARK_OVERDRAWN)
		return found ? tell_account(mark, &limit) : APIKEY_MARK_NOT_SO;
	tell_overdrawn(mark, found ? &limit : NULL);
	return APIKEY_MARK_TOLD;
}

static void
write_one(void *item, void *state pg_attribute_unused())
{
	Telling    *telling = item;

	/* Who finds it so after we have looked, or failed, marks it anew. */
	set_told(&telling->mark, false);
	telling->end = APIKEY_MARK_NOT_SO;
	telling->end = apikey_mark_write(&telling->mark);
	set_told(&telling->mark, telling->end != APIKEY_MARK_NOT_SO);
}

static void
write_some(List *tellings, void *state)
{
	apikey_turns_each(tellings, write_one, state);
}

/* Has nobody a table that is needed, or waits for it?  Then it is ours until the end. */
static bool
are_writable(void)
{
	return apikey_event_writable() && apikey_table_free(&apikey_limit_table) &&
		apikey_account_writable();
}

/*
 * Writes what can be.  What is not tried, or not to be had, stays to be told: no
 * other's mark is to be lost for what somebody keeps us from.
 */
static void
write_marks(List *to_write)
{
	if (are_writable())
		(void) apikey_attempt_each(write_some, to_write, NULL);
}

/*
 * For the worker: writes some of the events, in a transaction; true while there
 * are more of those that there were at first.
 */
bool
apikey_mark_tell(bool first, int *left)
{
	ApikeyMark *marks = palloc(APIKEY_MARKS_AT_ONCE * sizeof(ApikeyMark));
	Telling    *tellings = palloc(APIKEY_MARKS_AT_ONCE * sizeof(Telling));
	List	   *to_write = NIL;
	bool		later[APIKEY_MARKS_AT_ONCE];
	int			count;

	if (first)
		*left = apikey_mark_count(MyDatabaseId);
	count = apikey_mark_collect(MyDatabaseId, marks,
								Min(*left, APIKEY_MARKS_AT_ONCE), true);
	*left -= count;
	if (count == 0)
		return false;
	for (int i = 0; i < count; i++)
	{
		tellings[i] = (Telling) {.mark = marks[i],.end = APIKEY_MARK_LATER};
		to_write = lappend(to_write, &tellings[i]);
	}
	if (apikey_step_begin())
	{
		write_marks(to_write);
		apikey_step_commit();
	}
	else
	{
		for (int i = 0; i < count; i++)
		{
			set_told(&marks[i], false);
			tellings[i].end = APIKEY_MARK_NOT_SO;
		}
	}
	for (int i = 0; i < count; i++)
		later[i] = tellings[i].end == APIKEY_MARK_LATER;
	apikey_mark_remove(MyDatabaseId, count, later);
	return *left > 0;
}
