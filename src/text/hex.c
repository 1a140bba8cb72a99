/*
 * hex.c
 *		Reading hexadecimal digits.
 */
#include "postgres.h"

#include "text/text.h"

static int
hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/* Reads hexadecimal digits of either case; false where they are none. */
bool
apikey_hex_decode(const char *digits, size_t len, uint8 *out)
{
	if (len % 2 != 0)
		return false;
	for (size_t i = 0; i < len / 2; i++)
	{
		int			high = hex_value(digits[2 * i]);
		int			low = hex_value(digits[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8) (high << 4 | low);
	}
	return true;
}
