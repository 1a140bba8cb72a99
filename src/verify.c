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
#include "utils/timestamp.h"

#include "apikey.h"
#include "bound.h"
#include "complaint.h"
#include "deleted.h"
#include "foreign.h"
#include "usage.h"
#include "verify.h"

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
static bool
find_pepper(const ApikeyCredential *credential, int32 fingerprint,
			const ApikeyPepper **pepper)
{
	*pepper = apikey_pepper_find(fingerprint);
	if (*pepper == NULL)
		apikey_complain(APIKEY_COMPLAINT_PEPPER_GONE,
						"API key %s is keyed with the pepper of fingerprint %08x, which is not in the file.",
						apikey_id_string(&credential->id),
						(uint32) fingerprint);
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
	missing = apikey_intact_problem();
	if (missing != NULL)
		apikey_complain(APIKEY_COMPLAINT_TABLES,
						"The index \"%s\" does not exist.", missing);
	return missing != NULL;
}

/*
 * Does a key have this credential?  Then VALID, and the key is filled in.  It
 * is read as committed now, with our own transaction's changes, whatever the
 * isolation level.
 */
static ApikeyCode
match_credential(const ApikeyCredential *credential, ApikeyRow *key)
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
	if (found && !find_pepper(credential, fingerprint, &pepper))
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
	if (fingerprint != apikey_pepper_current()->fingerprint)
		apikey_rehash_native(credential);
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
 * Finds the key whose text this is, native or imported.  UNAVAILABLE where that
 * cannot be told.
 */
ApikeyCode
apikey_credential_find(ApikeyCredential *credential, ApikeyRow *key)
{
	ApikeyImported imported;

	apikey_credential_digest(credential);
	if (apikey_credential_native(credential))
		return match_credential(credential, key);
	return apikey_import_any() && find_imported(credential, &imported, key) ?
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
 * but would be told of it, and whose key it is.  False where there is none such.
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
		!apikey_address_allowed(key->values[APIKEY_KEY_ALLOWED_IPS],
								demand->client_addr))
		return APIKEY_CODE_IP_DENIED;
	if (verdict->state.role < demand->min_role)
		return APIKEY_CODE_INSUFFICIENT_ROLE;
	if (demand->by_scopes &&
		!apikey_scope_all_granted(key->values[APIKEY_KEY_SCOPES],
								  demand->scopes))
		return APIKEY_CODE_INSUFFICIENT_SCOPE;
	return verdict->bounds == NULL ? APIKEY_CODE_VALID :
		apikey_bounds_spend(verdict, demand);
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
	ApikeyCode	code;
	ApikeyRow  *key;

	usable = apikey_pepper_usable();
	AcceptInvalidationMessages();
	if (usable && apikey_cache_lookup(credential, verdict))
		return APIKEY_CODE_VALID;
	if (!apikey_credential_native(credential))
		return APIKEY_CODE_MALFORMED;
	if (undecidable())
		return APIKEY_CODE_UNAVAILABLE;

	apikey_credential_digest(credential);
	begun = apikey_cache_begin();
	key = palloc(sizeof(ApikeyRow));
	code = match_credential(credential, key);
	if (code != APIKEY_CODE_VALID)
		return code;
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
