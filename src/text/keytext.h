/*
 * keytext.h
 *		The textual form of an API key, free of any server header.
 *
 * A key reads <prefix>_<id><secret><checksum>: a prefix of 1 to 20
 * characters, then 22 base-62 digits of the 128-bit id, 33 of the secret and
 * 6 of the CRC-32 of all that stands before them.  Digits are 0-9A-Za-z,
 * most significant first.
 */
#ifndef APIKEY_KEYTEXT_H
#define APIKEY_KEYTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define APIKEY_PREFIX_MAX		20
#define APIKEY_ID_BYTES			16
#define APIKEY_ID_DIGITS		22
#define APIKEY_SECRET_DIGITS	33
#define APIKEY_CHECKSUM_DIGITS	6
#define APIKEY_BODY_DIGITS \
	(APIKEY_ID_DIGITS + APIKEY_SECRET_DIGITS + APIKEY_CHECKSUM_DIGITS)
#define APIKEY_TEXT_MAX			(APIKEY_PREFIX_MAX + 1 + APIKEY_BODY_DIGITS)

/* What a well-shaped text says of itself; the secret is left in the text. */
typedef struct ApikeyText
{
	size_t		prefix_len;		/* the prefix is the text's first bytes */
	uint8_t		id[APIKEY_ID_BYTES];
} ApikeyText;

/* The rule of apikey_text_prefix_new in words. */
#define APIKEY_PREFIX_RULE \
	"A prefix has 1 to 20 characters a-z, 0-9 and \"_\", starting with a letter, no \"_t_\" in it and no \"_t\" at its end."

extern size_t apikey_text_span(const char *text, size_t len);
extern size_t apikey_text_find_run(const char *text, size_t len, size_t least);
extern bool apikey_text_prefix_valid(const char *prefix, size_t len);
extern bool apikey_text_prefix_new(const char *prefix, size_t len);
extern size_t apikey_text_find_prefix(const char *text, size_t separator,
									  size_t end);
extern bool apikey_text_parse(const char *text, size_t len, ApikeyText *out);
extern bool apikey_text_parse_head(const char *text, size_t len,
								   ApikeyText *out);
extern bool apikey_text_checksum_ok(const char *text, size_t len);
extern void apikey_text_checksum_write(char *text, size_t len);
extern bool apikey_text_parse_handle(const char *text, size_t len,
									 ApikeyText *out);
extern size_t apikey_text_format(const char *prefix, size_t prefix_len,
								 const uint8_t *id, const char *secret,
								 char *out);
extern char apikey_text_digit(unsigned value);

#endif							/* APIKEY_KEYTEXT_H */
