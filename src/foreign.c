/*
 * foreign.c
 *		Hashes that other systems store of keys: reading them, and making them
 *		of a text.
 *
 * What stands for a hash here is the SHA-256 of its algorithm's name and its
 * bytes, so that it can be compared without caring for its length.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/md5.h"
#include "common/sha2.h"
#include "utils/builtins.h"

#include "foreign.h"

#define HASH_BYTES_MAX		PG_SHA512_DIGEST_LENGTH
#define CRYPT_CHARS			60
#define CRYPT_COST_MIN		4
#define CRYPT_COST_MAX		12

typedef struct Algorithm
{
	const char *name;
	pg_cryptohash_type type;
	size_t		bytes;
} Algorithm;

static const Algorithm algorithms[APIKEY_ALGORITHMS] = {
	[APIKEY_ALGORITHM_MD5] = {"md5", PG_MD5, MD5_DIGEST_LENGTH},
	[APIKEY_ALGORITHM_SHA256] = {"sha256", PG_SHA256, PG_SHA256_DIGEST_LENGTH},
	[APIKEY_ALGORITHM_SHA512] = {"sha512", PG_SHA512, PG_SHA512_DIGEST_LENGTH},
	[APIKEY_ALGORITHM_CRYPT] = {.name = "crypt"}
};

const char *
apikey_foreign_name(ApikeyAlgorithm algorithm)
{
	return algorithms[algorithm].name;
}

/* What stands for the bytes of a hash. */
static void
digest_hash(ApikeyAlgorithm algorithm, const void *hash, size_t len, uint8 *out)
{
	char		tagged[16 + HASH_BYTES_MAX];
	size_t		name_len = strlen(algorithms[algorithm].name);

	memcpy(tagged, algorithms[algorithm].name, name_len);
	tagged[name_len] = ':';
	memcpy(tagged + name_len + 1, hash, len);
	apikey_digest_text(tagged, name_len + 1 + len, out);
}

static ApikeyAlgorithm
read_algorithm(const text *name)
{
	for (int i = 0; i < APIKEY_ALGORITHMS; i++)
	{
		if (apikey_same_text(name, cstring_to_text(algorithms[i].name)))
			return (ApikeyAlgorithm) i;
	}
	apikey_refuse("algorithm", "An algorithm is \"sha256\", \"sha512\", \"md5\" or \"crypt\".");
}

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
static bool
read_hex(const text *hash, uint8 *out, size_t bytes)
{
	const char *digits = VARDATA_ANY(hash);

	if (VARSIZE_ANY_EXHDR(hash) != 2 * bytes)
		return false;
	for (size_t i = 0; i < bytes; i++)
	{
		int			high = hex_value(digits[2 * i]);
		int			low = hex_value(digits[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8) (high << 4 | low);
	}
	return true;
}

/*
 * Reads a bcrypt hash: "$2a$", a cost of two digits, "$", 22 characters of
 * salt, 31 of hash.  What others call 2b and 2y is pgcrypto's 2a.
 */
static bool
read_crypt(const text *hash, ApikeyForeign *foreign)
{
	static const char alphabet[] =
	"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	const char *c = VARDATA_ANY(hash);
	int			cost;

	if (VARSIZE_ANY_EXHDR(hash) != CRYPT_CHARS || c[0] != '$' || c[1] != '2' ||
		(c[2] != 'a' && c[2] != 'b' && c[2] != 'x' && c[2] != 'y') ||
		c[3] != '$' || c[4] < '0' || c[4] > '9' || c[5] < '0' || c[5] > '9' ||
		c[6] != '$')
		return false;
	cost = (c[4] - '0') * 10 + c[5] - '0';
	if (cost < CRYPT_COST_MIN || cost > CRYPT_COST_MAX)
		return false;
	for (int i = 7; i < CRYPT_CHARS; i++)
	{
		if (c[i] == '\0' || strchr(alphabet, c[i]) == NULL)
			return false;
	}
	memcpy(foreign->salt, c, APIKEY_SALT_CHARS);
	foreign->salt[APIKEY_SALT_CHARS] = '\0';
	if (c[2] != 'x')
		foreign->salt[2] = 'a';
	digest_hash(APIKEY_ALGORITHM_CRYPT, c + APIKEY_SALT_CHARS,
				CRYPT_CHARS - APIKEY_SALT_CHARS, foreign->digest);
	return true;
}

/* Reads a hash as another system stored it; raises 22023 where it is none. */
void
apikey_foreign_read(const text *algorithm, const text *hash,
					ApikeyForeign *foreign)
{
	uint8		bytes[HASH_BYTES_MAX];
	size_t		len;

	foreign->algorithm = read_algorithm(algorithm);
	foreign->salt[0] = '\0';
	len = algorithms[foreign->algorithm].bytes;
	if (foreign->algorithm == APIKEY_ALGORITHM_CRYPT)
	{
		if (!read_crypt(hash, foreign))
			apikey_refuse("hash", "A hash of \"crypt\" is one of bcrypt, \"$2a$\" and so on, with a cost of 4 to 12.");
		return;
	}
	if (!read_hex(hash, bytes, len))
		apikey_refuse("hash", "A hash of this algorithm is 32 (md5), 64 (sha256) or 128 (sha512) hexadecimal digits.");
	digest_hash(foreign->algorithm, bytes, len, foreign->digest);
	if (foreign->algorithm == APIKEY_ALGORITHM_SHA256)
		memcpy(foreign->sha256, bytes, APIKEY_DIGEST_BYTES);
}

/*
 * What stands for the hash of a text by any algorithm but crypt; false where
 * the server's library has it not.
 */
bool
apikey_foreign_digest(ApikeyAlgorithm algorithm, const char *bytes, size_t len,
					  uint8 *out)
{
	const Algorithm *wanted = &algorithms[algorithm];
	pg_cryptohash_ctx *context = pg_cryptohash_create(wanted->type);
	uint8		hash[HASH_BYTES_MAX];
	bool		done;

	if (context == NULL)
		return false;
	done = pg_cryptohash_init(context) >= 0 &&
		pg_cryptohash_update(context, (const uint8 *) bytes, len) >= 0 &&
		pg_cryptohash_final(context, hash, wanted->bytes) >= 0;
	pg_cryptohash_free(context);
	if (done)
		digest_hash(algorithm, hash, wanted->bytes, out);
	explicit_bzero(hash, sizeof(hash));
	return done;
}

/*
 * The same by crypt; returns why it could not be computed, or NULL.  A server
 * may be set up to allow nothing of the kind, which is no error of ours.
 */
const char *
apikey_foreign_crypt(const char *salt, const char *bytes, size_t len,
					 uint8 *out)
{
	static const Oid types[] = {TEXTOID, TEXTOID};
	Oid			function = apikey_pgcrypto_function("crypt", types, 2);
	Datum		key = PointerGetDatum(cstring_to_text_with_len(bytes, len));
	Datum		setting = CStringGetTextDatum(salt);
	MemoryContext context = CurrentMemoryContext;
	text	   *volatile hash = NULL;

	PG_TRY();
	{
		hash = DatumGetTextPP(OidFunctionCall2(function, key, setting));
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		MemoryContextSwitchTo(context);
		if (ERRCODE_TO_CATEGORY(code) != ERRCODE_FEATURE_NOT_SUPPORTED &&
			ERRCODE_TO_CATEGORY(code) != ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION &&
			code != ERRCODE_INVALID_PARAMETER_VALUE &&
			code != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE &&
			code != ERRCODE_INTERNAL_ERROR)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();

	if (hash == NULL || VARSIZE_ANY_EXHDR(hash) != CRYPT_CHARS)
		return "The function \"crypt\" of pgcrypto cannot be used.";
	digest_hash(APIKEY_ALGORITHM_CRYPT, VARDATA_ANY(hash) + APIKEY_SALT_CHARS,
				CRYPT_CHARS - APIKEY_SALT_CHARS, out);
	return NULL;
}
