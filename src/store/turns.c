/*
 * turns.c
 *		Visits of many rows, and work on many items, each in memory that is given
 *		back.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "store/store.h"

/* Begins visits in turns, of however many rows. */
void
apikey_turns_begin(ApikeyTurns *turns, ApikeyVisit visit, void *state)
{
	turns->visit = visit;
	turns->state = state;
	turns->context = AllocSetContextCreate(CurrentMemoryContext, "apikey turns",
										   ALLOCSET_DEFAULT_SIZES);
}

/*
 * Is called, with the turns as its state, in the place of their visit: what
 * that takes of memory is given back when it returns.
 */
bool
apikey_turns_visit(const ApikeyRow *row, void *turns)
{
	const ApikeyTurns *own = turns;
	MemoryContext outer = MemoryContextSwitchTo(own->context);
	bool		more = own->visit(row, own->state);

	MemoryContextSwitchTo(outer);
	MemoryContextReset(own->context);
	return more;
}

void
apikey_turns_end(ApikeyTurns *turns)
{
	MemoryContextDelete(turns->context);
}

/* Does a work on each item of a list; what that takes is given back. */
void
apikey_turns_each(const List *items, ApikeyWorkOnItem work, void *state)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey turns",
												  ALLOCSET_DEFAULT_SIZES);
	ListCell   *cell;

	foreach(cell, items)
	{
		MemoryContext outer = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		work(lfirst(cell), state);
		MemoryContextSwitchTo(outer);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}
