/*
 * cache_entry.c
 *		What an entry of cache.c has of a key, and reading it.
 *
 * It is made in memory of the caller's and copied to where it is found, so that
 * it is found whole or not at all.
 */
#include "postgres.h"

#include "access/htup_details.h"

#include "store/store.h"
#include "rows/rows.h"
#include "limits/limits.h"
#include "verify/cache_entry.h"
#include "verify/verify.h"
#include "verify/verify_internal.h"

/* The columns of a key that are told, or decided by. */
static const ApikeyKeyColumn kept_columns[] = {
	APIKEY_KEY_OWNER, APIKEY_KEY_EXPIRES_AT, APIKEY_KEY_REVOKED_AT,
	APIKEY_KEY_ROTATED_TO, APIKEY_KEY_OWNER_NAME, APIKEY_KEY_PREFIX,
	APIKEY_KEY_NAME, APIKEY_KEY_SUBJECT, APIKEY_KEY_SCOPES,
	APIKEY_KEY_ALLOWED_IPS, APIKEY_KEY_METADATA
};

/* A datum stands in the entry itself; what it would point to, otherwise. */
#define BY_VALUE	1

/* The memory in which an entry is made. */
static ApikeyCacheEntry *
made(StringInfo memory)
{
	return (ApikeyCacheEntry *) memory->data;
}

/* Appends something, of which the place is even; returns where it is. */
static uint16
append(StringInfo memory, const void *part, Size bytes)
{
	static const char zeros[MAXIMUM_ALIGNOF] = {0};
	int			at;

	appendBinaryStringInfo(memory, zeros, MAXALIGN(memory->len) - memory->len);
	at = memory->len;
	appendBinaryStringInfo(memory, part, (int) bytes);
	return (uint16) at;
}

/* Is there room for so many bytes more? */
static bool
has_room(StringInfo memory, Size bytes)
{
	return MAXALIGN(memory->len) + bytes <= APIKEY_CACHE_ENTRY_MAX;
}

/* Arrays are read where they stand, which takes a header of full length. */
static Datum
column_value(const ApikeyRow *key, ApikeyKeyColumn column)
{
	Datum		value = key->values[column];

	return column == APIKEY_KEY_SCOPES || column == APIKEY_KEY_ALLOWED_IPS ?
		PointerGetDatum(DatumGetArrayTypeP(value)) : value;
}

/* What a column of a key points to; nothing, where it is the datum itself. */
static Size
column_bytes(ApikeyKeyColumn column, Datum value)
{
	switch (column)
	{
		case APIKEY_KEY_OWNER:
		case APIKEY_KEY_EXPIRES_AT:
		case APIKEY_KEY_REVOKED_AT:
			return 0;
		case APIKEY_KEY_ROTATED_TO:
			return UUID_LEN;
		default:
			return VARSIZE_ANY(DatumGetPointer(value));
	}
}

/* Appends the columns that are kept; false where they are too long. */
static bool
keep_columns(StringInfo memory, const ApikeyRow *key)
{
	for (size_t i = 0; i < lengthof(kept_columns); i++)
	{
		ApikeyKeyColumn column = kept_columns[i];
		Datum		value;
		Size		bytes;
		uint16		at;

		if (key->nulls[column])
			continue;
		value = column_value(key, column);
		bytes = column_bytes(column, value);
		if (!has_room(memory, Max(bytes, sizeof(Datum))))
			return false;
		at = bytes == 0 ?
			append(memory, &value, sizeof(Datum)) | BY_VALUE :
			append(memory, DatumGetPointer(value), bytes);
		made(memory)->columns_at[column] = at;
	}
	return true;
}

/* Appends what only some have; false where it is too long. */
static bool
keep_parts(StringInfo memory, const ApikeyCredential *credential,
		   const ApikeyVerdict *verdict)
{
	Size		path = verdict->project == NULL ? 0 :
		strlen(verdict->project) + 1;
	Size		bounds = verdict->bounds == NULL ? 0 :
		APIKEY_BOUNDS_BYTES(verdict->bounds->count);
	ApikeyCacheToken token = {0};
	uint16		project_at = 0;
	uint16		bounds_at = 0;
	uint16		token_at = 0;

	if (!has_room(memory, MAXALIGN(path) + MAXALIGN(bounds) +
				  sizeof(ApikeyCacheToken) + credential->text_len))
		return false;
	if (path > 0)
		project_at = append(memory, verdict->project, path);
	if (bounds > 0)
		bounds_at = append(memory, verdict->bounds, bounds);
	if (verdict->span != NULL)
	{
		token.span = *verdict->span;
		token.len = credential->text_len - APIKEY_TOKEN_PROOF_CHARS;
		token_at = append(memory, &token, offsetof(ApikeyCacheToken, text));
		appendBinaryStringInfo(memory, credential->prefix, token.len);
	}
	/* The memory may have moved. */
	made(memory)->project_at = project_at;
	made(memory)->bounds_at = bounds_at;
	made(memory)->token_at = token_at;
	made(memory)->apart = project_at + bounds_at + token_at > 0;
	return true;
}

/* Ends it; what is left of the last line is memory, too. */
static ApikeyCacheEntry *
finish(StringInfo memory)
{
	enlargeStringInfo(memory, APIKEY_CACHE_LINE);
	made(memory)->bytes = memory->len;
	return made(memory);
}

/* Makes an entry of what was read of a key; NULL where it is too long. */
ApikeyCacheEntry *
apikey_cache_make(const ApikeyCredential *credential,
				  const ApikeyVerdict *verdict)
{
	ApikeyCacheEntry entry = {0};
	StringInfoData memory;

	entry.id = credential->id;
	entry.proven = credential->text_len > 0;
	if (entry.proven)
		memcpy(entry.proof, credential->proof, APIKEY_DIGEST_BYTES);
	memcpy(entry.digest, credential->digest, APIKEY_DIGEST_BYTES);
	entry.hint = verdict->fresh_hint;
	entry.state = verdict->state;
	entry.term = verdict->fresh_term;
	entry.of_token = verdict->span != NULL;
	initStringInfo(&memory);
	append(&memory, &entry, sizeof(entry));
	return keep_columns(&memory, verdict->key) &&
		keep_parts(&memory, credential, verdict) ? finish(&memory) : NULL;
}

/*
 * Makes another of an entry, with its row, of which it keeps what a minimal
 * tuple has; NULL where that is too long.
 */
ApikeyCacheEntry *
apikey_cache_add_row(const ApikeyCacheEntry *entry, HeapTuple row)
{
	Size		bytes = row->t_len - MINIMAL_TUPLE_OFFSET;
	StringInfoData memory;
	MinimalTuple kept;
	uint16		at;

	if (bytes > APIKEY_CACHE_ENTRY_MAX)
		return NULL;
	initStringInfo(&memory);
	append(&memory, entry, entry->bytes);
	at = append(&memory, (char *) row->t_data + MINIMAL_TUPLE_OFFSET, bytes);
	kept = (MinimalTuple) (memory.data + at);
	kept->t_len = bytes;
	/* What is before it told the type of a value, which it is not any more. */
	kept->t_infomask &= ~HEAP_XACT_MASK;
	made(&memory)->row_at = at;
	return finish(&memory);
}

/* A column of an entry that is kept. */
Datum
apikey_cache_value(const ApikeyCacheEntry *entry, ApikeyKeyColumn column,
				   bool *isnull)
{
	uint16		at = entry->columns_at[column];
	char	   *part = (char *) entry + (at & ~BY_VALUE);

	*isnull = at == 0;
	return (at & BY_VALUE) != 0 ? *(Datum *) part : PointerGetDatum(part);
}

/* A column of a key that is told of, which is kept and not null. */
Datum
apikey_verdict_value(const ApikeyVerdict *verdict, ApikeyKeyColumn column)
{
	bool		isnull;

	return verdict->key != NULL ? verdict->key->values[column] :
		apikey_cache_value(verdict->entry, column, &isnull);
}

/* The row of a key that is told of; an entry has the columns that are kept. */
const ApikeyRow *
apikey_verdict_key(ApikeyVerdict *verdict)
{
	ApikeyRow  *key;

	if (verdict->key != NULL)
		return verdict->key;
	key = palloc(sizeof(ApikeyRow));
	apikey_row_clear(key);
	apikey_row_set_pointer(key, APIKEY_KEY_ID, verdict->id);
	for (size_t i = 0; i < lengthof(kept_columns); i++)
	{
		int			column = kept_columns[i];

		key->values[column] = apikey_cache_value(verdict->entry, column,
												 &key->nulls[column]);
	}
	verdict->key = key;
	return key;
}
