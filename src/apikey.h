/*
 * apikey.h
 *		What the files of this extension share.
 */
#ifndef APIKEY_H
#define APIKEY_H

#include "access/htup.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/inet.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "keytext.h"
#include "table.h"

#define APIKEY_DIGEST_BYTES	32

/* Settings, in apikey.c. */
extern int	apikey_cache_entries;
extern char *apikey_prefix;
extern char *apikey_subject_setting;

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
	APIKEY_KEY_ACCEPTED_TERMS
} ApikeyKeyColumn;

typedef enum ApikeyOrganizationColumn
{
	APIKEY_ORGANIZATION_ID,
	APIKEY_ORGANIZATION_NAME,
	APIKEY_ORGANIZATION_CREATED_AT
} ApikeyOrganizationColumn;

typedef enum ApikeyProjectColumn
{
	APIKEY_PROJECT_ID,
	APIKEY_PROJECT_ORGANIZATION,
	APIKEY_PROJECT_PATH,
	APIKEY_PROJECT_CREATED_AT,
	APIKEY_PROJECT_MEMBERS_CAN_VIEW,
	APIKEY_PROJECT_NAME_PATTERN,
	APIKEY_PROJECT_MAX_TTL,
	APIKEY_PROJECT_MAX_KEYS,
	APIKEY_PROJECT_TERMS,
	APIKEY_PROJECT_REVEALABLE
} ApikeyProjectColumn;

typedef enum ApikeyMemberColumn
{
	APIKEY_MEMBER_ID,
	APIKEY_MEMBER_ORGANIZATION,
	APIKEY_MEMBER_PROJECT,
	APIKEY_MEMBER_SUBJECT,
	APIKEY_MEMBER_MEMBER,
	APIKEY_MEMBER_MEMBER_NAME,
	APIKEY_MEMBER_ROLE,
	APIKEY_MEMBER_CREATED_AT,
	APIKEY_MEMBER_CREATED_BY
} ApikeyMemberColumn;

/* An organization, or a project of it. */
typedef struct ApikeyPlace
{
	char	   *path;
	bool		is_project;
	ApikeyRow	organization;	/* where it is one, or was locked */
	ApikeyRow	project;		/* where it is one */
} ApikeyPlace;

/* What a key is at an instant, whoever asks. */
typedef enum ApikeyStatus
{
	APIKEY_STATUS_ACTIVE,
	APIKEY_STATUS_SCHEDULED,
	APIKEY_STATUS_DISABLED,
	APIKEY_STATUS_EXPIRED,
	APIKEY_STATUS_REVOKED
} ApikeyStatus;

/* What a caller offers, once its shape is right. */
typedef struct ApikeyCredential
{
	pg_uuid_t	id;
	const char *prefix;			/* within the text it came from */
	size_t		prefix_len;
	uint8		digest[APIKEY_DIGEST_BYTES];	/* SHA-256 of the whole key */
} ApikeyCredential;

/* What a request needs of a key; NULL and false ask for nothing. */
typedef struct ApikeyDemand
{
	ArrayType  *scopes;
	text	   *project;
	inet	   *client_addr;
	ApikeyRole	min_role;
	Oid			owner;
	bool		by_owner;
} ApikeyDemand;

/* The verdicts: the first that applies, in this order, VALID last. */
typedef enum ApikeyCode
{
	APIKEY_CODE_MALFORMED,
	APIKEY_CODE_NOT_FOUND,
	APIKEY_CODE_REVOKED,
	APIKEY_CODE_DISABLED,
	APIKEY_CODE_NOT_YET_VALID,
	APIKEY_CODE_EXPIRED,
	APIKEY_CODE_FORBIDDEN,
	APIKEY_CODE_WRONG_PROJECT,
	APIKEY_CODE_WRONG_OWNER,
	APIKEY_CODE_IP_DENIED,
	APIKEY_CODE_INSUFFICIENT_ROLE,
	APIKEY_CODE_INSUFFICIENT_SCOPE,
	APIKEY_CODE_VALID
} ApikeyCode;

/* What has been decided; beyond the code only where the secret matched. */
typedef struct ApikeyVerdict
{
	ApikeyCode	code;
	ApikeyRow	key;
	char	   *project;		/* path; NULL for a personal key */
	ApikeyRole	role;			/* effective; none for a personal key */
	bool		forbidden;		/* its creator has left the project */
} ApikeyVerdict;

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

extern void apikey_authority_in_project(const pg_uuid_t *project,
										ApikeyAuthority *result);
extern bool apikey_authority_grants(const ApikeyAuthority *authority,
									ApikeyRight right, Oid owner,
									const text *subject, ApikeyRole key_role);
extern bool apikey_authority_may(ApikeyRight right, const ApikeyRow *key);

/* cache.c */
extern void apikey_cache_init(void);
extern void apikey_cache_drop(void);
extern void apikey_cache_key_changed(const pg_uuid_t *id);
extern void apikey_cache_all_changed(void);
extern void apikey_cache_saw_own_row(void);
extern bool apikey_cache_lookup(const ApikeyCredential *credential,
								ApikeyVerdict *verdict);
extern uint64 apikey_cache_begin(void);
extern void apikey_cache_store(uint64 begun,
							   const ApikeyCredential *credential,
							   const ApikeyVerdict *verdict);

/* digest.c */
extern void apikey_digest_text(const char *text, size_t len, uint8 *out);
extern void apikey_digest_stored(const char *pepper, size_t pepper_len,
								 const uint8 *digest, uint8 *out);
extern bool apikey_digest_equal(const uint8 *one, const uint8 *two);

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
	APIKEY_EVENT_TRANSFERRED,
	APIKEY_EVENT_MEMBER_ADDED,
	APIKEY_EVENT_MEMBER_REMOVED,
	APIKEY_EVENT_ORGANIZATION_CREATED,
	APIKEY_EVENT_ORGANIZATION_DROPPED,
	APIKEY_EVENT_PROJECT_CREATED,
	APIKEY_EVENT_PROJECT_UPDATED,
	APIKEY_EVENT_PROJECT_DROPPED
} ApikeyEvent;

extern char *apikey_json_text(const char *name, const text *value);
extern void apikey_event_key(const ApikeyRow *key, ApikeyEvent event,
							 const char *detail);
extern void apikey_event_place(const ApikeyPlace *place, ApikeyEvent event,
							   const char *detail);
extern void apikey_event_member(const ApikeyPlace *place, ApikeyEvent event,
								Oid member, const text *subject,
								ApikeyRole role, ApikeyRole before);

/* generate.c */
extern void apikey_generate_id(pg_uuid_t *id);
extern text *apikey_generate(const char *prefix, int prefix_len,
							 pg_uuid_t *id, uint8 *digest);

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

extern text *apikey_issue(ApikeyRow *key, const ApikeyIssue *issue);

/* key.c */
extern ApikeyTable apikey_key_table;

extern TupleDesc apikey_key_descriptor(void);
extern Oid	apikey_key_owner(const ApikeyRow *key);
extern const pg_uuid_t *apikey_key_project(const ApikeyRow *key);
extern ApikeyStatus apikey_key_status(const ApikeyRow *key, TimestampTz now);
extern bool apikey_key_fetch_digest(const pg_uuid_t *id, Snapshot snapshot,
									uint8 *digest);
extern void apikey_key_scan_project(const pg_uuid_t *project,
									ApikeyVisit visit, void *state);
extern int64 apikey_key_count_live(const pg_uuid_t *project);
extern void apikey_key_insert(ApikeyRow *key, const uint8 *digest);
extern void apikey_key_update(ApikeyRow *key, ApikeyEvent event,
							  const char *detail);
extern void apikey_key_delete(const ApikeyRow *key);

/* manage.c */
extern void apikey_manage_open(const pg_uuid_t *id, ApikeyRight right,
							   ApikeyRow *key);
extern void apikey_manage_lock(const pg_uuid_t *id, ApikeyRow *key);
extern void apikey_manage_require_unrevoked(const ApikeyRow *key);
extern bool apikey_manage_revoke(ApikeyRow *key, text *reason);
extern const ApikeyRow *apikey_manage_project(const ApikeyRow *key,
											  ApikeyPlace *place);

/* member.c */
extern ApikeyTable apikey_member_table;

extern void apikey_member_scan(const pg_uuid_t *organization,
							   const pg_uuid_t *project,
							   ApikeyVisit visit, void *state);
extern ApikeyRole apikey_member_standing(Oid role, const text *subject,
										 const pg_uuid_t *organization,
										 const pg_uuid_t *project);
extern void apikey_member_put(const ApikeyPlace *place, Oid member,
							  text *subject, ApikeyRole role);
extern bool apikey_member_remove_from(const ApikeyPlace *place, Oid member,
									  text *subject);

/* place.c */
extern ApikeyTable apikey_organization_table;
extern ApikeyTable apikey_project_table;

extern const pg_uuid_t *apikey_place_organization(const ApikeyPlace *place);
extern const pg_uuid_t *apikey_place_project(const ApikeyPlace *place);
extern ApikeyRole apikey_place_standing(const ApikeyPlace *place);
extern void apikey_place_open(const text *path, ApikeyPlace *place);
extern void apikey_place_open_project(const pg_uuid_t *id, ApikeyPlace *place);
extern void apikey_place_open_for_keys(const text *path, ApikeyPlace *place);
extern bool apikey_place_fetch_project(const pg_uuid_t *id,
									   ApikeyPlace *place);
extern void apikey_place_create_organization(const text *name,
											 ApikeyPlace *place);
extern void apikey_place_create_project(const text *path, ApikeyPlace *place);
extern void apikey_place_drop(ApikeyPlace *place);

/* principal.c */
extern bool apikey_role_exists(Oid role);
extern void apikey_role_require(Oid role);
extern text *apikey_role_name_text(Oid role, const text *last_known);
extern text *apikey_principal_subject(void);
extern bool apikey_same_text(const text *one, const text *two);
extern bool apikey_principal_covered(Oid role, const text *subject,
									 Oid member, const text *member_subject);
extern bool apikey_principal_matches(Oid role, const text *subject);
extern text *apikey_principal_new_subject(text *wanted, bool any);

/* rules.c */
pg_noreturn extern void apikey_refuse(const char *argument, const char *rule);
pg_noreturn extern void apikey_refuse_null(const char *argument);
pg_noreturn extern void apikey_refuse_unsupported(const char *argument);
extern text *apikey_rule_name(const char *argument, text *value,
							  const ApikeyRow *project);
extern void apikey_rule_reason(const text *value);
extern void apikey_rule_subject(const text *value);
extern void apikey_rule_prefix(const char *prefix, int len);
extern void apikey_rule_terms(const text *accepted, const ApikeyRow *project);
extern void apikey_rule_attributes(const ApikeyRow *key,
								   const ApikeyRow *project);
extern void apikey_rule_project(const ApikeyRow *project);

/* scope.c */
extern bool apikey_scope_granted(ArrayType *granted, const text *wanted);

/* unicode.c */
typedef enum ApikeyCharClass
{
	APIKEY_CHAR_NONE,			/* invisible: control, format, blank, ... */
	APIKEY_CHAR_LETTER,
	APIKEY_CHAR_MARK,
	APIKEY_CHAR_DIGIT,			/* decimal */
	APIKEY_CHAR_OTHER			/* visible: punctuation, symbols, numbers */
} ApikeyCharClass;

extern ApikeyCharClass apikey_unicode_class(pg_wchar code);
extern pg_wchar *apikey_unicode_decode(const text *value, int *count);
extern text *apikey_unicode_nfc(text *value);

/* verify.c */
extern const char *apikey_code_name(ApikeyCode code);
extern bool apikey_code_tells_key(ApikeyCode code);
extern bool apikey_credential_from_key(Datum key,
									   ApikeyCredential *credential);
extern bool apikey_credential_from_digest(Datum handle, Datum digest,
										  ApikeyCredential *credential);
extern bool apikey_credential_has_prefix(const ApikeyCredential *credential,
										 const ApikeyRow *key);
extern bool apikey_credential_matches(const ApikeyCredential *credential,
									  ApikeyRow *key);
extern void apikey_verify_credential(const ApikeyCredential *credential,
									 const ApikeyDemand *demand,
									 ApikeyVerdict *verdict);

#endif							/* APIKEY_H */
