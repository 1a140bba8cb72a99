/*
 * cache.c
 *		What this process has verified: the keys whose secret matched.
 *
 * An entry stands for what verification would read now.  PostgreSQL's own
 * invalidation keeps it so: a row trigger on our tables, which fires for every
 * kind of change and in every kind of process, sends a message with the
 * change's commit, to the standbys too.  A message can name a relation only,
 * so we name relations that do not exist: the OID is the end of the key's id
 * with its highest bit set.  Another relation that has that OID after all is
 * looked up anew, which does no harm.
 *
 * Callbacks come at any time, so they only mark; memory is freed when the next
 * lookup begins, or something is stored, when nobody holds an entry.  A row
 * read while a message came in may be older than the message, and what a
 * transaction has written itself may yet be rolled back: neither is stored.
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
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "lib/ilist.h"
#include "utils/datum.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "apikey.h"
#include "limits/bound.h"
#include "verify/token.h"

#define KEY_BYTES_MAX	16384	/* a longer key is read each time */
#define KEY_COUNTERS	2048	/* of messages, each for many keys */
#define SPARE_KB		64		/* what an allocator may have at hand */
#define ALL_KEYS		((Oid) 0xFFFFFFFF)
#define KEYS_TOLD_MAX	256		/* in a subtransaction; then all keys are */
#define FACT(fact)		((Oid) 0xFFFFFFFE - (fact))	/* APIKEY_FACT_ ... */

/* The columns of a key that verification needs, and those up to the last. */
static const ApikeyKeyColumn kept_columns[] = {
	APIKEY_KEY_PROJECT, APIKEY_KEY_OWNER, APIKEY_KEY_ROLE,
	APIKEY_KEY_DISABLED, APIKEY_KEY_STARTS_AT, APIKEY_KEY_EXPIRES_AT,
	APIKEY_KEY_REVOKED_AT, APIKEY_KEY_ROTATED_TO, APIKEY_KEY_RATE_LIMIT,
	APIKEY_KEY_RATE_WINDOW, APIKEY_KEY_CREDITS_ACCOUNT,
	APIKEY_KEY_OWNER_NAME, APIKEY_KEY_PREFIX, APIKEY_KEY_NAME,
	APIKEY_KEY_SUBJECT, APIKEY_KEY_SCOPES, APIKEY_KEY_ALLOWED_IPS,
	APIKEY_KEY_METADATA
};

#define KEPT_VALUES		(APIKEY_KEY_METADATA + 1)
#define KEPT_ROW_BYTES \
	(offsetof(ApikeyRow, values) + KEPT_VALUES * sizeof(Datum))

/*
 * What each verification reads comes first, for the processor's cache.  Behind
 * it stand a row, cut off after the last column that is kept, and what that
 * points to.
 */
typedef struct CacheEntry
{
	pg_uuid_t	id;
	uint8		proof[APIKEY_DIGEST_BYTES];
	HeapTuple	row;			/* see apikey_cache_keep_row; or NULL */
	ApikeySlotHint hint;
	bool		stale;
	bool		proven;			/* else the proof is not known */
	bool		used;			/* since it was last at the ring's end */
	Oid			place;			/* see place_of */
	uint32		messages;		/* of a token: that had come for its key */
	size_t		signed_len;		/* of a token, else 0 */
	const char *signed_text;	/* of a token: all that its proof proves */
	ApikeyTokenSpan span;		/* of a token */
	ApikeyKeyState state;		/* of the verdict, */
	char	   *project;		/* as this */
	ApikeyBounds *bounds;		/* and these; or NULL */
	uint8		digest[APIKEY_DIGEST_BYTES];
	TimestampTz touched;		/* when its last use was written */
	dlist_node	node;			/* of the ring */
} CacheEntry;

#define ENTRY_KEY(entry) \
	((ApikeyRow *) ((char *) (entry) + MAXALIGN(sizeof(CacheEntry))))

/* Where an entry is; dynahash costs several times as much. */
typedef struct CachePlace
{
	Oid			token;			/* see key_token and place_of */
	char		status;
	CacheEntry *entry;
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
static bool wrote_in_transaction = false;

/* What is known of whether there is something of a kind at all. */
typedef struct Fact
{
	bool		known;
	bool		any;
	SubTransactionId told;		/* in which a message was sent last */
} Fact;

static Fact facts[APIKEY_FACTS];
static SubTransactionId told_in = InvalidSubTransactionId;
static int	told_keys = 0;		/* in that subtransaction */
static uint64 messages = 0;		/* counts what makes a row read before old */
static uint32 key_messages[KEY_COUNTERS];	/* by the end of a key's OID */

/* The OID that stands for a key in a message: of an id's random end. */
static Oid
key_token(const pg_uuid_t *id)
{
	Oid			token;

	memcpy(&token, id->data + UUID_LEN - sizeof(token), sizeof(token));
	return token | 0x80000000;
}

/* What counts the messages for a key, by the OID that stands for it. */
static uint32 *
key_counter(Oid token)
{
	return &key_messages[token % KEY_COUNTERS];
}

static void
on_relation(Datum arg pg_attribute_unused(), Oid relid)
{
	CachePlace *place;

	messages++;
	for (int fact = 0; fact < APIKEY_FACTS; fact++)
	{
		if (relid == FACT(fact))
			facts[fact].known = false;
	}
	if (!OidIsValid(relid) || relid == ALL_KEYS || apikey_catalog_has(relid))
	{
		all_stale = true;
		for (int fact = 0; fact < APIKEY_FACTS; fact++)
			facts[fact].known = false;
	}
	else if (!all_stale)
	{
		(*key_counter(relid))++;
		place = place_lookup(places, relid);
		if (place != NULL)
			place->entry->stale = true;
	}
}

/* Roles, and who is in which, decide about every key. */
static void
on_role(Datum arg pg_attribute_unused(), int cacheid pg_attribute_unused(),
		uint32 hashvalue pg_attribute_unused())
{
	apikey_cache_drop();
}

static void
on_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
	{
		wrote_in_transaction = false;
		for (int fact = 0; fact < APIKEY_FACTS; fact++)
			facts[fact].told = InvalidSubTransactionId;
		told_in = InvalidSubTransactionId;
	}
}

/* Once, when the library is loaded. */
void
apikey_cache_init(void)
{
	CacheRegisterRelcacheCallback(on_relation, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, on_role, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_role, (Datum) 0);
	/* Who owns the database is a member of pg_database_owner. */
	CacheRegisterSyscacheCallback(DATABASEOID, on_role, (Datum) 0);
	RegisterXactCallback(on_transaction_end, NULL);
}

/* Whatever is stored, or about to be, is old. */
void
apikey_cache_drop(void)
{
	messages++;
	all_stale = true;
}

static void
send_message(Oid token)
{
	struct
	{
		HeapTupleHeaderData header;
		char		space[MAXIMUM_ALIGNOF + sizeof(FormData_pg_class)];
	}			row;
	HeapTupleData tuple = {.t_data = &row.header};
	Form_pg_class class;

	memset(&row, 0, sizeof(row));
	row.header.t_hoff = MAXALIGN(SizeofHeapTupleHeader);
	class = (Form_pg_class) GETSTRUCT(&tuple);
	class->oid = token;
	CacheInvalidateRelcacheByTuple(&tuple);
	wrote_in_transaction = true;
}

/*
 * This transaction has changed a key; with its commit all processes know.  The
 * server compares each message of a command with all before, so that what is
 * changed in great numbers is told at once, for all keys.
 */
void
apikey_cache_key_changed(const pg_uuid_t *id)
{
	if (told_in != GetCurrentSubTransactionId())
		told_keys = 0;
	told_in = GetCurrentSubTransactionId();
	if (told_keys < KEYS_TOLD_MAX)
		send_message(key_token(id));
	else if (told_keys == KEYS_TOLD_MAX)
		send_message(ALL_KEYS);
	told_keys += told_keys <= KEYS_TOLD_MAX;
}

/* This transaction has changed something on which many keys depend. */
void
apikey_cache_all_changed(void)
{
	send_message(ALL_KEYS);
}

/*
 * This transaction has added something of a kind, or removed it; once in each
 * of its subtransactions is enough.
 */
void
apikey_cache_fact_changed(ApikeyFact fact)
{
	facts[fact].known = false;
	if (facts[fact].told == GetCurrentSubTransactionId())
		return;
	send_message(FACT(fact));
	facts[fact].told = GetCurrentSubTransactionId();
}

/* Is it known whether there is something of a kind? */
bool
apikey_cache_knows(ApikeyFact fact, bool *any)
{
	*any = facts[fact].any;
	return facts[fact].known;
}

/* Remembers what was found since apikey_cache_begin, if it still holds. */
void
apikey_cache_store_fact(ApikeyFact fact, uint64 begun, bool any)
{
	facts[fact].any = any;
	facts[fact].known = begun == messages;
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
		return key_token(&credential->id);
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
static CacheEntry *
find_key_entry(const pg_uuid_t *id)
{
	CachePlace *place = place_lookup(places, key_token(id));

	return place != NULL &&
		memcmp(&place->entry->id, id, sizeof(pg_uuid_t)) == 0 ?
		place->entry : NULL;
}

/*
 * The entry of what a credential names.  What a token says of itself is no
 * secret.
 */
static CacheEntry *
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
is_stale(const CacheEntry *entry)
{
	return entry->stale ||
		(entry->signed_len > 0 &&
		 entry->messages != *key_counter(key_token(&entry->id)));
}

/* Is this what has matched before?  Of a handle's caller we had no proof. */
static bool
entry_matches(const CacheEntry *entry, const ApikeyCredential *credential)
{
	if (credential->text_len > 0)
		return entry->proven &&
			apikey_digest_equal(entry->proof, credential->proof);
	return apikey_digest_equal(entry->digest, credential->digest) &&
		apikey_credential_has_prefix(credential, ENTRY_KEY(entry));
}

static void
fill_verdict(CacheEntry *entry, ApikeyVerdict *verdict)
{
	entry->used = true;
	verdict->key = ENTRY_KEY(entry);
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
	CacheEntry *entry;

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
	CacheEntry *entry;

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
	CacheEntry *entry = all_stale ? NULL : find_entry(credential);

	if (entry == NULL)
		return true;
	if (entry->touched > before)
		return false;
	entry->touched = now;
	return true;
}

/* To be called before the snapshot is taken of what is to be stored. */
uint64
apikey_cache_begin(void)
{
	return messages;
}

/*
 * What is being read is not to be remembered: this transaction has written it,
 * or it is as old as a parallel query's snapshot.
 */
void
apikey_cache_not_final(void)
{
	messages++;
}

static Size
entry_bytes(const CacheEntry *entry)
{
	return GetMemoryChunkSpace(unconstify(CacheEntry *, entry)) +
		(entry->row == NULL ? 0 : GetMemoryChunkSpace(entry->row));
}

/* Takes an entry out of the ring, and out of the table if it stands there. */
static void
forget(CacheEntry *entry)
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
make_room(Size bytes, const CacheEntry *kept)
{
	Size		most = (Size) apikey_cache_memory * 1024;
	Size		table = places->size * sizeof(CachePlace);

	if (most < table + bytes)
		return false;
	while (!dlist_is_empty(&ring) &&
		   (ring_bytes + table + bytes > most ||
			places->members >= (uint32) apikey_cache_entries))
	{
		CacheEntry *entry = dlist_head_element(CacheEntry, node, &ring);

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
	CacheEntry *entry = (CacheEntry *) ((char *) verdict->row -
										offsetof(CacheEntry, row));
	MemoryContext context;

	if (!make_room(HEAPTUPLESIZE + row->t_len, entry))
		return;
	context = MemoryContextSwitchTo(entries_context);
	entry->row = heap_copytuple(row);
	MemoryContextSwitchTo(context);
	ring_bytes += GetMemoryChunkSpace(entry->row);
}

/* The bytes that the columns of a key take behind its row. */
static Size
columns_bytes(const ApikeyRow *key, TupleDesc desc)
{
	Size		bytes = 0;

	for (size_t i = 0; i < lengthof(kept_columns); i++)
	{
		int			column = kept_columns[i];
		Form_pg_attribute attribute = TupleDescAttr(desc, column);

		if (!key->nulls[column] && !attribute->attbyval)
			bytes += MAXALIGN(datumGetSize(key->values[column], false,
										   attribute->attlen));
	}
	return bytes;
}

/* Copies what verification needs of a key into an entry; returns its end. */
static char *
copy_columns(const ApikeyRow *key, TupleDesc desc, CacheEntry *entry)
{
	ApikeyRow  *copy = ENTRY_KEY(entry);
	char	   *next = (char *) copy + MAXALIGN(KEPT_ROW_BYTES);

	memset(copy->nulls, true, sizeof(copy->nulls));
	copy->nulls[APIKEY_KEY_ID] = false;
	copy->values[APIKEY_KEY_ID] = UUIDPGetDatum(&entry->id);
	for (size_t i = 0; i < lengthof(kept_columns); i++)
	{
		int			column = kept_columns[i];
		Form_pg_attribute attribute = TupleDescAttr(desc, column);
		Size		size;

		copy->nulls[column] = key->nulls[column];
		if (key->nulls[column])
			continue;
		copy->values[column] = key->values[column];
		if (attribute->attbyval)
			continue;
		size = datumGetSize(key->values[column], false, attribute->attlen);
		memcpy(next, DatumGetPointer(key->values[column]), size);
		copy->values[column] = PointerGetDatum(next);
		next += MAXALIGN(size);
	}
	if (entry->bounds != NULL)
	{
		Size		size = APIKEY_BOUNDS_BYTES(entry->bounds->count);

		entry->bounds = memcpy(next, entry->bounds, size);
		next += MAXALIGN(size);
	}
	if (entry->project == NULL)
		return next;
	entry->project = strcpy(next, entry->project);
	return next + strlen(next) + 1;
}

/* Arrays are read where they stand, which takes a header of full length. */
static void
widen_array(ApikeyRow *key, ApikeyKeyColumn column)
{
	Datum	   *value = &key->values[column];

	if (!key->nulls[column])
		*value = PointerGetDatum(DatumGetArrayTypeP(*value));
}

/* Makes an entry of what was read of a key; NULL where it is too long. */
static CacheEntry *
make_entry(const ApikeyCredential *credential, const ApikeyVerdict *verdict)
{
	TupleDesc	desc = apikey_key_descriptor();
	ApikeyRow	key = *verdict->key;
	CacheEntry *entry;
	Size		bytes;

	widen_array(&key, APIKEY_KEY_SCOPES);
	widen_array(&key, APIKEY_KEY_ALLOWED_IPS);
	bytes = MAXALIGN(sizeof(CacheEntry)) + MAXALIGN(KEPT_ROW_BYTES) +
		columns_bytes(&key, desc) +
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
	entry->signed_text = memcpy(copy_columns(&key, desc, entry),
								credential->prefix, entry->signed_len);
	entry->messages = *key_counter(key_token(&credential->id));
	if (verdict->span != NULL)
		entry->span = *verdict->span;
	return entry;
}

/* Stores what was read since apikey_cache_begin, if it may be. */
void
apikey_cache_store(uint64 begun, const ApikeyCredential *credential,
				   const ApikeyVerdict *verdict)
{
	CachePlace *place;
	CacheEntry *entry;
	bool		found;

	if (begun != messages || wrote_in_transaction || all_stale ||
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
		CacheEntry *other = place->entry;

		place->entry = entry;
		forget(other);
	}
	else
		place->entry = entry;
}
