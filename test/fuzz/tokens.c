/*
 * tokens.c
 *		libFuzzer's way into the code that reads tokens, and finds keys and
 *		tokens in a text.
 *
 * As in keys.c, bytes below 0x10 stand for tokens, made of what follows them,
 * and each text is handed over in a block of exactly its size.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "text/find.h"
#include "text/piece.h"
#include "text/redact.h"
#include "text/tokentext.h"

#define TEXT_BYTES_MAX	4096
#define TOKENS_MAX		4

static void
require(bool holds)
{
	if (!holds)
		abort();
}

static char *
exactly(const char *bytes, size_t len)
{
	char	   *block = malloc(len > 0 ? len : 1);

	require(block != NULL);
	memcpy(block, bytes, len);
	return block;
}

/* Writes a token made of what bytes there are; returns its length. */
static size_t
make_token(const uint8_t *data, size_t size, char *out)
{
	static const char *const prefixes[] = {
		"ak", "a", "sk_t_live_t", "a_prefix_of_20_chars"
	};
	const char *prefix = prefixes[data[0] % 4];
	ApikeyTokenText token = {.ttl = 1 + data[size - 1]};
	uint8_t		mac[APIKEY_TOKEN_MAC_BYTES];
	size_t		signed_len;

	token.scoped = size % 2 == 1;
	if (token.scoped)
		token.scopes_len = size * 3 % (APIKEY_TOKEN_SCOPES_MAX + 1);
	for (size_t i = 0; i < sizeof(token.id); i++)
		token.id[i] = data[i % size];
	for (size_t i = 0; i < token.scopes_len; i++)
		token.scopes[i] = (char) data[i % size];
	for (size_t i = 0; i < sizeof(mac); i++)
		mac[i] = (uint8_t) (data[i % size] * 7 + i);
	memcpy(&token.end, mac, sizeof(token.end));
	signed_len = apikey_token_write(prefix, strlen(prefix), &token, out);
	return apikey_token_prove(out, signed_len, mac);
}

/* What is parsed reads the same when it is written again; it is no key. */
static void
try_parse(const char *bytes, size_t len, bool known)
{
	char	   *text = exactly(bytes, len);
	char		again[APIKEY_TOKEN_TEXT_MAX];
	size_t		prefix_len;
	ApikeyTokenText token;
	ApikeyText	key;

	if (apikey_token_parse(text, len, &token))
	{
		size_t		signed_len;

		require(len <= sizeof(again));
		require(apikey_token_parse_head(text, len, &prefix_len) &&
				prefix_len == token.prefix_len);
		require(!apikey_text_parse(text, len, &key) &&
				!apikey_text_parse_head(text, len, &key));
		signed_len = apikey_token_write(text, token.prefix_len, &token, again);
		require(signed_len == token.signed_len);
		require(apikey_token_prove(again, signed_len, token.mac) == len);
		require((memcmp(again, text, len) == 0) ==
				apikey_text_checksum_ok(text, len));
		require(memcmp(again, text, len - APIKEY_CHECKSUM_DIGITS) == 0);
	}
	else
		require(!known);
	free(text);
}

/* What is found is whole, in order, and what was put there is found. */
static void
try_find(const char *bytes, size_t len, const size_t *tokens,
		 const size_t *token_lens, size_t count)
{
	char	   *text = exactly(bytes, len);
	ApikeyFinder finder;
	ApikeyFound found;
	size_t		from = 0;
	size_t		seen = 0;

	apikey_find_begin(&finder, text, len, false);
	while (apikey_find_next(&finder, from, &found))
	{
		require(found.whole && found.start < found.body &&
				found.body >= from && found.body < found.end &&
				found.end <= len);
		require(apikey_text_checksum_ok(text + found.start,
										found.end - found.start));
		while (seen < count && tokens[seen] + token_lens[seen] <= found.end)
			seen++;
		from = found.end;
	}
	require(seen == count);
	free(text);
}

/* No token is left. */
static void
try_redact(const char *bytes, size_t len, const size_t *tokens,
		   const size_t *token_lens, size_t count)
{
	char	   *text = exactly(bytes, len);
	bool		needed = apikey_redact_needed(text, len);
	size_t		after = apikey_redact_text(text, len);

	require(count == 0 || needed);
	require(needed == (after < len));
	for (size_t i = 0; i < count; i++)
		require(memmem(text, after, bytes + tokens[i], token_lens[i]) == NULL);
	apikey_redact_excerpt(text, after);
	free(text);
}

/*
 * Of a token's MAC no piece is left in another text, not even in lower case,
 * and what is shorter stays.
 */
static void
try_pieces(const char *bytes, size_t len, size_t token, size_t token_len)
{
	size_t		mac = token + token_len - APIKEY_TOKEN_PROOF_CHARS;
	ApikeyPieces pieces = {0};

	apikey_piece_collect(&pieces, bytes, len);
	for (size_t shown = 0; shown < 2 * APIKEY_PIECE_CHARS; shown++)
	{
		size_t		count = 4 + shown;
		char	   *text = exactly("at \"                        ", 4 + APIKEY_PIECE_CHARS * 3);
		size_t		after;

		for (size_t i = 0; i < shown; i++)
		{
			char		c = bytes[mac + shown + i];

			text[4 + i] = (char) (c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
		}
		text[count++] = '"';
		after = apikey_piece_mask(&pieces, text, count);
		require(after == (shown < APIKEY_PIECE_CHARS ? count : 8));
		require(shown < APIKEY_PIECE_CHARS ||
				memcmp(text, "at \"...\"", after) == 0);
		free(text);
	}
	apikey_piece_forget(&pieces);
}

/* One that is cut off shows nothing of its MAC, once enough is left of it. */
static void
try_cut(const char *bytes, size_t len, size_t token, size_t token_len)
{
	size_t		signed_len = token_len - APIKEY_TOKEN_PROOF_CHARS;

	for (size_t cut = token + signed_len + 4; cut < len; cut += 5)
	{
		const char *mac = bytes + token + signed_len;
		size_t		shown = cut - token - signed_len;
		char	   *text = exactly(bytes, cut);
		size_t		after = apikey_redact_text(text, cut);

		/* It may stand elsewhere, too. */
		require(memmem(text, after, mac, shown) == NULL ||
				memmem(bytes, token + signed_len, mac, shown) != NULL);
		free(text);
	}
}

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char		text[TEXT_BYTES_MAX + APIKEY_TOKEN_TEXT_MAX] = "";
	size_t		tokens[TOKENS_MAX];
	size_t		token_lens[TOKENS_MAX];
	size_t		count = 0;
	size_t		len = 0;

	for (size_t i = 0; i < size && len < TEXT_BYTES_MAX; i++)
	{
		if (data[i] < 0x10 && count < TOKENS_MAX)
		{
			tokens[count] = len;
			token_lens[count] = make_token(data + i, size - i, text + len);
			len += token_lens[count++];
		}
		else
			text[len++] = (char) data[i];
	}

	try_parse(text, len, false);
	for (size_t i = 0; i < count; i++)
		try_parse(text + tokens[i], token_lens[i], true);
	if (count > 0)
		try_parse(text + tokens[0], token_lens[0] - 1, false);
	try_find(text, len, tokens, token_lens, count);
	try_redact(text, len, tokens, token_lens, count);
	if (count > 0)
		try_pieces(text, len, tokens[count - 1], token_lens[count - 1]);
	if (count > 0)
		try_cut(text, tokens[count - 1] + token_lens[count - 1],
				tokens[count - 1], token_lens[count - 1]);
	return 0;
}
