/*
 * cache.c
 *		What this process has verified: the keys whose secret matched, and those
 *		that were charged.
 *
 * An entry stands for what verification would read now: changes.c tells when it
 * does not any more.  That comes at any time, so it is only not found then; its
 * memory is used again when something is stored, when nobody holds an entry.
 *
 * A token has an entry of its own, of its key as the token leaves it.  It is
 * found by its proof, and nothing leads to it from its key; so it remembers the
 * count of messages that had come for the key, and for any that shares its
 * counter, when it was stored.
 *
 * An entry of a key that was only charged has been matched by no secret, and
 * matches none: the first verification puts another in its place.
 */
#include "postgres.h"

#include "access/htup_details.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "limits/limits.h"
#include "verify/cache_ring.h"
#include "verify/verify.h"
#include "verify/verify_internal.h"

#define KEY_COUNTERS	2048	/* of messages, each for many keys */

static bool all_stale = false;
static uint32 key_messages[KEY_COUNTERS];	/* by the end of a key's OID */

/* What counts the messages for a key, by the OID that stands for it. */
static uint32 *
key_counter(Oid token)
{
	return &key_messages[token % KEY_COUNTERS];
}

/* What is known of a key, or of all, may be old. */
static void
on_change(Oid token, bool all)
{
	if (all)
		all_stale = true;
	(*key_counter(token))++;
	apikey_cache_hide_place(token);
}

/* Once, when the library is loaded. */
void
apikey_cache_init(void)
{
	apikey_changes_listen(on_change);
}

/* Nothing is held any more of what was found. */
static void
forget(void)
{
	apikey_cache_reset();
	all_stale = false;
}

/* Has a token's key changed, perhaps, since its entry was stored? */
static bool
is_outdated(const ApikeyCacheEntry *entry)
{
	const ApikeyCacheToken *token = apikey_cache_token(entry);

	return token != NULL &&
		token->messages != *key_counter(apikey_changes_token(&entry->id));
}

/* The entry of a key's id; NULL where there is none. */
static ApikeyCacheEntry *
find_key_entry(const pg_uuid_t *id)
{
	uint32		line = *apikey_cache_bucket(apikey_changes_token(id));

	while (line != APIKEY_CACHE_NOWHERE)
	{
		ApikeyCacheEntry *entry = apikey_cache_at(&apikey_cache_ring, line);

		if (memcmp(&entry->id, id, sizeof(pg_uuid_t)) == 0 && !entry->of_token)
			return entry;
		line = entry->next;
	}
	return NULL;
}

/* That of a token.  What it says of itself is no secret. */
static ApikeyCacheEntry *
find_token_entry(const ApikeyCredential *credential)
{
	size_t		len = credential->text_len - APIKEY_TOKEN_PROOF_CHARS;
	Oid			place = apikey_cache_place(true, NULL, credential->proof);
	uint32		line = *apikey_cache_bucket(place);

	while (line != APIKEY_CACHE_NOWHERE)
	{
		ApikeyCacheEntry *entry = apikey_cache_at(&apikey_cache_ring, line);
		const ApikeyCacheToken *token = apikey_cache_token(entry);

		if (token != NULL && token->len == len &&
			memcmp(token->text, credential->prefix, len) == 0)
			return entry;
		line = entry->next;
	}
	return NULL;
}

/* The entry of what a credential names. */
static ApikeyCacheEntry *
find_entry(const ApikeyCredential *credential)
{
	return credential->shape == APIKEY_SHAPE_TOKEN ?
		find_token_entry(credential) : find_key_entry(&credential->id);
}

/* Is this what has matched before?  Of a handle's caller we had no proof. */
static bool
entry_matches(const ApikeyCacheEntry *entry, const ApikeyCredential *credential)
{
	bool		isnull;
	Datum		prefix;

	if (!entry->matched)
		return false;
	if (credential->text_len > 0)
		return entry->proven &&
			apikey_digest_equal(entry->proof, credential->proof);
	prefix = apikey_cache_value(entry, APIKEY_KEY_PREFIX, &isnull);
	return apikey_digest_equal(entry->digest, credential->digest) &&
		apikey_credential_has_prefix(credential, DatumGetTextPP(prefix));
}

static void
fill_verdict(ApikeyCacheEntry *entry, ApikeyVerdict *verdict)
{
	ApikeyCacheToken *token;

	entry->used = true;
	verdict->id = &entry->id;
	verdict->entry = entry;
	verdict->key = NULL;
	verdict->state = entry->state;
	verdict->term = &entry->term;
	verdict->hint = &entry->hint;
	verdict->rated = verdict->credited = false;
	verdict->project = NULL;
	verdict->bounds = NULL;
	verdict->span = NULL;
	if (!entry->apart)
		return;
	verdict->project = apikey_cache_part(entry, entry->project_at);
	verdict->bounds = apikey_cache_part(entry, entry->bounds_at);
	token = apikey_cache_token(entry);
	verdict->span = token == NULL ? NULL : &token->span;
}

/*
 * Finds what is known of a key whose secret has matched before.  The verdict
 * points into its entry; it holds until the next lookup.
 */
bool
apikey_cache_lookup(ApikeyCredential *credential, ApikeyVerdict *verdict)
{
	ApikeyCacheEntry *entry;

	if (all_stale)
		forget();
	entry = find_entry(credential);
	if (entry == NULL || (entry->of_token && is_outdated(entry)) ||
		!entry_matches(entry, credential))
		return false;
	credential->id = entry->id;
	fill_verdict(entry, verdict);
	return true;
}

/*
 * The same of a key by its id, for whoever does not offer it: what is known of
 * it is no secret to us.
 */
bool
apikey_cache_lookup_id(const pg_uuid_t *id, ApikeyVerdict *verdict)
{
	ApikeyCacheEntry *entry;

	if (all_stale)
		forget();
	entry = find_key_entry(id);
	if (entry == NULL)
		return false;
	fill_verdict(entry, verdict);
	return true;
}

/*
 * Is it time to write a key's last use?  Remembers that it was; of a key that
 * is not stored nothing is known, so it is always time.
 */
bool
apikey_cache_last_use_due(const ApikeyCredential *credential, TimestampTz now,
						  TimestampTz before)
{
	ApikeyCacheEntry *entry = all_stale ? NULL : find_entry(credential);

	if (entry == NULL)
		return true;
	if (entry->touched > before)
		return false;
	entry->touched = now;
	return true;
}

/* Is anything to be stored now? */
static bool
remembers(void)
{
	return apikey_cache_entries > 0 && apikey_cache_memory > 0 && !all_stale;
}

/* The row that apikey_verify returns, where it is kept; its head only. */
bool
apikey_cache_row(const ApikeyVerdict *verdict, HeapTuple row)
{
	MinimalTuple kept = apikey_cache_part(verdict->entry,
										  verdict->entry->row_at);

	if (kept == NULL)
		return false;
	row->t_len = kept->t_len + MINIMAL_TUPLE_OFFSET;
	row->t_data = (HeapTupleHeader) ((char *) kept - MINIMAL_TUPLE_OFFSET);
	return true;
}

/*
 * Keeps the row that apikey_verify returns for a key that was looked up, to be
 * returned again; only what depends on nothing but the entry.  The verdict does
 * not hold after that.
 */
void
apikey_cache_keep_row(const ApikeyVerdict *verdict, HeapTuple row)
{
	ApikeyCacheEntry *with_row;

	/* A message may have come since. */
	if (!remembers() || !verdict->entry->found || is_outdated(verdict->entry))
		return;
	with_row = apikey_cache_add_row(verdict->entry, row);
	if (with_row == NULL)
		return;
	apikey_cache_hide(verdict->entry);
	if (apikey_cache_make_room(with_row))
		apikey_cache_put(with_row);
	pfree(with_row);
}

static void
store(uint64 begun, const ApikeyCredential *credential, bool matched,
	  const ApikeyVerdict *verdict)
{
	ApikeyCacheEntry *entry;
	ApikeyCacheEntry *before;
	ApikeyCacheToken *token;

	if (!remembers())
		return;
	entry = apikey_cache_make(credential, verdict);
	if (entry == NULL || !apikey_changes_none_since(begun) ||
		!apikey_cache_make_room(entry))
		return;
	entry->matched = matched;
	token = apikey_cache_token(entry);
	if (token != NULL)
		token->messages = *key_counter(apikey_changes_token(&entry->id));
	before = find_entry(credential);
	if (before != NULL)
		apikey_cache_hide(before);
	apikey_cache_put(entry);
	pfree(entry);
}

/* Stores what was read since apikey_changes_begin, if it may be. */
void
apikey_cache_store(uint64 begun, const ApikeyCredential *credential,
				   const ApikeyVerdict *verdict)
{
	store(begun, credential, true, verdict);
}

/* The same of a key that nobody has offered; it is found by its id alone. */
void
apikey_cache_store_id(uint64 begun, const ApikeyVerdict *verdict)
{
	ApikeyCredential nothing = {
		.shape = APIKEY_SHAPE_MISSING,
		.id = *verdict->id
	};

	store(begun, &nothing, false, verdict);
}
