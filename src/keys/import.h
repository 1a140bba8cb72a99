/*
 * import.h
 *		Keys that another system issued, known by the hash that it stored.
 */
#ifndef APIKEY_IMPORT_H
#define APIKEY_IMPORT_H

#include "nodes/pg_list.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "keys/issue.h"

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
typedef struct ApikeyImportHash
{
	ApikeyAlgorithm algorithm;
	char		salt[APIKEY_SALT_CHARS + 1];	/* of a slow one; else empty */
	uint8		digest[APIKEY_DIGEST_BYTES];	/* what stands for it here */
	uint8		sha256[APIKEY_DIGEST_BYTES];	/* of sha256: the hash itself */
} ApikeyImportHash;

/* import_hash.c */
extern bool apikey_hash_slow(ApikeyAlgorithm algorithm);
extern void apikey_hash_read(const text *algorithm, const text *hash,
							 const text *lookup,
							 ApikeyImportHash *import_hash);

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

/* import_find.c */
extern const ApikeyTable apikey_import_table;
extern bool apikey_import_find(const ApikeyCredential *credential,
							   ApikeyImported *imported);
extern bool apikey_import_any(void);
extern text *apikey_import_last_four(const pg_uuid_t *id, Snapshot snapshot);

/* import.c */
extern void apikey_import_key(ApikeyRow *key, ApikeyIssue *issue,
							  const ApikeyImportHash *import_hash,
							  text *lookup);

/* stored.c */

/* What the tables have of a key. */
typedef struct ApikeyStored
{
	bool		native;
	uint8		digest[APIKEY_DIGEST_BYTES];
	int32		fingerprint;	/* of the pepper that it is keyed with */
} ApikeyStored;

extern bool apikey_stored_fetch(const pg_uuid_t *id, Snapshot snapshot,
								ApikeyStored *stored);

/* rehash.c */

/* A proof, and of which key. */
typedef struct ApikeyProof
{
	pg_uuid_t	key;
	uint8		proof[APIKEY_DIGEST_BYTES];
} ApikeyProof;

extern void apikey_rehash_imported(const ApikeyCredential *credential,
								   const ApikeyImported *imported);
extern bool apikey_rehash_native(const ApikeyCredential *credential);
extern bool apikey_rehash_proved(const pg_uuid_t *id, const uint8 *proof);
extern int	apikey_rehash_take_proofs(Oid database, ApikeyProof *proofs,
									  int most);
extern bool apikey_rehash_flush(bool first, int *to_look_at, bool member);

/* rehash_list.c */
extern const ApikeyMemoryPart apikey_rehash_memory;
extern List *apikey_rehash_databases(void);
extern List *apikey_rehash_many(void);

#endif							/* APIKEY_IMPORT_H */
