/*
 * keys.c
 *		libFuzzer's way into the code that reads texts of strangers: parsing
 *		a key, and finding keys in a text to mask them.
 *
 * A text of random bytes holds no right checksum, so bytes below 0x10 stand
 * for keys, made of what follows them; the texts are then as likely to be
 * keys as not.  Each is handed over in a block of exactly its size, so that
 * AddressSanitizer sees a byte too many.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "text/keytext.h"
#include "text/redact.h"

#define TEXT_BYTES_MAX	4096
#define KEYS_MAX		4

static void
require(bool holds)
{
	if (!holds)
		abort();
}

/* A block of exactly these bytes. */
static char *
exactly(const char *bytes, size_t len)
{
	char	   *block = malloc(len > 0 ? len : 1);

	require(block != NULL);
	memcpy(block, bytes, len);
	return block;
}

/* Writes a key made of what bytes there are; returns its length. */
static size_t
make_key(const uint8_t *data, size_t size, char *out)
{
	static const char *const prefixes[] = {
		"ak", "a", "sk_live", "a_prefix_of_20_chars"
	};
	const char *prefix = prefixes[data[0] % 4];
	uint8_t		id[APIKEY_ID_BYTES] = {0};
	char		secret[APIKEY_SECRET_DIGITS];

	for (size_t i = 0; i < sizeof(id) && i < size; i++)
		id[i] = data[i];
	for (size_t i = 0; i < sizeof(secret); i++)
		secret[i] = apikey_text_digit(data[i % size] + (unsigned) i);
	return apikey_text_format(prefix, strlen(prefix), id, secret, out);
}

/*
 * Writes the input with keys for its small bytes, and if asked to without any
 * other digit; tells where the keys are.
 */
static size_t
make_text(const uint8_t *data, size_t size, bool keys_alone, char *out,
		  size_t *keys, size_t *key_lens, size_t *count)
{
	size_t		len = 0;

	*count = 0;
	for (size_t i = 0; i < size && len < TEXT_BYTES_MAX; i++)
	{
		if (data[i] < 0x10 && *count < KEYS_MAX)
		{
			keys[*count] = len;
			key_lens[*count] = make_key(data + i, size - i, out + len);
			len += key_lens[(*count)++];
		}
		else
		{
			out[len] = (char) data[i];
			if (keys_alone && apikey_text_span(out + len, 1) > 0)
				out[len] = '.';
			len++;
		}
	}
	return len;
}

/* What is parsed reads the same when it is written again. */
static void
try_parse(const char *bytes, size_t len)
{
	char	   *text = exactly(bytes, len);
	char		again[APIKEY_TEXT_MAX];
	ApikeyText	parsed;
	ApikeyText	handle;

	if (apikey_text_parse(text, len, &parsed))
	{
		size_t		handle_len = len - APIKEY_SECRET_DIGITS - APIKEY_CHECKSUM_DIGITS;

		require(len <= sizeof(again) &&
				apikey_text_prefix_valid(text, parsed.prefix_len));
		require(apikey_text_parse_handle(text, handle_len, &handle) &&
				memcmp(parsed.id, handle.id, sizeof(handle.id)) == 0);
		require(apikey_text_parse_head(text, len, &handle) &&
				memcmp(parsed.id, handle.id, sizeof(handle.id)) == 0);
		require(apikey_text_format(text, parsed.prefix_len, parsed.id,
								   text + handle_len, again) == len);
		require((memcmp(again, text, len) == 0) ==
				apikey_text_checksum_ok(text, len));
	}
	apikey_text_parse_handle(text, len, &handle);
	apikey_text_parse_head(text, len, &handle);
	free(text);
}

/* No key is left; what holds none is left alone. */
static void
try_redact(const char *bytes, size_t len, const size_t *keys,
		   const size_t *key_lens, size_t count)
{
	char	   *text = exactly(bytes, len);
	bool		needed = apikey_redact_needed(text, len);
	size_t		after = apikey_redact_text(text, len);

	require(count == 0 || needed);
	require(needed == (after < len));
	require(needed || memcmp(text, bytes, len) == 0);
	for (size_t i = after; i < len; i++)
		require(text[i] == '\0');
	for (size_t i = 0; i < count; i++)
		require(memmem(text, after, bytes + keys[i], key_lens[i]) == NULL);
	apikey_redact_excerpt(text, after);
	free(text);
}

/* Where there are no digits but those of keys, exactly they are masked. */
static void
try_mask(const char *bytes, size_t len, const size_t *keys,
		 const size_t *key_lens, size_t count)
{
	char		expected[TEXT_BYTES_MAX + APIKEY_TEXT_MAX];
	char	   *text = exactly(bytes, len);
	size_t		out = 0;
	size_t		done = 0;

	for (size_t i = 0; i < count; i++)
	{
		size_t		shown = keys[i] + key_lens[i] - APIKEY_BODY_DIGITS - done;

		memcpy(expected + out, bytes + done, shown);
		memcpy(expected + out + shown, "...", 3);
		out += shown + 3;
		done = keys[i] + key_lens[i];
		memcpy(expected + out, bytes + done - 4, 4);
		out += 4;
	}
	memcpy(expected + out, bytes + done, len - done);
	out += len - done;
	require(apikey_redact_text(text, len) == out &&
			memcmp(text, expected, out) == 0);
	free(text);
}

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char		text[TEXT_BYTES_MAX + APIKEY_TEXT_MAX];
	size_t		keys[KEYS_MAX];
	size_t		key_lens[KEYS_MAX];
	size_t		count;
	size_t		len;

	len = make_text(data, size, true, text, keys, key_lens, &count);
	try_mask(text, len, keys, key_lens, count);
	len = make_text(data, size, false, text, keys, key_lens, &count);

	try_parse(text, len);
	if (count > 0)
		try_parse(text + keys[0], key_lens[0]);
	if (len > 0)
		try_parse(text, len - 1);
	try_redact(text, len, keys, key_lens, count);
	/* cut off somewhere, so that what is left of the last key may stay */
	if (count > 0)
		try_redact(text, keys[count - 1] + (data[size - 1] % key_lens[count - 1]),
				   keys, key_lens, count - 1);
	return 0;
}
