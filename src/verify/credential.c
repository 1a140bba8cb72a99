/*
 * credential.c
 *		What a caller offers as a key, read from its text.
 *
 * No more is looked at than what a key may be long, whatever is offered, and
 * no table is read.
 */
#include "postgres.h"

#include "access/detoast.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "verify/verify_internal.h"

#define TEXT_BYTES_MAX	512		/* more is malformed unseen */
#define PROVING_DIGITS	(APIKEY_SECRET_DIGITS + APIKEY_CHECKSUM_DIGITS)

/*
 * Looks at the length of what is offered, which is all that is looked at of a
 * longer text; the bytes, where there are enough and not too many.
 */
static const char *
short_text(NullableDatum value, size_t *len, ApikeyShape *shape)
{
	text	   *detoasted;

	*len = value.isnull ? 0 : toast_raw_datum_size(value.value) - VARHDRSZ;
	*shape = *len == 0 ? APIKEY_SHAPE_MISSING : APIKEY_SHAPE_NONE;
	if (*len == 0 || *len > TEXT_BYTES_MAX)
		return NULL;
	detoasted = DatumGetTextPP(value.value);
	return VARDATA_ANY(detoasted);
}

/* Takes a parsed text's id and prefix, which stays where it is. */
static void
credential_identify(ApikeyCredential *credential, const char *bytes,
					const ApikeyText *parsed)
{
	credential->prefix = bytes;
	credential->prefix_len = parsed->prefix_len;
	memcpy(credential->id.data, parsed->id, APIKEY_ID_BYTES);
}

/* Takes a text that begins as a token does for one. */
static bool
token_head(const char *bytes, size_t len, ApikeyCredential *credential)
{
	if (!apikey_token_parse_head(bytes, len, &credential->prefix_len))
		return false;
	credential->shape = APIKEY_SHAPE_TOKEN;
	credential->prefix = bytes;
	credential->text_len = len;
	apikey_digest_proof("", 0, bytes + len - APIKEY_TOKEN_PROOF_CHARS,
						APIKEY_TOKEN_PROOF_CHARS, credential->proof);
	return true;
}

static void
ask_for_imports(void *any)
{
	*(bool *) any = apikey_import_any();
}

/* Is there an imported key, or can that not be told? */
bool
apikey_credential_imports(void)
{
	bool		any = true;
	bool		locked;

	return apikey_lenient_read(ask_for_imports, &any, &locked) != NULL || any;
}

/*
 * Reads a credential from a key's text, or a token's.  What follows the id is
 * left for apikey_credential_native, which a key that has been verified before
 * can do without: it is what the proof is made of.
 */
void
apikey_credential_from_key(NullableDatum key, ApikeyCredential *credential)
{
	ApikeyText	parsed;
	size_t		len;
	const char *bytes = short_text(key, &len, &credential->shape);

	if (bytes == NULL)
		return;
	credential->prefix = bytes;
	credential->text_len = len;
	if (apikey_text_parse_head(bytes, len, &parsed))
	{
		credential->shape = APIKEY_SHAPE_NATIVE;
		credential_identify(credential, bytes, &parsed);
		apikey_digest_proof(bytes, parsed.prefix_len,
							bytes + len - PROVING_DIGITS, PROVING_DIGITS,
							credential->proof);
	}
	else if (!token_head(bytes, len, credential) && apikey_credential_imports())
		credential->shape = APIKEY_SHAPE_OTHER;
}

/* The SHA-256 of a whole key, of which the tables have what is stored. */
void
apikey_credential_digest(ApikeyCredential *credential)
{
	if (credential->text_len > 0)
		apikey_digest_text(credential->prefix, credential->text_len,
						   credential->digest);
}

/* Is this a native key's text, its checksum right?  A handle has none. */
bool
apikey_credential_native(const ApikeyCredential *credential)
{
	const char *text = credential->prefix;
	size_t		len = credential->text_len;
	ApikeyText	parsed;

	return credential->shape == APIKEY_SHAPE_NATIVE &&
		(len == 0 || (apikey_text_parse(text, len, &parsed) &&
					  apikey_text_checksum_ok(text, len)));
}

/* Is this a token's text, its checksum right?  Takes it apart. */
bool
apikey_credential_token(const ApikeyCredential *credential,
						ApikeyTokenText *token)
{
	return credential->shape == APIKEY_SHAPE_TOKEN &&
		apikey_token_parse(credential->prefix, credential->text_len, token) &&
		apikey_text_checksum_ok(credential->prefix, credential->text_len);
}

/*
 * The same from a key's handle and the SHA-256 of its text, or from a token and
 * no digest.
 */
void
apikey_credential_from_digest(NullableDatum handle, NullableDatum digest,
							  ApikeyCredential *credential)
{
	ApikeyText	parsed;
	ApikeyShape digest_shape;
	size_t		len;
	size_t		digest_len;
	const char *bytes = short_text(handle, &len, &credential->shape);
	const char *digest_bytes = short_text(digest, &digest_len, &digest_shape);

	if (bytes != NULL && digest.isnull && token_head(bytes, len, credential))
		return;
	if (bytes == NULL || !apikey_text_parse_handle(bytes, len, &parsed) ||
		digest_bytes == NULL || digest_len != APIKEY_DIGEST_BYTES)
		return;
	credential->shape = APIKEY_SHAPE_NATIVE;
	credential_identify(credential, bytes, &parsed);
	credential->text_len = 0;
	memcpy(credential->digest, digest_bytes, APIKEY_DIGEST_BYTES);
}

/*
 * Is the prefix the key's?  That of a whole text is part of the digest or the
 * proof that has matched; a handle's is not.
 */
bool
apikey_credential_has_prefix(const ApikeyCredential *credential,
							 const text *prefix)
{
	if (credential->text_len > 0)
		return true;
	return VARSIZE_ANY_EXHDR(prefix) == credential->prefix_len &&
		memcmp(VARDATA_ANY(prefix), credential->prefix,
			   credential->prefix_len) == 0;
}
