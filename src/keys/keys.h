/*
 * keys.h
 *		The door of keys/: making, changing, ending and importing keys.
 */
#ifndef APIKEY_KEYS_H
#define APIKEY_KEYS_H

#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/import.h"
#include "keys/issue.h"
#include "keys/pepper_count.h"

/* deleted.c */
extern void apikey_deleted_note(const ApikeyRow *key, ApikeyLock lock);
extern void apikey_deleted_keep(void);
extern bool apikey_deleted_fetch(const pg_uuid_t *id, ApikeyRow *key,
								 ApikeyTenant *tenant);
extern bool apikey_deleted_forget(ApikeyPass *pass);

/*
 * A key in its grace has been replaced so many times at most, one after the
 * other, which bounds what is looked at for it; see chain.c.
 */
#define APIKEY_REPLACED_MAX	100

/* Of a key that has been replaced so many times. */
typedef void (*ApikeyChainVisit) (ApikeyRow *key, int times, void *state);

/* chain.c */
extern void apikey_chain_visit_replaced(const ApikeyRow *key,
										ApikeyChainVisit visit, void *state);
extern bool apikey_chain_last(const ApikeyRow *key, ApikeyRow *last);

/* apply.c */
extern int64 apikey_apply_project(ApikeyTenant *tenant);

/* key.c */
extern ApikeyStatus apikey_key_status(const ApikeyRow *key, TimestampTz now);
extern bool apikey_key_ended(const ApikeyRow *key);
extern bool apikey_key_fetch_digest(const pg_uuid_t *id, Snapshot snapshot,
									ApikeyRowHint *hint, uint8 *digest,
									int32 *fingerprint);
extern bool apikey_key_fetch(const pg_uuid_t *id, Snapshot snapshot,
							 bool revocations, ApikeyRowHint *hint,
							 ApikeyRow *key);
extern void apikey_key_keep(void);
extern bool apikey_key_fetch_latest(const pg_uuid_t *id, ApikeyRow *key);
extern void apikey_key_walk_project(const pg_uuid_t *project,
									ApikeyVisit visit, void *state);
extern bool apikey_key_find_predecessor(const pg_uuid_t *id, ApikeyRow *key);
extern void apikey_key_write(ApikeyRow *key);

/* What others have of a key, and do with it; each may be NULL. */
typedef struct ApikeyKeyPart
{
	void		(*making) (ApikeyRow *key); /* before its row is written */
	void		(*replaced) (const ApikeyRow *key, const ApikeyRow *successor);
	bool		(*free) (const ApikeyRow *key); /* to delete it waits for nobody */
	void		(*deleting) (const ApikeyRow *key);
} ApikeyKeyPart;

/* key_write.c */
extern void apikey_key_init(const ApikeyKeyPart *const *all, int count);
extern void apikey_key_update(ApikeyRow *key, ApikeyEvent event,
							  const char *detail);
extern void apikey_key_delete(const ApikeyRow *key);

/* live.c */
extern int	apikey_max_keys_per_role;

/* manage.c */
extern void apikey_manage_open(const pg_uuid_t *id, ApikeyRight right,
							   ApikeyRow *key);
extern const ApikeyRow *apikey_manage_open_in_project(const pg_uuid_t *id,
													  ApikeyRight right,
													  ApikeyRow *key,
													  ApikeyTenant *tenant);
extern void apikey_manage_lock(const pg_uuid_t *id, ApikeyRow *key);
extern void apikey_manage_require_current(const ApikeyRow *key);
extern void apikey_manage_end(ApikeyRow *key, const char *reason);
extern bool apikey_manage_revoke(const pg_uuid_t *id, text *reason);
extern void apikey_manage_revoke_read(ApikeyRow *key, bool in_row,
									  text *reason);
extern bool apikey_manage_disable(const pg_uuid_t *id);
extern bool apikey_manage_take(const pg_uuid_t *id, ApikeyRow *key);
extern void apikey_manage_delete(const pg_uuid_t *id, const text *name);
extern const ApikeyRow *apikey_manage_project(const ApikeyRow *key,
											  ApikeyTenant *tenant);

/* purge.c */
extern int64 apikey_purge_keys(TimestampTz before);

/* reveal.c */
extern bool apikey_reveal_can(const ApikeyRow *key);
extern text *apikey_reveal_key(const ApikeyRow *key);

/* reveal_event.c */
extern ApikeyTransactionPart apikey_reveal_transaction;
extern bool apikey_reveal_write(int *next);

/* revocation.c */
extern bool apikey_key_lock(const pg_uuid_t *id, ApikeyLock lock,
							ApikeyRow *key);
extern void apikey_revocation_remove(const ApikeyRow *key);

/* settle.c */
extern bool apikey_revocation_settle_found(ApikeyPass *pass);

/* rotate.c */
extern text *apikey_rotate_key(const pg_uuid_t *id, const Interval *grace,
							   const TimestampTz *expires_at);

/* use_row.c */
extern bool apikey_use_hold(const pg_uuid_t *key);
extern bool apikey_use_take(ApikeyWriter *writer, const pg_uuid_t *key,
							ApikeyRow *use, bool *is_new);
extern void apikey_use_put(ApikeyWriter *writer, const ApikeyRow *use,
						   bool is_new);

/* expiry.c */
extern ApikeyTransactionPart apikey_expiry_transaction;
extern bool apikey_expiry_tell(ApikeyPass *pass, TimestampTz *again);

/* orphan.c */
extern ApikeyTransactionPart apikey_orphan_transaction;
extern void apikey_orphan_role_dropped(void);
extern bool apikey_orphan_revoke_found(ApikeyPass *pass,
									   TimestampTz *again);

#endif							/* APIKEY_KEYS_H */
