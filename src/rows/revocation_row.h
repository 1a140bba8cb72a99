/*
 * revocation_row.h
 *		The rows of what ends or disables keys and is not in their rows yet.
 */
#ifndef APIKEY_REVOCATION_ROW_H
#define APIKEY_REVOCATION_ROW_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "store/store.h"

/* The columns of apikey_revocation, in their order there. */
typedef enum ApikeyRevocationColumn
{
	APIKEY_REVOCATION_ID,
	APIKEY_REVOCATION_KEY,		/* or a member */
	APIKEY_REVOCATION_REVOKED_AT,
	APIKEY_REVOCATION_REASON,
	APIKEY_REVOCATION_REVOKED_BY,
	APIKEY_REVOCATION_REVOKED_BY_SUBJECT,
	APIKEY_REVOCATION_REMOVED,
	APIKEY_REVOCATION_DISABLED,
	APIKEY_REVOCATION_RESTORED
} ApikeyRevocationColumn;

/*
 * What a row says of the key, or member, that it stands beside.  A key may have
 * the id of a member, as whoever imports it chooses: so a row says which it means.
 */
typedef enum ApikeyBeside
{
	APIKEY_BESIDE_REVOKED,
	APIKEY_BESIDE_DISABLED,
	APIKEY_BESIDE_REMOVED,
	APIKEY_BESIDE_MEMBER_REMOVED	/* stored as removed and disabled */
} ApikeyBeside;

/* revocation_row.c */
extern ApikeyTransactionPart apikey_revocation_transaction;
extern const ApikeyTable apikey_revocation_table;
extern bool apikey_revocation_any_in(Snapshot snapshot);
extern bool apikey_revocation_any(void);
extern void apikey_revocation_changed(HeapTuple row, TupleDesc desc);
extern bool apikey_revocation_of_member(const ApikeyRow *row);
extern bool apikey_revocation_inserting(void);
extern void apikey_revocation_insert(const pg_uuid_t *id, text *reason,
									 ApikeyBeside beside);
extern void apikey_revocation_claim(const pg_uuid_t *id);
extern void apikey_revocation_claim_end(const pg_uuid_t *id);
extern bool apikey_revocation_awaits(const pg_uuid_t *id);
extern bool apikey_revocation_disables(const pg_uuid_t *id);
extern bool apikey_revocation_member_removing(const pg_uuid_t *id);
extern List *apikey_revocation_list(const pg_uuid_t *id, Snapshot snapshot);
extern void apikey_revocation_forget_listed(const List *ids, ApikeyLock lock,
											bool all);
extern void apikey_revocation_forget(const pg_uuid_t *id, ApikeyLock lock);
extern bool apikey_revocation_member_removed(const pg_uuid_t *id,
											 Snapshot snapshot);
extern void apikey_revocation_member_forget(const pg_uuid_t *id,
											ApikeyLock lock);
extern bool apikey_revocation_apply(ApikeyRow *key, Snapshot snapshot);
extern bool apikey_revocation_apply_latest(ApikeyRow *key);

#endif							/* APIKEY_REVOCATION_ROW_H */
