/*
 * redact.c
 *		Finding and masking the keys in a text that is not ours.
 *
 * A key is masked as the view apikeys shows it: its prefix, "_..." and its
 * last four characters.  What is a key is keytext.c's to say: its shape and
 * checksum.  A key may stand anywhere, in a longer word too: its digits begin
 * after a '_', and where its prefix begins the checksum tells.
 *
 * A key that was cut off has no checksum.  What has the shape of one up to
 * there is taken for one, if it shows so much of the secret that it matters,
 * where texts are cut: at the end of the text, before "...", and in a name, of
 * which PostgreSQL keeps 63 bytes, so between double quotes or, where they are
 * left out, from a prefix on.
 *
 * Every server encoding keeps bytes below 0x80 for ASCII, so looking at bytes
 * never cuts a character.  Pure C like keytext.c; texts are masked in place,
 * since a mask is shorter than what it stands for.
 */
#include "redact.h"

#include <string.h>

#include "keytext.h"

#define CUT_DIGITS	(APIKEY_ID_DIGITS + 8)	/* least of a key cut off */
#define REST_DIGITS	(8 + APIKEY_CHECKSUM_DIGITS)	/* least of its end */
#define NAME_BYTES	63			/* a name's, where NAMEDATALEN is 64 */
#define LAST_SHOWN	4

static const char ellipsis[] = "...";

#define ELLIPSIS_LEN	(sizeof(ellipsis) - 1)

static bool
ellipsis_at(const char *text, size_t len, size_t at)
{
	return len - at >= ELLIPSIS_LEN &&
		memcmp(text + at, ellipsis, ELLIPSIS_LEN) == 0;
}

/* Is a text cut off at this place? */
static bool
cut_at(const char *text, size_t len, size_t from, size_t at)
{
	return at == len || ellipsis_at(text, len, at) ||
		(text[at] == '"' && at - from > NAME_BYTES &&
		 text[at - NAME_BYTES - 1] == '"');
}

static bool
is_word(char c)
{
	return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
		(c >= 'A' && c <= 'Z');
}

/* Is it a name, cut off at this place, that begins as a key does? */
static bool
cut_name(const char *text, size_t from, size_t separator, size_t at)
{
	size_t		start = at - NAME_BYTES;

	return at - from >= NAME_BYTES && start < separator &&
		(start == 0 || !is_word(text[start - 1])) &&
		apikey_text_prefix_valid(text + start, separator - start);
}

/*
 * Is there a prefix before the separator with which these digits are a key, or
 * its beginning?  It may reach back into a key that has been masked: what is
 * written there by then ends before that.
 */
static bool
is_key(const char *text, size_t separator, size_t digits)
{
	for (size_t n = 1; n <= APIKEY_PREFIX_MAX && n <= separator; n++)
	{
		const char *start = text + separator - n;
		ApikeyText	parsed;

		if (digits == APIKEY_BODY_DIGITS ?
			apikey_text_parse(start, n + 1 + digits, &parsed) &&
			apikey_text_checksum_ok(start, n + 1 + digits) :
			apikey_text_parse_handle(start, n + 1 + APIKEY_ID_DIGITS, &parsed))
			return true;
	}
	return false;
}

/*
 * Finds the next key that begins at from or later; false where there is none.
 * Few texts have so many digits in a row, and others cost no more than to see
 * that.
 */
static bool
find_key(const char *text, size_t len, size_t from,
		 size_t *separator, size_t *digits)
{
	size_t		at = from;

	while ((at += apikey_text_find_run(text + at, len - at, CUT_DIGITS)) < len)
	{
		*digits = apikey_text_span(text + at, len - at);
		if (at > from && text[at - 1] == '_' &&
			(*digits == APIKEY_BODY_DIGITS ||
			 cut_at(text, len, from, at + *digits) ||
			 cut_name(text, from, at - 1, at + *digits)) &&
			is_key(text, at - 1, *digits))
		{
			*separator = at - 1;
			return true;
		}
		at += *digits;
	}
	return false;
}

/* Does a text hold a key? */
bool
apikey_redact_needed(const char *text, size_t len)
{
	size_t		separator;
	size_t		digits;

	return find_key(text, len, 0, &separator, &digits);
}

/*
 * Masks the keys in a text.  Returns its new length; the bytes behind it, up
 * to the old one, are zero.
 */
size_t
apikey_redact_text(char *text, size_t len)
{
	size_t		done = 0;		/* what has been read, */
	size_t		out = 0;		/* and written, of the text */
	size_t		separator;
	size_t		digits;

	while (find_key(text, len, done, &separator, &digits))
	{
		memmove(text + out, text + done, separator + 1 - done);
		out += separator + 1 - done;
		memcpy(text + out, ellipsis, ELLIPSIS_LEN);
		out += ELLIPSIS_LEN;
		done = separator + 1 + digits;
		if (digits == APIKEY_BODY_DIGITS)
		{
			memmove(text + out, text + done - LAST_SHOWN, LAST_SHOWN);
			out += LAST_SHOWN;
		}
		else if (ellipsis_at(text, len, done))
			done += ELLIPSIS_LEN;
	}
	if (out == 0)
		return len;
	memmove(text + out, text + done, len - done);
	out += len - done;
	memset(text + out, 0, len - out);
	return out;
}

/*
 * Masks what may be the end of a key where an excerpt was cut off at its
 * beginning, as those of JSON are: digits after "...", too many for a word.
 */
void
apikey_redact_excerpt(char *text, size_t len)
{
	const char *dot = text;

	while (len > 0 &&
		   (dot = memchr(dot, '.', len - (size_t) (dot - text))) != NULL)
	{
		size_t		at = (size_t) (dot++ - text);
		size_t		digits = 0;

		if (ellipsis_at(text, len, at))
			digits = apikey_text_span(text + at + ELLIPSIS_LEN,
									  len - at - ELLIPSIS_LEN);
		if (digits >= REST_DIGITS)
			memset(text + at + ELLIPSIS_LEN, '.', digits - LAST_SHOWN);
	}
}
