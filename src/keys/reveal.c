/*
 * reveal.c
 *		The texts of keys that can be shown again.
 *
 * Kept only where the key's project is revealable when it is made, and only
 * encrypted, under a key made of the server's pepper: without one nothing is
 * kept.  A revoked key's text is dropped.  It moves to the current pepper with
 * the key's digest, or when it is shown.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys_internal.h"

/* The columns of apikey_reveal, in their order there. */
enum
{
	REVEAL_ID,
	REVEAL_CIPHERTEXT,
	REVEAL_PEPPER
};

static const ApikeyColumn reveal_columns[] = {
	[REVEAL_ID] = {"id", UUIDOID, false, true},
	[REVEAL_CIPHERTEXT] = {"ciphertext", BYTEAOID, false, true},
	[REVEAL_PEPPER] = {"pepper", INT4OID, false, true}
};

static ApikeyTable reveal_table = {
	.name = "apikey_reveal",
	.relation = APIKEY_REL_REVEAL,
	.pkey = APIKEY_REL_REVEAL_PKEY,
	.columns = reveal_columns,
	.count = lengthof(reveal_columns)
};

/* The password that a pepper makes: 256 bits in hexadecimal digits. */
static text *
password(const ApikeyPepper *pepper)
{
	static const uint8 purpose[APIKEY_DIGEST_BYTES] = "apikey reveal";
	uint8		digest[APIKEY_DIGEST_BYTES];
	text	   *result = palloc(VARHDRSZ + 2 * APIKEY_DIGEST_BYTES);

	apikey_digest_stored(pepper, purpose, digest);
	hex_encode((const char *) digest, APIKEY_DIGEST_BYTES, VARDATA(result));
	SET_VARSIZE(result, VARHDRSZ + 2 * APIKEY_DIGEST_BYTES);
	explicit_bzero(digest, sizeof(digest));
	return result;
}

/* The password is as random as a key, so it needs no stretching. */
static Datum
encrypt(const text *plaintext, const ApikeyPepper *pepper)
{
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID};
	text	   *secret = password(pepper);
	Datum		result = OidFunctionCall3(apikey_pgcrypto_function("pgp_sym_encrypt", types, 3),
										  PointerGetDatum(plaintext),
										  PointerGetDatum(secret),
										  CStringGetTextDatum("cipher-algo=aes256, compress-algo=0, s2k-mode=1"));

	explicit_bzero(VARDATA(secret), VARSIZE(secret) - VARHDRSZ);
	return result;
}

static text *
decrypt(Datum ciphertext, const ApikeyPepper *pepper)
{
	static const Oid types[] = {BYTEAOID, TEXTOID};
	text	   *secret = password(pepper);
	Datum		result = OidFunctionCall2(apikey_pgcrypto_function("pgp_sym_decrypt", types, 2),
										  ciphertext, PointerGetDatum(secret));

	explicit_bzero(VARDATA(secret), VARSIZE(secret) - VARHDRSZ);
	return DatumGetTextPP(result);
}

/* Keeps the text of a new key, if its project and the server have it so. */
void
apikey_reveal_keep(const ApikeyRow *key, const ApikeyRow *project,
				   const text *plaintext)
{
	const ApikeyPepper *pepper = apikey_pepper_current();
	ApikeyRow	row;

	if (project == NULL || pepper->fingerprint == APIKEY_UNPEPPERED ||
		!apikey_row_bool(project, APIKEY_PROJECT_REVEALABLE))
		return;
	apikey_row_set_pointer(&row, REVEAL_ID, apikey_row_id(key));
	apikey_row_set(&row, REVEAL_CIPHERTEXT, encrypt(plaintext, pepper));
	apikey_row_set(&row, REVEAL_PEPPER, Int32GetDatum(pepper->fingerprint));
	apikey_table_insert(&reveal_table, &row);
}

/* Would to drop what is kept of a key wait for nobody? */
bool
apikey_reveal_free(const ApikeyRow *key)
{
	return apikey_key_project(key) == NULL ||
		apikey_table_row_free(&reveal_table, apikey_row_id(key));
}

/* Drops what is kept of a key. */
void
apikey_reveal_forget(const ApikeyRow *key)
{
	if (apikey_key_project(key) != NULL)
		apikey_table_delete(&reveal_table, apikey_row_id(key), false);
}

/* Does a text belong to a key?  One that was moved to another row does not. */
static bool
text_is_of(const text *plaintext, const ApikeyRow *key)
{
	ApikeyText	parsed;

	return apikey_text_parse(VARDATA_ANY(plaintext),
							 VARSIZE_ANY_EXHDR(plaintext), &parsed) &&
		memcmp(parsed.id, apikey_row_id(key), APIKEY_ID_BYTES) == 0;
}

/* Is what is kept of a key under an older pepper than the current one? */
static bool
outdated(const ApikeyRow *row)
{
	int32		current = apikey_pepper_current()->fingerprint;

	return current != APIKEY_UNPEPPERED &&
		DatumGetInt32(row->values[REVEAL_PEPPER]) != current;
}

/* Puts a text that has been read under the current pepper. */
static void
encrypt_anew(ApikeyRow *row, const text *plaintext)
{
	const ApikeyPepper *pepper = apikey_pepper_current();

	apikey_row_set(row, REVEAL_CIPHERTEXT, encrypt(plaintext, pepper));
	apikey_row_set(row, REVEAL_PEPPER, Int32GetDatum(pepper->fingerprint));
	apikey_table_update(&reveal_table, row);
}

/* Is something kept of a key, under an older pepper? */
bool
apikey_reveal_outdated(const ApikeyRow *key)
{
	ApikeyRow	row;

	return apikey_key_project(key) != NULL &&
		apikey_table_fetch_latest(&reveal_table, apikey_row_id(key), &row) &&
		outdated(&row);
}

/*
 * Puts what is kept of a key under the current pepper, as a work of
 * apikey_attempt; unless somebody has it, or the old one is gone.
 */
void
apikey_reveal_move(void *work)
{
	const ApikeyRow *key = work;
	ApikeyRow	row;
	const ApikeyPepper *pepper;
	text	   *plaintext;

	if (!apikey_pepper_usable() ||
		!apikey_table_lock(&reveal_table, apikey_row_id(key),
						   APIKEY_LOCK_UPDATE_SKIP, &row) || !outdated(&row))
		return;
	pepper = apikey_pepper_find(DatumGetInt32(row.values[REVEAL_PEPPER]));
	if (pepper == NULL)
		return;
	plaintext = decrypt(row.values[REVEAL_CIPHERTEXT], pepper);
	if (text_is_of(plaintext, key))
		encrypt_anew(&row, plaintext);
	explicit_bzero(VARDATA_ANY(plaintext), VARSIZE_ANY_EXHDR(plaintext));
}

/* Would apikey_reveal show a key, to whom it may? */
bool
apikey_reveal_can(const ApikeyRow *key)
{
	ApikeyRow	row;

	return apikey_key_project(key) != NULL &&
		apikey_key_status(key, GetCurrentTimestamp()) != APIKEY_STATUS_REVOKED &&
		apikey_pepper_usable() &&
		apikey_table_fetch_latest(&reveal_table, apikey_row_id(key), &row) &&
		apikey_pepper_find(DatumGetInt32(row.values[REVEAL_PEPPER])) != NULL;
}

/* Shows the text of a locked key again, and tells so. */
text *
apikey_reveal_key(const ApikeyRow *key)
{
	const char *reason = NULL;
	const ApikeyPepper *pepper = NULL;
	text	   *plaintext = NULL;
	ApikeyRow	row;

	apikey_pepper_require();
	if (apikey_key_status(key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED ||
		!apikey_table_fetch_latest(&reveal_table, apikey_row_id(key), &row))
		reason = "It was not made in a revealable project of a server with a pepper, or it has been revoked.";
	else if ((pepper = apikey_pepper_find(DatumGetInt32(row.values[REVEAL_PEPPER]))) == NULL)
		reason = "The pepper that it was kept under is not in the file any more.";
	else if (!text_is_of(plaintext = decrypt(row.values[REVEAL_CIPHERTEXT],
											 pepper), key))
		reason = "What was kept is another key's.";
	if (reason != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("API key \"%s\" cannot be revealed",
						apikey_id_string(apikey_row_id(key))),
				 errdetail("%s", reason)));
	if (outdated(&row))
		encrypt_anew(&row, plaintext);
	apikey_reveal_tell(key);
	return plaintext;
}
