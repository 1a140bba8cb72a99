/*
 * token_make.c
 *		Making a token of a key: see token.c for what it is.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "limits/limits.h"
#include "verify/verify_internal.h"

/* The scopes that are wanted, with a blank between two; checked before. */
static void
write_scopes(ArrayType *scopes, ApikeyTokenText *token)
{
	Datum	   *elements;
	int			count;

	token->scoped = true;
	deconstruct_array(scopes, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		text	   *scope = DatumGetTextPP(elements[i]);
		size_t		len = VARSIZE_ANY_EXHDR(scope);
		size_t		blank = i > 0 ? 1 : 0;

		if (token->scopes_len + blank + len > APIKEY_TOKEN_SCOPES_MAX)
			apikey_refuse_by("apikey_scopes_length", "scopes",
							 psprintf("The scopes of a token have at most %d bytes, and one more between two of them.",
									  APIKEY_TOKEN_SCOPES_MAX));
		if (blank > 0)
			token->scopes[token->scopes_len++] = ' ';
		memcpy(token->scopes + token->scopes_len, VARDATA_ANY(scope), len);
		token->scopes_len += len;
	}
}

/* Raises 28000, with the code that a verification would have. */
pg_noreturn static void
refuse(ApikeyCode code)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("API key refused"),
			 errdetail_internal("%s", apikey_code_name(code)),
			 errhidestmt(true)));
}

/* What a token of a key proves itself with, now. */
static void
prove(const ApikeyRow *key, char *text, ApikeyTokenText *token)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	const ApikeyPepper *pepper = NULL;
	ApikeyStored stored;
	bool		found = apikey_stored_fetch(apikey_row_id(key), snapshot, &stored);

	UnregisterSnapshot(snapshot);
	if (found)
		pepper = stored.fingerprint == APIKEY_UNPEPPERED ?
			apikey_pepper_current() : apikey_pepper_find(stored.fingerprint);
	if (pepper == NULL)
		refuse(found ? APIKEY_CODE_UNAVAILABLE : APIKEY_CODE_NOT_FOUND);
	apikey_token_compute_mac(pepper, stored.digest, text, token->signed_len, token->mac);
}

/*
 * Makes a token of the key that a text is, for so long, with the scopes wanted,
 * or NULL for the key's at each use.
 */
text *
apikey_token_make(ApikeyCredential *credential, int64 ttl, ArrayType *scopes)
{
	char text[	APIKEY_TOKEN_TEXT_MAX];
	ApikeyTokenText token = {0};
	ApikeyVerdict verdict;
	ApikeyCode	code;
	struct varlena *prefix;

	if (scopes != NULL)
		write_scopes(scopes, &token);
	apikey_pepper_require();
	if (apikey_pepper_current()->fingerprint == APIKEY_UNPEPPERED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("tokens need a pepper"),
				 errhint("Set \"apikey.pepper_file\".")));
	code = apikey_verify_in_force(credential, scopes, &verdict);
	if (code != APIKEY_CODE_VALID)
		refuse(code);

	memcpy(token.id, apikey_row_id(verdict.key)->data, UUID_LEN);
	token.end = verdict.at + ttl;
	if (!verdict.key->nulls[APIKEY_KEY_EXPIRES_AT])
		token.end = Min(token.end,
						DatumGetTimestampTz(verdict.key->values[APIKEY_KEY_EXPIRES_AT]));
	token.ttl = (token.end - verdict.at + USECS_PER_SEC - 1) / USECS_PER_SEC;
	prefix = apikey_row_text(verdict.key, APIKEY_KEY_PREFIX);
	token.signed_len = apikey_token_write(VARDATA_ANY(prefix),
										  VARSIZE_ANY_EXHDR(prefix), &token, text);
	prove(verdict.key, text, &token);
	return cstring_to_text_with_len(text, apikey_token_prove(text, token.signed_len,
															 token.mac));
}
