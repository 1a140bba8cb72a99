/*
 * digest.c
 *		What is stored of a key: HMAC-SHA-256(pepper, SHA-256(key)).
 *
 * In OpenSSL 3 its interface for all digests costs as much as a short digest
 * does, also with a context that is kept, so the functions of SHA-256 itself
 * are called; a server without them uses its own interface.  Built with
 * APIKEY_WITHOUT_OPENSSL, so does any, as FIPS wants it.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "port/pg_bswap.h"

#include "text/text.h"

#if defined(USE_OPENSSL) && !defined(APIKEY_WITHOUT_OPENSSL)
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/crypto.h>
#include <openssl/sha.h>
#endif

#define HMAC_BLOCK	64			/* SHA-256's block, in bytes: RFC 2104's B */

/* So much text is one block with its padding. */
#define BLOCK_TEXT	(HMAC_BLOCK - 9)

#define HALF		(APIKEY_DIGEST_BYTES / 2)

#ifdef SHA256_CBLOCK

/* Digests the two parts as one; false where the library fails. */
static bool
digest_two(const void *one, size_t one_len, const void *two, size_t two_len,
		   uint8 *out)
{
	SHA256_CTX	context;

	return SHA256_Init(&context) == 1 &&
		SHA256_Update(&context, one, one_len) == 1 &&
		SHA256_Update(&context, two, two_len) == 1 &&
		SHA256_Final(out, &context) == 1;
}

/*
 * The same of what is one block when it is padded: without the copying, and the
 * clearing, that the library does for texts of any length.
 */
static bool
digest_block(const void *one, size_t one_len, const void *two, size_t two_len,
			 uint8 *out)
{
	SHA256_CTX	context;
	uint8		block[SHA256_CBLOCK] = {0};
	size_t		len = one_len + two_len;

	if (len > BLOCK_TEXT || SHA256_Init(&context) != 1)
		return false;
	memcpy(block, one, one_len);
	memcpy(block + one_len, two, two_len);
	block[len] = 0x80;
	block[SHA256_CBLOCK - 2] = (uint8) (len >> 5);	/* its bits */
	block[SHA256_CBLOCK - 1] = (uint8) (len << 3);
	SHA256_Transform(&context, block);
	for (size_t i = 0; i < lengthof(context.h); i++)
	{
		uint32		word = pg_hton32(context.h[i]);

		memcpy(out + i * sizeof(word), &word, sizeof(word));
	}
	explicit_bzero(block, sizeof(block));
	return true;
}

#else

#include "utils/resowner.h"

/* Digests the two parts as one; false where the library fails. */
static bool
digest_owned(const void *one, size_t one_len, const void *two, size_t two_len,
			 uint8 *out)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	bool		done;

	if (context == NULL)
		return false;
	done = pg_cryptohash_init(context) >= 0 &&
		pg_cryptohash_update(context, one, one_len) >= 0 &&
		pg_cryptohash_update(context, two, two_len) >= 0 &&
		pg_cryptohash_final(context, out, APIKEY_DIGEST_BYTES) >= 0;
	pg_cryptohash_free(context);
	return done;
}

/*
 * The same.  The server's context needs a resource owner, which there is none
 * of outside a transaction, as when the server reads its pepper at start.
 */
static bool
digest_two(const void *one, size_t one_len, const void *two, size_t two_len,
		   uint8 *out)
{
	ResourceOwner before = CurrentResourceOwner;
	ResourceOwner own;
	bool		done;

	if (before != NULL)
		return digest_owned(one, one_len, two, two_len, out);
	own = CurrentResourceOwner = ResourceOwnerCreate(NULL, "apikey digest");
	done = digest_owned(one, one_len, two, two_len, out);
	CurrentResourceOwner = NULL;
	ResourceOwnerDelete(own);
	return done;
}

#define digest_block(one, one_len, two, two_len, out)	false

#endif

static void
digest_or_error(const void *one, size_t one_len,
				const void *two, size_t two_len, uint8 *out)
{
	if (!digest_two(one, one_len, two, two_len, out))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute SHA-256 digest")));
}

/* The same of what may be short, by the way that is made for it. */
static void
digest_short(const void *one, size_t one_len,
			 const void *two, size_t two_len, uint8 *out)
{
	if (!digest_block(one, one_len, two, two_len, out))
		digest_or_error(one, one_len, two, two_len, out);
}

/* SHA-256 of a key's whole text. */
void
apikey_digest_text(const char *text, size_t len, uint8 *out)
{
	digest_or_error(text, len, "", 0, out);
}

/*
 * SHA-256 of a key's secret and checksum, and its prefix, which are no more
 * than one block.  With the id they are the whole text, so in the memory of
 * this process they stand for it at half the price.
 */
void
apikey_digest_proof(const char *prefix, size_t prefix_len,
					const char *proving, size_t proving_len, uint8 *out)
{
	digest_short(proving, proving_len, prefix, prefix_len, out);
}

/* An id that is made of what it is about: of its SHA-256, half. */
void
apikey_digest_id(const void *what, size_t len, pg_uuid_t *id)
{
	uint8		digest[APIKEY_DIGEST_BYTES];

	digest_short(what, len, "", 0, digest);
	memcpy(id->data, digest, UUID_LEN);
}

/* HMAC-SHA-256 (RFC 2104). */
void
apikey_digest_hmac(const char *key, size_t key_len, const void *message,
				   size_t len, uint8 *out)
{
	uint8		pad[HMAC_BLOCK];
	uint8		inner[APIKEY_DIGEST_BYTES];
	uint8		short_key[APIKEY_DIGEST_BYTES];

	if (key_len > HMAC_BLOCK)
	{
		digest_or_error(key, key_len, "", 0, short_key);
		key = (const char *) short_key;
		key_len = sizeof(short_key);
	}

	memset(pad, 0x36, sizeof(pad));
	for (size_t i = 0; i < key_len; i++)
		pad[i] ^= (uint8) key[i];
	digest_or_error(pad, sizeof(pad), message, len, inner);

	for (size_t i = 0; i < HMAC_BLOCK; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	digest_or_error(pad, sizeof(pad), inner, APIKEY_DIGEST_BYTES, out);

	explicit_bzero(pad, sizeof(pad));
	explicit_bzero(inner, sizeof(inner));
	explicit_bzero(short_key, sizeof(short_key));
}

/* The stored form of a key's SHA-256: its HMAC under a pepper. */
void
apikey_digest_stored(const ApikeyPepper *pepper, const uint8 *digest,
					 uint8 *out)
{
	apikey_digest_hmac(pepper->len == 0 ? "" : pepper->bytes, pepper->len,
					   digest, APIKEY_DIGEST_BYTES, out);
}

/*
 * Four bytes by which rows say which pepper they are keyed with, of a digest of
 * another purpose than the stored ones; never that of the empty pepper.
 */
int32
apikey_digest_fingerprint(const char *pepper, size_t len)
{
	static const uint8 purpose[APIKEY_DIGEST_BYTES] = "apikey pepper fingerprint";
	uint8		digest[APIKEY_DIGEST_BYTES];
	int32		fingerprint;

	apikey_digest_hmac(pepper, len, purpose, sizeof(purpose), digest);
	fingerprint = (int32) ((uint32) digest[0] << 24 | (uint32) digest[1] << 16 |
						   (uint32) digest[2] << 8 | digest[3]);
	return fingerprint == APIKEY_UNPEPPERED ? 1 : fingerprint;
}

/*
 * Compares digests in a time that does not depend on where they differ.
 * OpenSSL's function takes 16 bytes at once, and others one by one.
 */
bool
apikey_digest_equal(const uint8 *one, const uint8 *two)
{
#ifdef SHA256_CBLOCK
	int			halves = CRYPTO_memcmp(one, two, HALF) |
		CRYPTO_memcmp(one + HALF, two + HALF, HALF);

	return halves == 0;
#else
	uint64		words[2][APIKEY_DIGEST_BYTES / sizeof(uint64)];
	volatile uint64 difference = 0;

	memcpy(words[0], one, APIKEY_DIGEST_BYTES);
	memcpy(words[1], two, APIKEY_DIGEST_BYTES);
	for (size_t i = 0; i < lengthof(words[0]); i++)
		difference |= words[0][i] ^ words[1][i];
	return difference == 0;
#endif
}

/* A digest as a value of a table's. */
bytea *
apikey_digest_bytea(const uint8 *digest)
{
	bytea	   *result = palloc(VARHDRSZ + APIKEY_DIGEST_BYTES);

	SET_VARSIZE(result, VARHDRSZ + APIKEY_DIGEST_BYTES);
	memcpy(VARDATA(result), digest, APIKEY_DIGEST_BYTES);
	return result;
}
