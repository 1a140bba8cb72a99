/*
 * token.h
 *		Tokens: short-lived credentials that a key's holder makes of it.
 */
#ifndef APIKEY_TOKEN_H
#define APIKEY_TOKEN_H

#include "text/tokentext.h"
#include "verify/verify.h"

/* token.c */
extern ApikeyCode apikey_token_match(const char *text,
									 const ApikeyTokenText *token,
									 ApikeyRow *key);
extern void apikey_token_narrow(const ApikeyTokenText *token, ApikeyRow *key,
								ApikeyTokenSpan *span);
extern bool apikey_token_ended(const ApikeyTokenSpan *span, TimestampTz now);
extern bool apikey_token_early(const ApikeyTokenSpan *span, TimestampTz now);
extern text *apikey_token_make(ApikeyCredential *credential, int64 ttl,
							   ArrayType *scopes);

#endif							/* APIKEY_TOKEN_H */
