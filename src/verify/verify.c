/*
 * verify.c
 *		Deciding what a text offered as a key is worth.
 *
 * The order of the checks is the order of the codes in apikey.h.  Nothing is
 * looked at, and nothing told, before the secret has matched; an unknown id
 * and a wrong secret cost and answer the same.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "apikey.h"
#include "limits/bound.h"
#include "store/complaint.h"
#include "keys/deleted.h"
#include "keys/foreign.h"
#include "memory/fresh.h"
#include "verify/token.h"
#include "usage/usage.h"

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
 * Finds the pepper that a key is keyed with; false, and told to the log, where
 * the file does not have it.
 */
bool
apikey_verify_find_pepper(const pg_uuid_t *id, int32 fingerprint,
						  const ApikeyPepper **pepper)
{
	*pepper = apikey_pepper_find(fingerprint);
	if (*pepper == NULL)
		apikey_complain(APIKEY_COMPLAINT_PEPPER_GONE,
						"API key %s is keyed with the pepper of fingerprint %08x, which is not in the file.",
						apikey_id_string(id), (uint32) fingerprint);
	return *pepper != NULL;
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
		apikey_pepper_complain();
		return true;
	}
	if (apikey_stale())
	{
		apikey_complain(APIKEY_COMPLAINT_STALE,
						"It is not known here what the primary had committed %d ms ago.",
						apikey_max_staleness);
		return true;
	}
	missing = apikey_intact_problem();
	if (missing != NULL)
		apikey_complain(APIKEY_COMPLAINT_TABLES,
						"The index \"%s\" does not exist.", missing);
	return missing != NULL;
}

/*
 * Does a key have this credential?  Then VALID, and the key is filled in.  It
 * is read as committed now, with our own transaction's changes, whatever the
 * isolation level.  Tells whether another pepper than the current one is the
 * key's.
 */
static ApikeyCode
match_credential(const ApikeyCredential *credential, ApikeyRow *key,
				 bool *outdated)
{
	Snapshot	snapshot;
	uint8		stored[APIKEY_DIGEST_BYTES] = {0};
	uint8		offered[APIKEY_DIGEST_BYTES];
	int32		fingerprint;
	const ApikeyPepper *pepper = apikey_pepper_current();
	bool		revocations;
	bool		found;

	AcceptInvalidationMessages();
	revocations = apikey_revocation_any();
	snapshot = apikey_latest_snapshot();
	found = apikey_key_fetch_digest(&credential->id, snapshot, stored,
									&fingerprint);
	if (found &&
		!apikey_verify_find_pepper(&credential->id, fingerprint, &pepper))
	{
		UnregisterSnapshot(snapshot);
		return APIKEY_CODE_UNAVAILABLE;
	}
	apikey_digest_stored(pepper, credential->digest, offered);
	found = apikey_digest_equal(stored, offered) && found &&
		apikey_key_fetch(&credential->id, snapshot, revocations, key);
	UnregisterSnapshot(snapshot);
	if (!found || !apikey_credential_has_prefix(credential, key))
		return APIKEY_CODE_NOT_FOUND;
	*outdated = fingerprint != apikey_pepper_current()->fingerprint;
	return APIKEY_CODE_VALID;
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
		apikey_key_fetch_latest(&imported->id, key);
}

/*
 * Finds the key whose text this is, native or imported; a token's is none.
 * UNAVAILABLE where that cannot be told.
 */
ApikeyCode
apikey_credential_find(ApikeyCredential *credential, ApikeyRow *key)
{
	ApikeyImported imported;
	ApikeyTokenText token;
	bool		outdated;

	apikey_credential_digest(credential);
	if (apikey_credential_native(credential))
		return match_credential(credential, key, &outdated);
	return !apikey_credential_token(credential, &token) &&
		apikey_import_any() && find_imported(credential, &imported, key) ?
		APIKEY_CODE_VALID : APIKEY_CODE_NOT_FOUND;
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

/* Fills in a verdict on a key that has been read just now, in a place or none. */
static void
complete_at(ApikeyVerdict *verdict, const ApikeyRow *key,
			const ApikeyPlace *place)
{
	verdict->key = key;
	verdict->project = place == NULL ? NULL : place->path;
	verdict->rated = verdict->credited = false;
	verdict->bounds = apikey_bounds_read(key, place);
	verdict->row = NULL;
	verdict->span = NULL;
	memset(&verdict->fresh, 0, sizeof(verdict->fresh));
	verdict->fresh.owner = apikey_key_owner(key);
	verdict->hint = &verdict->fresh;
}

/* The same where its place is still to be read. */
static void
complete(ApikeyVerdict *verdict, const ApikeyRow *key)
{
	const pg_uuid_t *project = apikey_key_project(key);
	ApikeyPlace place;
	bool		found = project != NULL &&
		apikey_place_fetch_project(project, &place);

	complete_at(verdict, key, found ? &place : NULL);
	apikey_status_read(key, found ? &place : NULL, &verdict->state);
}

/*
 * Fills in a verdict on the key of an id, for whoever does not offer the key
 * but would be told of it, and whose key it is.  False where there is none
 * such.
 */
bool
apikey_verify_known(const pg_uuid_t *id, const ApikeyDemand *demand,
					ApikeyVerdict *verdict)
{
	ApikeyRow  *key = palloc(sizeof(ApikeyRow));
	ApikeyPlace place;

	AcceptInvalidationMessages();
	verdict->at = GetCurrentTimestamp();
	verdict->known = true;
	if (!apikey_cache_lookup_id(id, verdict))
	{
		if (apikey_key_fetch_latest(id, key))
			complete(verdict, key);
		else if (apikey_deleted_fetch(id, key, &place))
			complete_at(verdict, key, &place);
		else
			return false;
	}
	return judge_whose(verdict, demand) == APIKEY_CODE_VALID;
}

/* What a token adds to what its key is now, which ends with it. */
static ApikeyCode
judge_span(const ApikeyVerdict *verdict, ApikeyCode code)
{
	if (apikey_token_early(verdict->span, verdict->at))
		return APIKEY_CODE_NOT_YET_VALID;
	return apikey_token_ended(verdict->span, verdict->at) ?
		APIKEY_CODE_EXPIRED : code;
}

/* Is a key one that is in force, whatever it is wanted for? */
static ApikeyCode
judge_state(const ApikeyVerdict *verdict)
{
	ApikeyCode	code = APIKEY_CODE_VALID;

	switch (apikey_status_at(verdict->key, &verdict->state, verdict->at))
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
			code = APIKEY_CODE_FORBIDDEN;
			break;
		case APIKEY_STATUS_RETIRING:
		case APIKEY_STATUS_ACTIVE:
			break;
	}
	return verdict->span == NULL ? code : judge_span(verdict, code);
}

/* Is a key good for what is wanted, whoever's it is? */
static ApikeyCode
judge_use(const ApikeyVerdict *verdict, const ApikeyDemand *demand)
{
	const ApikeyRow *key = verdict->key;

	if (!key->nulls[APIKEY_KEY_ALLOWED_IPS] &&
		!apikey_address_allowed(key->values[APIKEY_KEY_ALLOWED_IPS],
								demand->client_addr))
		return APIKEY_CODE_IP_DENIED;
	if (verdict->state.role < demand->min_role)
		return APIKEY_CODE_INSUFFICIENT_ROLE;
	if (demand->by_scopes &&
		!apikey_scope_all_granted(key->values[APIKEY_KEY_SCOPES],
								  demand->scopes))
		return APIKEY_CODE_INSUFFICIENT_SCOPE;
	return APIKEY_CODE_VALID;
}

/* Spends what a key that passes everything else is limited in. */
static ApikeyCode
spend(ApikeyVerdict *verdict, const ApikeyDemand *demand)
{
	return verdict->bounds == NULL ? APIKEY_CODE_VALID :
		apikey_bounds_spend(verdict, demand);
}

/* What a key whose secret has matched is good for. */
static ApikeyCode
judge(ApikeyVerdict *verdict, const ApikeyDemand *demand)
{
	ApikeyCode	code = judge_state(verdict);

	if (code == APIKEY_CODE_VALID)
		code = judge_whose(verdict, demand);
	if (code == APIKEY_CODE_VALID)
		code = judge_use(verdict, demand);
	return code == APIKEY_CODE_VALID ? spend(verdict, demand) : code;
}

/*
 * Reads a native key, or a token's, and what it is in its project.  VALID where
 * the secret matches.
 */
static ApikeyCode
read_key(ApikeyCredential *credential, ApikeyVerdict *verdict, bool *outdated)
{
	ApikeyRow  *key;
	ApikeyTokenText token;
	bool		of_token = apikey_credential_token(credential, &token);
	ApikeyCode	code;

	if (!of_token && !apikey_credential_native(credential))
		return APIKEY_CODE_MALFORMED;
	if (undecidable())
		return APIKEY_CODE_UNAVAILABLE;

	key = palloc(sizeof(ApikeyRow));
	*outdated = false;
	if (of_token)
	{
		memcpy(credential->id.data, token.id, UUID_LEN);
		code = apikey_token_match(credential->prefix, &token, key);
	}
	else
	{
		apikey_credential_digest(credential);
		code = match_credential(credential, key, outdated);
	}
	if (code != APIKEY_CODE_VALID)
		return code;
	complete(verdict, key);
	if (of_token)
	{
		apikey_token_narrow(&token, key, &verdict->fresh_span);
		verdict->span = &verdict->fresh_span;
	}
	return APIKEY_CODE_VALID;
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
	bool		outdated;
	ApikeyCode	code;

	/* What is fresh now is so with the messages that have come by then. */
	usable = apikey_pepper_usable() && !apikey_stale();
	AcceptInvalidationMessages();
	if (usable && apikey_cache_lookup(credential, verdict))
		return APIKEY_CODE_VALID;
	begun = apikey_changes_begin();
	code = read_key(credential, verdict, &outdated);
	if (code != APIKEY_CODE_VALID)
		return code;
	if (outdated)
		apikey_rehash_native(credential);
	apikey_cache_store(begun, credential, verdict);
	return APIKEY_CODE_VALID;
}

/*
 * A native key that was verified elsewhere: where it is not keyed with the
 * current pepper, it will be.
 */
bool
apikey_verify_renew(ApikeyCredential *credential)
{
	ApikeyVerdict verdict = {0};
	bool		outdated;

	if (!apikey_credential_native(credential) || !apikey_pepper_usable())
		return false;
	AcceptInvalidationMessages();
	if (read_key(credential, &verdict, &outdated) != APIKEY_CODE_VALID ||
		!outdated)
		return false;
	apikey_rehash_native(credential);
	return true;
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

	apikey_credential_digest(credential);
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
		apikey_complain(APIKEY_COMPLAINT_IMPORT, "%s", imported.problem);
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
		 (credential->shape > APIKEY_SHAPE_FOREIGN && apikey_import_any()));
}

/* The verdict on a credential. */
void
apikey_verify_credential(ApikeyCredential *credential,
						 const ApikeyDemand *demand, ApikeyVerdict *verdict)
{
	verdict->code = APIKEY_CODE_MALFORMED;
	if (credential->shape > APIKEY_SHAPE_FOREIGN)
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

/* Reads any key, native or imported, or a token's, without remembering it. */
static ApikeyCode
read_any(ApikeyCredential *credential, ApikeyVerdict *verdict)
{
	ApikeyImported imported;
	ApikeyRow  *key;
	bool		outdated;
	ApikeyCode	code = APIKEY_CODE_MALFORMED;

	AcceptInvalidationMessages();
	if (credential->shape == APIKEY_SHAPE_MISSING)
		return APIKEY_CODE_MISSING;
	if (credential->shape > APIKEY_SHAPE_FOREIGN)
		code = read_key(credential, verdict, &outdated);
	if (!may_be_imported(credential, code))
		return code;

	apikey_credential_digest(credential);
	if (undecidable())
		return APIKEY_CODE_UNAVAILABLE;
	key = palloc(sizeof(ApikeyRow));
	if (!find_imported(credential, &imported, key))
		return imported.problem == NULL ? code : APIKEY_CODE_UNAVAILABLE;
	complete(verdict, key);
	return APIKEY_CODE_VALID;
}

/*
 * Is this a key, and no token, that is in force and grants some scopes,
 * whoever's it is?  The verdict tells of it.  Nothing is spent or counted, and
 * nothing is written of a use.
 */
ApikeyCode
apikey_verify_held(ApikeyCredential *credential, const ArrayType *scopes,
				   ApikeyVerdict *verdict)
{
	ApikeyTokenText token;
	ApikeyCode	code;

	if (apikey_credential_token(credential, &token))
		return APIKEY_CODE_MALFORMED;
	code = read_any(credential, verdict);
	if (code != APIKEY_CODE_VALID)
		return code;
	verdict->at = GetCurrentTimestamp();
	code = judge_state(verdict);
	if (code == APIKEY_CODE_VALID && scopes != NULL &&
		!apikey_scope_all_granted(verdict->key->values[APIKEY_KEY_SCOPES],
								  PointerGetDatum(scopes)))
		code = APIKEY_CODE_INSUFFICIENT_SCOPE;
	return code;
}

/*
 * What a native key, or a token's, would be told if it were asked for by whose
 * it is: the verdict tells of it where the secret matches.  Nothing is spent or
 * counted, but what is used up is told.
 */
ApikeyCode
apikey_verify_seen(ApikeyCredential *credential, ApikeyVerdict *verdict)
{
	static const ApikeyDemand nothing = {.cost = 0};
	ApikeyCode	code = read_any(credential, verdict);

	verdict->known = code == APIKEY_CODE_VALID;
	if (!verdict->known)
		return code;
	verdict->at = GetCurrentTimestamp();
	code = judge_state(verdict);
	if (code == APIKEY_CODE_VALID)
		code = judge_use(verdict, &nothing);
	if (code == APIKEY_CODE_VALID)
		code = spend(verdict, &nothing);
	if (code != APIKEY_CODE_VALID)
		return code;
	if (verdict->rated && verdict->rate_remaining < 1)
		return APIKEY_CODE_RATE_LIMITED;
	return verdict->credited && verdict->credits < 1 ?
		APIKEY_CODE_EXHAUSTED : APIKEY_CODE_VALID;
}
