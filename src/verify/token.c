/*
 * token.c
 *		Tokens: what proves one.
 *
 * A token is a text that says of which key it is, until when, and for which
 * scopes, and carries a MAC over that:
 *
 *		HMAC-SHA-256(HMAC-SHA-256(pepper, stored || purpose),
 *					 system || database || text up to the MAC)
 *
 * stored is what the tables have of the key: its digest, or, of an imported key
 * that has not been verified yet, what stands for the imported hash.  So a dump
 * makes no token without the pepper, nor the pepper one without the tables, and
 * when what is stored changes, tokens made before are nobody's.  The pepper is
 * that which the key is keyed with; of a key without one, any of the file's.
 * system and database name the database, so that a copy of it accepts none.
 * See docs/design.md for the reasons.
 *
 * What a token is good for is what its key is good for, at each use.  Nothing
 * is stored.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "limits/limits.h"
#include "verify/verify_internal.h"

/* Digests of other purposes are over texts of another length. */
#define PURPOSE			"apikey token v1"
#define PURPOSE_LEN		(sizeof(PURPOSE) - 1)

/* Clocks of servers that are not set back differ by less. */
#define CLOCK_TOLERANCE	(5 * USECS_PER_SEC)

/* The MAC of a text under what is stored and a pepper. */
void
apikey_token_compute_mac(const ApikeyPepper *pepper, const uint8 *stored,
						 const char *text, size_t len, uint8 *mac)
{
	uint8		source[APIKEY_DIGEST_BYTES + PURPOSE_LEN];
	uint8		key[APIKEY_DIGEST_BYTES];
	uint64		system = GetSystemIdentifier();
	Oid			database = MyDatabaseId;
	char		message[sizeof(system) + sizeof(database) + APIKEY_TOKEN_TEXT_MAX];
	char	   *next = message;

	memcpy(source, stored, APIKEY_DIGEST_BYTES);
	memcpy(source + APIKEY_DIGEST_BYTES, PURPOSE, PURPOSE_LEN);
	apikey_digest_hmac(pepper->bytes, pepper->len, source, sizeof(source), key);

	memcpy(next, &system, sizeof(system));
	next += sizeof(system);
	memcpy(next, &database, sizeof(database));
	next += sizeof(database);
	memcpy(next, text, len);
	next += len;
	apikey_digest_hmac((const char *) key, sizeof(key), message,
					   next - message, mac);
	explicit_bzero(key, sizeof(key));
	explicit_bzero(source, sizeof(source));
}

/*
 * Does what is stored prove a token?  Each pepper of the file is tried, whether
 * there is anything stored or not, and no other: without one, what is stored
 * would be all that it takes.
 */
static bool
proves(const ApikeyStored *stored, bool found, const char *text,
	   const ApikeyTokenText *token)
{
	const ApikeyPepper *pepper;
	bool		proven = false;

	for (int i = 0; (pepper = apikey_pepper_nth(i)) != NULL &&
		 pepper->fingerprint != APIKEY_UNPEPPERED; i++)
	{
		uint8		mac[APIKEY_DIGEST_BYTES];
		bool		its = stored->fingerprint == APIKEY_UNPEPPERED ||
			stored->fingerprint == pepper->fingerprint;

		apikey_token_compute_mac(pepper, stored->digest, text, token->signed_len, mac);
		proven |= apikey_digest_equal(mac, token->mac) && its && found;
	}
	return proven;
}

/*
 * Is a text, which has been parsed, a token of a key?  Then VALID, and the key
 * is filled in, read as committed now.  Peppers must be usable.
 */
ApikeyCode
apikey_token_match(const char *text, const ApikeyTokenText *token,
				   ApikeyRow *key)
{
	pg_uuid_t	id;
	ApikeyStored		stored = {.fingerprint = APIKEY_UNPEPPERED};
	const ApikeyPepper *pepper;
	bool		revocations = apikey_revocation_any();
	Snapshot	snapshot = apikey_latest_snapshot();
	ApikeyRowHint nowhere = {0};
	bool		found;

	memcpy(id.data, token->id, UUID_LEN);
	found = apikey_stored_fetch(&id, snapshot, &stored);
	if (found && !apikey_pepper_find_for(&id, stored.fingerprint, &pepper))
	{
		UnregisterSnapshot(snapshot);
		return APIKEY_CODE_UNAVAILABLE;
	}
	found = proves(&stored, found, text, token) &&
		apikey_key_fetch(&id, snapshot, revocations, &nowhere, key);
	UnregisterSnapshot(snapshot);
	return found ? APIKEY_CODE_VALID : APIKEY_CODE_NOT_FOUND;
}

/* The scopes of a token, as an array. */
static ArrayType *
token_scopes(const ApikeyTokenText *token)
{
	Datum		scopes[APIKEY_TOKEN_SCOPES_MAX];
	int			count = 0;
	const char *end = token->scopes + token->scopes_len;

	for (const char *at = token->scopes; at < end; at++)
	{
		const char *blank = memchr(at, ' ', end - at);
		const char *after = blank == NULL ? end : blank;

		scopes[count++] = PointerGetDatum(cstring_to_text_with_len(at, after - at));
		at = after;
	}
	return construct_array(scopes, count, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * Leaves a key, which was read for a token, what the token has of it: no more
 * scopes than either of them grants.
 */
void
apikey_token_narrow(const ApikeyTokenText *token, ApikeyRow *key,
					ApikeySpan *span)
{
	span->end = token->end;
	span->begin = token->end - (int64) token->ttl * USECS_PER_SEC;
	if (token->scoped)
		apikey_row_set_pointer(key, APIKEY_KEY_SCOPES,
							   apikey_scope_common(DatumGetArrayTypeP(key->values[APIKEY_KEY_SCOPES]),
												   token_scopes(token)));
}

/* Has a token ended? */
bool
apikey_token_ended(const ApikeySpan *span, TimestampTz now)
{
	return now >= span->end;
}

/*
 * Is it before a token was made?  Then the clock has been set back since, and
 * would let the token last longer than it was made for.
 */
bool
apikey_token_early(const ApikeySpan *span, TimestampTz now)
{
	return now < span->begin - CLOCK_TOLERANCE;
}
