/*
 * sql_scan.c
 *		The SQL function that looks for keys and tokens in any text.
 *
 * The text is searched in windows that overlap by more than a token is long, so
 * that what stands across an end is found in the next one, and a cancel is
 * heeded between two.  Of what is found nothing is told but what the caller may
 * see, and only where the secret matches; nothing is remembered, spent or
 * counted.
 */
#include "postgres.h"

#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "access/access.h"
#include "limits/limits.h"
#include "verify/verify.h"

#define WINDOW		(1024 * 1024)
#define OVERLAP		(2 * APIKEY_TOKEN_TEXT_MAX)
#define LAST_SHOWN	4

/* The columns of the result. */
enum
{
	SCAN_MASKED_KEY,
	SCAN_KEY_ID,
	SCAN_CODE,
	SCAN_AT,
	SCAN_COLUMNS
};

typedef struct TextScan
{
	ReturnSetInfo *result;
	MemoryContext context;		/* of what one find needs */
	const char *text;
	size_t		counted;		/* bytes of which it is known */
	int			characters;		/* how many characters they are */
} TextScan;

/* Which character of the text begins at a place, which only rises?  From 1. */
static int
character_at(TextScan *scan, size_t at)
{
	if (at > scan->counted)
	{
		scan->characters += pg_mbstrlen_with_len(scan->text + scan->counted,
												 at - scan->counted);
		scan->counted = at;
	}
	return scan->characters + 1;
}

static text *
masked(const char *text, const ApikeyFound *found)
{
	return cstring_to_text(psprintf("%.*s...%.*s",
									(int) (found->body - found->start),
									text + found->start,
									LAST_SHOWN, text + found->end - LAST_SHOWN));
}

/* Tells of what was found, if it is something that the caller may see. */
static void
tell(TextScan *scan, const char *text, const ApikeyFound *found)
{
	NullableDatum value = {0};
	ApikeyCredential credential;
	ApikeyVerdict verdict;
	ApikeyCode	code;
	Datum		values[SCAN_COLUMNS];
	bool		nulls[SCAN_COLUMNS] = {0};

	value.value = PointerGetDatum(cstring_to_text_with_len(text + found->start,
														   found->end - found->start));
	apikey_credential_from_key(value, &credential);
	code = apikey_verify_seen(&credential, &verdict);
	if (!verdict.known || !apikey_authority_sees(verdict.key))
		return;
	values[SCAN_MASKED_KEY] = PointerGetDatum(masked(text, found));
	values[SCAN_KEY_ID] = UUIDPGetDatum(apikey_row_id(verdict.key));
	values[SCAN_CODE] = CStringGetTextDatum(apikey_code_name(code));
	values[SCAN_AT] = Int32GetDatum(character_at(scan, text + found->start - scan->text));
	tuplestore_putvalues(scan->result->setResult, scan->result->setDesc,
						 values, nulls);
}

/* Searches a window of the text; returns where the last find in it ended. */
static size_t
scan_window(TextScan *scan, const char *text, size_t len)
{
	ApikeyFinder finder;
	ApikeyFound found;
	size_t		from = 0;

	apikey_find_begin(&finder, text, len, false);
	while (apikey_find_next(&finder, from, &found))
	{
		MemoryContext caller = MemoryContextSwitchTo(scan->context);

		CHECK_FOR_INTERRUPTS();
		apikey_pepper_require();
		tell(scan, text, &found);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(scan->context);
		from = found.end;
	}
	return from;
}

/*
 * apikey_scan(content text) returns table (masked_key text, key_id uuid,
 *											code text, at integer)
 *		The keys and tokens in a text that the caller may see.  55000 where there
 *		is something like one and the pepper cannot be used; 22023 where the
 *		caller's subject cannot be read.
 */
PG_FUNCTION_INFO_V1(apikey_scan);
Datum
apikey_scan(PG_FUNCTION_ARGS)
{
	text	   *content = PG_GETARG_TEXT_PP(0);
	size_t		len = VARSIZE_ANY_EXHDR(content);
	size_t		at = 0;
	TextScan		scan = {.text = VARDATA_ANY(content)};

	apikey_principal_require();
	InitMaterializedSRF(fcinfo, 0);
	scan.result = (ReturnSetInfo *) fcinfo->resultinfo;
	scan.context = AllocSetContextCreate(CurrentMemoryContext, "apikey scan",
										 ALLOCSET_DEFAULT_SIZES);
	while (at < len)
	{
		size_t		size = Min(len - at, WINDOW);
		size_t		ended = scan_window(&scan, scan.text + at, size);

		CHECK_FOR_INTERRUPTS();
		at += at + size == len ? size : Max(ended, size - OVERLAP);
	}
	MemoryContextDelete(scan.context);
	return (Datum) 0;
}
