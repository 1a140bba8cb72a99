/*
 * last_note.c
 *		The last of a transaction's notes of the same.
 *
 * It may be looked for with a lock held for which others spin; so however many
 * notes there are, that takes no longer.  There are twice as many places as there
 * is room for notes.  What goes first is what came last, so a place that is free
 * ends a search.  Few notes, as most transactions have, have no places: whoever
 * noted them looks through them as they are.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "store/store.h"

static void *
note_of(const ApikeyLastNotes *last, int number)
{
	return last->part->noted + (Size) (number - 1) * last->part->size;
}

static bool
is_sought(const ApikeyLastNotes *last, const void *noted)
{
	return last->sought == NULL || last->sought(noted);
}

static int *
place_of(const ApikeyLastNotes *last, const void *like)
{
	for (uint32 place = last->hash(like);; place++)
	{
		int		   *number = &last->numbers[place & last->mask];

		if (*number == 0 || last->same(note_of(last, *number), like))
			return number;
	}
}

/* The number of the last note of the same; 0 for none.  There are places. */
int
apikey_last_note(const ApikeyLastNotes *last, const void *like)
{
	return *place_of(last, like);
}

/* Gives a note the place of the one before it of the same. */
void
apikey_last_notes_put(const ApikeyLastNotes *last, void *noted)
{
	int		   *number;

	if (!is_sought(last, noted))
		return;
	number = place_of(last, noted);
	((ApikeyNoted *) noted)->before = *number;
	*number = (int) (((char *) noted - last->part->noted) / last->part->size) + 1;
}

/* Gives it back to that one. */
void
apikey_last_notes_remove(const ApikeyLastNotes *last, const void *noted)
{
	if (is_sought(last, noted))
		*place_of(last, noted) = ((const ApikeyNoted *) noted)->before;
}

/* Makes room for another note and its place, so that noting it cannot fail. */
void
apikey_last_notes_reserve(ApikeyLastNotes *last)
{
	ApikeyTransactionPart *part = last->part;
	uint32		needed;

	if (part->noted == NULL || part->count == part->room)
		apikey_transaction_reserve(part);
	if (last->numbers == NULL && part->count < last->few)
		return;
	needed = pg_nextpower2_32(2 * (uint32) part->room);
	if (last->numbers != NULL && last->mask >= needed - 1)
		return;
	/* Where there is no memory for it, the rest is undone without it. */
	if (last->numbers != NULL)
		pfree(last->numbers);
	last->numbers = NULL;
	last->numbers = MemoryContextAllocExtended(TopTransactionContext,
											   (Size) needed * sizeof(int),
											   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	last->mask = needed - 1;
	for (int i = 1; i <= part->count; i++)
		apikey_last_notes_put(last, note_of(last, i));
}
