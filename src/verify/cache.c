/*
 * cache.c
 *		What this process has verified: the keys whose secret matched.
 *
 * An entry stands for what verification would read now: changes.c tells when it
 * does not any more.  That comes at any time, so it is only marked; memory is
 * freed when the next lookup begins, or something is stored, when nobody holds
 * an entry.
 *
 * A token has an entry of its own, of its key as the token leaves it.  It is
 * found by its proof, and nothing leads to it from its key; so it remembers the
 * count of messages that had come for the key, and for any that shares its
 * counter, when it was stored.
 *
 * An entry is one piece of memory, with the columns that verification needs; it
 * is found only once it is whole.  All entries stand in a ring.  Where the
 * settings allow no more, the oldest goes that has not been used since it was
 * at the ring's end the last time.
 */
#include "postgres.h"

#include "access/htup_details.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "limits/limits.h"
#include "verify/cache_entry.h"
#include "verify/verify_internal.h"

#define KEY_BYTES_MAX	16384	/* a longer key is read each time */
#define KEY_COUNTERS	2048	/* of messages, each for many keys */
#define SPARE_KB		64		/* what an allocator may have at hand */

/* Where an entry is; dynahash costs several times as much. */
typedef struct CachePlace
{
	Oid			token;			/* see apikey_changes_token, place_of */
	char		status;
	ApikeyCacheEntry *entry;
} CachePlace;

/* The token is as good as a hash. */
#define SH_PREFIX		place
#define SH_ELEMENT_TYPE	CachePlace
#define SH_KEY_TYPE		Oid
#define SH_KEY			token
#define SH_HASH_KEY(table, key)	(key)
#define SH_EQUAL(table, a, b)	((a) == (b))
#define SH_SCOPE		static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static place_hash *places = NULL;
static MemoryContext entries_context = NULL;
static dlist_head ring;			/* the next to be looked at first */
static Size ring_bytes = 0;		/* of the entries in the ring */
static bool all_stale = true;
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
	CachePlace *place;

	if (all)
		all_stale = true;
	else if (!all_stale)
	{
		(*key_counter(token))++;
		place = place_lookup(places, token);
		if (place != NULL)
			place->entry->stale = true;
	}
}

/* Once, when the library is loaded. */
void
apikey_cache_init(void)
{
	apikey_changes_listen(on_change);
}

/* Makes an empty table, of which nothing is stale. */
static void
reset_entries(void)
{
	if (entries_context == NULL)
		entries_context = AllocSetContextCreate(TopMemoryContext,
												"apikey verified keys",
												ALLOCSET_SMALL_SIZES);
	else
		MemoryContextReset(entries_context);
	places = place_create(entries_context, 256, NULL);
	dlist_init(&ring);
	ring_bytes = 0;
	all_stale = false;
}

/*
 * Where the entry of a credential stands: a key's at its OID, a token's at a
 * part of its proof without the highest bit, which every key's has.  The OID of
 * a relation that changes may be a token's place: then it is looked up anew.
 */
static Oid
place_of(const ApikeyCredential *credential)
{
	Oid			place;

	if (credential->shape != APIKEY_SHAPE_TOKEN)
		return apikey_changes_token(&credential->id);
	memcpy(&place, credential->proof, sizeof(place));
	return place & 0x7FFFFFFF;
}

/* How much of a token's text its proof proves; 0 for a key. */
static size_t
signed_len(const ApikeyCredential *credential)
{
	return credential->shape == APIKEY_SHAPE_TOKEN ?
		credential->text_len - APIKEY_TOKEN_PROOF_CHARS : 0;
}

/* The entry of a key's id, even a stale one; NULL where there is none. */
static ApikeyCacheEntry *
find_key_entry(const pg_uuid_t *id)
{
	CachePlace *place = place_lookup(places, apikey_changes_token(id));

	return place != NULL &&
		memcmp(&place->entry->id, id, sizeof(pg_uuid_t)) == 0 ?
		place->entry : NULL;
}

/*
 * The entry of what a credential names.  What a token says of itself is no
 * secret.
 */
static ApikeyCacheEntry *
find_entry(const ApikeyCredential *credential)
{
	CachePlace *place;
	size_t		len = signed_len(credential);

	if (len == 0)
		return find_key_entry(&credential->id);
	place = place_lookup(places, place_of(credential));
	return place != NULL && place->entry->signed_len == len &&
		memcmp(place->entry->signed_text, credential->prefix, len) == 0 ?
		place->entry : NULL;
}

/* Does an entry not stand any more for what is in the tables? */
static bool
is_stale(const ApikeyCacheEntry *entry)
{
	return entry->stale ||
		(entry->signed_len > 0 &&
		 entry->messages != *key_counter(apikey_changes_token(&entry->id)));
}

/* Is this what has matched before?  Of a handle's caller we had no proof. */
static bool
entry_matches(const ApikeyCacheEntry *entry, const ApikeyCredential *credential)
{
	if (credential->text_len > 0)
		return entry->proven &&
			apikey_digest_equal(entry->proof, credential->proof);
	return apikey_digest_equal(entry->digest, credential->digest) &&
		apikey_credential_has_prefix(credential, APIKEY_CACHE_KEY(entry));
}

static void
fill_verdict(ApikeyCacheEntry *entry, ApikeyVerdict *verdict)
{
	entry->used = true;
	verdict->key = APIKEY_CACHE_KEY(entry);
	verdict->project = entry->project;
	verdict->state = entry->state;
	verdict->bounds = entry->bounds;
	verdict->span = entry->signed_len > 0 ? &entry->span : NULL;
	verdict->rated = verdict->credited = false;
	verdict->hint = &entry->hint;
	verdict->row = &entry->row;
}

/*
 * Finds what is known of a key whose secret has matched before.  The verdict
 * points into the table; it holds until the next lookup.
 */
bool
apikey_cache_lookup(ApikeyCredential *credential, ApikeyVerdict *verdict)
{
	ApikeyCacheEntry *entry;

	if (all_stale)
		reset_entries();
	entry = find_entry(credential);
	if (entry == NULL || is_stale(entry) || !entry_matches(entry, credential))
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
		reset_entries();
	entry = find_key_entry(id);
	if (entry == NULL || entry->stale)
		return false;
	fill_verdict(entry, verdict);
	return true;
}

/*
 * Is it time to write a key's last use?  Remembers that it was; of a key that
 * is not stored nothing is known, so it is always time.
 */
bool
apikey_cache_touch(const ApikeyCredential *credential, TimestampTz now,
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

static Size
entry_bytes(const ApikeyCacheEntry *entry)
{
	return GetMemoryChunkSpace(unconstify(ApikeyCacheEntry *, entry)) +
		(entry->row == NULL ? 0 : GetMemoryChunkSpace(entry->row));
}

/* Takes an entry out of the ring, and out of the table if it stands there. */
static void
forget(ApikeyCacheEntry *entry)
{
	CachePlace *place = place_lookup(places, entry->place);

	if (place != NULL && place->entry == entry)
		place_delete(places, place->token);
	ring_bytes -= entry_bytes(entry);
	dlist_delete(&entry->node);
	if (entry->row != NULL)
		heap_freetuple(entry->row);
	pfree(entry);
}

/*
 * Makes room for so many bytes more; false where there can be none.  An entry
 * that is kept does not go for it.
 */
static bool
make_room(Size bytes, const ApikeyCacheEntry *kept)
{
	Size		most = (Size) apikey_cache_memory * 1024;
	Size		table = places->size * sizeof(CachePlace);

	if (most < table + bytes)
		return false;
	while (!dlist_is_empty(&ring) &&
		   (ring_bytes + table + bytes > most ||
			places->members >= (uint32) apikey_cache_entries))
	{
		ApikeyCacheEntry *entry = dlist_head_element(ApikeyCacheEntry, node,
													 &ring);

		if (entry == kept && !dlist_has_next(&ring, &entry->node))
			return false;
		if (entry != kept && (!entry->used || is_stale(entry)))
		{
			forget(entry);
			continue;
		}
		entry->used = false;
		dlist_delete(&entry->node);
		dlist_push_tail(&ring, &entry->node);
	}
	return true;
}

/*
 * Keeps the row that apikey_verify returns for a key that was looked up, to be
 * returned again; only what depends on nothing but the entry.
 */
void
apikey_cache_keep_row(ApikeyVerdict *verdict, HeapTuple row)
{
	ApikeyCacheEntry *entry = (ApikeyCacheEntry *) ((char *) verdict->row -
										offsetof(ApikeyCacheEntry, row));
	MemoryContext context;

	if (!make_room(HEAPTUPLESIZE + row->t_len, entry))
		return;
	context = MemoryContextSwitchTo(entries_context);
	entry->row = heap_copytuple(row);
	MemoryContextSwitchTo(context);
	ring_bytes += GetMemoryChunkSpace(entry->row);
}

/* Makes an entry of what was read of a key; NULL where it is too long. */
static ApikeyCacheEntry *
make_entry(const ApikeyCredential *credential, const ApikeyVerdict *verdict)
{
	TupleDesc	desc = apikey_key_descriptor();
	ApikeyRow	key = *verdict->key;
	ApikeyCacheEntry *entry;
	Size		bytes;

	apikey_cache_widen_array(&key, APIKEY_KEY_SCOPES);
	apikey_cache_widen_array(&key, APIKEY_KEY_ALLOWED_IPS);
	bytes = MAXALIGN(sizeof(ApikeyCacheEntry)) +
		MAXALIGN(APIKEY_CACHE_ROW_BYTES) +
		apikey_cache_columns_bytes(&key, desc) +
		(verdict->bounds == NULL ? 0 :
		 MAXALIGN(APIKEY_BOUNDS_BYTES(verdict->bounds->count))) +
		(verdict->project == NULL ? 0 : strlen(verdict->project) + 1) +
		signed_len(credential);
	if (bytes > KEY_BYTES_MAX || !make_room(bytes, NULL))
		return NULL;
	entry = MemoryContextAllocZero(entries_context, bytes);
	entry->id = credential->id;
	memcpy(entry->digest, credential->digest, APIKEY_DIGEST_BYTES);
	entry->proven = credential->text_len > 0;
	if (entry->proven)
		memcpy(entry->proof, credential->proof, APIKEY_DIGEST_BYTES);
	entry->state = verdict->state;
	entry->hint = verdict->fresh;
	entry->project = verdict->project;
	entry->bounds = verdict->bounds;
	entry->place = place_of(credential);
	entry->signed_len = signed_len(credential);
	entry->signed_text = memcpy(apikey_cache_copy_columns(&key, desc, entry),
								credential->prefix, entry->signed_len);
	entry->messages = *key_counter(apikey_changes_token(&credential->id));
	if (verdict->span != NULL)
		entry->span = *verdict->span;
	return entry;
}

/* Stores what was read since apikey_changes_begin, if it may be. */
void
apikey_cache_store(uint64 begun, const ApikeyCredential *credential,
				   const ApikeyVerdict *verdict)
{
	CachePlace *place;
	ApikeyCacheEntry *entry;
	bool		found;

	if (!apikey_changes_none_since(begun) || all_stale ||
		apikey_cache_entries == 0)
		return;
	/* Memory that was freed in one size is of no use for others. */
	if (MemoryContextMemAllocated(entries_context, false) / 1024 >
		(Size) apikey_cache_memory + apikey_cache_memory / 4 + SPARE_KB)
		reset_entries();
	entry = make_entry(credential, verdict);
	if (entry == NULL)
		return;
	dlist_push_tail(&ring, &entry->node);
	ring_bytes += entry_bytes(entry);
	place = place_insert(places, entry->place, &found);
	if (found)
	{
		ApikeyCacheEntry *other = place->entry;

		place->entry = entry;
		forget(other);
	}
	else
		place->entry = entry;
}
