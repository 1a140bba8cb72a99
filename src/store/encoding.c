/*
 * encoding.c
 *		What is written is in the database's encoding.
 *
 * Functions of others make texts that are not, as pgcrypto's crypt() does of a
 * salt that it cuts in the middle of a character.  In a row of one tenant's such
 * a text would keep everybody's from being restored from a dump, and listed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/jsonb.h"

#include "store/store_internal.h"

static bool
in_encoding(const char *string, size_t len)
{
	return pg_verify_mbstr(GetDatabaseEncoding(), string, (int) len, true);
}

static bool
text_fits(Datum value)
{
	text	   *string = DatumGetTextPP(value);

	return in_encoding(VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
}

static bool
texts_fit(Datum value)
{
	Datum	   *texts;
	bool	   *nulls;
	int			count;
	bool		fit = true;

	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
					  TYPALIGN_INT, &texts, &nulls, &count);
	for (int i = 0; i < count && fit; i++)
		fit = nulls[i] || text_fits(texts[i]);
	return fit;
}

static bool
json_fits(Datum value)
{
	JsonbIterator *at = JsonbIteratorInit(&DatumGetJsonbP(value)->root);
	JsonbIteratorToken token;
	JsonbValue	part;
	bool		fits = true;

	while (fits &&
		   (token = JsonbIteratorNext(&at, &part, false)) != WJB_DONE)
	{
		if ((token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM) &&
			part.type == jbvString)
			fits = in_encoding(part.val.string.val, part.val.string.len);
	}
	return fits;
}

static bool
fits(Oid type, Datum value)
{
	switch (type)
	{
		case TEXTOID:
			return text_fits(value);
		case NAMEOID:
			return in_encoding(NameStr(*DatumGetName(value)),
							   strlen(NameStr(*DatumGetName(value))));
		case TEXTARRAYOID:
			return texts_fit(value);
		case JSONBOID:
			return json_fits(value);
		default:
			return true;
	}
}

/* Raises 22021 where one of a row's first columns is not in that encoding. */
void
apikey_encoding_require(TupleDesc desc, const Datum *values, const bool *nulls,
						int count)
{
	for (int i = 0; i < count; i++)
	{
		const FormData_pg_attribute *column = TupleDescAttr(desc, i);

		if (nulls[i] || fits(column->atttypid, values[i]))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("invalid value for \"%s\"", NameStr(column->attname)),
				 errdetail("It is not in the database's encoding, %s.",
						   GetDatabaseEncodingName()),
				 apikey_error_about(NameStr(column->attname), "apikey_encoding")));
	}
}
