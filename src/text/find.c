/*
 * find.c
 *		Finding the keys and tokens in a text that is not ours.
 *
 * What is one is keytext.c's and tokentext.c's to say: shape and checksum.  It
 * may stand anywhere, in a longer word too: its body begins after a '_', and
 * where its prefix begins the checksum tells.
 *
 * One that was cut off has no checksum.  What has the shape of one up to there
 * is taken for one, if it shows so much of the secret that it matters, where
 * texts are cut: at the end of the text, before "...", and in a name, of which
 * PostgreSQL keeps 63 bytes, so between double quotes or, where they are left
 * out, from a prefix on.
 *
 * Every server encoding keeps bytes below 0x80 for ASCII, so looking at bytes
 * never cuts a character.  Pure C like keytext.c.  The work grows with the text
 * and no faster: what is looked at again, of overlapping beginnings, is never
 * more than a token is long.
 */
#include "text/find.h"

#include <string.h>

#include "text/tokentext.h"

#define CUT_DIGITS	(APIKEY_ID_DIGITS + 8)	/* least of a key cut off */
#define NAME_BYTES	63			/* a name's, where NAMEDATALEN is 64 */

static const char ellipsis[] = "...";

#define ELLIPSIS_LEN	(sizeof(ellipsis) - 1)

bool
apikey_find_ellipsis(const char *text, size_t len, size_t at)
{
	return len - at >= ELLIPSIS_LEN &&
		memcmp(text + at, ellipsis, ELLIPSIS_LEN) == 0;
}

/* Is a text cut off at this place? */
static bool
cut_at(const char *text, size_t len, size_t from, size_t at)
{
	return at == len || apikey_find_ellipsis(text, len, at) ||
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

/* May what stands there, up to a place, have been cut off? */
static bool
was_cut(const ApikeyFinder *finder, size_t from, size_t separator, size_t at)
{
	return finder->cut && (cut_at(finder->text, finder->len, from, at) ||
						   cut_name(finder->text, from, separator, at));
}

/* Is there a prefix before a separator?  One of one letter is enough. */
static bool
has_prefix(const char *text, size_t separator)
{
	for (size_t n = 1; n <= APIKEY_PREFIX_MAX && n <= separator; n++)
	{
		if (apikey_text_prefix_valid(text + separator - n, n))
			return true;
	}
	return false;
}

/* Do digits begin with those of an id? */
static bool
id_begins(const char *digits)
{
	char		handle[2 + APIKEY_ID_DIGITS] = "a_";
	ApikeyText	parsed;

	memcpy(handle + 2, digits, APIKEY_ID_DIGITS);
	return apikey_text_parse_handle(handle, sizeof(handle), &parsed);
}

/*
 * Are these digits, behind a separator, a key or its beginning?  The prefix may
 * reach back into what has been masked: what is written there by then ends
 * before that.
 */
static bool
is_key(const ApikeyFinder *finder, size_t from, ApikeyFound *found)
{
	const char *text = finder->text;
	size_t		separator = found->body - 1;
	size_t		prefix = 0;
	ApikeyText	parsed;

	found->whole = found->end - found->body == APIKEY_BODY_DIGITS;
	if (!found->whole)
		return was_cut(finder, from, separator, found->end) &&
			has_prefix(text, separator) && id_begins(text + found->body);
	prefix = apikey_text_find_prefix(text, separator, found->end);
	found->start = separator - prefix;
	return prefix > 0 && apikey_text_parse(text + found->start,
										   found->end - found->start, &parsed);
}

/*
 * Finds the next key that begins at from or later.  Few texts have so many
 * digits in a row, and others cost no more than to see that.
 */
static bool
find_key(const ApikeyFinder *finder, size_t from, ApikeyFound *found)
{
	const char *text = finder->text;
	size_t		least = finder->cut ? CUT_DIGITS : APIKEY_BODY_DIGITS;
	size_t		at = from;

	found->token = false;
	while ((at += apikey_text_find_run(text + at, finder->len - at, least)) < finder->len)
	{
		found->body = at;
		found->end = at + apikey_text_span(text + at, finder->len - at);
		if (at > from && text[at - 1] == '_' && is_key(finder, from, found))
			return true;
		at = found->end;
	}
	return false;
}

/* Is this the body of a token, or the beginning of one that was cut off? */
static bool
is_token(const ApikeyFinder *finder, size_t from, ApikeyFound *found)
{
	const char *text = finder->text;
	size_t		separator = found->body - APIKEY_TOKEN_MARK_LEN;
	size_t		body = apikey_token_body_len(text + found->body,
											 finder->len - found->body);
	size_t		span;
	size_t		prefix;
	ApikeyTokenText parsed;

	if (body == 0)
		return false;
	span = apikey_token_span(text + found->body, finder->len - found->body);
	found->whole = span >= body;
	found->end = found->body + (found->whole ? body : span);
	if (!found->whole)
		return was_cut(finder, from, separator, found->end) &&
			has_prefix(text, separator);
	prefix = apikey_text_find_prefix(text, separator, found->end);
	found->start = separator - prefix;
	return prefix > 0 && apikey_token_parse(text + found->start,
											found->end - found->start, &parsed);
}

/* Finds the next token that begins at from or later. */
static bool
find_token(const ApikeyFinder *finder, size_t from, ApikeyFound *found)
{
	const char *text = finder->text;
	const char *end = text + finder->len;
	const char *at = text + from;

	found->token = true;
	while (end - at > APIKEY_TOKEN_MARK_LEN &&
		   (at = memchr(at, '_', (size_t) (end - at) - APIKEY_TOKEN_MARK_LEN)) != NULL)
	{
		found->body = (size_t) (at - text) + APIKEY_TOKEN_MARK_LEN;
		if (at[1] == 't' && at[2] == '_' && is_token(finder, from, found))
			return true;
		at++;
	}
	return false;
}

void
apikey_find_begin(ApikeyFinder *finder, const char *text, size_t len, bool cut)
{
	finder->text = text;
	finder->len = len;
	finder->cut = cut;
	finder->ready[false] = finder->ready[true] = false;
}

/*
 * Finds the next key or token that begins at from or later, which must be what
 * the last one found has ended at, or later; false where there is none.
 */
bool
apikey_find_next(ApikeyFinder *finder, size_t from, ApikeyFound *found)
{
	for (int token = 0; token < 2; token++)
	{
		ApikeyFound *next = &finder->next[token];

		if (finder->ready[token] && next->body > from)
			continue;
		if (!(token ? find_token : find_key) (finder, from, next))
			next->body = SIZE_MAX;
		finder->ready[token] = true;
	}
	*found = finder->next[finder->next[true].body < finder->next[false].body];
	return found->body != SIZE_MAX;
}
