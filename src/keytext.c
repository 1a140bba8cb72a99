/*
 * keytext.c
 *		The textual form of an API key: reading, checking and writing it.
 *
 * Pure C over bytes: nothing here allocates, raises or reads beyond the
 * length it was given, so it can be fuzzed without a server.
 */
#include "keytext.h"

#include <string.h>

static const char digits[] =
"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

char
apikey_text_digit(unsigned value)
{
	return digits[value % 62];
}

/* The values of base-62 digits, by character, and of all others NO. */
#define NO	0x80
#define NO8	NO, NO, NO, NO, NO, NO, NO, NO

static const uint8_t digit_values[256] = {
	NO8, NO8, NO8, NO8, NO8, NO8,
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, NO, NO, NO, NO, NO, NO,
	NO, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
	25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, NO, NO, NO, NO, NO,
	NO, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50,
	51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, NO, NO, NO, NO, NO,
	NO8, NO8, NO8, NO8, NO8, NO8, NO8, NO8,
	NO8, NO8, NO8, NO8, NO8, NO8, NO8, NO8
};

/* Are these all digits? */
static bool
all_digits(const char *text, size_t len)
{
	uint8_t		seen = 0;

	for (size_t i = 0; i < len; i++)
		seen |= digit_values[(uint8_t) text[i]];
	return (seen & NO) == 0;
}

/* How many digits, up to those of a key, does a text begin with? */
size_t
apikey_text_span(const char *text, size_t len)
{
	size_t		n = 0;

	while (n < len && n < APIKEY_BODY_DIGITS &&
		   digit_values[(uint8_t) text[n]] != NO)
		n++;
	return n;
}

/*
 * Where does the first run of so many digits begin, or the rest of one that
 * the text begins within?  Its length where there is none.  Looks from the end
 * of where a run would be, and so at a small part of most texts.
 */
size_t
apikey_text_find_run(const char *text, size_t len, size_t least)
{
	size_t		begin = 0;

	while (len - begin >= least)
	{
		size_t		at = begin + least;

		while (at > begin && digit_values[(uint8_t) text[at - 1]] != NO)
			at--;
		if (at == begin)
			return begin;
		begin = at;
	}
	return len;
}

/* CRC-32 as in zlib and PNG (reflected 0xEDB88320), four bits at a time. */
static uint32_t
text_crc32(const char *text, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC,
		0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
		0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
		0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C
	};
	uint32_t	crc = 0xFFFFFFFF;

	for (size_t i = 0; i < len; i++)
	{
		crc ^= (uint8_t) text[i];
		crc = table[crc & 15] ^ (crc >> 4);
		crc = table[crc & 15] ^ (crc >> 4);
	}
	return ~crc;
}

/*
 * Reads digits into a big-endian number of the given bytes, a multiple of
 * four; false where one is no digit or the number does not fit.  Five digits
 * are one step: 62 ^ 5 is below 2 ^ 32.
 */
static bool
base62_decode(const char *text, size_t len, uint8_t *out, size_t bytes)
{
	uint32_t	limbs[APIKEY_ID_BYTES / 4] = {0};	/* least first */
	size_t		count = bytes / 4;

	if (!all_digits(text, len))
		return false;
	for (size_t i = 0; i < len;)
	{
		uint32_t	factor = 1;
		uint64_t	carry = 0;

		do
		{
			carry = carry * 62 + digit_values[(uint8_t) text[i++]];
			factor *= 62;
		} while ((len - i) % 5 != 0);
		for (size_t j = 0; j < count; j++)
		{
			carry += (uint64_t) limbs[j] * factor;
			limbs[j] = (uint32_t) carry;
			carry >>= 32;
		}
		if (carry != 0)
			return false;
	}
	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t) (limbs[count - 1 - i / 4] >> (24 - 8 * (i % 4)));
	return true;
}

/* Writes a big-endian number as digits, zero-padded to len. */
static void
base62_encode(const uint8_t *number, size_t bytes, char *out, size_t len)
{
	uint8_t		rest[APIKEY_ID_BYTES];

	memcpy(rest, number, bytes);
	for (size_t i = len; i-- > 0;)
	{
		unsigned	remainder = 0;

		for (size_t j = 0; j < bytes; j++)
		{
			remainder = remainder << 8 | rest[j];
			rest[j] = (uint8_t) (remainder / 62);
			remainder %= 62;
		}
		out[i] = digits[remainder];
	}
}

static void
checksum_bytes(uint32_t crc, uint8_t *out)
{
	out[0] = (uint8_t) (crc >> 24);
	out[1] = (uint8_t) (crc >> 16);
	out[2] = (uint8_t) (crc >> 8);
	out[3] = (uint8_t) crc;
}

/* Is this a prefix: ^[a-z][a-z0-9_]{0,19}$ ? */
bool
apikey_text_prefix_valid(const char *prefix, size_t len)
{
	if (len < 1 || len > APIKEY_PREFIX_MAX ||
		prefix[0] < 'a' || prefix[0] > 'z')
		return false;
	for (size_t i = 1; i < len; i++)
	{
		char		c = prefix[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return true;
}

/* Reads prefix and id, after which body_digits are to follow in all. */
static bool
parse_head(const char *text, size_t len, size_t body_digits, ApikeyText *out)
{
	if (len < body_digits + 2 ||
		text[len - body_digits - 1] != '_' ||
		!apikey_text_prefix_valid(text, len - body_digits - 1))
		return false;

	out->prefix_len = len - body_digits - 1;
	return base62_decode(text + len - body_digits, APIKEY_ID_DIGITS,
						 out->id, APIKEY_ID_BYTES);
}

/*
 * Takes a key apart.  False where the shape is wrong, an id of 2^128 or more
 * and a checksum of 2^32 or more included; whether the checksum is the right
 * one is not looked at.
 */
bool
apikey_text_parse(const char *text, size_t len, ApikeyText *out)
{
	const char *checksum;
	uint8_t		found[4];

	if (!parse_head(text, len, APIKEY_BODY_DIGITS, out))
		return false;

	checksum = text + len - APIKEY_CHECKSUM_DIGITS;
	return all_digits(checksum - APIKEY_SECRET_DIGITS, APIKEY_SECRET_DIGITS) &&
		base62_decode(checksum, APIKEY_CHECKSUM_DIGITS, found, sizeof(found));
}

/* Is the checksum of a text that has a key's shape right? */
bool
apikey_text_checksum_ok(const char *text, size_t len)
{
	uint8_t		found[4];
	uint8_t		right[4];

	checksum_bytes(text_crc32(text, len - APIKEY_CHECKSUM_DIGITS), right);
	return base62_decode(text + len - APIKEY_CHECKSUM_DIGITS,
						 APIKEY_CHECKSUM_DIGITS, found, sizeof(found)) &&
		memcmp(found, right, sizeof(found)) == 0;
}

/* The same for a handle: a key without its secret and checksum. */
bool
apikey_text_parse_handle(const char *text, size_t len, ApikeyText *out)
{
	return parse_head(text, len, APIKEY_ID_DIGITS, out);
}

/*
 * Writes the key of a prefix, an id of 16 bytes and a secret of 33 digits to
 * out, which has room for APIKEY_TEXT_MAX bytes; returns its length.
 */
size_t
apikey_text_format(const char *prefix, size_t prefix_len,
				   const uint8_t *id, const char *secret, char *out)
{
	char	   *at = out;
	uint8_t		checksum[4];

	memcpy(at, prefix, prefix_len);
	at += prefix_len;
	*at++ = '_';
	base62_encode(id, APIKEY_ID_BYTES, at, APIKEY_ID_DIGITS);
	at += APIKEY_ID_DIGITS;
	memcpy(at, secret, APIKEY_SECRET_DIGITS);
	at += APIKEY_SECRET_DIGITS;
	checksum_bytes(text_crc32(out, (size_t) (at - out)), checksum);
	base62_encode(checksum, sizeof(checksum), at, APIKEY_CHECKSUM_DIGITS);
	at += APIKEY_CHECKSUM_DIGITS;
	return (size_t) (at - out);
}
