/*
 * tokentext.h
 *		The textual form of a token, free of any server header.
 *
 * A token reads <prefix>_t_<message><MAC><checksum>: the prefix of its key,
 * then in base64url the message and the MAC, each by itself and without
 * padding, and last, as in a key, 6 base-62 digits of the CRC-32 of all that
 * stands before them.  The message is, numbers with the highest byte first:
 *
 *		1	version, 1
 *		16	id of the key
 *		8	end, as microseconds of PostgreSQL's time
 *		3	seconds from when it was made to its end, rounded up
 *		2	0: the key's scopes at each use; else 1 + the bytes that follow
 *		n	scopes, with a blank between two
 *
 * A version's first character is an upper-case letter, which no prefix holds:
 * so it is always known where the prefix ends, and no token has the shape of a
 * key.  Where the message ends stands in its first 40 characters.
 */
#ifndef APIKEY_TOKENTEXT_H
#define APIKEY_TOKENTEXT_H

#include "text/keytext.h"

#define APIKEY_TOKEN_MARK			"_t_"
#define APIKEY_TOKEN_MARK_LEN		3
#define APIKEY_TOKEN_BODY_MAX		480
#define APIKEY_TOKEN_HEAD_CHARS		40	/* of the least message */
#define APIKEY_TOKEN_HEAD_BYTES		30
#define APIKEY_TOKEN_MAC_BYTES		32
#define APIKEY_TOKEN_MAC_CHARS		43
/* What proves the rest, which is no secret. */
#define APIKEY_TOKEN_PROOF_CHARS	(APIKEY_TOKEN_MAC_CHARS + APIKEY_CHECKSUM_DIGITS)
#define APIKEY_TOKEN_SCOPES_MAX		293
#define APIKEY_TOKEN_TEXT_MAX \
	(APIKEY_PREFIX_MAX + APIKEY_TOKEN_MARK_LEN + APIKEY_TOKEN_BODY_MAX)
#define APIKEY_TOKEN_TTL_MAX		86400	/* seconds */

/* What a well-shaped text says of itself. */
typedef struct ApikeyTokenText
{
	size_t		prefix_len;		/* the prefix is the text's first bytes */
	size_t		signed_len;		/* all that stands before the MAC */
	uint8_t		id[APIKEY_ID_BYTES];
	int64_t		end;
	uint32_t	ttl;
	bool		scoped;			/* else the scopes are the key's */
	size_t		scopes_len;
	char		scopes[APIKEY_TOKEN_SCOPES_MAX];
	uint8_t		mac[APIKEY_TOKEN_MAC_BYTES];
} ApikeyTokenText;

extern bool apikey_token_parse_head(const char *text, size_t len,
									size_t *prefix_len);
extern bool apikey_token_parse(const char *text, size_t len,
							   ApikeyTokenText *out);
extern size_t apikey_token_body_len(const char *body, size_t len);
extern size_t apikey_token_span(const char *text, size_t len);
extern size_t apikey_token_write(const char *prefix, size_t prefix_len,
								 const ApikeyTokenText *token, char *out);
extern size_t apikey_token_prove(char *text, size_t signed_len,
								 const uint8_t *mac);

#endif							/* APIKEY_TOKENTEXT_H */
