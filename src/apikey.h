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

#define APIKEY_DIGEST_BYTES	32

/* Settings, in apikey.c. */
extern char *apikey_prefix;
extern char *apikey_subject_setting;

/* The columns of the table apikey_key, in their order there. */
typedef enum ApikeyKeyColumn
{
	APIKEY_KEY_ID,
	APIKEY_KEY_OWNER,
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
	APIKEY_KEY_COLUMNS
} ApikeyKeyColumn;

/* One row of it; what values point to lives in the caller's context. */
typedef struct ApikeyKey
{
	Datum		values[APIKEY_KEY_COLUMNS];
	bool		nulls[APIKEY_KEY_COLUMNS];
} ApikeyKey;

/* What a key is at an instant, whoever asks. */
typedef enum ApikeyStatus
{
	APIKEY_STATUS_ACTIVE,
	APIKEY_STATUS_SCHEDULED,
	APIKEY_STATUS_DISABLED,
	APIKEY_STATUS_EXPIRED,
	APIKEY_STATUS_REVOKED
} ApikeyStatus;

/* catalog.c */
typedef struct ApikeyCatalog
{
	uint64		generation;		/* another one: objects may be others */
	const char *schema;			/* quoted where it needs to be */
	Oid			tables_owner;
	Oid			key;
	Oid			key_pkey;
	Oid			digest;
	Oid			digest_pkey;
} ApikeyCatalog;

extern const ApikeyCatalog *apikey_catalog(void);

/* digest.c */
extern void apikey_digest_text(const char *text, size_t len, uint8 *out);
extern void apikey_digest_stored(const char *pepper, size_t pepper_len,
								 const uint8 *digest, uint8 *out);
extern bool apikey_digest_equal(const uint8 *one, const uint8 *two);

/* generate.c */
extern text *apikey_generate(const char *prefix, int prefix_len,
							 pg_uuid_t *id, uint8 *digest);

/* key.c */
extern const char *apikey_key_column_name(ApikeyKeyColumn column);
extern ApikeyKeyColumn apikey_key_column(const char *name);
extern bool apikey_key_column_writable(ApikeyKeyColumn column);
extern const pg_uuid_t *apikey_key_id(const ApikeyKey *key);
extern Oid	apikey_key_owner(const ApikeyKey *key);
extern text *apikey_key_text(const ApikeyKey *key, ApikeyKeyColumn column);
extern void apikey_key_set(ApikeyKey *key, ApikeyKeyColumn column,
						   void *value);
extern ApikeyStatus apikey_key_status(const ApikeyKey *key, TimestampTz now);
extern bool apikey_key_fetch(const pg_uuid_t *id, Snapshot snapshot,
							 ApikeyKey *key);
extern bool apikey_key_fetch_digest(const pg_uuid_t *id, Snapshot snapshot,
									uint8 *digest);
extern bool apikey_key_lock(const pg_uuid_t *id, ApikeyKey *key);
extern void apikey_key_insert(ApikeyKey *key, const uint8 *digest);
extern void apikey_key_update(ApikeyKey *key);
extern void apikey_key_delete(const pg_uuid_t *id);

/* manage.c */
extern void apikey_manage_open(const pg_uuid_t *id, ApikeyKey *key);
extern void apikey_manage_lock(const pg_uuid_t *id, ApikeyKey *key);
extern void apikey_manage_require_unrevoked(const ApikeyKey *key);
extern bool apikey_manage_revoke(ApikeyKey *key, text *reason);

/* principal.c */
extern bool apikey_principal_may_see(Oid owner, const text *subject);
extern bool apikey_principal_may_manage(Oid owner, const text *subject);
extern text *apikey_principal_new_subject(text *wanted);
extern bool apikey_role_exists(Oid role);
extern char *apikey_role_name(Oid role, const text *last_known);

/* rules.c */
pg_noreturn extern void apikey_refuse(const char *argument, const char *rule);
pg_noreturn extern void apikey_refuse_null(const char *argument);
pg_noreturn extern void apikey_refuse_unsupported(const char *argument);
extern text *apikey_rule_name(const char *argument, text *value);
extern void apikey_rule_reason(const text *value);
extern void apikey_rule_subject(const text *value);
extern void apikey_rule_prefix(const char *prefix, int len);
extern void apikey_rule_attributes(const ApikeyKey *key);

/* scope.c */
extern bool apikey_scope_granted(ArrayType *granted, const text *wanted);

/* storage.c */
typedef struct ApikeyStorage
{
	Oid			user;			/* who it was before */
	int			security;
	int			guc_level;
} ApikeyStorage;

/* A prepared statement, kept for the life of the process; zeroed at first. */
typedef struct ApikeyStatement
{
	struct _SPI_plan *plan;
	uint64		generation;		/* of the catalog it was prepared under */
} ApikeyStatement;

extern void apikey_storage_open(ApikeyStorage *storage);
extern void apikey_storage_close(ApikeyStorage *storage);
extern bool apikey_storage_stale(const ApikeyStatement *statement);
extern void apikey_storage_prepare(ApikeyStatement *statement,
								   const char *sql, int count, Oid *types);
extern uint64 apikey_storage_run(const ApikeyStatement *statement,
								 Datum *values, const char *nulls);

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
	Oid			owner;
	bool		by_owner;
	bool		by_min_role;
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
	APIKEY_CODE_WRONG_PROJECT,
	APIKEY_CODE_WRONG_OWNER,
	APIKEY_CODE_IP_DENIED,
	APIKEY_CODE_INSUFFICIENT_ROLE,
	APIKEY_CODE_INSUFFICIENT_SCOPE,
	APIKEY_CODE_VALID
} ApikeyCode;

extern const char *apikey_code_name(ApikeyCode code);
extern bool apikey_code_tells_key(ApikeyCode code);
extern bool apikey_credential_from_key(Datum key,
									   ApikeyCredential *credential);
extern bool apikey_credential_from_digest(Datum handle, Datum digest,
										  ApikeyCredential *credential);
extern bool apikey_credential_matches(const ApikeyCredential *credential,
									  ApikeyKey *key);
extern ApikeyCode apikey_verdict(const ApikeyCredential *credential,
								 const ApikeyDemand *demand, ApikeyKey *key);

#endif							/* APIKEY_H */
