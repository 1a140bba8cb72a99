/*
 * encoding.c
 *		What is written is in the database's encoding.
 *
 * Functions of others make texts that are not, as pgcrypto's crypt() does of a
 * salt that it cuts in the middle of a character.  In a row of one tenant's such
 * a text would keep everybody's from being restored from a dump, and listed.  What
 * is there already, of a time when this was not looked at, or in the name of a role
 * that another database has given it, keeps nobody from changing something else.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
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

/* A text of so many bytes, with '?' for each that is of no character of an encoding. */
void
apikey_encoding_clean(int encoding, char *string, int len)
{
	int			valid;

	while ((valid = pg_encoding_verifymbstr(encoding, string, len)) < len)
	{
		string[valid] = '?';
		string += valid + 1;
		len -= valid + 1;
	}
}

static Datum
cleaned(Oid type, Datum value)
{
	char	   *string = type == NAMEOID ? pstrdup(NameStr(*DatumGetName(value))) :
		TextDatumGetCString(value);
	Name		name;

	apikey_encoding_clean(GetDatabaseEncoding(), string, (int) strlen(string));
	if (type == TEXTOID)
		return CStringGetTextDatum(string);
	name = palloc0(sizeof(NameData));
	namestrcpy(name, string);
	return NameGetDatum(name);
}

static void
see_column(const FormData_pg_attribute *column, Datum *value, bool tells)
{
	Oid			type = column->atttypid;

	if (fits(type, *value))
		return;
	if (tells && (type == TEXTOID || type == NAMEOID))
	{
		*value = cleaned(type, *value);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
			 errmsg("invalid value for \"%s\"", NameStr(column->attname)),
			 errdetail("It is not in the database's encoding, %s.",
					   GetDatabaseEncodingName()),
			 apikey_error_about(NameStr(column->attname), "apikey_encoding")));
}

/*
 * Looks at the first columns of a row that is about to be written, but for what
 * stands in the row before, if any: raises 22021 where one is not in that
 * encoding or, where a row tells of what is there already, writes what can be.
 */
void
apikey_encoding_see(ApikeyRelation table, const TupleTableSlot *before,
					TupleTableSlot *row, int count)
{
	bool		tells = table == APIKEY_REL_EVENT || table == APIKEY_REL_DELETED ||
		table == APIKEY_REL_REVOCATION;

	for (int i = 0; i < count; i++)
	{
		const FormData_pg_attribute *column = TupleDescAttr(row->tts_tupleDescriptor, i);

		if (!row->tts_isnull[i] &&
			(before == NULL || before->tts_isnull[i] ||
			 !datumIsEqual(row->tts_values[i], before->tts_values[i],
						   column->attbyval, column->attlen)))
			see_column(column, &row->tts_values[i], tells);
	}
}
