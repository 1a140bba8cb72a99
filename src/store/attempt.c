/*
 * attempt.c
 *		A work that may as well be left undone.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/snapmgr.h"

#include "store/store.h"

/* In works on some items, each alone: waits that are too long. */
#define WAITS_MOST	5
#define WAIT_ALONE	20			/* milliseconds; 100 in all */

/* Ends the subtransaction of apikey_attempt without what it has done. */
static void
roll_back(MemoryContext context, ResourceOwner owner)
{
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

/* Is an error that somebody else was in the way, or has all that there is? */
static bool
in_the_way(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlerrcode == ERRCODE_OUT_OF_MEMORY;
}

/* Is an error no reason to fail, where a work may as well be left undone? */
static bool
may_be_left(int sqlerrcode)
{
	return in_the_way(sqlerrcode) ||
		sqlerrcode == ERRCODE_UNIQUE_VIOLATION ||
		sqlerrcode == ERRCODE_UNDEFINED_OBJECT ||
		sqlerrcode == ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION ||
		sqlerrcode == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

/* Is an error one of the work's, and no order to end? */
static bool
is_no_order(int sqlerrcode)
{
	return sqlerrcode != ERRCODE_QUERY_CANCELED &&
		sqlerrcode != ERRCODE_ADMIN_SHUTDOWN;
}

/*
 * Is an error one that the work itself may be the reason of: neither an order to
 * end, nor what any other work would meet as well?
 */
static bool
is_its_own(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return !in_the_way(sqlerrcode) &&
		category != ERRCODE_INSUFFICIENT_RESOURCES &&
		category != ERRCODE_OPERATOR_INTERVENTION;
}

/* May it be the reason of one of many works only, or in the way of that one? */
static bool
is_of_one(int sqlerrcode)
{
	return is_its_own(sqlerrcode) || sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

/*
 * Runs a work in a subtransaction, whose end keeps what it has written, or not.
 * Returns false for some errors: then all of that is rolled back.  Whatever ends
 * it, the subtransaction has ended when we return or raise.  told is NULL, or gets
 * the error for which false is returned.
 */
static bool
attempt(ApikeyWork run, void *work, bool keep,
		bool (*returned) (int sqlerrcode), ErrorData **told)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		run(work);
		if (keep)
		{
			ReleaseCurrentSubTransaction();
			MemoryContextSwitchTo(context);
			CurrentResourceOwner = owner;
		}
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		roll_back(context, owner);
		if (!returned(error->sqlerrcode))
			ReThrowError(error);
		if (told != NULL)
			*told = error;
		else
			FreeErrorData(error);
	}
	PG_END_TRY();
	if (done && !keep)
		roll_back(context, owner);
	return done;
}

/*
 * Runs a work in a subtransaction.  Returns false where the transaction's
 * snapshot forbids the work, somebody else has just done the same or is in the
 * way, pgcrypto cannot read what is stored, or the tables are of an older
 * version, or gone.
 */
bool
apikey_attempt(ApikeyWork run, void *work)
{
	return attempt(run, work, true, may_be_left, NULL);
}

/* The same; false only where somebody else is in the way. */
bool
apikey_attempt_alone(ApikeyWork run, void *work)
{
	return attempt(run, work, true, in_the_way, NULL);
}

/* The same; false for every error, which is told, but an order to end. */
bool
apikey_attempt_told(ApikeyWork run, void *work, ErrorData **error)
{
	return attempt(run, work, true, is_no_order, error);
}

static bool
is_none(int sqlerrcode pg_attribute_unused())
{
	return false;
}

/*
 * Runs a work whose locks end with it, and whatever it has written; its errors
 * are raised.
 */
void
apikey_attempt_undone(ApikeyWork run, void *work)
{
	(void) attempt(run, work, false, is_none, NULL);
}

/* A work on items, and those. */
typedef struct Each
{
	ApikeyWorkOnItems run;
	List	   *items;
	void	   *state;
} Each;

static void
run_each(void *work)
{
	const Each *each = work;

	each->run(each->items, each->state);
}

/* Tells of an error that ends nothing. */
static void
tell(ErrorData *error)
{
	ErrorContextCallback *callbacks = error_context_stack;

	error->elevel = WARNING;
	error_context_stack = NULL; /* they have told theirs */
	ThrowErrorData(error);
	error_context_stack = callbacks;
	FreeErrorData(error);
}

/*
 * Runs a work on each of its items.  After some waits for locks that were too long
 * the rest is not tried: it may be the table that somebody has.  Where nothing could
 * be done for locks that is raised.
 */
static List *
try_each(const Each *all)
{
	List	   *failed = NIL;
	int			done = 0;
	int			waits = 0;
	ErrorData  *error;
	ListCell   *cell;

	foreach(cell, all->items)
	{
		Each		one = {.run = all->run, .items = list_make1(lfirst(cell)), .state = all->state};

		CHECK_FOR_INTERRUPTS();
		if (waits < WAITS_MOST)
		{
			if (attempt(run_each, &one, true, is_of_one, &error))
			{
				done++;
				continue;
			}
			if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
				waits++;
			if (waits > 0 && done == 0 &&
				(waits == WAITS_MOST || lnext(all->items, cell) == NULL))
				ReThrowError(error);
			tell(error);
		}
		failed = lappend(failed, lfirst(cell));
	}
	return failed;
}

/* The same; nothing is waited for long, as others wait for what is done already. */
static List *
each_alone(const Each *all)
{
	int			before = LockTimeout;
	List	   *volatile failed = NIL;

	if (LockTimeout == 0 || LockTimeout > WAIT_ALONE)
		LockTimeout = WAIT_ALONE;
	PG_TRY();
	{
		failed = try_each(all);
	}
	PG_FINALLY();
	{
		LockTimeout = before;
	}
	PG_END_TRY();
	return failed;
}

/*
 * Runs a work on items, which may be of many tenants, in a subtransaction.  Where
 * that fails it is run anew on each of them alone: an error that one has by
 * itself, or that somebody else is in the way of one, is told, and keeps the
 * others waiting for nothing.  Returns the items that had one, of which nothing is
 * done.
 */
List *
apikey_attempt_each(ApikeyWorkOnItems run, List *items, void *state)
{
	Each		all = {.run = run, .items = items, .state = state};
	bool		alone = list_length(items) == 1;
	ErrorData  *error;

	if (items == NIL ||
		attempt(run_each, &all, true, alone ? is_its_own : is_of_one, &error))
		return NIL;
	if (!alone)
		return each_alone(&all);
	tell(error);
	return list_copy(items);
}
