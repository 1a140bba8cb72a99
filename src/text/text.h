/*
 * text.h
 *		The door of text/: texts, digests and times, without a table and without a
 *		setting.
 */
#ifndef APIKEY_TEXT_H
#define APIKEY_TEXT_H

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "text/conninfo.h"
#include "text/find.h"
#include "text/keytext.h"
#include "text/piece.h"
#include "text/redact.h"
#include "text/tokentext.h"

/* hex.c */
extern bool apikey_hex_decode(const char *digits, size_t len, uint8 *out);

/* period.c */
extern bool apikey_period_same(const Interval *one, const Interval *two);
extern bool apikey_period_one_field(const Interval *period);
extern void apikey_period_at(const Interval *period, TimestampTz anchor,
							 TimestampTz now, TimestampTz *begin,
							 TimestampTz *end);

#define APIKEY_DIGEST_BYTES	32

#define APIKEY_UNPEPPERED	0	/* the fingerprint of the empty pepper */

typedef struct ApikeyPepper
{
	int32		fingerprint;
	char	   *bytes;
	size_t		len;
	int			line;			/* where it stands */
} ApikeyPepper;

/* digest.c */
extern void apikey_digest_text(const char *text, size_t len, uint8 *out);
extern void apikey_digest_proof(const char *prefix, size_t prefix_len,
								const char *proving, size_t proving_len,
								uint8 *out);
extern void apikey_digest_id(const void *what, size_t len, pg_uuid_t *id);
extern void apikey_digest_hmac(const char *key, size_t key_len,
							   const void *message, size_t len, uint8 *out);
extern int32 apikey_digest_fingerprint(const char *pepper, size_t len);
extern void apikey_digest_stored(const ApikeyPepper *pepper,
								 const uint8 *digest, uint8 *out);
extern bool apikey_digest_equal(const uint8 *one, const uint8 *two);
extern bytea *apikey_digest_bytea(const uint8 *digest);

/* generate.c */
extern void apikey_generate_id(pg_uuid_t *id);
extern void apikey_generate_account_id(pg_uuid_t *id);
extern bool apikey_id_of_key(const pg_uuid_t *id);
extern text *apikey_generate(const char *prefix, int prefix_len,
							 pg_uuid_t *id, uint8 *digest);

typedef enum ApikeyJson
{
	APIKEY_JSON_NONE,
	APIKEY_JSON_FOUND,
	APIKEY_JSON_UNREADABLE
} ApikeyJson;

/* json.c */
extern ApikeyJson apikey_json_member(const char *json, const char *member,
									 char **value);
extern bool apikey_json_longer(Datum json, size_t most);

/* scope.c */
extern bool apikey_scope_granted(Datum granted, Datum wanted);
extern bool apikey_scope_all_granted(Datum granted, Datum wanted);
extern ArrayType *apikey_scope_common(ArrayType *one, ArrayType *two);
extern void apikey_scope_missing(StringInfo json, Datum granted, Datum wanted);

typedef enum ApikeyCharClass
{
	APIKEY_CHAR_NONE,			/* control, format, white space */
	APIKEY_CHAR_LETTER,
	APIKEY_CHAR_MARK,
	APIKEY_CHAR_DIGIT,			/* decimal */
	APIKEY_CHAR_OTHER,			/* visible: punctuation, symbols, numbers */
	APIKEY_CHAR_HIDDEN			/* no glyph: not assigned, private, ignorable */
} ApikeyCharClass;

/* unicode.c */
extern ApikeyCharClass apikey_unicode_class(pg_wchar code);
extern pg_wchar *apikey_unicode_decode(const text *value, int *count);
extern int	apikey_unicode_length(const text *value);
extern text *apikey_unicode_nfc(text *value);

/* What a text offered as a key can be, before anything is looked up. */
typedef enum ApikeyShape
{
	APIKEY_SHAPE_MISSING,		/* NULL or empty: nothing was offered */
	APIKEY_SHAPE_NONE,			/* no key's */
	APIKEY_SHAPE_OTHER,			/* an imported key's, perhaps */
	APIKEY_SHAPE_NATIVE,		/* a key's: prefix and id are right */
	APIKEY_SHAPE_TOKEN			/* a token's: where its prefix ends is right */
} ApikeyShape;

/*
 * What a caller offers; beyond the shape only of NATIVE, FOREIGN and TOKEN.
 * The id of a token is not known before it has been found.
 */
typedef struct ApikeyCredential
{
	ApikeyShape shape;
	pg_uuid_t	id;
	const char *prefix;			/* within the text it came from */
	size_t		prefix_len;
	size_t		text_len;		/* where prefix begins the whole key, or 0 */
	uint8		proof[APIKEY_DIGEST_BYTES]; /* then: of the proving characters */
	uint8		digest[APIKEY_DIGEST_BYTES];	/* then only after
												 * apikey_credential_digest */
} ApikeyCredential;

/* address.c */
extern bool apikey_address_allowed(Datum networks, inet *client);

#endif							/* APIKEY_TEXT_H */
