/*
 * unicode.c
 *		What the characters of a text are, whatever the database's locale.
 *
 * The server's own character classes follow the locale: they take invisible
 * letters and refuse the marks that many scripts need.  So classes come from
 * Unicode's own table.  A text in another encoding is converted to be looked
 * at; in SQL_ASCII only ASCII has a meaning.
 */
#include "postgres.h"

#include "catalog/pg_conversion.h"
#include "catalog/pg_namespace.h"
#include "common/string.h"
#include "common/unicode_norm.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "text/text.h"
#include "text/unicode_ranges.h"

/* The class of a code point: a binary search for the run it stands in. */
ApikeyCharClass
apikey_unicode_class(pg_wchar code)
{
	size_t		low = 0;
	size_t		high = lengthof(unicode_ranges);

	if (code > 0x10FFFF)
		return APIKEY_CHAR_NONE;
	while (high - low > 1)
	{
		size_t		middle = (low + high) / 2;

		if (unicode_ranges[middle] >> 3 <= code)
			low = middle;
		else
			high = middle;
	}
	return (ApikeyCharClass) (unicode_ranges[low] & 7);
}

/* The bytes in UTF-8, or NULL where some have no meaning there. */
static const char *
unicode_utf8(const char *bytes, int len, int *utf8_len)
{
	int			encoding = GetDatabaseEncoding();
	Oid			conversion;
	char	   *utf8;

	*utf8_len = len;
	if (encoding == PG_UTF8 || pg_is_ascii(bytes))
		return bytes;
	if (encoding == PG_SQL_ASCII)
		return NULL;

	/* The server's own, whatever the search path leads to. */
	conversion = FindDefaultConversion(PG_CATALOG_NAMESPACE, encoding, PG_UTF8);
	if (!OidIsValid(conversion))
		return NULL;
	utf8 = palloc(len * MAX_CONVERSION_GROWTH + 1);
	if (pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8,
									  (unsigned char *) unconstify(char *, bytes), len,
									  (unsigned char *) utf8,
									  len * MAX_CONVERSION_GROWTH + 1,
									  true) != len)
		return NULL;
	*utf8_len = strlen(utf8);
	return utf8;
}

/*
 * The code points of a text, palloc'd and ended by 0, with their number; NULL
 * where its bytes have no meaning in Unicode.
 */
pg_wchar *
apikey_unicode_decode(const text *value, int *count)
{
	char	   *bytes = text_to_cstring(value);
	int			len;
	const char *utf8 = unicode_utf8(bytes, strlen(bytes), &len);
	const char *end;
	pg_wchar   *codes;

	*count = 0;
	if (utf8 == NULL)
		return NULL;
	codes = palloc((len + 1) * sizeof(pg_wchar));
	for (end = utf8 + len; utf8 < end; utf8 += pg_utf_mblen((const unsigned char *) utf8))
		codes[(*count)++] = utf8_to_unicode((const unsigned char *) utf8);
	codes[*count] = 0;
	return codes;
}

/*
 * The text in Normalization Form C, which ASCII is.  Other encodings than UTF-8
 * are left as they are: what composes there is one character already.
 */
text *
apikey_unicode_nfc(text *value)
{
	pg_wchar   *codes;
	unsigned char *utf8;
	unsigned char *end;
	int			count;

	if (GetDatabaseEncoding() != PG_UTF8 ||
		pg_is_ascii(text_to_cstring(value)))
		return value;

	codes = unicode_normalize(UNICODE_NFC,
							  apikey_unicode_decode(value, &count));
	for (count = 0; codes[count] != 0;)
		count++;
	end = utf8 = palloc(count * MAX_MULTIBYTE_CHAR_LEN + 1);
	for (int i = 0; i < count; i++)
	{
		unicode_to_utf8(codes[i], end);
		end += pg_utf_mblen(end);
	}
	return cstring_to_text_with_len((char *) utf8, end - utf8);
}

/* How many characters a text has. */
int
apikey_unicode_length(const text *value)
{
	return pg_mbstrlen_with_len(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}
