/*
 * apikey.h
 *		What the files of this extension share: keys, rules, authority, events.
 */
#ifndef APIKEY_H
#define APIKEY_H

#include "access/htup.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/inet.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "text/keytext.h"
#include "access/place.h"
#include "store/changes.h"
#include "store/refuse.h"
#include "store/settings.h"
#include "store/table.h"

#define APIKEY_DIGEST_BYTES	32

/* The columns of our tables, in their order there. */
typedef enum ApikeyKeyColumn
{
	APIKEY_KEY_ID,
	APIKEY_KEY_PROJECT,
	APIKEY_KEY_OWNER,
	APIKEY_KEY_ROLE,
	APIKEY_KEY_DISABLED,
	APIKEY_KEY_CREATED_AT,
	APIKEY_KEY_STARTS_AT,
	APIKEY_KEY_EXPIRES_AT,
	APIKEY_KEY_REVOKED_AT,
	APIKEY_KEY_ROTATED_TO,
	APIKEY_KEY_RATE_LIMIT,
	APIKEY_KEY_RATE_WINDOW,
	APIKEY_KEY_CREDITS_ACCOUNT,
	APIKEY_KEY_OWNER_NAME,
	APIKEY_KEY_PREFIX,
	APIKEY_KEY_LAST_FOUR,
	APIKEY_KEY_NAME,
	APIKEY_KEY_SUBJECT,
	APIKEY_KEY_DESCRIPTION,
	APIKEY_KEY_SCOPES,
	APIKEY_KEY_ALLOWED_IPS,
	APIKEY_KEY_METADATA,
	APIKEY_KEY_REVOKE_REASON,
	APIKEY_KEY_ACCEPTED_TERMS,
	APIKEY_KEY_VOUCHED_BY,		/* null: the owner */
	APIKEY_KEY_VOUCHED_BY_NAME,
	APIKEY_KEY_VOUCHED_BY_SUBJECT,
	APIKEY_KEY_CREATED_BY,		/* null: the owner */
	APIKEY_KEY_CREATED_BY_SUBJECT,
	APIKEY_KEY_UPDATED_AT,		/* null: not since it was created */
	APIKEY_KEY_ENABLED_AT,		/* null: never disabled since */
	APIKEY_KEY_RATE_ACCOUNT,	/* the first it goes back to; null: itself */
	/* Of the key's account: see credit.c. */
	APIKEY_KEY_CREDITS,
	APIKEY_KEY_CREDITS_REFILL,
	APIKEY_KEY_CREDITS_INTERVAL
} ApikeyKeyColumn;

/* What a key is at an instant, whoever asks. */
typedef enum ApikeyStatus
{
	APIKEY_STATUS_ACTIVE,
	APIKEY_STATUS_RETIRING,		/* replaced, in its grace */
	APIKEY_STATUS_SCHEDULED,
	APIKEY_STATUS_DISABLED,
	APIKEY_STATUS_FORBIDDEN,	/* owner or voucher has left its project */
	APIKEY_STATUS_EXPIRED,
	APIKEY_STATUS_REVOKED
} ApikeyStatus;

/* administrator.c */
extern bool apikey_administers(void);
extern bool apikey_administrator_add(Oid role);
extern bool apikey_administrator_remove(Oid role);

/* apply.c */
extern int64 apikey_apply_project(const ApikeyPlace *place);

/* authority.c */
typedef enum ApikeyRight
{
	APIKEY_RIGHT_SEE,
	APIKEY_RIGHT_REVOKE,
	APIKEY_RIGHT_DISABLE,
	APIKEY_RIGHT_DELETE,
	APIKEY_RIGHT_CHANGE			/* update, rename, transfer, enable, ... */
} ApikeyRight;

/* What the caller is in a project. */
typedef struct ApikeyAuthority
{
	ApikeyRole	standing;
	bool		members_can_view;
} ApikeyAuthority;

extern bool apikey_authority_sees_all(void);
extern bool apikey_authority_sees_keys(void);
extern bool apikey_authority_lists(const ApikeyAuthority *authority);
extern void apikey_authority_at(const ApikeyPlace *place,
								ApikeyAuthority *result);
extern void apikey_authority_in_project(const pg_uuid_t *project,
										ApikeyAuthority *result);
extern bool apikey_authority_grants(const ApikeyAuthority *authority,
									ApikeyRight right, const ApikeyRow *key);
extern bool apikey_authority_may(ApikeyRight right, const ApikeyRow *key);
extern bool apikey_authority_sees(const ApikeyRow *key);

/* pepper.c */
#define APIKEY_UNPEPPERED	0	/* the fingerprint of the empty pepper */

typedef struct ApikeyPepper
{
	int32		fingerprint;
	char	   *bytes;
	size_t		len;
	int			line;			/* where it stands */
} ApikeyPepper;

extern void apikey_pepper_forget(void);
extern bool apikey_pepper_configured(void);
extern bool apikey_pepper_usable(void);
extern void apikey_pepper_complain(void);
extern void apikey_pepper_look(void);

pg_noreturn extern void apikey_pepper_refuse(void);
extern void apikey_pepper_require(void);
extern const ApikeyPepper *apikey_pepper_current(void);
extern const ApikeyPepper *apikey_pepper_find(int32 fingerprint);
extern const ApikeyPepper *apikey_pepper_nth(int n);

/* digest.c */
extern void apikey_digest_text(const char *text, size_t len, uint8 *out);
extern void apikey_digest_proof(const char *prefix, size_t prefix_len,
								const char *proving, size_t proving_len,
								uint8 *out);
extern void apikey_digest_hmac(const char *key, size_t key_len,
							   const void *message, size_t len, uint8 *out);
extern int32 apikey_digest_fingerprint(const char *pepper, size_t len);
extern void apikey_digest_stored(const ApikeyPepper *pepper,
								 const uint8 *digest, uint8 *out);
extern bool apikey_digest_equal(const uint8 *one, const uint8 *two);
extern bytea *apikey_digest_bytea(const uint8 *digest);

/* detail.c */
extern void apikey_detail_begin(StringInfo json);
extern void apikey_detail_json(StringInfo json, const char *name,
							   const char *value);
extern void apikey_detail_string(StringInfo json, const char *name,
								 const char *value);
extern void apikey_detail_text(StringInfo json, const char *name,
							   const text *value);
extern void apikey_detail_value(StringInfo json, const char *name, Oid type,
								Datum value, bool isnull);
extern char *apikey_detail_end(StringInfo json);
extern char *apikey_json_text(const char *name, const text *value);
extern char *apikey_json_time(TimestampTz time);

/* event.c */
typedef enum ApikeyEvent
{
	APIKEY_EVENT_CREATED,
	APIKEY_EVENT_UPDATED,
	APIKEY_EVENT_RENAMED,
	APIKEY_EVENT_DISABLED,
	APIKEY_EVENT_ENABLED,
	APIKEY_EVENT_REVOKED,
	APIKEY_EVENT_DELETED,
	APIKEY_EVENT_ROTATED,
	APIKEY_EVENT_REVEALED,
	APIKEY_EVENT_IMPORTED,
	APIKEY_EVENT_REHASHED,
	APIKEY_EVENT_DENIED,
	APIKEY_EVENT_EXPIRING,
	APIKEY_EVENT_TRANSFERRED,
	APIKEY_EVENT_MEMBER_ADDED,
	APIKEY_EVENT_MEMBER_REMOVED,
	APIKEY_EVENT_ORGANIZATION_CREATED,
	APIKEY_EVENT_ORGANIZATION_DROPPED,
	APIKEY_EVENT_PROJECT_CREATED,
	APIKEY_EVENT_PROJECT_UPDATED,
	APIKEY_EVENT_PROJECT_DROPPED,
	APIKEY_EVENT_MEMBER_CHANGED,
	APIKEY_EVENT_PROJECT_APPLIED,
	APIKEY_EVENT_GRANTED,
	APIKEY_EVENT_UNGRANTED,
	APIKEY_EVENT_LIMIT_SET,
	APIKEY_EVENT_LIMIT_DROPPED,
	APIKEY_EVENT_LIMIT_LOW,
	APIKEY_EVENT_LIMIT_EXHAUSTED,
	APIKEY_EVENT_OVERDRAWN,
	APIKEY_EVENT_SERVER_JOINED,
	APIKEY_EVENT_SERVER_LOST,
	APIKEY_EVENT_SERVER_FORGOTTEN,
	APIKEY_EVENT_IDLE
} ApikeyEvent;

extern bool apikey_event_owned(Oid owner, const text *owner_name,
							   const text *subject, const pg_uuid_t *id);
extern bool apikey_event_unfit(Oid owner, const text *owner_name);
extern char *apikey_event_handed(const ApikeyRow *before,
								 const ApikeyRow *key);
extern void apikey_event_key(const ApikeyRow *key, ApikeyEvent event,
							 const char *detail);
extern void apikey_event_denied(const ApikeyRow *key, Oid actor, text *subject,
								inet *client_addr, const char *detail);
extern void apikey_event_denied_by(const ApikeyRow *key, text *actor,
								   inet *client_addr, const char *detail);
extern void apikey_event_change(ApikeyEvent event, const char *detail);
extern void apikey_event_subject(Oid owner, const text *subject,
								 ApikeyEvent event, const char *detail);
extern const char *apikey_event_name(ApikeyEvent event);
extern bool apikey_event_writable(void);
extern void apikey_event_require_removable(void);
extern uint64 apikey_event_purge(TimestampTz before);
extern bool apikey_event_retain(void);
extern void apikey_event_place(const ApikeyPlace *place, ApikeyEvent event,
							   const char *detail);
extern void apikey_event_member(const ApikeyPlace *place, ApikeyEvent event,
								Oid member, const text *subject,
								ApikeyRole role, ApikeyRole before);

/* generate.c */
extern void apikey_generate_id(pg_uuid_t *id);
extern text *apikey_generate(const char *prefix, int prefix_len,
							 pg_uuid_t *id, uint8 *digest);

/* grant.c */
extern void apikey_grant_change(const text *what, Oid role, bool grant);
extern void apikey_grant_follow_owner(void);

/* hold.c */
extern void apikey_hold_name(const ApikeyPlace *organization);
extern bool apikey_hold_take(const ApikeyPlace *organization);

/* import.c */
extern bool apikey_import_any(void);
extern text *apikey_import_last_four(const pg_uuid_t *id, Snapshot snapshot);
extern void apikey_import_forget(const ApikeyRow *key);

/* issue.c */

/* What a creator asks for beside a key's attributes; NULL for the default. */
typedef struct ApikeyIssue
{
	text	   *name;
	text	   *project;
	text	   *subject;
	text	   *prefix;
	text	   *accept_terms;
	ApikeyRole	role;
} ApikeyIssue;

extern const ApikeyRow *apikey_issue_prepare(ApikeyRow *key,
											 const ApikeyIssue *issue,
											 ApikeyPlace *place);
extern text *apikey_issue_text(ApikeyRow *key, uint8 *digest);
extern text *apikey_issue(ApikeyRow *key, const ApikeyIssue *issue);

/* The columns of apikey_usage, in their order there. */
typedef enum ApikeyUseColumn
{
	APIKEY_USE_ID,
	APIKEY_USE_USE_COUNT,
	APIKEY_USE_DENIED_COUNT,
	APIKEY_USE_LAST_USED_AT,
	APIKEY_USE_LAST_USED_ADDR,
	APIKEY_USE_FLUSH,
	APIKEY_USE_EXPIRY_TOLD,
	APIKEY_USE_IDLE_TOLD
} ApikeyUseColumn;

/* The columns of apikey_digest, in their order there. */
typedef enum ApikeyDigestColumn
{
	APIKEY_DIGEST_ID,
	APIKEY_DIGEST_DIGEST,
	APIKEY_DIGEST_PEPPER
} ApikeyDigestColumn;

/* key.c */
extern const ApikeyTable apikey_digest_table;
extern ApikeyTable apikey_key_table;
extern const ApikeyTable apikey_use_table;

extern void apikey_use_new(ApikeyRow *use, const pg_uuid_t *key);
extern bool apikey_use_take(ApikeyWriter *writer, const pg_uuid_t *key,
							ApikeyRow *use, bool *is_new);
extern void apikey_use_put(ApikeyWriter *writer, const ApikeyRow *use,
						   bool is_new);
extern TupleDesc apikey_key_descriptor(void);
extern Oid	apikey_key_owner(const ApikeyRow *key);
extern void apikey_key_set_owner(ApikeyRow *key, Oid owner);
extern bool apikey_key_revoked(const ApikeyRow *key);
extern bool apikey_key_owner_stands(const ApikeyRow *key);
extern const pg_uuid_t *apikey_key_project(const ApikeyRow *key);
extern const pg_uuid_t *apikey_key_account(const ApikeyRow *key);
extern ApikeyStatus apikey_key_status(const ApikeyRow *key, TimestampTz now);
extern bool apikey_key_fetch_digest(const pg_uuid_t *id, Snapshot snapshot,
									uint8 *digest, int32 *fingerprint);
extern bool apikey_key_fetch(const pg_uuid_t *id, Snapshot snapshot,
							 bool revocations, ApikeyRow *key);
extern bool apikey_key_fetch_latest(const pg_uuid_t *id, ApikeyRow *key);
extern bool apikey_key_lock(const pg_uuid_t *id, ApikeyLock lock,
							ApikeyRow *key);
extern void apikey_key_walk_project(const pg_uuid_t *project,
									ApikeyVisit visit, void *state);
extern bool apikey_key_live(const ApikeyRow *key);
extern bool apikey_key_find_predecessor(const pg_uuid_t *id, ApikeyRow *key);
extern void apikey_key_insert(ApikeyRow *key, const uint8 *digest,
							  ApikeyEvent event, const char *detail);
extern void apikey_key_write(ApikeyRow *key);
extern void apikey_key_update(ApikeyRow *key, ApikeyEvent event,
							  const char *detail);
extern void apikey_key_delete(const ApikeyRow *key);

/* What others have of a key, and do with it; each may be NULL. */
typedef struct ApikeyKeyPart
{
	void		(*making) (ApikeyRow *key); /* before its row is written */
	void		(*replaced) (const ApikeyRow *key, const ApikeyRow *successor);
	void		(*deleting) (const ApikeyRow *key);
} ApikeyKeyPart;

extern void apikey_key_init(const ApikeyKeyPart *const *all, int count);
extern void apikey_key_replaced(const ApikeyRow *key,
								const ApikeyRow *successor);

/* json.c */
typedef enum ApikeyJson
{
	APIKEY_JSON_NONE,
	APIKEY_JSON_FOUND,
	APIKEY_JSON_UNREADABLE
} ApikeyJson;

extern ApikeyJson apikey_json_member(const char *json, const char *member,
									 char **value);

/* live.c */
extern int	apikey_max_keys_per_role;

extern void apikey_live_require_room(const ApikeyRow *key,
									 const ApikeyPlace *place);

/* manage.c */
extern void apikey_manage_open(const pg_uuid_t *id, ApikeyRight right,
							   ApikeyRow *key);
extern const ApikeyRow *apikey_manage_open_in_project(const pg_uuid_t *id,
													  ApikeyRight right,
													  ApikeyRow *key,
													  ApikeyPlace *place);
extern void apikey_manage_lock(const pg_uuid_t *id, ApikeyRow *key);
extern void apikey_manage_require_current(const ApikeyRow *key);
extern void apikey_manage_retire(ApikeyRow *key);
extern void apikey_manage_end(ApikeyRow *key, const char *reason);
extern bool apikey_manage_replaced(const pg_uuid_t *first, pg_uuid_t *id,
								   ApikeyRow *key);
extern bool apikey_manage_revoke(const pg_uuid_t *id, text *reason);
extern void apikey_manage_revoke_held(ApikeyRow *key, bool in_row,
									  text *reason);
extern bool apikey_manage_disable(ApikeyRow *key);
extern void apikey_manage_delete(ApikeyRow *key);
extern void apikey_manage_revoke_predecessors(const ApikeyRow *key,
											  text *reason);
extern const ApikeyRow *apikey_manage_project(const ApikeyRow *key,
											  ApikeyPlace *place);

/* pgcrypto.c */
extern Oid	apikey_pgcrypto_function(const char *name, const Oid *types,
									 int count);

/* principal.c */
extern bool apikey_role_exists(Oid role);
extern bool apikey_role_stands(Oid role, const text *name);
extern void apikey_role_require(Oid role);
extern bool apikey_role_is(Oid role, const text *name);
extern text *apikey_role_name_text(Oid role, const text *last_known);
extern bool apikey_principal_readable(void);
extern bool apikey_principal_subjects_in_use(void);
extern text *apikey_principal_subject(void);
extern text *apikey_principal_subject_if_known(void);
extern bool apikey_same_text(const text *one, const text *two);
extern bool apikey_principal_covered(Oid role, const text *subject,
									 Oid member, const text *member_subject);
extern bool apikey_principal_matches(Oid role, const text *subject);
extern text *apikey_principal_new_subject(text *wanted, bool any);

/* purge.c */
extern int64 apikey_purge_keys(TimestampTz before);

/* redact_log.c */
extern void apikey_redact_init(void);

/* reveal.c */
extern void apikey_reveal_keep(const ApikeyRow *key, const ApikeyRow *project,
							   const text *plaintext);
extern void apikey_reveal_move(void *work);
extern void apikey_reveal_forget(const ApikeyRow *key);
extern bool apikey_reveal_can(const ApikeyRow *key);
extern text *apikey_reveal_key(const ApikeyRow *key);

/* revocation.c */
extern ApikeyTransactionPart apikey_revocation_transaction;
extern bool apikey_revocation_any_in(Snapshot snapshot);
extern bool apikey_revocation_any(void);
extern void apikey_revocation_changed(HeapTuple row, TupleDesc desc);
extern void apikey_revocation_apply(ApikeyRow *key, Snapshot snapshot);
extern void apikey_revocation_apply_latest(ApikeyRow *key);
extern void apikey_revocation_add(const ApikeyRow *key, text *reason);
extern void apikey_revocation_forget(const ApikeyRow *key);
extern void apikey_revocation_settle(ApikeyRow *key);
extern bool apikey_revocation_settle_found(void);

/* rotate.c */
extern text *apikey_rotate_key(const pg_uuid_t *id, const Interval *grace,
							   const TimestampTz *expires_at);

/* rules.c */
extern text *apikey_rule_name(const char *argument, text *value,
							  const ApikeyRow *project);
extern void apikey_rule_name_pattern(text *pattern);
extern void apikey_rule_reason(const text *value);
extern void apikey_rule_lookup(const text *value, bool of_part);
extern void apikey_rule_span(const char *argument, const Interval *value);
extern void apikey_rule_subject(const text *value);
extern void apikey_rule_scopes(Datum scopes);
extern void apikey_rule_prefix(const char *prefix, int len);
extern void apikey_rule_terms(const text *accepted, const ApikeyRow *project);
extern void apikey_rule_limit_held(const ApikeyRow *key);
extern void apikey_rule_attributes(const ApikeyRow *key,
								   const ApikeyRow *project);
extern TimestampTz apikey_rule_latest_end(TimestampTz begin,
										  const ApikeyRow *project);
extern bool apikey_rule_ends_after(const ApikeyRow *key, TimestampTz latest);
extern void apikey_rule_dates(const ApikeyRow *key, const ApikeyRow *project);
extern void apikey_rule_not_ended(const ApikeyRow *key);
extern void apikey_rule_project(const ApikeyRow *project);

/* scope.c */
extern bool apikey_scope_granted(Datum granted, Datum wanted);
extern bool apikey_scope_all_granted(Datum granted, Datum wanted);
extern ArrayType *apikey_scope_common(ArrayType *one, ArrayType *two);
extern void apikey_scope_missing(StringInfo json, Datum granted, Datum wanted);

/* status.c */

/* What a key is, but for what the clock decides. */
typedef struct ApikeyKeyState
{
	bool		revoked;		/* by its row, or its owner has been dropped */
	bool		forbidden;		/* owner or voucher has left its project */
	ApikeyRole	role;			/* in effect; none for a personal key */
} ApikeyKeyState;

extern Oid	apikey_status_voucher(const ApikeyRow *key, const text **subject);
extern const text *apikey_status_voucher_name(const ApikeyRow *key);
extern void apikey_status_vouch(ApikeyRow *key);
extern void apikey_status_read(const ApikeyRow *key, const ApikeyPlace *place,
							   ApikeyKeyState *state);
extern ApikeyStatus apikey_status_at(const ApikeyRow *key,
									 const ApikeyKeyState *state,
									 TimestampTz now);
extern const char *apikey_status_name(ApikeyStatus status);

/* sql_triggers.c */
extern void apikey_instead_init(void);
extern int	apikey_instead_hint(const char *view, const char *change);
extern int	apikey_instead_writable(const ApikeyTable *table, Relation view,
									const char *name);
pg_noreturn extern void apikey_instead_refuse(const char *view,
											  const char *command);

/* unicode.c */
typedef enum ApikeyCharClass
{
	APIKEY_CHAR_NONE,			/* control, format, white space */
	APIKEY_CHAR_LETTER,
	APIKEY_CHAR_MARK,
	APIKEY_CHAR_DIGIT,			/* decimal */
	APIKEY_CHAR_OTHER,			/* visible: punctuation, symbols, numbers */
	APIKEY_CHAR_HIDDEN			/* no glyph: not assigned, private, ignorable */
} ApikeyCharClass;

extern ApikeyCharClass apikey_unicode_class(pg_wchar code);
extern pg_wchar *apikey_unicode_decode(const text *value, int *count);
extern int	apikey_unicode_length(const text *value);
extern text *apikey_unicode_nfc(text *value);

#endif							/* APIKEY_H */
