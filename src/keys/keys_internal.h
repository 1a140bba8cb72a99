/*
 * keys_internal.h
 *		What stays within keys/.
 */
#ifndef APIKEY_KEYS_INTERNAL_H
#define APIKEY_KEYS_INTERNAL_H

#include "utils/uuid.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"

/* issue.c */
extern const ApikeyRow *apikey_issue_prepare(ApikeyRow *key,
											 const ApikeyIssue *issue,
											 ApikeyTenant *tenant);
extern text *apikey_issue_text(ApikeyRow *key, uint8 *digest);

/* chain.c */
extern void apikey_chain_require_near(ApikeyRow *key);

/* key.c */
extern bool apikey_key_live(const ApikeyRow *key);
extern void apikey_key_refresh_names(ApikeyRow *key);

/* key_write.c */
extern void apikey_key_insert(ApikeyRow *key, const uint8 *digest,
							  ApikeyEvent event, const char *detail);
extern void apikey_key_replaced(const ApikeyRow *key,
								const ApikeyRow *successor);
extern void apikey_key_revoke(ApikeyRow *key, text *reason);
extern void apikey_key_revoke_orphan(ApikeyRow *key);
extern bool apikey_key_free(const ApikeyRow *key);
extern bool apikey_key_finish(const pg_uuid_t *id, ApikeyLock lock);

/* live.c */
extern void apikey_live_require_room(const ApikeyRow *key,
									 const ApikeyTenant *tenant);

/* manage.c */
pg_noreturn extern void apikey_manage_refuse_concurrent(const pg_uuid_t *id);
extern void apikey_manage_finish(const pg_uuid_t *id, ApikeyLock lock);
extern void apikey_manage_remove_taken(ApikeyRow *key);
extern void apikey_manage_revoke_predecessors(const ApikeyRow *key,
											  text *reason);

/* reveal.c */
extern void apikey_reveal_keep(const ApikeyRow *key, const ApikeyRow *project,
							   const text *plaintext);
extern bool apikey_reveal_outdated(const ApikeyRow *key);
extern void apikey_reveal_move(void *work);
extern bool apikey_reveal_free(const ApikeyRow *key);
extern void apikey_reveal_forget(const ApikeyRow *key);

/* reveal_event.c */
extern void apikey_reveal_tell(const ApikeyRow *key);

/* revocation.c */
extern void apikey_revocation_add(const ApikeyRow *key, text *reason);
extern bool apikey_revocation_disable(const ApikeyRow *key);

/* deleted.c */
extern bool apikey_deleted_of_others(const ApikeyRow *key);

/* import_hash.c */
extern const char *apikey_hash_name(ApikeyAlgorithm algorithm);
extern bool apikey_hash_digest(ApikeyAlgorithm algorithm,
							   const char *bytes, size_t len, uint8 *out);
extern void apikey_hash_hmac(const char *secret, size_t secret_len,
							 const char *bytes, size_t len, uint8 *out);
extern size_t apikey_hash_head(const char *bytes, size_t len, int nth);
extern void apikey_hash_part(const char *bytes, size_t len, size_t head,
							 bool bound, uint8 *out);
extern const char *apikey_hash_slowly(const char *algorithm,
									  const char *salt, const char *bytes,
									  size_t len, uint8 *out);

/* import_find.c */
extern bool apikey_import_has_digest(const uint8 *digest);
extern bool apikey_import_free(const ApikeyRow *key);
extern void apikey_import_forget(const ApikeyRow *key);

#define APIKEY_HASH_TAKEN	"this hash or lookup is taken"

extern bool apikey_import_find_by_digest(int column, ApikeyRelation index,
										 const uint8 *digest, ApikeyRow *row,
										 const ApikeyPepper **pepper);
extern void apikey_import_walk(text *lookup, bool before, bool equal,
							   Snapshot snapshot, ApikeyVisit visit,
							   void *state);
extern bool apikey_import_find_next_to(const char *bytes, size_t len,
									   bool before, ApikeyRow *row);
extern bool apikey_import_begins_with(const char *bytes, size_t len,
									  const text *beginning);

/* use_row.c */
extern void apikey_use_purge(void);

/* proof.c */
extern bool apikey_proof_make(const pg_uuid_t *id, const uint8 *digest,
							  uint8 *proof);
extern bool apikey_proof_read(const pg_uuid_t *id, const uint8 *proof,
							  uint8 *digest, bool *native);

#define APIKEY_LAST_FOUR	4

/* What is known of a key now that its text has been seen. */
typedef struct ApikeyRehash
{
	Oid			database;
	pg_uuid_t	id;
	bool		proof;			/* for the primary */
	bool		held;			/* somebody had its row */
	uint8		digest[APIKEY_DIGEST_BYTES];	/* as it is to be stored, or a proof */
	int32		pepper;
	bool		native;
	bool		of_text;		/* the last characters are known */
	char		last_four[APIKEY_LAST_FOUR + 1];	/* of an imported one */
} ApikeyRehash;

/* rehash_list.c */
extern bool apikey_rehash_listed(void);
extern bool apikey_rehash_leave(const ApikeyRehash *item);
extern void apikey_rehash_put_back(const ApikeyRehash *items, int count);
extern int	apikey_rehash_take(Oid database, bool proofs,
							   ApikeyRehash *taken, int most);
extern int	apikey_rehash_count(void);
extern void apikey_rehash_forget_database(Oid database);

/* expiry.c */
extern void apikey_expiry_note(const ApikeyRow *key);

#endif							/* APIKEY_KEYS_INTERNAL_H */
