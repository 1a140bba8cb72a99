/*
 * row_hint.c
 *		Where the rows of a key were when it was verified last.
 *
 * Most of a verification that finds nothing remembered in its process is the
 * search of two indexes, which in a large table are not in the processor's
 * cache.  So a key's slot has where its rows were.  That is looked at first;
 * whether they are there, the rows tell themselves: see apikey_scan_hinted.  So
 * nothing has to be told of a change, and what is committed holds at once.
 *
 * It is for whoever offers what was offered then, and found: to all others it is
 * as if nothing were known, so that a wrong secret takes as long as ever.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "text/text.h"
#include "memory/memory.h"

static uint32
beginning(const uint8 *digest)
{
	uint32		result;

	memcpy(&result, digest, sizeof(result));
	return result;
}

/*
 * Where the rows are of a key of which something with this digest is offered:
 * nowhere that is known, perhaps.  Tells where its slot is.
 */
void
apikey_row_hints_read(const pg_uuid_t *id, const uint8 *digest,
					  ApikeySlotHint *slot_hint, ApikeyRowHints *hints)
{
	ApikeySlot *slot = !apikey_usage_shared() ? NULL :
		apikey_slot_seize(id, slot_hint, false);

	memset(hints, 0, sizeof(*hints));
	if (slot != NULL)
	{
		if (slot->rows.offered == beginning(digest))
			*hints = slot->rows;
		SpinLockRelease(&slot->mutex);
	}
	hints->offered = beginning(digest);
}

/* Remembers where they were found, if the key has a slot. */
void
apikey_row_hints_write(const pg_uuid_t *id, ApikeySlotHint *slot_hint,
					   const ApikeyRowHints *hints)
{
	ApikeySlot *slot = !apikey_usage_shared() ? NULL :
		apikey_slot_seize(id, slot_hint, false);

	if (slot == NULL)
		return;
	slot->rows = *hints;
	SpinLockRelease(&slot->mutex);
}
