/*
 * verify.c
 *		Deciding what a text offered as a key is worth.
 *
 * The order of the checks is the order of the codes in apikey.h.  Nothing is
 * looked at, and nothing told, before the secret has matched; an unknown id
 * and a wrong secret cost and answer the same.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apikey.h"
#include "credit.h"
#include "foreign.h"
#include "usage.h"
#include "verify.h"

#define TEXT_BYTES_MAX	512		/* more is malformed unseen */
#define PROVING_DIGITS	(APIKEY_SECRET_DIGITS + APIKEY_CHECKSUM_DIGITS)

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

/*
 * Reads a credential from a key's text.  What follows the id is for
 * native_text_ok to look at, which a key that has been verified before can do
 * without: it is what the proof is made of.
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
	else if (apikey_import_any())
		credential->shape = APIKEY_SHAPE_FOREIGN;
}

/* The SHA-256 of a whole key, of which the tables have what is stored. */
static void
credential_digest(ApikeyCredential *credential)
{
	if (credential->text_len > 0)
		apikey_digest_text(credential->prefix, credential->text_len,
						   credential->digest);
}

/* Is this a native key's text, its checksum right?  A handle has none. */
static bool
native_text_ok(const ApikeyCredential *credential)
{
	const char *text = credential->prefix;
	size_t		len = credential->text_len;
	ApikeyText	parsed;

	return credential->shape == APIKEY_SHAPE_NATIVE &&
		(len == 0 || (apikey_text_parse(text, len, &parsed) &&
					  apikey_text_checksum_ok(text, len)));
}

/* The same from a key's handle and the SHA-256 of its text. */
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

	if (bytes == NULL || !apikey_text_parse_handle(bytes, len, &parsed) ||
		digest_bytes == NULL || digest_len != APIKEY_DIGEST_BYTES)
		return;
	credential->shape = APIKEY_SHAPE_NATIVE;
	credential_identify(credential, bytes, &parsed);
	credential->text_len = 0;
	memcpy(credential->digest, digest_bytes, APIKEY_DIGEST_BYTES);
}

/*
 * Tells the server's log, and it alone, once a minute at most, what cannot be
 * decided; without the statement, which may hold a key.
 */
static void
log_unavailable(const char *reason)
{
	static TimestampTz last = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (last != 0 && now - last < USECS_PER_MINUTE)
		return;
	last = now;
	ereport(LOG_SERVER_ONLY,
			(errmsg("some API keys cannot be verified"),
			 errdetail("%s", reason),
			 errhidestmt(true),
			 errhidecontext(true)));
}

/*
 * Can it not be decided now whether there is a key of some text, or what it is
 * good for?  Tells the log why.
 */
static bool
undecidable(void)
{
	const char *missing;

	if (!apikey_pepper_usable())
	{
		log_unavailable(psprintf("The file that \"apikey.pepper_file\" names cannot be used: %s",
								 apikey_pepper_problem()));
		return true;
	}
	missing = apikey_intact_problem();
	if (missing != NULL)
		log_unavailable(psprintf("The index \"%s\" does not exist.",
								 missing));
	return missing != NULL;
}

/*
 * Is the prefix the key's?  That of a whole text is part of the digest or the
 * proof that has matched; a handle's is not.
 */
bool
apikey_credential_has_prefix(const ApikeyCredential *credential,
							 const ApikeyRow *key)
{
	text	   *prefix;

	if (credential->text_len > 0)
		return true;
	prefix = apikey_row_text(key, APIKEY_KEY_PREFIX);
	return VARSIZE_ANY_EXHDR(prefix) == credential->prefix_len &&
		memcmp(VARDATA_ANY(prefix), credential->prefix,
			   credential->prefix_len) == 0;
}

/*
 * Does a key have this credential?  Fills in the key where it does.  It is
 * read as committed now, with our own transaction's changes, whatever the
 * isolation level.
 */
static bool
credential_matches(const ApikeyCredential *credential, ApikeyRow *key)
{
	Snapshot	snapshot;
	uint8		stored[APIKEY_DIGEST_BYTES] = {0};
	uint8		offered[APIKEY_DIGEST_BYTES];
	int32		fingerprint;
	const ApikeyPepper *pepper = apikey_pepper_current();
	bool		found;

	AcceptInvalidationMessages();
	snapshot = apikey_latest_snapshot();
	found = apikey_key_fetch_digest(&credential->id, snapshot, stored,
									&fingerprint);
	if (found && apikey_pepper_find(fingerprint) == NULL)
	{
		log_unavailable("Some hang on a pepper that is not in the file any more.");
		found = false;
	}
	else if (found)
		pepper = apikey_pepper_find(fingerprint);
	apikey_digest_stored(pepper, credential->digest, offered);
	found = apikey_digest_equal(stored, offered) && found &&
		apikey_table_fetch(&apikey_key_table, &credential->id, snapshot, key);
	UnregisterSnapshot(snapshot);
	found = found && apikey_credential_has_prefix(credential, key);
	if (found && fingerprint != apikey_pepper_current()->fingerprint)
		apikey_rehash_native(credential);
	return found;
}

/*
 * Is the text one of an imported key?  Fills in the key where it is.  Nothing
 * that has the checksum of a native key comes here.
 */
static bool
find_imported(const ApikeyCredential *credential, ApikeyImported *imported,
			  ApikeyRow *key)
{
	return apikey_import_find(credential, imported) &&
		apikey_table_fetch_latest(&apikey_key_table, &imported->id, key);
}

/* Finds the key whose text this is, native or imported. */
bool
apikey_credential_find(ApikeyCredential *credential, ApikeyRow *key)
{
	ApikeyImported imported;

	credential_digest(credential);
	return native_text_ok(credential) ? credential_matches(credential, key) :
		apikey_import_any() && find_imported(credential, &imported, key);
}

/* An address as IPv4 where it is an IPv6-mapped one (RFC 4291, 2.5.5.2). */
static inet *
unmapped_address(inet *address)
{
	static const uint8 mapped[12] = {[10] = 0xFF, [11] = 0xFF};
	inet	   *result;

	if (ip_family(address) != PGSQL_AF_INET6 || ip_bits(address) < 96 ||
		memcmp(ip_addr(address), mapped, sizeof(mapped)) != 0)
		return address;
	result = palloc0(sizeof(inet));
	ip_family(result) = PGSQL_AF_INET;
	ip_bits(result) = ip_bits(address) - 96;
	memcpy(ip_addr(result), ip_addr(address) + 12, 4);
	SET_INET_VARSIZE(result);
	return result;
}

/* Is the client in one of the networks?  An unknown one is in none. */
static bool
address_allowed(ArrayType *networks, inet *client)
{
	Datum	   *elements;
	int			count;

	if (client == NULL)
		return false;
	client = unmapped_address(client);
	deconstruct_array(networks, CIDROID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		inet	   *network = unmapped_address(DatumGetInetPP(elements[i]));

		if (DatumGetBool(DirectFunctionCall2(network_subeq,
											 InetPGetDatum(client),
											 InetPGetDatum(network))))
			return true;
	}
	return false;
}

static bool
all_scopes_granted(const ApikeyRow *key, ArrayType *wanted)
{
	ArrayType  *granted = DatumGetArrayTypeP(key->values[APIKEY_KEY_SCOPES]);
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	deconstruct_array(wanted, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i] ||
			!apikey_scope_granted(granted, DatumGetTextPP(elements[i])))
			return false;
	}
	return true;
}

/* Tells what is left of a limit. */
static void
set_rate(ApikeyVerdict *verdict, const ApikeyLimitState *state)
{
	verdict->rated = true;
	verdict->rate_remaining = state->remaining;
	verdict->rate_reset_at = (state->reset + APIKEY_LIMITER_UNITS - 1) /
		APIKEY_LIMITER_UNITS;
}

static ApikeyCode
spend_limit(ApikeyVerdict *verdict, const ApikeyLimit *limit, int32 cost)
{
	ApikeyLimitState state;
	ApikeyLimitVerdict passed;

	passed = apikey_usage_limit(apikey_row_id(verdict->key), verdict->hint,
								limit, cost, verdict->at, &state);
	if (passed == APIKEY_LIMIT_UNAVAILABLE)
	{
		log_unavailable(apikey_usage_shared() ?
						"There is no room for another key: raise \"apikey.max_tracked_keys\"." :
						"The library \"apikey\" is not in \"shared_preload_libraries\".");
		return APIKEY_CODE_UNAVAILABLE;
	}
	set_rate(verdict, &state);
	return passed == APIKEY_LIMIT_PASSED ? APIKEY_CODE_VALID :
		APIKEY_CODE_RATE_LIMITED;
}

static ApikeyCode
spend_credits(ApikeyVerdict *verdict, int32 cost)
{
	const pg_uuid_t *account = apikey_key_account(verdict->key);
	bool		own = memcmp(account, apikey_row_id(verdict->key),
							 sizeof(pg_uuid_t)) == 0;
	ApikeySlotHint other = {.owner = apikey_key_owner(verdict->key)};
	ApikeyCreditVerdict spent;

	spent = apikey_credit_spend(account, own ? verdict->hint : &other, cost,
								&verdict->credits);
	if (spent == APIKEY_CREDIT_UNAVAILABLE)
	{
		log_unavailable("Credits cannot be written now, or the worker that leases them does not answer.");
		return APIKEY_CODE_UNAVAILABLE;
	}
	verdict->credited = true;
	return spent == APIKEY_CREDIT_SPENT ? APIKEY_CODE_VALID :
		APIKEY_CODE_EXHAUSTED;
}

/*
 * Spends what a key that passes everything else is limited in.  What is then
 * refused for want of credits returns its tokens.
 */
static ApikeyCode
spend(ApikeyVerdict *verdict, const ApikeyDemand *demand)
{
	ApikeyLimit limit;
	ApikeyLimitState state = {0};
	bool		limited = apikey_limiter_of(verdict->key, &limit);
	ApikeyCode	code = APIKEY_CODE_VALID;

	if (limited)
		code = spend_limit(verdict, &limit, demand->cost);
	if (code != APIKEY_CODE_VALID || apikey_key_account(verdict->key) == NULL)
		return code;
	code = spend_credits(verdict, demand->cost);
	if (limited && code != APIKEY_CODE_VALID)
	{
		apikey_usage_unlimit(apikey_row_id(verdict->key), verdict->hint,
							 &limit, demand->cost, verdict->at, &state);
		set_rate(verdict, &state);
	}
	return code;
}

/*
 * Is it a key of whom the caller names?  A project's key is taken for nothing
 * but its project's: anyone may make a project and have others own keys there.
 * Where neither is named, it is the caller's own or nobody's.
 */
static ApikeyCode
judge_whose(const ApikeyVerdict *verdict, const ApikeyDemand *demand)
{
	bool		personal = apikey_key_project(verdict->key) == NULL;
	bool		owned = demand->owner == apikey_key_owner(verdict->key);

	if (demand->project != NULL)
	{
		if (!apikey_place_within(verdict->project, demand->project))
			return APIKEY_CODE_WRONG_PROJECT;
		return owned || !demand->by_owner ? APIKEY_CODE_VALID :
			APIKEY_CODE_WRONG_OWNER;
	}
	if (!personal && !demand->by_owner)
		return APIKEY_CODE_WRONG_PROJECT;
	return personal && owned ? APIKEY_CODE_VALID : APIKEY_CODE_WRONG_OWNER;
}

/* What a key whose secret has matched is good for. */
static ApikeyCode
judge(ApikeyVerdict *verdict, const ApikeyDemand *demand)
{
	const ApikeyRow *key = verdict->key;
	ApikeyCode	code;

	switch (apikey_status_at(key, &verdict->state, verdict->at))
	{
		case APIKEY_STATUS_REVOKED:
			return APIKEY_CODE_REVOKED;
		case APIKEY_STATUS_DISABLED:
			return APIKEY_CODE_DISABLED;
		case APIKEY_STATUS_SCHEDULED:
			return APIKEY_CODE_NOT_YET_VALID;
		case APIKEY_STATUS_EXPIRED:
			return APIKEY_CODE_EXPIRED;
		case APIKEY_STATUS_FORBIDDEN:
			return APIKEY_CODE_FORBIDDEN;
		case APIKEY_STATUS_RETIRING:
		case APIKEY_STATUS_ACTIVE:
			break;
	}

	code = judge_whose(verdict, demand);
	if (code != APIKEY_CODE_VALID)
		return code;
	if (!key->nulls[APIKEY_KEY_ALLOWED_IPS] &&
		!address_allowed(DatumGetArrayTypeP(key->values[APIKEY_KEY_ALLOWED_IPS]),
						 demand->client_addr))
		return APIKEY_CODE_IP_DENIED;
	if (verdict->state.role < demand->min_role)
		return APIKEY_CODE_INSUFFICIENT_ROLE;
	if (demand->scopes != NULL && !all_scopes_granted(key, demand->scopes))
		return APIKEY_CODE_INSUFFICIENT_SCOPE;
	return spend(verdict, demand);
}

/* Fills in a verdict on a key that has been read just now. */
static void
complete(ApikeyVerdict *verdict, const ApikeyRow *key)
{
	const pg_uuid_t *project = apikey_key_project(key);
	ApikeyPlace place;
	bool		found = project != NULL &&
		apikey_place_fetch_project(project, &place);

	verdict->key = key;
	verdict->project = found ? place.path : NULL;
	verdict->rated = verdict->credited = false;
	verdict->row = NULL;
	memset(&verdict->fresh, 0, sizeof(verdict->fresh));
	verdict->fresh.owner = apikey_key_owner(key);
	verdict->hint = &verdict->fresh;
	apikey_status_read(key, found ? &place : NULL, &verdict->state);
}

/*
 * Finds a key by its credential and what it is in its project: as this process
 * has done before, or in the tables.  VALID where the secret matches.
 */
static ApikeyCode
find_key(ApikeyCredential *credential, ApikeyVerdict *verdict)
{
	uint64		begun;
	bool		usable;
	ApikeyRow  *key;

	usable = apikey_pepper_usable();
	AcceptInvalidationMessages();
	if (usable && apikey_cache_lookup(credential, verdict))
		return APIKEY_CODE_VALID;
	if (!native_text_ok(credential))
		return APIKEY_CODE_MALFORMED;
	if (undecidable())
		return APIKEY_CODE_UNAVAILABLE;

	credential_digest(credential);
	begun = apikey_cache_begin();
	key = palloc(sizeof(ApikeyRow));
	if (!credential_matches(credential, key))
		return APIKEY_CODE_NOT_FOUND;
	complete(verdict, key);
	apikey_cache_store(begun, credential, verdict);
	return APIKEY_CODE_VALID;
}

/* Counts a verdict, and remembers the use of a key. */
static void
note(const ApikeyCredential *credential, const ApikeyDemand *demand,
	 const ApikeyVerdict *verdict)
{
	if (apikey_usage_shared())
		apikey_usage_note(verdict->code,
						  verdict->known ? &credential->id : NULL,
						  verdict->known ? verdict->hint : NULL,
						  demand->client_addr, demand->cost > 0, verdict->at);
	else if (verdict->code == APIKEY_CODE_VALID && demand->cost > 0)
		apikey_touch(credential, demand->client_addr);
}

/*
 * The verdict on a text that is no native key: of an imported one it is as on
 * any other.  Such a key is found in the tables each time, and its first
 * success gives it a native digest.
 */
static void
verify_imported(ApikeyCredential *credential, const ApikeyDemand *demand,
				ApikeyVerdict *verdict)
{
	ApikeyCredential found = *credential;
	ApikeyImported imported;
	ApikeyRow  *key = palloc(sizeof(ApikeyRow));

	credential_digest(credential);
	if (undecidable())
		verdict->code = APIKEY_CODE_UNAVAILABLE;
	else if (find_imported(credential, &imported, key))
	{
		found.id = imported.id;
		complete(verdict, key);
		verdict->known = true;
		verdict->code = judge(verdict, demand);
		if (imported.stale && verdict->code == APIKEY_CODE_VALID)
			apikey_rehash_imported(credential, &imported);
	}
	else if (imported.problem != NULL)
	{
		log_unavailable(imported.problem);
		verdict->code = APIKEY_CODE_UNAVAILABLE;
	}
	note(&found, demand, verdict);
}

/*
 * Is an imported key to be looked for?  A text that is like one of ours, but
 * for its checksum, may be one, too; a handle is none.
 */
static bool
may_be_imported(const ApikeyCredential *credential, ApikeyCode code)
{
	return code == APIKEY_CODE_MALFORMED &&
		(credential->shape == APIKEY_SHAPE_FOREIGN ||
		 (credential->shape == APIKEY_SHAPE_NATIVE && apikey_import_any()));
}

/* The verdict on a credential. */
void
apikey_verify_credential(ApikeyCredential *credential,
						 const ApikeyDemand *demand, ApikeyVerdict *verdict)
{
	verdict->code = APIKEY_CODE_MALFORMED;
	if (credential->shape == APIKEY_SHAPE_NATIVE)
		verdict->code = find_key(credential, verdict);
	else if (credential->shape == APIKEY_SHAPE_MISSING)
		verdict->code = APIKEY_CODE_MISSING;
	verdict->at = GetCurrentTimestamp();
	verdict->known = verdict->code == APIKEY_CODE_VALID;
	if (verdict->known)
		verdict->code = judge(verdict, demand);
	else if (may_be_imported(credential, verdict->code))
	{
		verify_imported(credential, demand, verdict);
		return;
	}
	note(credential, demand, verdict);
}
