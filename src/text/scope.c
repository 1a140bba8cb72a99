/*
 * scope.c
 *		What a key's scopes grant.
 *
 * What is wanted comes from whoever calls, so it is bounded before it is looked
 * at: whoever wants more than a key can have is granted nothing.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "text/text.h"

#define WANTED_MAX			1000
#define WANTED_CHARS_MAX	200
#define WANTED_TEXT_BYTES	(WANTED_CHARS_MAX * MAX_MULTIBYTE_CHAR_LEN)

/* The greatest array of so many such texts; a greater one is not even read. */
#define WANTED_BYTES_MAX \
	(ARR_OVERHEAD_WITHNULLS(MAXDIM, WANTED_MAX) + \
	 WANTED_MAX * (INTALIGN(VARHDRSZ + WANTED_TEXT_BYTES)))

/* The texts of an array, one after the other, where they are. */
typedef struct Texts
{
	int			count;
	int			at;				/* how many have been taken */
	const char *next;
	const uint8 *nulls;			/* or NULL, where none is */
} Texts;

static void
texts_begin(Texts *texts, ArrayType *array)
{
	texts->count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
	texts->at = 0;
	texts->next = ARR_DATA_PTR(array);
	texts->nulls = ARR_NULLBITMAP(array);
}

/* The next text, or NULL for an element that is null; false after the last. */
static inline bool
texts_next(Texts *texts, const text **value)
{
	if (texts->at == texts->count)
		return false;
	if (texts->nulls != NULL && att_isnull(texts->at, texts->nulls))
		*value = NULL;
	else
	{
		texts->next = (const char *) att_align_pointer(texts->next, TYPALIGN_INT,
													   -1, texts->next);
		*value = (const text *) texts->next;
		texts->next += VARSIZE_ANY(texts->next);
	}
	texts->at++;
	return true;
}

/*
 * Does one granted scope cover the wanted one?  "*" covers everything, "a:*"
 * all that starts with "a:", any other itself; bytewise.
 */
static bool
scope_covers(const text *granted, const text *wanted)
{
	const char *bytes = VARDATA_ANY(granted);
	int			len = VARSIZE_ANY_EXHDR(granted);
	int			wanted_len = VARSIZE_ANY_EXHDR(wanted);

	if (len > 0 && bytes[len - 1] == '*')
		return wanted_len >= len - 1 &&
			memcmp(bytes, VARDATA_ANY(wanted), len - 1) == 0;
	return len == wanted_len && memcmp(bytes, VARDATA_ANY(wanted), len) == 0;
}

/* Is a scope that is wanted no longer than one can be? */
static bool
short_enough(const text *wanted)
{
	int			len = VARSIZE_ANY_EXHDR(wanted);

	return len <= WANTED_CHARS_MAX ||
		(len <= WANTED_TEXT_BYTES &&
		 pg_mbstrlen_with_len(VARDATA_ANY(wanted), len) <= WANTED_CHARS_MAX);
}

static bool
granted_one(ArrayType *granted, const text *wanted)
{
	Texts		texts;
	const text *scope;

	if (wanted == NULL || !short_enough(wanted))
		return false;
	texts_begin(&texts, granted);
	while (texts_next(&texts, &scope))
	{
		if (scope != NULL && scope_covers(scope, wanted))
			return true;
	}
	return false;
}

/* Does an array of scopes grant one? */
bool
apikey_scope_granted(Datum granted, Datum wanted)
{
	return toast_raw_datum_size(wanted) - VARHDRSZ <= WANTED_TEXT_BYTES &&
		granted_one(DatumGetArrayTypeP(granted), DatumGetTextPP(wanted));
}

/* Begins with what is wanted; false where that is more than can be. */
static bool
wanted_begin(Texts *texts, Datum wanted)
{
	if (toast_raw_datum_size(wanted) > WANTED_BYTES_MAX)
		return false;
	texts_begin(texts, DatumGetArrayTypeP(wanted));
	return texts->count <= WANTED_MAX;
}

/* Does an array of scopes grant all of another? */
bool
apikey_scope_all_granted(Datum granted, Datum wanted)
{
	ArrayType  *scopes = DatumGetArrayTypeP(granted);
	Texts		texts;
	const text *scope;

	if (!wanted_begin(&texts, wanted))
		return false;
	while (texts_next(&texts, &scope))
	{
		CHECK_FOR_INTERRUPTS();
		if (!granted_one(scopes, scope))
			return false;
	}
	return true;
}

/*
 * Adds to what there is of scopes those of one array that another grants, but
 * for what is granted already; returns how many there are.
 */
static int
add_granted(ArrayType *one, ArrayType *other, Datum *scopes, int count)
{
	ArrayType  *before = construct_array(scopes, count, TEXTOID, -1, false,
										 TYPALIGN_INT);
	Texts		texts;
	const text *scope;

	texts_begin(&texts, one);
	while (texts_next(&texts, &scope))
	{
		if (scope != NULL && granted_one(other, scope) &&
			!granted_one(before, scope))
			scopes[count++] = PointerGetDatum(scope);
	}
	return count;
}

/* The scopes that grant what both of two arrays grant, and no more. */
ArrayType *
apikey_scope_common(ArrayType *one, ArrayType *two)
{
	int			most = ArrayGetNItems(ARR_NDIM(one), ARR_DIMS(one)) +
		ArrayGetNItems(ARR_NDIM(two), ARR_DIMS(two));
	Datum	   *scopes = palloc(sizeof(Datum) * Max(most, 1));
	int			count = add_granted(two, one, scopes, 0);

	count = add_granted(one, two, scopes, count);
	return construct_array(scopes, count, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * "missing_scopes": [...]: what is wanted and not granted.  A text that is too
 * long does not stand there, nor does anything of an array that is too great.
 */
void
apikey_scope_missing(StringInfo json, Datum granted, Datum wanted)
{
	ArrayType  *scopes = DatumGetArrayTypeP(granted);
	Texts		texts;
	const text *scope;
	const char *separator = "";
	bool		bounded = wanted_begin(&texts, wanted);

	appendStringInfoString(json, "\"missing_scopes\": [");
	while (bounded && texts_next(&texts, &scope))
	{
		CHECK_FOR_INTERRUPTS();
		if ((scope != NULL && !short_enough(scope)) ||
			granted_one(scopes, scope))
			continue;
		appendStringInfoString(json, separator);
		if (scope == NULL)
			appendStringInfoString(json, "null");
		else
			escape_json(json, text_to_cstring(scope));
		separator = ", ";
	}
	appendStringInfoChar(json, ']');
}
