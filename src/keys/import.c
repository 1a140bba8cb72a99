/*
 * import.c
 *		The rows of imported keys, and finding one by its text.
 *
 * Another system's key has no id in its text, so it is found by a digest: in
 * the form of native keys, HMAC(pepper, SHA-256(text)), once it has been
 * verified, and before that by one of the hash that was imported.  That hash
 * itself is not stored, for what is stored must be worth nothing without the
 * pepper; of crypt the salt is, which says nothing about the key.
 *
 * What a wrong text costs is bounded: each cheap hash is computed once, and of
 * the slow ones at most one, since no key's lookup is the beginning of
 * another's, so that one probe of an index leads to the only key that a text
 * may belong to.  That takes as long for a wrong text as for the right one;
 * that a text begins with somebody's lookup, which is no secret, can be told.
 *
 * A key of this extension, of another database, is taken with the id that its
 * handle has: its text is never looked for here.  Whoever imports it chooses that
 * id, under which something else may be kept: so it is one that keys are given,
 * and nothing of another's.
 *
 * Most databases have no imported key.  A process that has found none looks
 * again only after the message that an import sends with its commit.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "text/text.h"
#include "store/store.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys_internal.h"

/* In the same words whosever it is. */
pg_noreturn static void
refuse_taken(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg(APIKEY_HASH_TAKEN),
			 apikey_error_about(argument,
								psprintf("apikey_%s_taken", argument))));
}

/*
 * Raises where a row's key is live, or in its grace, though that be before it
 * starts or while it is disabled; what has ended makes room.
 */
static void
make_room(const ApikeyRow *row, const char *argument)
{
	ApikeyRow	key;

	if (apikey_key_fetch_latest(apikey_row_id(row), &key) &&
		(apikey_key_live(&key) || !apikey_key_ended(&key)))
		refuse_taken(argument);
	apikey_table_delete(&apikey_import_table, apikey_row_id(row), true);
}

static void
make_room_for_hash(const ApikeyImportHash *import_hash)
{
	const ApikeyPepper *pepper;
	ApikeyRow	row;

	while (apikey_import_find_by_digest(APIKEY_IMPORT_FOREIGN_DIGEST, APIKEY_REL_IMPORT_FOREIGN,
										import_hash->digest, &row, &pepper))
		make_room(&row, "hash");
	while (import_hash->algorithm == APIKEY_ALGORITHM_SHA256 &&
		   apikey_import_find_by_digest(APIKEY_IMPORT_DIGEST, APIKEY_REL_IMPORT_DIGEST,
										import_hash->sha256, &row, &pepper))
		make_room(&row, "hash");
}

/* No lookup is the beginning of another; keys that have ended make room. */
static void
make_room_for_lookup(const text *lookup)
{
	const char *bytes = VARDATA_ANY(lookup);
	size_t		len = VARSIZE_ANY_EXHDR(lookup);
	ApikeyRow	row;

	while (apikey_import_find_next_to(bytes, len, true, &row) &&
		   apikey_import_begins_with(bytes, len, apikey_row_text(&row, APIKEY_IMPORT_LOOKUP)))
		make_room(&row, "lookup");
	while (apikey_import_find_next_to(bytes, len, false, &row))
	{
		text	   *other = apikey_row_text(&row, APIKEY_IMPORT_LOOKUP);

		if (!apikey_import_begins_with(VARDATA_ANY(other), VARSIZE_ANY_EXHDR(other), lookup))
			break;
		make_room(&row, "lookup");
	}
}

/* A look at the lookup that is next to one. */
typedef struct Clash
{
	text	   *lookup;
	bool		before;
	SnapshotData dirty;
	TransactionId other;
	bool		clashes;
} Clash;

static bool
see_next(const ApikeyRow *row, void *state)
{
	Clash	   *clash = state;
	text	   *next = apikey_row_text(row, APIKEY_IMPORT_LOOKUP);
	text	   *shorter = clash->before ? next : clash->lookup;
	text	   *longer = clash->before ? clash->lookup : next;

	clash->other = TransactionIdIsValid(clash->dirty.xmin) ?
		clash->dirty.xmin : clash->dirty.xmax;
	clash->clashes = longer != NULL &&
		apikey_import_begins_with(VARDATA_ANY(longer),
								  VARSIZE_ANY_EXHDR(longer), shorter);
	return false;
}

/*
 * Is the lookup that is next to one, committed or not, the beginning of it, or
 * begun by it?  Then *other is the transaction that may yet take it back or
 * remove it, or invalid.
 */
static bool
clashes_with_next(text *lookup, bool before, TransactionId *other)
{
	Clash		clash = {.lookup = lookup,.before = before};

	InitDirtySnapshot(clash.dirty);
	apikey_import_walk(lookup, before, false, &clash.dirty, see_next, &clash);
	*other = clash.other;
	return clash.clashes;
}

/*
 * Is to be called with the row of a lookup written: of two that clash, whoever
 * writes later sees the other's, and waits for that one alone, as for an equal
 * one in the unique index.
 */
static void
require_no_clash(text *lookup)
{
	for (int before = 0; before < 2; before++)
	{
		TransactionId other;

		while (clashes_with_next(lookup, before, &other))
		{
			if (!TransactionIdIsValid(other))
				refuse_taken("lookup");
			apikey_wait(apikey_import_table.name, other);
		}
	}
}

static void
insert_import(const ApikeyRow *key, const ApikeyImportHash *import_hash,
			  const text *lookup)
{
	const ApikeyPepper *pepper = apikey_pepper_current();
	uint8		digest[APIKEY_DIGEST_BYTES];
	ApikeyRow	row;

	apikey_digest_stored(pepper, import_hash->digest, digest);
	apikey_row_clear(&row);
	apikey_row_set_pointer(&row, APIKEY_IMPORT_ID, apikey_row_id(key));
	apikey_row_set_pointer(&row, APIKEY_IMPORT_ALGORITHM,
						   cstring_to_text(apikey_hash_name(import_hash->algorithm)));
	apikey_row_set_pointer(&row, APIKEY_IMPORT_FOREIGN_DIGEST, apikey_digest_bytea(digest));
	apikey_row_set(&row, APIKEY_IMPORT_FOREIGN_PEPPER,
				   Int32GetDatum(pepper->fingerprint));
	apikey_row_set_pointer(&row, APIKEY_IMPORT_LOOKUP, lookup);
	if (import_hash->salt[0] != '\0')
		apikey_row_set_pointer(&row, APIKEY_IMPORT_SALT,
							   cstring_to_text(import_hash->salt));
	apikey_table_insert(&apikey_import_table, &row);
}

/*
 * Reads a lookup as the handle of a native key; false where it is none.  What
 * is native cannot be known by another hash.
 */
static bool
read_handle(const ApikeyImportHash *import_hash, const text *lookup,
			ApikeyText *handle)
{
	const char *bytes = lookup == NULL ? "" : VARDATA_ANY(lookup);
	size_t		len = lookup == NULL ? 0 : VARSIZE_ANY_EXHDR(lookup);

	if (apikey_text_parse(bytes, len, handle))
		apikey_refuse("lookup", "It must not be a whole key.");
	if (!apikey_text_parse_handle(bytes, len, handle))
		return false;
	if (import_hash->algorithm != APIKEY_ALGORITHM_SHA256)
		apikey_refuse("algorithm", "A key of this extension, whose lookup is its handle, is imported by \"sha256\".");
	return true;
}

/* Does a row name an id in a column that has this index? */
static bool
any_names(const pg_uuid_t *id, const ApikeyTable *table, int column,
		  ApikeyRelation index)
{
	ScanKeyData key;
	ApikeyRow	row;

	ScanKeyInit(&key, column + 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	return apikey_table_find(table, index, &key, 1, &row);
}

/*
 * Does another key keep there what it has taken over from one of this id, which
 * is gone?
 */
static bool
is_account(const pg_uuid_t *id)
{
	return any_names(id, &apikey_key_table, APIKEY_KEY_CREDITS_ACCOUNT,
					 APIKEY_REL_KEY_CREDITS_ACCOUNT) ||
		(!apikey_catalog()->first_script &&
		 any_names(id, &apikey_key_table, APIKEY_KEY_RATE_ACCOUNT,
				   APIKEY_REL_KEY_RATE_ACCOUNT));
}

/*
 * Do events, from a dump of 0.1.0 perhaps, not say whose the key of this id was?
 * They are shown to whoever has it now: see apikey_event_owned.
 */
static bool
is_told_of(const pg_uuid_t *id)
{
	return !apikey_catalog()->first_script &&
		any_names(id, &apikey_event_table, EVENT_KEY_ID, APIKEY_REL_EVENT_UNNAMED);
}

/*
 * Raises where a key has the id of a new one, or somebody else's had it.  What is
 * left of one that was removed makes way for who may delete it.
 */
static void
require_id_free(const ApikeyRow *key)
{
	const pg_uuid_t *id = apikey_row_id(key);
	ApikeyRow	other;

	if (apikey_key_fetch_latest(id, &other))
		refuse_taken("lookup");
	apikey_manage_finish(id, APIKEY_LOCK_UPDATE);
	/* What has been restored is of a key that may yet come. */
	if (apikey_table_fetch_latest(&apikey_key_table, id, &other) ||
		apikey_revocation_awaits(id))
		refuse_taken("lookup");
	/* Once there is no such key, all that name it are there. */
	if (apikey_deleted_of_others(key) || is_account(id) || is_told_of(id))
		refuse_taken("lookup");
	apikey_revocation_forget(id, APIKEY_LOCK_UPDATE);
	apikey_reveal_forget(key);
	apikey_import_forget(key);
	apikey_table_delete(&apikey_digest_table, id, false);
	apikey_table_delete(&apikey_use_table, id, false);
}

/* Takes over a key of this extension from another database, with its id. */
static void
import_native(ApikeyRow *key, const ApikeyImportHash *import_hash,
			  const text *lookup, const ApikeyText *handle)
{
	text	   *prefix = apikey_row_text(key, APIKEY_KEY_PREFIX);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	if (VARSIZE_ANY_EXHDR(prefix) != handle->prefix_len ||
		memcmp(VARDATA_ANY(prefix), VARDATA_ANY(lookup), handle->prefix_len) != 0)
		apikey_refuse("prefix", "It must be the one that the handle begins with.");
	memcpy(id->data, handle->id, APIKEY_ID_BYTES);
	if (!apikey_id_of_key(id))
		apikey_refuse("lookup", "It is the handle of no key: its id is no UUIDv7.");
	apikey_row_set_pointer(key, APIKEY_KEY_ID, id);
	require_id_free(key);
	apikey_row_set_pointer(key, APIKEY_KEY_LAST_FOUR, cstring_to_text(""));
	apikey_key_insert(key, import_hash->sha256, APIKEY_EVENT_IMPORTED,
					  "{\"algorithm\": \"sha256\", \"native\": true}");
}

/* Takes over a key of another system. */
static void
import_foreign(ApikeyRow *key, const ApikeyImportHash *import_hash,
			   text *lookup)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	make_room_for_hash(import_hash);
	/* The others are found by their hash, and need none. */
	if (!apikey_hash_slow(import_hash->algorithm))
		lookup = NULL;
	if (lookup != NULL)
		make_room_for_lookup(lookup);
	apikey_generate_id(id);
	apikey_row_set_pointer(key, APIKEY_KEY_ID, id);
	apikey_row_set_pointer(key, APIKEY_KEY_LAST_FOUR, cstring_to_text(""));
	apikey_key_insert(key, NULL, APIKEY_EVENT_IMPORTED,
					  psprintf("{\"algorithm\": \"%s\"}",
							   apikey_hash_name(import_hash->algorithm)));
	insert_import(key, import_hash, lookup);
	if (lookup != NULL)
		require_no_clash(lookup);
}

/*
 * Takes over a key whose attributes are set in a row, under the rules of one
 * that is made here.
 */
void
apikey_import_key(ApikeyRow *key, ApikeyIssue *issue,
				  const ApikeyImportHash *import_hash, text *lookup)
{
	const ApikeyRow *project;
	ApikeyTenant tenant;
	ApikeyText	handle;
	bool		native = read_handle(import_hash, lookup, &handle);

	if (native && issue->prefix == NULL)
		issue->prefix = cstring_to_text_with_len(VARDATA_ANY(lookup),
												 handle.prefix_len);
	project = apikey_issue_prepare(key, issue, &tenant);
	if (native)
		import_native(key, import_hash, lookup, &handle);
	else
		import_foreign(key, import_hash, lookup);
	apikey_live_require_room(key, project == NULL ? NULL : &tenant);
}
