/*
 * import_hash.c
 *		Hashes that other systems store of keys: reading them, and making them
 *		of a text.
 *
 * What stands for a hash here is the SHA-256 of its algorithm's name and its
 * bytes, so that it can be compared without caring for its length.
 *
 * A hash is taken only for all of a text that it tells apart from others.
 * bcrypt reads 72 bytes, so longer texts have none; its variant 2x lets
 * characters beyond ASCII cover others, so texts with such have none there.
 * sha256-part reads what is behind a separator: what is before it is compared
 * with the lookup, where one was given; where none was, it is no part of the
 * key, and the hash stays what the key is known by.  All others read a text
 * to its end.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "common/cryptohash.h"
#include "common/md5.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "text/text.h"
#include "store/store.h"
#include "keys/keys_internal.h"

#define HASH_BYTES_MAX		PG_SHA512_DIGEST_LENGTH
#define TEXT_BYTES_MAX		512
#define CRYPT_CHARS			60
#define CRYPT_SALT_CHARS	29	/* "$2a$06$" and 22 more */
#define CRYPT_COST_MIN		4
#define CRYPT_COST_MAX		12
#define CRYPT_BYTES_READ	72
#define CRYPT_BYTES_SECRET	16	/* that a lookup leaves of those at least */
#define PBKDF2_NAME			"pbkdf2_sha256$"
#define PBKDF2_ROUNDS_MAX	1500000
#define PBKDF2_SALT_MAX		128

static const char separators[] = "|_.:";

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
	[APIKEY_ALGORITHM_HMAC_SHA256] = {"hmac-sha256", PG_SHA256, PG_SHA256_DIGEST_LENGTH},
	[APIKEY_ALGORITHM_SHA256_PART] = {"sha256-part", PG_SHA256, PG_SHA256_DIGEST_LENGTH},
	[APIKEY_ALGORITHM_CRYPT] = {.name = "crypt"},
	[APIKEY_ALGORITHM_PBKDF2_SHA256] = {.name = "pbkdf2-sha256"}
};

const char *
apikey_hash_name(ApikeyAlgorithm algorithm)
{
	return algorithms[algorithm].name;
}

/* Is an algorithm made to be slow, so that a key must be found before? */
bool
apikey_hash_slow(ApikeyAlgorithm algorithm)
{
	return algorithms[algorithm].bytes == 0;
}

/* What stands for the bytes of a hash and, of a part, for what is before. */
static void
digest_hash(ApikeyAlgorithm algorithm, const void *hash, size_t len,
			const char *head, size_t head_len, uint8 *out)
{
	char		tagged[16 + HASH_BYTES_MAX + TEXT_BYTES_MAX];
	size_t		name_len = strlen(algorithms[algorithm].name);

	memcpy(tagged, algorithms[algorithm].name, name_len);
	tagged[name_len] = ':';
	memcpy(tagged + name_len + 1, hash, len);
	memcpy(tagged + name_len + 1 + len, head, head_len);
	apikey_digest_text(tagged, name_len + 1 + len + head_len, out);
}

static ApikeyAlgorithm
read_algorithm(const text *name)
{
	for (int i = 0; i < APIKEY_ALGORITHMS; i++)
	{
		if (apikey_same_text(name, cstring_to_text(algorithms[i].name)))
			return (ApikeyAlgorithm) i;
	}
	apikey_refuse("algorithm", "An algorithm is \"sha256\", \"sha512\", \"md5\", \"hmac-sha256\", \"sha256-part\", \"crypt\" or \"pbkdf2-sha256\".");
}

/*
 * Reads bytes in base64, or base64url, padded or not; false where they are
 * none, or not so many, or not as they are written of such bytes.
 */
static bool
read_base64(const char *text, size_t len, uint8 *out, size_t bytes)
{
	char		standard[HASH_BYTES_MAX * 2 + 4];
	char		again[HASH_BYTES_MAX * 2 + 4];
	size_t		full = (bytes + 2) / 3 * 4;
	size_t		bare = (bytes * 8 + 5) / 6;
	bool		url = memchr(text, '-', len) != NULL || memchr(text, '_', len) != NULL;

	if (len != full && len != bare)
		return false;
	for (size_t i = 0; i < full; i++)
	{
		char		c = i < len ? text[i] : '=';

		if (url && (c == '+' || c == '/'))
			return false;
		standard[i] = c == '-' ? '+' : c == '_' ? '/' : c;
	}
	return pg_b64_decode(standard, full, (void *) out, bytes) == (int) bytes &&
		pg_b64_encode((void *) out, bytes, again, sizeof(again)) == (int) full &&
		memcmp(standard, again, full) == 0;
}

static bool
read_bytes(const text *hash, uint8 *out, size_t bytes)
{
	const char *text = VARDATA_ANY(hash);
	size_t		len = VARSIZE_ANY_EXHDR(hash);

	return len == 2 * bytes ? apikey_hex_decode(text, len, out) :
		read_base64(text, len, out, bytes);
}

/*
 * Reads a bcrypt hash: "$2a$", a cost of two digits, "$", 22 characters of
 * salt, 31 of hash.  What others call 2b and 2y is pgcrypto's 2a.
 */
static bool
read_crypt(const text *hash, ApikeyImportHash *import_hash)
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
	memcpy(import_hash->salt, c, CRYPT_SALT_CHARS);
	import_hash->salt[CRYPT_SALT_CHARS] = '\0';
	if (c[2] != 'x')
		import_hash->salt[2] = 'a';
	digest_hash(APIKEY_ALGORITHM_CRYPT, c + CRYPT_SALT_CHARS,
				CRYPT_CHARS - CRYPT_SALT_CHARS, "", 0, import_hash->digest);
	return true;
}

/* The rounds that a PBKDF2 hash in Django's form begins with; 0 for none. */
static int
read_rounds(const char *c, const char **salt)
{
	const char *digit = c + strlen(PBKDF2_NAME);
	int			rounds = 0;

	if (strncmp(c, PBKDF2_NAME, strlen(PBKDF2_NAME)) != 0 || *digit == '0')
		return 0;
	for (; *digit >= '0' && *digit <= '9' && rounds <= PBKDF2_ROUNDS_MAX; digit++)
		rounds = rounds * 10 + *digit - '0';
	*salt = digit + 1;
	return *digit == '$' && rounds <= PBKDF2_ROUNDS_MAX ? rounds : 0;
}

/*
 * Reads a PBKDF2 hash in Django's form: "pbkdf2_sha256$", the rounds, "$",
 * salt, "$", and the hash in base64.
 */
static bool
read_pbkdf2(const text *hash, ApikeyImportHash *import_hash)
{
	char	   *c = text_to_cstring(hash);
	const char *salt;
	char	   *end;
	uint8		bytes[APIKEY_DIGEST_BYTES];

	if (read_rounds(c, &salt) == 0)
		return false;
	end = c + (salt - c) + strcspn(salt, "$");
	if (*end == '\0' || end == salt || end - salt > PBKDF2_SALT_MAX ||
		end - c > APIKEY_SALT_CHARS ||
		!read_base64(end + 1, strlen(end + 1), bytes, sizeof(bytes)))
		return false;
	*end = '\0';
	strlcpy(import_hash->salt, c, sizeof(import_hash->salt));
	digest_hash(APIKEY_ALGORITHM_PBKDF2_SHA256, bytes, sizeof(bytes), "", 0,
				import_hash->digest);
	return true;
}

/* Must leave of what the hash reads enough that is secret. */
static void
check_lookup(const ApikeyImportHash *import_hash, const text *lookup)
{
	size_t		len = lookup == NULL ? 0 : VARSIZE_ANY_EXHDR(lookup);

	if (import_hash->algorithm == APIKEY_ALGORITHM_CRYPT &&
		len > CRYPT_BYTES_READ - CRYPT_BYTES_SECRET)
		apikey_refuse("lookup", "A hash of \"crypt\" is of the first 72 bytes of a key, of which a lookup leaves 16 at least.");
	if (import_hash->algorithm == APIKEY_ALGORITHM_SHA256_PART && len > 0 &&
		strchr(separators, VARDATA_ANY(lookup)[len - 1]) == NULL)
		apikey_refuse("lookup", "A lookup of \"sha256-part\" ends with the separator, which is \"|\", \"_\", \".\" or \":\".");
}

/* Reads a hash as another system stored it; raises 22023 where it is none. */
void
apikey_hash_read(const text *algorithm, const text *hash,
				 const text *lookup, ApikeyImportHash *import_hash)
{
	uint8		bytes[HASH_BYTES_MAX];
	size_t		len;
	bool		bound;

	import_hash->algorithm = read_algorithm(algorithm);
	import_hash->salt[0] = '\0';
	check_lookup(import_hash, lookup);
	len = algorithms[import_hash->algorithm].bytes;
	if (import_hash->algorithm == APIKEY_ALGORITHM_CRYPT)
	{
		if (!read_crypt(hash, import_hash))
			apikey_refuse("hash", "A hash of \"crypt\" is one of bcrypt, \"$2a$\" and so on, with a cost of 4 to 12.");
		return;
	}
	if (import_hash->algorithm == APIKEY_ALGORITHM_PBKDF2_SHA256)
	{
		if (!read_pbkdf2(hash, import_hash))
			apikey_refuse("hash", "A hash of \"pbkdf2-sha256\" is \"pbkdf2_sha256$rounds$salt$hash\", with at most 1500000 rounds, 128 characters of salt, and the hash in base64.");
		return;
	}
	if (!read_bytes(hash, bytes, len))
		apikey_refuse("hash", "A hash of this algorithm is 16 (md5), 32 (sha256, hmac-sha256, sha256-part) or 64 (sha512) bytes in hexadecimal, base64 or base64url.");
	bound = import_hash->algorithm == APIKEY_ALGORITHM_SHA256_PART &&
		lookup != NULL;
	digest_hash(import_hash->algorithm, bytes, len,
				bound ? VARDATA_ANY(lookup) : "",
				bound ? VARSIZE_ANY_EXHDR(lookup) : 0, import_hash->digest);
	if (import_hash->algorithm == APIKEY_ALGORITHM_SHA256)
		memcpy(import_hash->sha256, bytes, APIKEY_DIGEST_BYTES);
}

/*
 * What stands for the hash of a whole text by one of the cheap algorithms;
 * false where the server's library has it not.
 */
bool
apikey_hash_digest(ApikeyAlgorithm algorithm, const char *bytes, size_t len,
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
		digest_hash(algorithm, hash, wanted->bytes, "", 0, out);
	explicit_bzero(hash, sizeof(hash));
	return done;
}

/* What stands for the HMAC of a text under a secret. */
void
apikey_hash_hmac(const char *secret, size_t secret_len, const char *bytes,
				 size_t len, uint8 *out)
{
	uint8		hash[APIKEY_DIGEST_BYTES];

	apikey_digest_hmac(secret, secret_len, bytes, len, hash);
	digest_hash(APIKEY_ALGORITHM_HMAC_SHA256, hash, sizeof(hash), "", 0, out);
	explicit_bzero(hash, sizeof(hash));
}

/*
 * The length of what is before a text's part, with the nth separator; 0 where
 * it has none, or no part, and SIZE_MAX after the last.
 */
size_t
apikey_hash_head(const char *bytes, size_t len, int nth)
{
	if (nth >= (int) strlen(separators))
		return SIZE_MAX;
	for (size_t head = len; head > 0; head--)
	{
		if (bytes[head - 1] == separators[nth])
			return head == len ? 0 : head;
	}
	return 0;
}

/*
 * What stands for the SHA-256 of a text's part, behind a head, which counts
 * too where it is bound.
 */
void
apikey_hash_part(const char *bytes, size_t len, size_t head, bool bound,
				 uint8 *out)
{
	uint8		hash[APIKEY_DIGEST_BYTES];

	apikey_digest_text(bytes + head, len - head, hash);
	digest_hash(APIKEY_ALGORITHM_SHA256_PART, hash, sizeof(hash), bytes,
				bound ? head : 0, out);
	explicit_bzero(hash, sizeof(hash));
}

/*
 * What stands for the crypt hash of a text; returns why it could not be
 * computed, or NULL.  A server may be set up to allow nothing of the kind,
 * which is no error of ours.
 */
static const char *
digest_crypt(const char *salt, const char *bytes, size_t len, uint8 *out)
{
	static const Oid types[] = {TEXTOID, TEXTOID};
	Oid			function = apikey_pgcrypto_function("crypt", types, 2);
	Datum		key = PointerGetDatum(cstring_to_text_with_len(bytes, len));
	Datum		setting = CStringGetTextDatum(salt);
	MemoryContext context = CurrentMemoryContext;
	text	   *volatile hash = NULL;
	FmgrInfo	crypt;

	if (!OidIsValid(function))
		return "The function \"crypt\" of pgcrypto cannot be found.";

	/*
	 * What is called here takes nothing but memory, so its error leaves
	 * nothing behind that a subtransaction would have to end; a parallel
	 * worker could have none.
	 */
	fmgr_info(function, &crypt);
	PG_TRY();
	{
		hash = DatumGetTextPP(FunctionCall2(&crypt, key, setting));
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
	digest_hash(APIKEY_ALGORITHM_CRYPT, VARDATA_ANY(hash) + CRYPT_SALT_CHARS,
				CRYPT_CHARS - CRYPT_SALT_CHARS, "", 0, out);
	return NULL;
}

/* What stands for the PBKDF2 hash (RFC 8018) of a text. */
static const char *
digest_pbkdf2(const char *setting, const char *bytes, size_t len, uint8 *out)
{
	const char *salt;
	int			rounds = read_rounds(setting, &salt);
	char		first[PBKDF2_SALT_MAX + 4];
	size_t		salt_len;
	uint8		round[APIKEY_DIGEST_BYTES];
	uint8		hash[APIKEY_DIGEST_BYTES];

	if (rounds == 0 || strlen(salt) > PBKDF2_SALT_MAX)
		return "What was imported of a key is not what this library imports.";
	salt_len = strlen(salt);
	memcpy(first, salt, salt_len);
	memcpy(first + salt_len, "\0\0\0\1", 4);	/* the first block, the only */
	apikey_digest_hmac(bytes, len, first, salt_len + 4, round);
	memcpy(hash, round, sizeof(hash));
	for (int i = 1; i < rounds; i++)
	{
		if (i % 4096 == 0)
			CHECK_FOR_INTERRUPTS();
		apikey_digest_hmac(bytes, len, round, sizeof(round), round);
		for (size_t j = 0; j < sizeof(hash); j++)
			hash[j] ^= round[j];
	}
	digest_hash(APIKEY_ALGORITHM_PBKDF2_SHA256, hash, sizeof(hash), "", 0, out);
	explicit_bzero(hash, sizeof(hash));
	explicit_bzero(round, sizeof(round));
	return NULL;
}

static bool
all_ascii(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
	{
		if (IS_HIGHBIT_SET(bytes[i]))
			return false;
	}
	return true;
}

/*
 * What stands for the hash of a text by a slow algorithm; returns why it could
 * not be computed, or NULL.  A text that has no hash of its own there gets one
 * that no key has.
 */
const char *
apikey_hash_slowly(const char *algorithm, const char *salt,
				   const char *bytes, size_t len, uint8 *out)
{
	if (strcmp(algorithm, algorithms[APIKEY_ALGORITHM_PBKDF2_SHA256].name) == 0)
		return digest_pbkdf2(salt, bytes, len, out);
	if (len > CRYPT_BYTES_READ ||
		(strncmp(salt, "$2x", 3) == 0 && !all_ascii(bytes, len)))
	{
		memset(out, 0, APIKEY_DIGEST_BYTES);
		return NULL;
	}
	return digest_crypt(salt, bytes, len, out);
}
