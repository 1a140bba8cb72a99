/*
 * verify_internal.h
 *		What stays within verify/.
 */
#ifndef APIKEY_VERIFY_INTERNAL_H
#define APIKEY_VERIFY_INTERNAL_H

#include "utils/array.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "limits/limits.h"
#include "verify/verify.h"

/* token.c */
extern void apikey_token_compute_mac(const ApikeyPepper *pepper,
									 const uint8 *stored, const char *text,
									 size_t len, uint8 *mac);
extern ApikeyCode apikey_token_match(const char *text,
									 const ApikeyTokenText *token,
									 ApikeyRow *key);
extern void apikey_token_narrow(const ApikeyTokenText *token, ApikeyRow *key,
								ApikeySpan *span);
extern bool apikey_token_ended(const ApikeySpan *span, TimestampTz now);
extern bool apikey_token_early(const ApikeySpan *span, TimestampTz now);

/* cache.c */
extern bool apikey_cache_lookup(ApikeyCredential *credential,
								ApikeyVerdict *verdict);
extern bool apikey_cache_lookup_id(const pg_uuid_t *id,
								   ApikeyVerdict *verdict);
extern bool apikey_cache_last_use_due(const ApikeyCredential *credential,
									  TimestampTz now, TimestampTz before);
extern void apikey_cache_store(uint64 begun,
							   const ApikeyCredential *credential,
							   const ApikeyVerdict *verdict);
extern void apikey_cache_store_id(uint64 begun, const ApikeyVerdict *verdict);

/* cache_entry.c */
extern Datum apikey_verdict_value(const ApikeyVerdict *verdict,
								  ApikeyKeyColumn column);

/* count.c */
extern void apikey_verify_count(const ApikeyCredential *credential,
								const ApikeyRequirements *required,
								const ApikeyVerdict *verdict);

/* credential.c */
extern bool apikey_credential_has_prefix(const ApikeyCredential *credential,
										 const text *prefix);
extern bool apikey_credential_native(const ApikeyCredential *credential);
extern bool apikey_credential_imports(void);
extern void apikey_credential_digest(ApikeyCredential *credential);

/* judge.c */
extern void apikey_judge_complete(ApikeyVerdict *verdict,
								  const ApikeyRow *key);
extern ApikeyCode apikey_judge(ApikeyVerdict *verdict,
							   const ApikeyRequirements *required);
extern ApikeyCode apikey_judge_state(const ApikeyVerdict *verdict);
extern ApikeyCode apikey_judge_use(const ApikeyVerdict *verdict,
								   const ApikeyRequirements *required);
extern ApikeyCode apikey_judge_spend(ApikeyVerdict *verdict,
									 const ApikeyRequirements *required);

/* verify.c */
extern ApikeyCode apikey_verify_in_force(ApikeyCredential *credential,
										 const ArrayType *scopes,
										 ApikeyVerdict *verdict);

#endif							/* APIKEY_VERIFY_INTERNAL_H */
