/*
 * foreign.h
 *		Keys that another system issued, known by the hash that it stored.
 */
#ifndef APIKEY_FOREIGN_H
#define APIKEY_FOREIGN_H

#include "apikey.h"
#include "verify/verify.h"
#include "memory/memory.h"

#define APIKEY_SALT_CHARS	160 /* more than any setting of a slow hash has */

/* The cheap ones of whole texts come first, the slow ones last. */
typedef enum ApikeyAlgorithm
{
	APIKEY_ALGORITHM_MD5,
	APIKEY_ALGORITHM_SHA256,
	APIKEY_ALGORITHM_SHA512,
	APIKEY_ALGORITHM_HMAC_SHA256,
	APIKEY_ALGORITHM_SHA256_PART,
	APIKEY_ALGORITHM_CRYPT,
	APIKEY_ALGORITHM_PBKDF2_SHA256
} ApikeyAlgorithm;

#define APIKEY_ALGORITHMS	(APIKEY_ALGORITHM_PBKDF2_SHA256 + 1)

/* A hash as another system stored it. */
typedef struct ApikeyForeign
{
	ApikeyAlgorithm algorithm;
	char		salt[APIKEY_SALT_CHARS + 1];	/* of a slow one; else empty */
	uint8		digest[APIKEY_DIGEST_BYTES];	/* what stands for it here */
	uint8		sha256[APIKEY_DIGEST_BYTES];	/* of sha256: the hash itself */
} ApikeyForeign;

/* foreign.c */
extern const char *apikey_foreign_name(ApikeyAlgorithm algorithm);
extern bool apikey_foreign_slow(ApikeyAlgorithm algorithm);
extern void apikey_foreign_read(const text *algorithm, const text *hash,
								const text *lookup, ApikeyForeign *foreign);
extern bool apikey_foreign_digest(ApikeyAlgorithm algorithm,
								  const char *bytes, size_t len, uint8 *out);
extern void apikey_foreign_hmac(const char *secret, size_t secret_len,
								const char *bytes, size_t len, uint8 *out);
extern size_t apikey_foreign_head(const char *bytes, size_t len, int nth);
extern void apikey_foreign_part(const char *bytes, size_t len, size_t head,
								bool bound, uint8 *out);
extern const char *apikey_foreign_slowly(const char *algorithm,
										 const char *salt, const char *bytes,
										 size_t len, uint8 *out);

/* secret.c */

/* A secret by which another system has made HMACs of its keys. */
typedef struct ApikeySecret
{
	char	   *bytes;
	size_t		len;
} ApikeySecret;

extern char *apikey_import_secret_file;

extern void apikey_secret_forget(void);
extern const char *apikey_secret_problem(void);
extern const ApikeySecret *apikey_secret_nth(int n);
extern void apikey_secret_require(void);

/* import.c */

/* The columns of apikey_import, in their order there. */
typedef enum ApikeyImportColumn
{
	APIKEY_IMPORT_ID,
	APIKEY_IMPORT_ALGORITHM,
	APIKEY_IMPORT_FOREIGN_DIGEST,
	APIKEY_IMPORT_FOREIGN_PEPPER,
	APIKEY_IMPORT_DIGEST,
	APIKEY_IMPORT_PEPPER,
	APIKEY_IMPORT_LOOKUP,
	APIKEY_IMPORT_SALT,
	APIKEY_IMPORT_LAST_FOUR
} ApikeyImportColumn;

/* An imported key that has been looked for by its text. */
typedef struct ApikeyImported
{
	const char *problem;		/* why it is not known whether there is one */
	pg_uuid_t	id;
	bool		stale;			/* not by the digest that native keys have */
} ApikeyImported;

extern const ApikeyTable apikey_import_table;

extern bool apikey_import_has_digest(const uint8 *digest);
extern void apikey_import_key(ApikeyRow *key, ApikeyIssue *issue,
							  const ApikeyForeign *foreign, text *lookup);
extern bool apikey_import_find(const ApikeyCredential *credential,
							   ApikeyImported *imported);

/* rehash.c */
extern const ApikeyMemoryPart apikey_rehash_memory;
extern void apikey_rehash_imported(const ApikeyCredential *credential,
								   const ApikeyImported *imported);
extern void apikey_rehash_native(const ApikeyCredential *credential);
extern List *apikey_rehash_databases(void);
extern bool apikey_rehash_flush(void);
extern void apikey_rehash_forget_database(Oid database);

#define APIKEY_HASH_TAKEN	"this hash or lookup is taken"

/* import_find.c */
extern bool apikey_import_find_by_digest(int column, ApikeyRelation index,
										 const uint8 *digest, ApikeyRow *row,
										 const ApikeyPepper **pepper);
extern bool apikey_import_find_next_to(const char *bytes, size_t len,
									   bool before, ApikeyRow *row);
extern bool apikey_import_begins_with(const char *bytes, size_t len,
									  const text *beginning);

#endif							/* APIKEY_FOREIGN_H */
