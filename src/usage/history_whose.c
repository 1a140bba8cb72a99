/*
 * history_whose.c
 *		Whose the rows of the history are.
 *
 * A key's first row of an hour or day has an id that the key alone gives, so that
 * a flush finds it without reading the key.  It says whose the key was; what is
 * used after a transfer is not the former owner's, and has a row of its own.
 */
#include "postgres.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "usage/usage_internal.h"

/* The same number for the same owner and subject, until the next start; not 0. */
static uint32
whose(Oid owner, const text *subject)
{
	uint64		numbers[] = {owner, subject != NULL, 0};
	uint32		result;

	if (subject != NULL)
		numbers[2] = apikey_seeded_hash(VARDATA_ANY(subject),
										VARSIZE_ANY_EXHDR(subject));
	result = (uint32) apikey_seeded_hash(numbers, sizeof(numbers));
	return result == 0 ? 1 : result;
}

/* Whose a key is. */
uint32
apikey_history_whose(const ApikeyRow *key)
{
	return whose(apikey_key_owner(key),
				 apikey_row_text(key, APIKEY_KEY_SUBJECT));
}

/* Whose it was in a row. */
uint32
apikey_history_row_whose(const ApikeyRow *row)
{
	return whose(DatumGetObjectId(row->values[HISTORY_KEY_OWNER]),
				 apikey_row_text(row, HISTORY_KEY_SUBJECT));
}

/* The id of a key's first row of an hour or day. */
void
apikey_history_first_id(const pg_uuid_t *key, TimestampTz begin, bool day,
						pg_uuid_t *id)
{
	struct
	{
		pg_uuid_t	key;
		TimestampTz begin;
		int64		day;
	}			what = {.key = *key,.begin = begin,.day = day};

	apikey_digest_id(&what, sizeof(what), id);
}

/* The id of a row beside the first, of whose the key was in it. */
void
apikey_history_later_id(const pg_uuid_t *first, const ApikeyRow *row,
						pg_uuid_t *id)
{
	const text *subject = apikey_row_text(row, HISTORY_KEY_SUBJECT);
	int64		numbers[] = {
		DatumGetObjectId(row->values[HISTORY_KEY_OWNER]), subject != NULL
	};
	StringInfoData what;

	initStringInfo(&what);
	appendBinaryStringInfo(&what, (const char *) first, sizeof(*first));
	appendBinaryStringInfo(&what, (const char *) numbers, sizeof(numbers));
	if (subject != NULL)
		appendBinaryStringInfo(&what, VARDATA_ANY(subject),
							   VARSIZE_ANY_EXHDR(subject));
	apikey_digest_id(what.data, what.len, id);
	pfree(what.data);
}
