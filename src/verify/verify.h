/*
 * verify.h
 *		The door of verify/: verification, and what is remembered of it.
 */
#ifndef APIKEY_VERIFY_H
#define APIKEY_VERIFY_H

#include "access/htup.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/uuid.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "limits/limits.h"

/* What a key was when it was authenticated; see identity.c for how long. */
typedef struct ApikeyIdentity
{
	pg_uuid_t	key;
	char	   *project;		/* path; NULL for a personal key */
	NameData	owner;			/* told of a personal key only */
	text	   *subject;		/* or NULL */
	ApikeyRole	role;			/* none for a personal key */
	ArrayType  *scopes;
	struct varlena *metadata;	/* a jsonb */
} ApikeyIdentity;

/* identity.c */
extern ApikeyTransactionPart apikey_identity_transaction;
extern void apikey_identity_set(ApikeyVerdict *verdict);
extern const ApikeyIdentity *apikey_identity_current(void);

/* request.c */
extern text *apikey_request_key(void);
extern void apikey_request_requirements(ApikeyRequirements *required);

/* token_make.c */
extern text *apikey_token_make(ApikeyCredential *credential, int64 ttl,
							   ArrayType *scopes);

/* cache.c */
extern void apikey_cache_init(void);
extern bool apikey_cache_row(const ApikeyVerdict *verdict, HeapTuple row);
extern void apikey_cache_keep_row(const ApikeyVerdict *verdict, HeapTuple row);

/* cache_entry.c */
extern const ApikeyRow *apikey_verdict_key(ApikeyVerdict *verdict);

/* requirements.c */
extern void apikey_requirements_of_key(FunctionCallInfo fcinfo,
									   ApikeyCredential *credential,
									   ApikeyRequirements *required);
extern void apikey_requirements_of_check(FunctionCallInfo fcinfo,
										 ApikeyCredential *credential,
										 ApikeyRequirements *required);
extern void apikey_requirements_of_digest(FunctionCallInfo fcinfo,
										  ApikeyCredential *credential,
										  ApikeyRequirements *required);

/* credential.c */
extern void apikey_credential_from_key(NullableDatum key,
									   ApikeyCredential *credential);
extern void apikey_credential_from_digest(NullableDatum handle,
										  NullableDatum digest,
										  ApikeyCredential *credential);
extern bool apikey_credential_token(const ApikeyCredential *credential,
									ApikeyTokenText *token);

/* verify.c */
extern ApikeyCode apikey_verify_seen(ApikeyCredential *credential,
									 ApikeyVerdict *verdict);
extern ApikeyCode apikey_credential_find(ApikeyCredential *credential,
										 ApikeyRow *key);
extern void apikey_verify_credential(ApikeyCredential *credential,
									 const ApikeyRequirements *required,
									 ApikeyVerdict *verdict);

/* judge.c */
extern bool apikey_verify_known(const pg_uuid_t *id,
								const ApikeyRequirements *required,
								ApikeyVerdict *verdict);

#endif							/* APIKEY_VERIFY_H */
