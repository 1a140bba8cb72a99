/*
 * redact.c
 *		Masking the keys and tokens in a text that is not ours.
 *
 * A key is masked as the view apikeys shows it: its prefix, "_..." and its
 * last four characters; a token the same, with "_t_..." behind the prefix.  Of
 * one that was cut off nothing is shown but the prefix.  Where they stand is
 * find.c's to say.
 *
 * Pure C like keytext.c; texts are masked in place, since a mask is shorter
 * than what it stands for.
 */
#include "text/redact.h"

#include <string.h>

#include "text/find.h"
#include "text/tokentext.h"

#define REST_DIGITS	(8 + APIKEY_CHECKSUM_DIGITS)	/* least of a key's end */
#define LAST_SHOWN	4

static const char ellipsis[] = "...";

#define ELLIPSIS_LEN	(sizeof(ellipsis) - 1)

/* Does a text hold a key or a token? */
bool
apikey_redact_needed(const char *text, size_t len)
{
	ApikeyFinder finder;
	ApikeyFound found;

	apikey_find_begin(&finder, text, len, true);
	return apikey_find_next(&finder, 0, &found);
}

/*
 * Masks the keys and tokens in a text.  Returns its new length; the bytes
 * behind it, up to the old one, are zero.
 */
size_t
apikey_redact_text(char *text, size_t len)
{
	size_t		done = 0;		/* what has been read, */
	size_t		out = 0;		/* and written, of the text */
	ApikeyFinder finder;
	ApikeyFound found;

	apikey_find_begin(&finder, text, len, true);
	while (apikey_find_next(&finder, done, &found))
	{
		memmove(text + out, text + done, found.body - done);
		out += found.body - done;
		memcpy(text + out, ellipsis, ELLIPSIS_LEN);
		out += ELLIPSIS_LEN;
		done = found.end;
		if (found.whole)
		{
			memmove(text + out, text + done - LAST_SHOWN, LAST_SHOWN);
			out += LAST_SHOWN;
		}
		else if (apikey_find_ellipsis(text, len, done))
			done += ELLIPSIS_LEN;
	}
	if (out == 0)
		return len;
	memmove(text + out, text + done, len - done);
	out += len - done;
	memset(text + out, 0, len - out);
	return out;
}

/* How much of what a text begins with may be the end of a key or token? */
static size_t
rest_span(const char *text, size_t len)
{
	size_t		digits = apikey_text_span(text, len);
	size_t		letters = apikey_token_span(text, len);

	if (letters >= APIKEY_TOKEN_PROOF_CHARS)
		return letters;
	return digits >= REST_DIGITS ? digits : 0;
}

/*
 * Masks what may be the end of one where an excerpt was cut off at its
 * beginning, as those of JSON are: digits after "...", too many for a word, or
 * as many letters as prove a token.
 */
void
apikey_redact_excerpt(char *text, size_t len)
{
	const char *dot = text;

	while (len > 0 &&
		   (dot = memchr(dot, '.', len - (size_t) (dot - text))) != NULL)
	{
		size_t		at = (size_t) (dot++ - text);
		size_t		rest = 0;

		if (apikey_find_ellipsis(text, len, at))
			rest = rest_span(text + at + ELLIPSIS_LEN,
							 len - at - ELLIPSIS_LEN);
		if (rest > 0)
			memset(text + at + ELLIPSIS_LEN, '.', rest - LAST_SHOWN);
	}
}
