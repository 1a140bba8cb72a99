/*
 * cache.c
 *		What this process has verified: the rows of keys whose secret matched.
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
 * lookup begins, when nobody holds a row.  A row read while a message came in
 * may be older than the message, and what a transaction has written itself may
 * yet be rolled back: neither is stored.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "apikey.h"
#include "verify.h"

#define ROW_BYTES_MAX	8192	/* a longer row is read each time */
#define ALL_KEYS		((Oid) 0xFFFFFFFF)
#define IMPORTS			((Oid) 0xFFFFFFFE)

/* What each verification reads comes first, for the processor's cache. */
typedef struct CacheEntry
{
	pg_uuid_t	id;
	uint8		proof[APIKEY_DIGEST_BYTES];
	HeapTuple	row;			/* see apikey_cache_keep_row; or NULL */
	ApikeySlotHint hint;
	ApikeyVerdict verdict;		/* on the key, */
	bool		stale;
	bool		proven;			/* else the proof is not known */
	uint8		digest[APIKEY_DIGEST_BYTES];
	ApikeyRow	key;			/* which points into */
	HeapTuple	tuple;
	char	   *project;
	TimestampTz touched;		/* when its last use was written */
} CacheEntry;

/* Where the entry of a token is; dynahash costs several times as much. */
typedef struct CachePlace
{
	Oid			token;			/* see key_token */
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
static bool all_stale = true;
static bool wrote_in_transaction = false;
static bool imports_known = false;	/* whether there is an imported key */
static bool imports_any = false;
static SubTransactionId imports_told = InvalidSubTransactionId;
static uint64 messages = 0;		/* counts what makes a row read before old */

/* The OID that stands for a key in a message: of an id's random end. */
static Oid
key_token(const pg_uuid_t *id)
{
	Oid			token;

	memcpy(&token, id->data + UUID_LEN - sizeof(token), sizeof(token));
	return token | 0x80000000;
}

static void
on_relation(Datum arg pg_attribute_unused(), Oid relid)
{
	CachePlace *place;

	messages++;
	if (relid == IMPORTS)
		imports_known = false;
	if (!OidIsValid(relid) || relid == ALL_KEYS || apikey_catalog_has(relid))
	{
		all_stale = true;
		imports_known = false;
	}
	else if (!all_stale)
	{
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
		imports_told = InvalidSubTransactionId;
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

/* This transaction has changed a key; with its commit all processes know. */
void
apikey_cache_key_changed(const pg_uuid_t *id)
{
	send_message(key_token(id));
}

/* This transaction has changed something on which many keys depend. */
void
apikey_cache_all_changed(void)
{
	send_message(ALL_KEYS);
}

/*
 * This transaction has imported a key, or removed one; once in each of its
 * subtransactions is enough.
 */
void
apikey_cache_imports_changed(void)
{
	imports_known = false;
	if (imports_told == GetCurrentSubTransactionId())
		return;
	send_message(IMPORTS);
	imports_told = GetCurrentSubTransactionId();
}

/* Is it known whether there is an imported key? */
bool
apikey_cache_knows_imports(bool *any)
{
	*any = imports_any;
	return imports_known;
}

/* Remembers what was found since apikey_cache_begin, if it still holds. */
void
apikey_cache_store_imports(uint64 begun, bool any)
{
	imports_any = any;
	imports_known = begun == messages;
}

/* Makes an empty table, of which nothing is stale. */
static void
reset_entries(void)
{
	if (entries_context == NULL)
		entries_context = AllocSetContextCreate(TopMemoryContext,
												"apikey verified keys",
												ALLOCSET_DEFAULT_SIZES);
	else
		MemoryContextReset(entries_context);
	places = place_create(entries_context, 256, NULL);
	all_stale = false;
}

/* The entry of an id, even a stale one; NULL where there is none. */
static CacheEntry *
find_entry(const pg_uuid_t *id)
{
	CachePlace *place = place_lookup(places, key_token(id));

	return place != NULL &&
		memcmp(&place->entry->id, id, sizeof(pg_uuid_t)) == 0 ?
		place->entry : NULL;
}

/* Is this what has matched before?  Of a handle's caller we had no proof. */
static bool
entry_matches(const CacheEntry *entry, const ApikeyCredential *credential)
{
	if (credential->text_len > 0)
		return entry->proven &&
			apikey_digest_equal(entry->proof, credential->proof);
	return apikey_digest_equal(entry->digest, credential->digest) &&
		apikey_credential_has_prefix(credential, &entry->key);
}

/*
 * Finds what is known of a key whose secret has matched before.  The verdict
 * points into the table; it holds until the next lookup.
 */
bool
apikey_cache_lookup(const ApikeyCredential *credential,
					ApikeyVerdict *verdict)
{
	CacheEntry *entry;

	if (all_stale)
		reset_entries();
	entry = find_entry(&credential->id);
	if (entry == NULL || entry->stale || !entry_matches(entry, credential))
		return false;
	*verdict = entry->verdict;
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
	CacheEntry *entry = all_stale ? NULL : find_entry(&credential->id);

	if (entry == NULL)
		return true;
	if (entry->touched > before)
		return false;
	entry->touched = now;
	return true;
}

/*
 * Keeps the row that apikey_verify returns for a key that was looked up, to be
 * returned again; only what depends on nothing but the entry.
 */
void
apikey_cache_keep_row(ApikeyVerdict *verdict, HeapTuple row)
{
	MemoryContext context = MemoryContextSwitchTo(entries_context);

	*verdict->row = heap_copytuple(row);
	MemoryContextSwitchTo(context);
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

static void
forget(CacheEntry *entry)
{
	heap_freetuple(entry->tuple);
	if (entry->project != NULL)
		pfree(entry->project);
	if (entry->row != NULL)
		heap_freetuple(entry->row);
	pfree(entry);
}

/* Stores what was read since apikey_cache_begin, if it may be. */
void
apikey_cache_store(uint64 begun, const ApikeyCredential *credential,
				   const ApikeyVerdict *verdict)
{
	TupleDesc	desc = apikey_key_descriptor();
	MemoryContext context;
	HeapTuple	tuple;
	CachePlace *place;
	CacheEntry *entry;
	bool		found;

	if (begun != messages || wrote_in_transaction || all_stale ||
		apikey_cache_entries == 0)
		return;
	if (places->members >= (uint32) apikey_cache_entries)
		reset_entries();

	context = MemoryContextSwitchTo(entries_context);
	tuple = heap_form_tuple(desc,
							unconstify(Datum *, (const Datum *) verdict->key->values),
							unconstify(bool *, (const bool *) verdict->key->nulls));
	if (tuple->t_len > ROW_BYTES_MAX)
		heap_freetuple(tuple);
	else
	{
		entry = palloc(sizeof(CacheEntry));
		place = place_insert(places, key_token(&credential->id), &found);
		if (found)
			forget(place->entry);
		place->entry = entry;
		entry->stale = false;
		entry->touched = 0;
		entry->row = NULL;
		entry->hint = verdict->fresh;
		entry->id = credential->id;
		memcpy(entry->digest, credential->digest, APIKEY_DIGEST_BYTES);
		entry->proven = credential->text_len > 0;
		if (entry->proven)
			memcpy(entry->proof, credential->proof, APIKEY_DIGEST_BYTES);
		entry->tuple = tuple;
		entry->project = verdict->project == NULL ? NULL :
			pstrdup(verdict->project);
		entry->verdict = *verdict;
		entry->verdict.project = entry->project;
		entry->verdict.row = &entry->row;
		entry->verdict.hint = &entry->hint;
		entry->verdict.key = &entry->key;
		heap_deform_tuple(tuple, desc, entry->key.values, entry->key.nulls);
	}
	MemoryContextSwitchTo(context);
}
