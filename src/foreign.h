/*
 * foreign.h
 *		Keys that another system issued, known by the hash that it stored.
 */
#ifndef APIKEY_FOREIGN_H
#define APIKEY_FOREIGN_H

#include "apikey.h"
#include "verify.h"

#define APIKEY_SALT_CHARS	29	/* of a bcrypt hash: "$2a$06$" and 22 more */

typedef enum ApikeyAlgorithm
{
	APIKEY_ALGORITHM_MD5,
	APIKEY_ALGORITHM_SHA256,
	APIKEY_ALGORITHM_SHA512,
	APIKEY_ALGORITHM_CRYPT
} ApikeyAlgorithm;

#define APIKEY_ALGORITHMS	(APIKEY_ALGORITHM_CRYPT + 1)

/* A hash as another system stored it. */
typedef struct ApikeyForeign
{
	ApikeyAlgorithm algorithm;
	char		salt[APIKEY_SALT_CHARS + 1];	/* of crypt; else empty */
	uint8		digest[APIKEY_DIGEST_BYTES];	/* what stands for it here */
	uint8		sha256[APIKEY_DIGEST_BYTES];	/* of sha256: the hash itself */
} ApikeyForeign;

/* foreign.c */
extern const char *apikey_foreign_name(ApikeyAlgorithm algorithm);
extern void apikey_foreign_read(const text *algorithm, const text *hash,
								ApikeyForeign *foreign);
extern bool apikey_foreign_digest(ApikeyAlgorithm algorithm,
								  const char *bytes, size_t len, uint8 *out);
extern const char *apikey_foreign_crypt(const char *salt, const char *bytes,
										size_t len, uint8 *out);

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
extern void apikey_import_key(ApikeyRow *key, const ApikeyIssue *issue,
							  const ApikeyForeign *foreign,
							  const text *lookup);
extern bool apikey_import_find(const ApikeyCredential *credential,
							   ApikeyImported *imported);

/* rehash.c */
extern void apikey_rehash_init(void);
extern void apikey_rehash_imported(const ApikeyCredential *credential,
								   const ApikeyImported *imported);
extern void apikey_rehash_native(const ApikeyCredential *credential);
extern List *apikey_rehash_databases(void);
extern bool apikey_rehash_flush(void);
extern void apikey_rehash_forget_database(Oid database);

#endif							/* APIKEY_FOREIGN_H */
