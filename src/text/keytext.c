/*
 * keytext.c
 *		The textual form of an API key: reading, checking and writing it.
 *
 * Pure C over bytes: nothing here allocates, raises or reads beyond the
 * length it was given, so it can be fuzzed without a server.  An id is read
 * and written as a 128-bit integer, which compilers have on 64-bit machines.
 */
#include "text/keytext.h"

#include <string.h>

static const char digits[] =
"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#define SQUARE_62	3844u		/* 62 ^ 2 */
#define TENTH_62	UINT64_C(839299365868340224)	/* 62 ^ 10 */

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

#define CRC_AT_ONCE	4			/* bytes, each of two digits of 4 bits */

/* What a digit does to the CRC, by how many digits come after it. */
static uint32_t crc_tables[2 * CRC_AT_ONCE][16] = {{
	0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC,
	0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
	0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
	0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C
}};

static uint32_t
crc_digit(uint32_t crc)
{
	return crc_tables[0][crc & 15] ^ (crc >> 4);
}

/* Makes the other tables, once: the last entry of the last is not 0 then. */
static void
crc_complete(void)
{
	if (crc_tables[2 * CRC_AT_ONCE - 1][15] != 0)
		return;
	for (size_t n = 1; n < 2 * CRC_AT_ONCE; n++)
	{
		for (size_t i = 0; i < 16; i++)
			crc_tables[n][i] = crc_digit(crc_tables[n - 1][i]);
	}
}

/* Takes CRC_AT_ONCE bytes, without waiting for one to look up the next. */
static uint32_t
crc_bytes(uint32_t crc, const uint8_t *bytes)
{
	uint32_t	next = 0;

	for (size_t i = 0; i < CRC_AT_ONCE; i++)
		crc ^= (uint32_t) bytes[i] << (8 * i);
	for (size_t n = 2 * CRC_AT_ONCE; n-- > 0; crc >>= 4)
		next ^= crc_tables[n][crc & 15];
	return next;
}

/*
 * CRC-32 as in zlib and PNG (reflected 0xEDB88320).  The server's pg_crc.h has
 * it too, as "traditional": by a table that this file, which stands without the
 * server, would not have, and a byte at a time.
 */
static uint32_t
text_crc32(const char *text, size_t len)
{
	const uint8_t *bytes = (const uint8_t *) text;
	uint32_t	crc = 0xFFFFFFFF;
	size_t		i = 0;

	crc_complete();
	for (; len - i >= CRC_AT_ONCE; i += CRC_AT_ONCE)
		crc = crc_bytes(crc, bytes + i);
	for (; i < len; i++)
		crc = crc_digit(crc_digit(crc ^ bytes[i]));
	return ~crc;
}

/*
 * The number that an even count of digits makes, 10 at most, so that it fits;
 * marks it in seen where one is no digit.  Two digits are one step.
 */
static uint64_t
digits_read(const char *text, size_t len, uint8_t *seen)
{
	uint64_t	number = 0;

	for (size_t i = 0; i < len; i += 2)
	{
		uint8_t		high = digit_values[(uint8_t) text[i]];
		uint8_t		low = digit_values[(uint8_t) text[i + 1]];

		*seen |= high | low;
		number = number * SQUARE_62 + (high * 62u + low);
	}
	return number;
}

/* Writes a number as so many digits, zero-padded. */
static void
digits_write(uint64_t number, char *out, size_t len)
{
	while (len-- > 0)
	{
		out[len] = digits[number % 62];
		number /= 62;
	}
}

/* Writes a number's bytes, the highest first. */
static void
word_write(uint64_t word, uint8_t *out)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	word = __builtin_bswap64(word);
#endif
	memcpy(out, &word, sizeof(word));
}

/* Reads an id's 22 digits, 10, 10 and 2; false where it is none. */
static bool
id_read(const char *text, uint8_t *id)
{
	uint8_t		seen = 0;
	uint64_t	high = digits_read(text, 10, &seen);
	uint64_t	middle = digits_read(text + 10, 10, &seen);
	uint64_t	low = digits_read(text + 20, 2, &seen);
	unsigned __int128 number = (unsigned __int128) high * TENTH_62 + middle;

	/* 62 ^ 20 is below 2 ^ 128, 62 ^ 22 is not. */
	if ((seen & NO) != 0 ||
		__builtin_mul_overflow(number, SQUARE_62, &number) ||
		__builtin_add_overflow(number, low, &number))
		return false;
	word_write((uint64_t) (number >> 64), id);
	word_write((uint64_t) number, id + sizeof(uint64_t));
	return true;
}

static void
id_write(const uint8_t *id, char *out)
{
	unsigned __int128 number = 0;

	for (size_t i = 0; i < APIKEY_ID_BYTES; i++)
		number = number << 8 | id[i];
	digits_write((uint64_t) (number % SQUARE_62), out + 20, 2);
	number /= SQUARE_62;
	digits_write((uint64_t) (number % TENTH_62), out + 10, 10);
	digits_write((uint64_t) (number / TENTH_62), out, 10);
}

/* Reads a checksum's 6 digits; false where it is none. */
static bool
checksum_read(const char *text, uint32_t *checksum)
{
	uint8_t		seen = 0;
	uint64_t	number = digits_read(text, APIKEY_CHECKSUM_DIGITS, &seen);

	*checksum = (uint32_t) number;
	return (seen & NO) == 0 && number <= UINT32_MAX;
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

/*
 * May a new key have this prefix?  What a token of it begins with is not what a
 * key of another one begins with.
 */
bool
apikey_text_prefix_new(const char *prefix, size_t len)
{
	if (!apikey_text_prefix_valid(prefix, len) ||
		(len >= 2 && memcmp(prefix + len - 2, "_t", 2) == 0))
		return false;
	for (size_t i = 0; i + 3 <= len; i++)
	{
		if (memcmp(prefix + i, "_t_", 3) == 0)
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
	return id_read(text + len - body_digits, out->id);
}

/*
 * Reads the prefix and the id of a text that is as long as a key; what follows
 * the id is not looked at.
 */
bool
apikey_text_parse_head(const char *text, size_t len, ApikeyText *out)
{
	return parse_head(text, len, APIKEY_BODY_DIGITS, out);
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
	uint32_t	found;

	if (!parse_head(text, len, APIKEY_BODY_DIGITS, out))
		return false;

	checksum = text + len - APIKEY_CHECKSUM_DIGITS;
	return all_digits(checksum - APIKEY_SECRET_DIGITS, APIKEY_SECRET_DIGITS) &&
		checksum_read(checksum, &found);
}

/* Is the checksum of a text that has a key's shape right? */
bool
apikey_text_checksum_ok(const char *text, size_t len)
{
	uint32_t	found;

	return checksum_read(text + len - APIKEY_CHECKSUM_DIGITS, &found) &&
		found == text_crc32(text, len - APIKEY_CHECKSUM_DIGITS);
}

/* Writes the checksum of a text behind it. */
void
apikey_text_checksum_write(char *text, size_t len)
{
	digits_write(text_crc32(text, len), text + len, APIKEY_CHECKSUM_DIGITS);
}

/*
 * The register of a CRC before it took a byte, from that after it.  By the
 * highest four bits of a table's entry it is known which one it is.
 */
static uint32_t
crc_undo(uint32_t crc, uint8_t byte)
{
	static const uint8_t entries[16] = {
		0, 1, 3, 2, 6, 7, 5, 4, 13, 12, 14, 15, 11, 10, 8, 9
	};

	for (int half = 0; half < 2; half++)
	{
		uint32_t	digit = entries[crc >> 28];

		crc = (crc ^ crc_tables[0][digit]) << 4 | digit;
	}
	return crc ^ byte;
}

/*
 * How long is the prefix, before a separator, with which a text up to its end
 * has the right checksum?  0 where there is none.  From the checksum back to
 * where the prefix may begin, so each byte is looked at once.
 */
size_t
apikey_text_find_prefix(const char *text, size_t separator, size_t end)
{
	uint32_t	crc;
	size_t		at = end - APIKEY_CHECKSUM_DIGITS;

	if (!checksum_read(text + at, &crc))
		return 0;
	crc = ~crc;
	while (at > separator)
		crc = crc_undo(crc, (uint8_t) text[--at]);
	while (at > 0 && separator - at < APIKEY_PREFIX_MAX)
	{
		crc = crc_undo(crc, (uint8_t) text[--at]);
		if (crc == 0xFFFFFFFF &&
			apikey_text_prefix_valid(text + at, separator - at))
			return separator - at;
	}
	return 0;
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

	memcpy(at, prefix, prefix_len);
	at += prefix_len;
	*at++ = '_';
	id_write(id, at);
	at += APIKEY_ID_DIGITS;
	memcpy(at, secret, APIKEY_SECRET_DIGITS);
	at += APIKEY_SECRET_DIGITS;
	apikey_text_checksum_write(out, (size_t) (at - out));
	return (size_t) (at - out) + APIKEY_CHECKSUM_DIGITS;
}
