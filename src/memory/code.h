/*
 * code.h
 *		What a verification comes to, and is counted as.
 */
#ifndef APIKEY_CODE_H
#define APIKEY_CODE_H

/* The verdicts: the first that applies, in this order, VALID last. */
typedef enum ApikeyCode
{
	APIKEY_CODE_MISSING,
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
	APIKEY_CODE_UNAVAILABLE,
	APIKEY_CODE_RATE_LIMITED,
	APIKEY_CODE_EXHAUSTED,
	APIKEY_CODE_VALID
} ApikeyCode;

#define APIKEY_VERDICTS		(APIKEY_CODE_VALID + 1)

/* code.c */
extern const char *apikey_code_name(ApikeyCode code);
extern ApikeyCode apikey_code_of_refusal(const text *name);

#define APIKEY_UNIT_MAX		40	/* characters */

#endif							/* APIKEY_CODE_H */
