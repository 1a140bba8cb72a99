/*
 * code.c
 *		What a verification comes to, and is counted as: the codes' names.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "store/store.h"
#include "memory/memory.h"

static const char *const code_names[] = {
	[APIKEY_CODE_VALID] = "valid",
	[APIKEY_CODE_MISSING] = "missing",
	[APIKEY_CODE_MALFORMED] = "malformed",
	[APIKEY_CODE_NOT_FOUND] = "not_found",
	[APIKEY_CODE_REVOKED] = "revoked",
	[APIKEY_CODE_DISABLED] = "disabled",
	[APIKEY_CODE_NOT_YET_VALID] = "not_yet_valid",
	[APIKEY_CODE_EXPIRED] = "expired",
	[APIKEY_CODE_FORBIDDEN] = "forbidden",
	[APIKEY_CODE_WRONG_PROJECT] = "wrong_project",
	[APIKEY_CODE_WRONG_OWNER] = "wrong_owner",
	[APIKEY_CODE_IP_DENIED] = "ip_denied",
	[APIKEY_CODE_INSUFFICIENT_ROLE] = "insufficient_role",
	[APIKEY_CODE_INSUFFICIENT_SCOPE] = "insufficient_scope",
	[APIKEY_CODE_UNAVAILABLE] = "unavailable",
	[APIKEY_CODE_RATE_LIMITED] = "rate_limited",
	[APIKEY_CODE_EXHAUSTED] = "exhausted"
};

const char *
apikey_code_name(ApikeyCode code)
{
	return code_names[code];
}

/* The refusal of a name; VALID for none. */
ApikeyCode
apikey_code_of_refusal(const text *name)
{
	int			code = 0;

	while (code < APIKEY_CODE_VALID &&
		   !apikey_same_text(name, cstring_to_text(code_names[code])))
		code++;
	return (ApikeyCode) code;
}
