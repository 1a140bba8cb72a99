/*
 * import_find.c
 *		How an imported key is found by what is offered, and whether there is one.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "secrets/secrets.h"
#include "keys/keys_internal.h"

static const ApikeyColumn import_columns[] = {
	[APIKEY_IMPORT_ID] = {"id", UUIDOID, false, true},
	[APIKEY_IMPORT_ALGORITHM] = {"algorithm", TEXTOID, false, true},
	[APIKEY_IMPORT_FOREIGN_DIGEST] = {"foreign_digest", BYTEAOID, false, true},
	[APIKEY_IMPORT_FOREIGN_PEPPER] = {"foreign_pepper", INT4OID, false, true},
	[APIKEY_IMPORT_DIGEST] = {"digest", BYTEAOID, false},
	[APIKEY_IMPORT_PEPPER] = {"pepper", INT4OID, false},
	[APIKEY_IMPORT_LOOKUP] = {"lookup", TEXTOID, false},
	[APIKEY_IMPORT_SALT] = {"salt", TEXTOID, false},
	[APIKEY_IMPORT_LAST_FOUR] = {"last_four", TEXTOID, false}
};
const ApikeyTable apikey_import_table = {
	.name = "apikey_import",
	.taken = APIKEY_HASH_TAKEN,
	.argument = "hash",
	.relation = APIKEY_REL_IMPORT,
	.pkey = APIKEY_REL_IMPORT_PKEY,
	.columns = import_columns,
	.count = lengthof(import_columns)
};

static bool
seen_one(const ApikeyRow *row pg_attribute_unused(), void *state)
{
	*(bool *) state = true;
	return false;
}

/*
 * Is there an imported key?  A table that never had one needs no reading.  It is
 * anybody's, so it is none that a serializable transaction has read: see
 * revocation_row.c.
 */
static bool
look_for_any(void)
{
	bool		found = false;

	if (!apikey_table_blank(&apikey_import_table))
		apikey_table_walk(&apikey_import_table, APIKEY_REL_IMPORT_PKEY, NULL, 0,
						  SnapshotAny, seen_one, &found);
	return found;
}

/* May a text that is no native key be an imported one? */
bool
apikey_import_any(void)
{
	bool		any;
	uint64		begun;

	AcceptInvalidationMessages();
	if (apikey_fact_known(APIKEY_FACT_IMPORTS, &any))
		return any;
	begun = apikey_changes_begin();
	any = look_for_any();
	apikey_fact_store(APIKEY_FACT_IMPORTS, begun, any);
	return any;
}

/* The last characters of an imported key, once they are known. */
text *
apikey_import_last_four(const pg_uuid_t *id, Snapshot snapshot)
{
	ApikeyRow	row;

	return apikey_table_fetch(&apikey_import_table, id, snapshot, &row) ?
		apikey_row_text(&row, APIKEY_IMPORT_LAST_FOUR) : NULL;
}

/* Is a column the digest that is offered, under that pepper? */
static bool
digest_matches(const ApikeyRow *row, int column, const uint8 *offered)
{
	bytea	   *stored;

	if (row->nulls[column])
		return false;
	stored = DatumGetByteaPP(row->values[column]);
	return VARSIZE_ANY_EXHDR(stored) == APIKEY_DIGEST_BYTES &&
		apikey_digest_equal((const uint8 *) VARDATA_ANY(stored), offered);
}

/*
 * Finds the row that has a digest, under any pepper, in a column that an index
 * is on.
 */
bool
apikey_import_find_by_digest(int column, ApikeyRelation index, const uint8 *digest,
							 ApikeyRow *row, const ApikeyPepper **pepper)
{
	for (int i = 0; (*pepper = apikey_pepper_nth(i)) != NULL; i++)
	{
		uint8		offered[APIKEY_DIGEST_BYTES];
		ScanKeyData key;

		apikey_digest_stored(*pepper, digest, offered);
		ScanKeyInit(&key, column + 1, BTEqualStrategyNumber, F_BYTEAEQ,
					PointerGetDatum(apikey_digest_bytea(offered)));
		if (apikey_table_find(&apikey_import_table, index, &key, 1, row) &&
			digest_matches(row, column, offered))
			return true;
	}
	return false;
}

/* Has any row this digest of the native form? */
bool
apikey_import_has_digest(const uint8 *digest)
{
	ScanKeyData key;
	ApikeyRow	row;

	ScanKeyInit(&key, APIKEY_IMPORT_DIGEST + 1, BTEqualStrategyNumber,
				F_BYTEAEQ, PointerGetDatum(apikey_digest_bytea(digest)));
	return apikey_table_find(&apikey_import_table, APIKEY_REL_IMPORT_DIGEST,
							 &key, 1, &row);
}

/* The row that a search comes to first. */
typedef struct Next
{
	bool		found;
	pg_uuid_t	id;
} Next;

static bool
take_id(const ApikeyRow *row, void *state)
{
	Next	   *next = state;

	next->found = true;
	next->id = *apikey_row_id(row);
	return false;
}

/*
 * Visits the rows whose lookups are before a text or behind it, the nearest
 * first, and one that is equal where that is wanted.
 */
void
apikey_import_walk(text *lookup, bool before, bool equal, Snapshot snapshot,
				   ApikeyVisit visit, void *state)
{
	static const struct
	{
		StrategyNumber strategy;
		RegProcedure compare;
	}			sides[2][2] = {
		{{BTGreaterStrategyNumber, F_TEXT_GT}, {BTGreaterEqualStrategyNumber, F_TEXT_GE}},
		{{BTLessStrategyNumber, F_TEXT_LT}, {BTLessEqualStrategyNumber, F_TEXT_LE}}
	};
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, APIKEY_IMPORT_LOOKUP + 1,
						   sides[before][equal].strategy, InvalidOid,
						   C_COLLATION_OID, sides[before][equal].compare,
						   PointerGetDatum(lookup));
	(before ? apikey_table_walk_back : apikey_table_walk)
		(&apikey_import_table, APIKEY_REL_IMPORT_LOOKUP, &key, 1, snapshot,
		 visit, state);
}

/* Finds the row whose lookup is a text or, of all others, next to it. */
bool
apikey_import_find_next_to(const char *bytes, size_t len, bool before, ApikeyRow *row)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	Next		next = {.found = false};

	apikey_import_walk(cstring_to_text_with_len(bytes, len), before, true,
					   snapshot, take_id, &next);
	UnregisterSnapshot(snapshot);
	return next.found &&
		apikey_table_fetch_latest(&apikey_import_table, &next.id, row);
}

bool
apikey_import_begins_with(const char *bytes, size_t len, const text *beginning)
{
	return beginning != NULL && len >= VARSIZE_ANY_EXHDR(beginning) &&
		memcmp(bytes, VARDATA_ANY(beginning),
			   VARSIZE_ANY_EXHDR(beginning)) == 0;
}

/*
 * Finds the row of the key whose hash by a slow algorithm a text has.  What begins
 * with a lookup is that key's, whatever follows, where its pepper is not there.
 */
static bool
find_slowly(const char *bytes, size_t len, ApikeyRow *row,
			const char **problem)
{
	const ApikeyPepper *pepper;
	bool		verified;
	uint8		digest[APIKEY_DIGEST_BYTES];
	uint8		offered[APIKEY_DIGEST_BYTES];

	if (!apikey_import_find_next_to(bytes, len, true, row) ||
		!apikey_import_begins_with(bytes, len, apikey_row_text(row, APIKEY_IMPORT_LOOKUP)))
		return false;
	verified = !row->nulls[APIKEY_IMPORT_DIGEST];
	pepper = apikey_pepper_find(DatumGetInt32(row->values[verified ? APIKEY_IMPORT_PEPPER :
														  APIKEY_IMPORT_FOREIGN_PEPPER]));
	if (pepper == NULL)
		*problem = "The pepper that an imported key is keyed with is not in the file.";
	/* Verified before, it would have been found by its digest. */
	if (pepper == NULL || verified || row->nulls[APIKEY_IMPORT_SALT])
		return false;
	*problem = apikey_hash_slowly(text_to_cstring(apikey_row_text(row,
																  APIKEY_IMPORT_ALGORITHM)),
								  text_to_cstring(apikey_row_text(row,
																  APIKEY_IMPORT_SALT)),
								  bytes, len, digest);
	if (*problem != NULL)
		return false;
	apikey_digest_stored(pepper, digest, offered);
	return digest_matches(row, APIKEY_IMPORT_FOREIGN_DIGEST, offered);
}

/* Finds the row that was imported with a hash and not verified since. */
static bool
find_by_hash(const uint8 *digest, ApikeyRow *row)
{
	const ApikeyPepper *pepper;

	return apikey_import_find_by_digest(APIKEY_IMPORT_FOREIGN_DIGEST, APIKEY_REL_IMPORT_FOREIGN,
										digest, row, &pepper) &&
		row->nulls[APIKEY_IMPORT_DIGEST];
}

/* Finds the row of the key whose hash by a cheap algorithm a text has. */
static bool
find_cheaply(const char *bytes, size_t len, ApikeyRow *row)
{
	uint8		digest[APIKEY_DIGEST_BYTES];
	const ApikeySecret *secret;

	for (int i = 0; i <= APIKEY_ALGORITHM_SHA512; i++)
	{
		if (apikey_hash_digest((ApikeyAlgorithm) i, bytes, len, digest) &&
			find_by_hash(digest, row))
			return true;
	}
	for (int i = 0; (secret = apikey_secret_nth(i)) != NULL; i++)
	{
		apikey_hash_hmac(secret->bytes, secret->len, bytes, len, digest);
		if (find_by_hash(digest, row))
			return true;
	}
	return false;
}

/* Finds the row of the key of which a text's part has the hash. */
static bool
find_by_part(const char *bytes, size_t len, bool bound, ApikeyRow *row)
{
	size_t		head;

	for (int i = 0; (head = apikey_hash_head(bytes, len, i)) != SIZE_MAX; i++)
	{
		uint8		digest[APIKEY_DIGEST_BYTES];

		if (head == 0)
			continue;
		apikey_hash_part(bytes, len, head, bound, digest);
		if (find_by_hash(digest, row))
			return true;
	}
	return false;
}

/* The same by its hash, of whatever algorithm that is of the whole text. */
static bool
find_by_whole(const char *bytes, size_t len, ApikeyRow *row,
			  const char **problem)
{
	return find_cheaply(bytes, len, row) ||
		find_by_part(bytes, len, true, row) ||
		find_slowly(bytes, len, row, problem);
}

/*
 * Finds the imported key that a text is.  Peppers must be usable.  A key that
 * has been verified is found by nothing but its digest of the native form.  What
 * is known by the hash of a part alone comes last: who has imported that need not
 * know the texts that it fits.
 */
bool
apikey_import_find(const ApikeyCredential *credential,
				   ApikeyImported *imported)
{
	const ApikeyPepper *pepper;
	ApikeyRow	row;

	const char *bytes = credential->prefix;
	size_t		len = credential->text_len;

	imported->problem = NULL;
	imported->stale = true;
	if (apikey_import_find_by_digest(APIKEY_IMPORT_DIGEST, APIKEY_REL_IMPORT_DIGEST,
									 credential->digest, &row, &pepper))
		imported->stale = pepper != apikey_pepper_current();
	else if (!find_by_whole(bytes, len, &row, &imported->problem))
	{
		if (imported->problem == NULL && apikey_secret_problem() != NULL)
			imported->problem =
				"The file that \"apikey.import_secret_file\" names cannot be used.";
		if (imported->problem != NULL ||
			!find_by_part(bytes, len, false, &row))
			return false;
		imported->stale = false;	/* what is before is not the key's */
	}
	imported->id = *apikey_row_id(&row);
	return true;
}

/* Would to remove that wait for nobody? */
bool
apikey_import_free(const ApikeyRow *key)
{
	return !apikey_import_any() ||
		apikey_table_row_free(&apikey_import_table, apikey_row_id(key));
}

/* Removes what makes a key an imported one. */
void
apikey_import_forget(const ApikeyRow *key)
{
	if (apikey_import_any())
		apikey_table_delete(&apikey_import_table, apikey_row_id(key), false);
}
