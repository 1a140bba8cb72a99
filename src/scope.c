/*
 * scope.c
 *		What a key's scopes grant.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

#include "apikey.h"

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

bool
apikey_scope_granted(ArrayType *granted, const text *wanted)
{
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	deconstruct_array(granted, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (!nulls[i] && scope_covers(DatumGetTextPP(elements[i]), wanted))
			return true;
	}
	return false;
}
