/*
 * cache_entry.h
 *		An entry of what this process has verified: one piece of memory, in
 *		whole lines of the processor's cache.
 */
#ifndef APIKEY_CACHE_ENTRY_H
#define APIKEY_CACHE_ENTRY_H

#include "access/htup.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "access/access.h"
#include "limits/limits.h"

#define APIKEY_CACHE_LINE	64

/* An entry takes no more without its row; a longer key is read each time. */
#define APIKEY_CACHE_ENTRY_MAX	16384

/* The columns up to the last that is kept. */
#define APIKEY_CACHE_COLUMNS	(APIKEY_KEY_METADATA + 1)

/* What a token has of its own. */
typedef struct ApikeyCacheToken
{
	ApikeySpan	span;
	uint32		messages;		/* that had come for its key */
	uint32		len;
	char		text[FLEXIBLE_ARRAY_MEMBER];	/* all that its proof proves */
} ApikeyCacheToken;

/*
 * The first line is all that is read of a personal key without limits to check
 * it.  What is apart stands behind the columns, and is found by where it is
 * from the entry's beginning; 0: there is none.
 */
typedef struct ApikeyCacheEntry
{
	pg_uuid_t	id;
	uint8		proof[APIKEY_DIGEST_BYTES];
	ApikeySlotHint hint;
	ApikeyKeyState state;		/* of the verdict */
	bool		found:1;		/* a bucket leads to it */
	bool		used:1;			/* since it was the oldest the last time */
	bool		matched:1;		/* by a secret; else found by its id alone */
	bool		proven:1;		/* else the proof is not known */
	bool		of_token:1;
	bool		apart:1;		/* it has a project, bounds, or is of a token */

	uint32		next;			/* in its bucket; see cache_ring.c */
	uint16		bytes;
	uint16		project_at;		/* the path */
	uint16		bounds_at;
	uint16		token_at;
	uint16		row_at;			/* see apikey_cache_keep_row */
	uint16		columns_at[APIKEY_CACHE_COLUMNS];	/* see keep_columns */
	uint8		digest[APIKEY_DIGEST_BYTES];
	ApikeySpan	term;			/* of the verdict */
	TimestampTz touched;		/* when its last use was written */
} ApikeyCacheEntry;

StaticAssertDecl(offsetof(ApikeyCacheEntry, next) == APIKEY_CACHE_LINE,
				 "a verification reads more than one line");

/* What is somewhere in an entry; NULL where there is none. */
static inline void *
apikey_cache_part(const ApikeyCacheEntry *entry, uint16 at)
{
	return at == 0 ? NULL : (char *) entry + at;
}

/* What it has as a token's; NULL for a key's. */
static inline ApikeyCacheToken *
apikey_cache_token(const ApikeyCacheEntry *entry)
{
	return apikey_cache_part(entry, entry->token_at);
}

/* How many lines it takes. */
static inline uint32
apikey_cache_lines(const ApikeyCacheEntry *entry)
{
	return (entry->bytes + APIKEY_CACHE_LINE - 1) / APIKEY_CACHE_LINE;
}

extern ApikeyCacheEntry *apikey_cache_make(const ApikeyCredential *credential,
										   const ApikeyVerdict *verdict);
extern ApikeyCacheEntry *apikey_cache_add_row(const ApikeyCacheEntry *entry,
											  HeapTuple row);
extern Datum apikey_cache_value(const ApikeyCacheEntry *entry,
								ApikeyKeyColumn column, bool *isnull);

#endif							/* APIKEY_CACHE_ENTRY_H */
