/*
 * verify.c
 *		Deciding what a text offered as a key is worth.
 *
 * This is the way to the key: what was offered is found, and proven.  What the
 * key may do then is judged in judge.c.  Nothing is judged, and nothing told,
 * before the secret has matched; an unknown id and a wrong secret cost and
 * answer the same.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "limits/limits.h"
#include "verify/verify_internal.h"

/*
 * Can it not be decided now whether there is a key of some text, or what it is
 * good for?  Tells the log why, but for what is missed: whoever reads tells that.
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
		if (!apikey_lenient_missed())
			apikey_complain(APIKEY_COMPLAINT_STALE,
							"It is not known here what the primary had committed %d ms ago.",
							apikey_max_staleness);
		return true;
	}
	if (apikey_latest_hidden())
	{
		apikey_complain(APIKEY_COMPLAINT_PARALLEL,
						"A parallel query of a transaction that is REPEATABLE READ or SERIALIZABLE reads no changes of others.");
		return true;
	}
	missing = apikey_intact_problem();
	if (missing != NULL && !apikey_lenient_missed())
		apikey_complain(APIKEY_COMPLAINT_TABLES,
						"The index \"%s\" does not exist.", missing);
	return missing != NULL;
}

/*
 * Does a key have this credential?  Then VALID, and the key is filled in.  It
 * is read as committed now, with our own transaction's changes, whatever the
 * isolation level, where its rows were, or where they are found then.  Tells
 * whether another pepper than the current one is the key's.
 */
static ApikeyCode
match_credential(const ApikeyCredential *credential, ApikeyRowHints *rows,
				 ApikeyRow *key, bool *outdated)
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
	found = apikey_key_fetch_digest(&credential->id, snapshot, &rows->digest,
									stored, &fingerprint);
	if (found &&
		!apikey_pepper_find_for(&credential->id, fingerprint, &pepper))
	{
		UnregisterSnapshot(snapshot);
		return APIKEY_CODE_UNAVAILABLE;
	}
	apikey_digest_stored(pepper, credential->digest, offered);
	found = apikey_digest_equal(stored, offered) && found &&
		apikey_key_fetch(&credential->id, snapshot, revocations, &rows->key,
						 key);
	UnregisterSnapshot(snapshot);
	if (!found ||
		!apikey_credential_has_prefix(credential,
									  apikey_row_text(key, APIKEY_KEY_PREFIX)))
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
	ApikeyRowHints nowhere = {0};
	bool		outdated;

	apikey_credential_digest(credential);
	if (apikey_credential_native(credential))
		return match_credential(credential, &nowhere, key, &outdated);
	return !apikey_credential_token(credential, &token) &&
		apikey_import_any() && find_imported(credential, &imported, key) ?
		APIKEY_CODE_VALID : APIKEY_CODE_NOT_FOUND;
}

/* Where a key's slot and its rows were, and where they are, once it is read. */
typedef struct Whereabouts
{
	ApikeySlotHint slot;
	ApikeyRowHints rows;
	bool		moved;			/* the slot does not say so */
} Whereabouts;

/* The same where the key's slot may say where its rows are. */
static ApikeyCode
match_hinted(const ApikeyCredential *credential, Whereabouts *where,
			 ApikeyRow *key, bool *outdated)
{
	ApikeyRowHints before;
	ApikeyCode	code;

	apikey_row_hints_read(&credential->id, credential->digest, &where->slot,
						  &where->rows);
	before = where->rows;
	code = match_credential(credential, &where->rows, key, outdated);
	where->moved = code == APIKEY_CODE_VALID &&
		memcmp(&before, &where->rows, sizeof(before)) != 0;
	return code;
}

/*
 * Reads a native key, or a token's, and what it is in its project.  VALID where
 * the secret matches.
 */
static ApikeyCode
read_key(ApikeyCredential *credential, ApikeyVerdict *verdict,
		 Whereabouts *where, bool *outdated)
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
	memset(where, 0, sizeof(*where));
	*outdated = false;
	if (of_token)
	{
		memcpy(credential->id.data, token.id, UUID_LEN);
		code = apikey_token_match(credential->prefix, &token, key);
	}
	else
	{
		apikey_credential_digest(credential);
		code = match_hinted(credential, where, key, outdated);
	}
	if (code != APIKEY_CODE_VALID)
		return code;
	apikey_judge_complete(verdict, key);
	verdict->hint->place = where->slot.place;
	verdict->hint->hash = where->slot.hash;
	if (of_token)
	{
		apikey_token_narrow(&token, key, &verdict->fresh_span);
		verdict->span = &verdict->fresh_span;
	}
	return APIKEY_CODE_VALID;
}

/* What is read of a key for whoever is to raise nothing. */
typedef struct Reading
{
	ApikeyCredential *credential;
	ApikeyVerdict *verdict;
	Whereabouts *where;
	bool		outdated;
	ApikeyImported imported;
	ApikeyCode	code;
} Reading;

/* Reads; what cannot be read makes it UNAVAILABLE, and the log is told. */
static ApikeyCode
read_leniently(ApikeyWork run, Reading *reading)
{
	bool		locked;
	const char *missed = apikey_lenient_read(run, reading, &locked);

	if (missed == NULL)
		return reading->code;
	if (locked)
		apikey_complain(APIKEY_COMPLAINT_LOCKED,
						"Somebody else has \"%s\" locked, or waits to lock it.",
						missed);
	else
		apikey_complain(APIKEY_COMPLAINT_TABLES,
						"\"%s\" is not there, or not as the extension makes it.",
						missed);
	return APIKEY_CODE_UNAVAILABLE;
}

static void
run_reading(void *work)
{
	Reading    *reading = work;

	reading->code = read_key(reading->credential, reading->verdict,
							 reading->where, &reading->outdated);
}

/*
 * Finds a key by its credential and what it is in its project: as this process
 * has done before, or in the tables.  VALID where the secret matches.
 */
static ApikeyCode
find_key(ApikeyCredential *credential, ApikeyVerdict *verdict,
		 Whereabouts *where)
{
	uint64		begun;
	bool		usable;
	Reading		reading = {
		.credential = credential,.verdict = verdict,.where = where
	};
	ApikeyCode	code;

	/* What is fresh now is so with the messages that have come by then. */
	usable = apikey_pepper_usable() && !apikey_stale() && !apikey_latest_hidden();
	AcceptInvalidationMessages();
	if (usable && apikey_cache_lookup(credential, verdict))
		return APIKEY_CODE_VALID;
	begun = verdict->begun = apikey_changes_begin();
	code = read_leniently(run_reading, &reading);
	if (code != APIKEY_CODE_VALID)
		return code;
	if (!reading.outdated || apikey_rehash_native(credential))
		apikey_cache_store(begun, credential, verdict);
	return APIKEY_CODE_VALID;
}

static void
run_reading_imported(void *work)
{
	Reading    *reading = work;
	ApikeyRow  *key = palloc(sizeof(ApikeyRow));

	reading->code = APIKEY_CODE_MALFORMED;
	if (undecidable())
		reading->code = APIKEY_CODE_UNAVAILABLE;
	else if (find_imported(reading->credential, &reading->imported, key))
	{
		apikey_judge_complete(reading->verdict, key);
		reading->code = APIKEY_CODE_VALID;
	}
	else if (reading->imported.problem != NULL)
	{
		apikey_complain(APIKEY_COMPLAINT_IMPORT, "%s", reading->imported.problem);
		reading->code = APIKEY_CODE_UNAVAILABLE;
	}
}

/*
 * The verdict on a text that is no native key: of an imported one it is as on
 * any other.  Such a key is found in the tables each time, and its first
 * success gives it a native digest.
 */
static void
verify_imported(ApikeyCredential *credential,
				const ApikeyRequirements *required,
				ApikeyVerdict *verdict)
{
	ApikeyCredential found = *credential;
	Reading		reading = {.credential = credential,.verdict = verdict};

	apikey_credential_digest(credential);
	verdict->begun = apikey_changes_begin();
	verdict->code = read_leniently(run_reading_imported, &reading);
	verdict->known = verdict->code == APIKEY_CODE_VALID;
	if (verdict->known)
	{
		found.id = reading.imported.id;
		verdict->code = apikey_judge(verdict, required);
		if (reading.imported.stale && verdict->code == APIKEY_CODE_VALID)
			apikey_rehash_imported(credential, &reading.imported);
	}
	apikey_verify_count(&found, required, verdict);
}

/*
 * Is an imported key to be looked for?  A text that is like one of ours, but
 * for its checksum, may be one, too; a handle is none.
 */
static bool
may_be_imported(const ApikeyCredential *credential, ApikeyCode code)
{
	return code == APIKEY_CODE_MALFORMED &&
		(credential->shape == APIKEY_SHAPE_OTHER ||
		 (credential->shape > APIKEY_SHAPE_OTHER && apikey_credential_imports()));
}

static void
verify_credential(ApikeyCredential *credential,
				  const ApikeyRequirements *required, ApikeyVerdict *verdict)
{
	Whereabouts where;

	where.moved = false;
	verdict->code = APIKEY_CODE_MALFORMED;
	if (credential->shape > APIKEY_SHAPE_OTHER)
		verdict->code = find_key(credential, verdict, &where);
	else if (credential->shape == APIKEY_SHAPE_MISSING)
		verdict->code = APIKEY_CODE_MISSING;
	verdict->at = GetCurrentTimestamp();
	verdict->known = verdict->code == APIKEY_CODE_VALID;
	if (verdict->known)
		verdict->code = apikey_judge(verdict, required);
	else if (may_be_imported(credential, verdict->code))
	{
		verify_imported(credential, required, verdict);
		return;
	}
	apikey_verify_count(credential, required, verdict);
	if (verdict->known && where.moved)
		apikey_row_hints_write(&credential->id, verdict->hint, &where.rows);
}

/* What a verification is about. */
typedef struct Verification
{
	ApikeyCredential *credential;
	const ApikeyRequirements *required;
	ApikeyVerdict *verdict;
} Verification;

static void
run_verification(void *work)
{
	Verification *verification = work;

	verify_credential(verification->credential, verification->required,
					  verification->verdict);
}

/*
 * The verdict on a credential.  Whoever may change what a serializable
 * transaction reads can have it fail, but not by a verification, which raises
 * nothing.
 */
void
apikey_verify_credential(ApikeyCredential *credential,
						 const ApikeyRequirements *required, ApikeyVerdict *verdict)
{
	Verification verification = {credential, required, verdict};

	if (!IsolationIsSerializable() || IsInParallelMode())
		verify_credential(credential, required, verdict);
	else if (!apikey_attempt_alone(run_verification, &verification))
	{
		verdict->known = false;
		verdict->code = APIKEY_CODE_UNAVAILABLE;
		verdict->at = GetCurrentTimestamp();
		apikey_verify_count(credential, required, verdict);
	}
}

/* Reads any key, native or imported, or a token's, without remembering it. */
static ApikeyCode
read_any(ApikeyCredential *credential, ApikeyVerdict *verdict)
{
	ApikeyImported imported;
	ApikeyRow  *key;
	Whereabouts where;
	bool		outdated;
	ApikeyCode	code = APIKEY_CODE_MALFORMED;

	AcceptInvalidationMessages();
	if (credential->shape == APIKEY_SHAPE_MISSING)
		return APIKEY_CODE_MISSING;
	if (credential->shape > APIKEY_SHAPE_OTHER)
		code = read_key(credential, verdict, &where, &outdated);
	if (!may_be_imported(credential, code))
		return code;

	apikey_credential_digest(credential);
	if (undecidable())
		return APIKEY_CODE_UNAVAILABLE;
	key = palloc(sizeof(ApikeyRow));
	if (!find_imported(credential, &imported, key))
		return imported.problem == NULL ? code : APIKEY_CODE_UNAVAILABLE;
	apikey_judge_complete(verdict, key);
	return APIKEY_CODE_VALID;
}

/*
 * Is this a key, and no token, that is in force and grants some scopes,
 * whoever's it is?  The verdict tells of it.  Nothing is spent or counted, and
 * nothing is written of a use.
 */
ApikeyCode
apikey_verify_in_force(ApikeyCredential *credential, const ArrayType *scopes,
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
	code = apikey_judge_state(verdict);
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
	static const ApikeyRequirements nothing = {.cost = 0};
	ApikeyCode	code = read_any(credential, verdict);

	verdict->known = code == APIKEY_CODE_VALID;
	if (!verdict->known)
		return code;
	verdict->at = GetCurrentTimestamp();
	code = apikey_judge_state(verdict);
	if (code == APIKEY_CODE_VALID)
		code = apikey_judge_use(verdict, &nothing);
	if (code == APIKEY_CODE_VALID)
		code = apikey_judge_spend(verdict, &nothing);
	if (code != APIKEY_CODE_VALID)
		return code;
	if (verdict->rated && verdict->rate_remaining < 1)
		return APIKEY_CODE_RATE_LIMITED;
	return verdict->credited && verdict->credits < 1 ?
		APIKEY_CODE_EXHAUSTED : APIKEY_CODE_VALID;
}
