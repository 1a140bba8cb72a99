/*
 * cache_entry.h
 *		An entry of what this process has verified: one piece of memory.
 */
#ifndef APIKEY_CACHE_ENTRY_H
#define APIKEY_CACHE_ENTRY_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "lib/ilist.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "access/access.h"
#include "limits/limits.h"

/* The values up to the last that is kept. */
#define APIKEY_CACHE_VALUES		(APIKEY_KEY_METADATA + 1)
#define APIKEY_CACHE_ROW_BYTES \
	(offsetof(ApikeyRow, values) + APIKEY_CACHE_VALUES * sizeof(Datum))

/*
 * What each verification reads comes first, for the processor's cache.  Behind
 * it stand a row, cut off after the last column that is kept, and what that
 * points to.
 */
typedef struct ApikeyCacheEntry
{
	pg_uuid_t	id;
	uint8		proof[APIKEY_DIGEST_BYTES];
	HeapTuple	row;			/* see apikey_cache_keep_row; or NULL */
	ApikeySlotHint hint;
	bool		stale;
	bool		proven;			/* else the proof is not known */
	bool		used;			/* since it was last at the ring's end */
	Oid			place;			/* see place_of */
	uint32		messages;		/* of a token: that had come for its key */
	size_t		signed_len;		/* of a token, else 0 */
	const char *signed_text;	/* of a token: all that its proof proves */
	ApikeyTokenSpan span;		/* of a token */
	ApikeyKeyState state;		/* of the verdict, */
	char	   *project;		/* as this */
	ApikeyBounds *bounds;		/* and these; or NULL */
	uint8		digest[APIKEY_DIGEST_BYTES];
	TimestampTz touched;		/* when its last use was written */
	dlist_node	node;			/* of the ring */
} ApikeyCacheEntry;

#define APIKEY_CACHE_KEY(entry) \
	((ApikeyRow *) ((char *) (entry) + MAXALIGN(sizeof(ApikeyCacheEntry))))

/* cache_entry.c */
extern Size apikey_cache_columns_bytes(const ApikeyRow *key, TupleDesc desc);
extern char *apikey_cache_copy_columns(const ApikeyRow *key, TupleDesc desc,
									   ApikeyCacheEntry *entry);
extern void apikey_cache_widen_array(ApikeyRow *key, ApikeyKeyColumn column);

#endif							/* APIKEY_CACHE_ENTRY_H */
