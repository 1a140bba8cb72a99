/*
 * name.c
 *		What the name of a key may be.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "compat.h"
#include "text/text.h"
#include "store/store.h"
#include "rows/rows_internal.h"

#define NAME_CHARS_MIN		2
#define NAME_CHARS_MAX		64
#define NAME_BYTES_MAX		1024	/* no 64 characters in NFC came from more */

/* Letters, marks after a letter, digits, '_' and '-'. */
static bool
name_characters_valid(const pg_wchar *codes, int count)
{
	bool		takes_mark = false;

	for (int i = 0; i < count; i++)
	{
		switch (apikey_unicode_class(codes[i]))
		{
			case APIKEY_CHAR_LETTER:
				takes_mark = true;
				break;
			case APIKEY_CHAR_MARK:
				if (!takes_mark)
					return false;
				break;
			case APIKEY_CHAR_DIGIT:
				takes_mark = false;
				break;
			default:
				if (codes[i] != '_' && codes[i] != '-')
					return false;
				takes_mark = false;
		}
	}
	return true;
}

/* No control, format or white-space characters? */
static bool
all_visible(const pg_wchar *codes, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (apikey_unicode_class(codes[i]) == APIKEY_CHAR_NONE)
			return false;
	}
	return true;
}

pg_noreturn static void
refuse_name(const char *argument, const text *pattern)
{
	if (pattern == NULL)
		apikey_refuse_by("apikey_key_name", argument,
						 "A name has 2 to 64 characters: letters with their marks and decimal digits of any script, \"_\" and \"-\".");
	apikey_refuse_by("apikey_key_name_pattern", argument,
					 psprintf("A name has 1 to 64 characters, no control, format or white-space character among them, and matches the project's \"name_pattern\", \"%s\".",
							  text_to_cstring(pattern)));
}

/* A pattern may have been set, or restored, before there was a rule for it. */
static bool
matches(const char *argument, const text *pattern, text *value)
{
	const char *fault = apikey_name_pattern_fault(pattern);

	if (fault != NULL)
		apikey_refuse_by("apikey_name_pattern", argument,
						 psprintf("The project's \"name_pattern\" cannot be used until its owners change it.  %s",
								  fault));
	return apikey_name_pattern_matches(pattern, value);
}

/*
 * A key's name, as it is to be stored.  A project's pattern stands in place
 * of the rule about characters.
 */
text *
apikey_rule_name(const char *argument, text *value, const ApikeyRow *project)
{
	text	   *pattern = project == NULL ? NULL :
		apikey_row_text(project, APIKEY_PROJECT_NAME_PATTERN);
	pg_wchar   *codes;
	int			count;

	if (VARSIZE_ANY_EXHDR(value) > NAME_BYTES_MAX ||
		apikey_unicode_decode(value, &count) == NULL)
		refuse_name(argument, pattern);

	value = apikey_unicode_nfc(value);
	codes = apikey_unicode_decode(value, &count);
	if (count < (pattern == NULL ? NAME_CHARS_MIN : 1) || count > NAME_CHARS_MAX ||
		!(pattern == NULL ? name_characters_valid(codes, count) :
		  all_visible(codes, count) &&
		  matches(argument, pattern, value)))
		refuse_name(argument, pattern);
	return value;
}

/* A name pattern must compile as it stands and as one for whole names. */
void
apikey_rule_name_pattern(text *pattern)
{
	const char *fault = NULL;

	PG_TRY();
	{
		fault = apikey_name_pattern_fault(pattern);
		if (fault == NULL)
			apikey_name_pattern_compile(pattern);
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_INVALID_REGULAR_EXPRESSION)
			PG_RE_THROW();
		FlushErrorState();
		fault = APIKEY_NAME_PATTERN_RULE;
	}
	PG_END_TRY();
	if (fault != NULL)
		apikey_refuse("name_pattern", fault);
}
