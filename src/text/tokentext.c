/*
 * tokentext.c
 *		The textual form of a token: reading and writing it.
 *
 * Pure C over bytes, like keytext.c.  A token has one text only: the bits that
 * the last character of a part has too many must be zero.
 */
#include "text/tokentext.h"

#include <string.h>

#define VERSION		1
#define VERSION_AT	0
#define ID_AT		1
#define END_AT		17
#define TTL_AT		25
#define SCOPES_AT	28

/* How many characters stand for so many bytes? */
#define CHARS(bytes)	(((bytes) * 4 + 2) / 3)

static const char letters[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#define NO	0x80

/* The value of a character, or NO. */
static uint8_t
letter_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint8_t) (c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint8_t) (c - 'a' + 26);
	if (c >= '0' && c <= '9')
		return (uint8_t) (c - '0' + 52);
	return c == '-' ? 62 : c == '_' ? 63 : NO;
}

/*
 * Reads so many bytes from the characters that stand for them; false where
 * these are none, or say more than that.
 */
static bool
decode(const char *text, size_t bytes, uint8_t *out)
{
	uint8_t		seen = 0;
	uint32_t	bits = 0;
	unsigned	count = 0;

	for (size_t i = 0; i < CHARS(bytes); i++)
	{
		uint8_t		value = letter_value(text[i]);

		seen |= value;
		bits = bits << 6 | (value & 63);
		count += 6;
		if (count >= 8)
		{
			count -= 8;
			*out++ = (uint8_t) (bits >> count);
		}
	}
	return (seen & NO) == 0 && (bits & ((1u << count) - 1)) == 0;
}

/* Writes the characters that stand for bytes; returns how many. */
static size_t
encode(const uint8_t *bytes, size_t len, char *out)
{
	uint32_t	bits = 0;
	unsigned	count = 0;
	size_t		n = 0;

	for (size_t i = 0; i < len; i++)
	{
		bits = bits << 8 | bytes[i];
		for (count += 8; count >= 6; count -= 6)
			out[n++] = letters[bits >> (count - 6) & 63];
	}
	if (count > 0)
		out[n++] = letters[bits << (6 - count) & 63];
	return n;
}

static uint64_t
number_read(const uint8_t *bytes, size_t len)
{
	uint64_t	number = 0;

	while (len-- > 0)
		number = number << 8 | *bytes++;
	return number;
}

static void
number_write(uint64_t number, uint8_t *out, size_t len)
{
	for (; len > 0; number >>= 8)
		out[--len] = (uint8_t) number;
}

/* How many characters of a token's body does a text begin with? */
size_t
apikey_token_span(const char *text, size_t len)
{
	size_t		n = 0;

	while (n < len && n < APIKEY_TOKEN_BODY_MAX && letter_value(text[n]) != NO)
		n++;
	return n;
}

/*
 * Reads where the prefix ends; what follows the first of the body is not looked
 * at, but how much of it there is.
 */
bool
apikey_token_parse_head(const char *text, size_t len, size_t *prefix_len)
{
	size_t		n = 0;
	size_t		most = APIKEY_PREFIX_MAX + APIKEY_TOKEN_MARK_LEN;

	while (n < len && n <= most &&
		   ((text[n] >= 'a' && text[n] <= 'z') ||
			(text[n] >= '0' && text[n] <= '9') || text[n] == '_'))
		n++;
	if (n <= APIKEY_TOKEN_MARK_LEN || n > most || n == len ||
		letter_value(text[n]) != VERSION >> 2 ||
		memcmp(text + n - APIKEY_TOKEN_MARK_LEN, APIKEY_TOKEN_MARK,
			   APIKEY_TOKEN_MARK_LEN) != 0)
		return false;
	*prefix_len = n - APIKEY_TOKEN_MARK_LEN;
	return apikey_text_prefix_valid(text, *prefix_len) &&
		len - n >= APIKEY_TOKEN_HEAD_CHARS + APIKEY_TOKEN_PROOF_CHARS &&
		len - n <= APIKEY_TOKEN_BODY_MAX;
}

/* The bytes of a message that says so much of itself in its head, or 0. */
static size_t
message_bytes(const uint8_t *head)
{
	uint64_t	ttl = number_read(head + TTL_AT, SCOPES_AT - TTL_AT);
	size_t		scopes = (size_t) number_read(head + SCOPES_AT,
											  APIKEY_TOKEN_HEAD_BYTES - SCOPES_AT);

	if (head[VERSION_AT] != VERSION || ttl < 1 || ttl > APIKEY_TOKEN_TTL_MAX ||
		scopes > APIKEY_TOKEN_SCOPES_MAX + 1)
		return 0;
	return APIKEY_TOKEN_HEAD_BYTES + (scopes == 0 ? 0 : scopes - 1);
}

/*
 * How long is the body that a text begins with, by what stands in its head?  0
 * where that is none's.  Cheap for most texts.
 */
size_t
apikey_token_body_len(const char *body, size_t len)
{
	uint8_t		head[APIKEY_TOKEN_HEAD_BYTES];
	size_t		bytes;

	if (len < APIKEY_TOKEN_HEAD_CHARS || letter_value(body[0]) != VERSION >> 2 ||
		letter_value(body[1]) >> 4 != (VERSION & 3) ||
		!decode(body, APIKEY_TOKEN_HEAD_BYTES, head))
		return 0;
	bytes = message_bytes(head);
	return bytes == 0 ? 0 : CHARS(bytes) + APIKEY_TOKEN_PROOF_CHARS;
}

/*
 * Takes a token apart.  False where the shape is wrong; whether the checksum is
 * the right one is not looked at, nor the MAC.
 */
bool
apikey_token_parse(const char *text, size_t len, ApikeyTokenText *out)
{
	uint8_t		message[APIKEY_TOKEN_HEAD_BYTES + APIKEY_TOKEN_SCOPES_MAX];
	const char *body;
	size_t		bytes;

	if (!apikey_token_parse_head(text, len, &out->prefix_len))
		return false;
	body = text + out->prefix_len + APIKEY_TOKEN_MARK_LEN;
	len -= out->prefix_len + APIKEY_TOKEN_MARK_LEN;
	if (apikey_token_body_len(body, len) != len)
		return false;
	out->signed_len = (size_t) (body - text) + len - APIKEY_TOKEN_PROOF_CHARS;
	bytes = (len - APIKEY_TOKEN_PROOF_CHARS) * 3 / 4;
	if (!decode(body, bytes, message) ||
		!decode(text + out->signed_len, APIKEY_TOKEN_MAC_BYTES, out->mac) ||
		apikey_text_span(text + out->signed_len + APIKEY_TOKEN_MAC_CHARS,
						 APIKEY_CHECKSUM_DIGITS) < APIKEY_CHECKSUM_DIGITS)
		return false;

	memcpy(out->id, message + ID_AT, APIKEY_ID_BYTES);
	out->end = (int64_t) number_read(message + END_AT, TTL_AT - END_AT);
	out->ttl = (uint32_t) number_read(message + TTL_AT, SCOPES_AT - TTL_AT);
	out->scoped = message[SCOPES_AT] != 0 || message[SCOPES_AT + 1] != 0;
	out->scopes_len = bytes - APIKEY_TOKEN_HEAD_BYTES;
	memcpy(out->scopes, message + APIKEY_TOKEN_HEAD_BYTES, out->scopes_len);
	return true;
}

/*
 * Writes what a token says of itself, for a key's prefix, to out, which has
 * room for APIKEY_TOKEN_TEXT_MAX bytes; returns how much that is.
 */
size_t
apikey_token_write(const char *prefix, size_t prefix_len,
				   const ApikeyTokenText *token, char *out)
{
	uint8_t		message[APIKEY_TOKEN_HEAD_BYTES + APIKEY_TOKEN_SCOPES_MAX];
	char	   *body = out + prefix_len + APIKEY_TOKEN_MARK_LEN;

	message[VERSION_AT] = VERSION;
	memcpy(message + ID_AT, token->id, APIKEY_ID_BYTES);
	number_write((uint64_t) token->end, message + END_AT, TTL_AT - END_AT);
	number_write(token->ttl, message + TTL_AT, SCOPES_AT - TTL_AT);
	number_write(token->scoped ? token->scopes_len + 1 : 0,
				 message + SCOPES_AT, APIKEY_TOKEN_HEAD_BYTES - SCOPES_AT);
	memcpy(message + APIKEY_TOKEN_HEAD_BYTES, token->scopes, token->scopes_len);

	memcpy(out, prefix, prefix_len);
	memcpy(out + prefix_len, APIKEY_TOKEN_MARK, APIKEY_TOKEN_MARK_LEN);
	return (size_t) (body - out) +
		encode(message, APIKEY_TOKEN_HEAD_BYTES + token->scopes_len, body);
}

/* Completes a text with its MAC and checksum; returns its length. */
size_t
apikey_token_prove(char *text, size_t signed_len, const uint8_t *mac)
{
	size_t		len = signed_len + encode(mac, APIKEY_TOKEN_MAC_BYTES,
										  text + signed_len);

	apikey_text_checksum_write(text, len);
	return len + APIKEY_CHECKSUM_DIGITS;
}
