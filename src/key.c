/*
 * key.c
 *		The rows of a key: reading them without the executor, writing them.
 *
 * A key has a row in apikey_key and its stored digest in apikey_digest, a
 * narrow table that nobody but its owner reads.  Reading is a direct index
 * scan; writing goes through prepared statements.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "apikey.h"

#define UNPEPPERED	0			/* fingerprint of the empty pepper */

static const struct
{
	const char *name;
	Oid			type;
	bool		writable;		/* by UPDATE of the view apikeys */
}			columns[APIKEY_KEY_COLUMNS] = {
	[APIKEY_KEY_ID] = {"id", UUIDOID, false},
	[APIKEY_KEY_OWNER] = {"owner", REGROLEOID, false},
	[APIKEY_KEY_DISABLED] = {"disabled", BOOLOID, false},
	[APIKEY_KEY_CREATED_AT] = {"created_at", TIMESTAMPTZOID, false},
	[APIKEY_KEY_STARTS_AT] = {"starts_at", TIMESTAMPTZOID, true},
	[APIKEY_KEY_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID, true},
	[APIKEY_KEY_REVOKED_AT] = {"revoked_at", TIMESTAMPTZOID, false},
	[APIKEY_KEY_OWNER_NAME] = {"owner_name", TEXTOID, false},
	[APIKEY_KEY_PREFIX] = {"prefix", TEXTOID, false},
	[APIKEY_KEY_LAST_FOUR] = {"last_four", TEXTOID, false},
	[APIKEY_KEY_NAME] = {"name", TEXTOID, false},
	[APIKEY_KEY_SUBJECT] = {"subject", TEXTOID, false},
	[APIKEY_KEY_DESCRIPTION] = {"description", TEXTOID, true},
	[APIKEY_KEY_SCOPES] = {"scopes", TEXTARRAYOID, true},
	[APIKEY_KEY_ALLOWED_IPS] = {"allowed_ips", CIDRARRAYOID, true},
	[APIKEY_KEY_METADATA] = {"metadata", JSONBOID, true},
	[APIKEY_KEY_REVOKE_REASON] = {"revoke_reason", TEXTOID, false}
};

/* The columns of apikey_digest, in their order there. */
enum
{
	DIGEST_ID,
	DIGEST_DIGEST,
	DIGEST_PEPPER,
	DIGEST_COLUMNS
};

const char *
apikey_key_column_name(ApikeyKeyColumn column)
{
	return columns[column].name;
}

/* The column of a name, or APIKEY_KEY_COLUMNS. */
ApikeyKeyColumn
apikey_key_column(const char *name)
{
	int			i;

	for (i = 0; i < APIKEY_KEY_COLUMNS; i++)
	{
		if (strcmp(columns[i].name, name) == 0)
			break;
	}
	return (ApikeyKeyColumn) i;
}

bool
apikey_key_column_writable(ApikeyKeyColumn column)
{
	return columns[column].writable;
}

const pg_uuid_t *
apikey_key_id(const ApikeyKey *key)
{
	return DatumGetUUIDP(key->values[APIKEY_KEY_ID]);
}

Oid
apikey_key_owner(const ApikeyKey *key)
{
	return DatumGetObjectId(key->values[APIKEY_KEY_OWNER]);
}

/* A column of type text; NULL where it is null. */
text *
apikey_key_text(const ApikeyKey *key, ApikeyKeyColumn column)
{
	return key->nulls[column] ? NULL : DatumGetTextPP(key->values[column]);
}

/* Sets a column, or, with a NULL pointer, makes it null. */
void
apikey_key_set(ApikeyKey *key, ApikeyKeyColumn column, void *value)
{
	key->values[column] = PointerGetDatum(value);
	key->nulls[column] = value == NULL;
}

/*
 * What a key is at an instant.  A key whose role is gone is revoked, whether
 * or not its row says so yet.
 */
ApikeyStatus
apikey_key_status(const ApikeyKey *key, TimestampTz now)
{
	if (!key->nulls[APIKEY_KEY_REVOKED_AT] ||
		!apikey_role_exists(apikey_key_owner(key)))
		return APIKEY_STATUS_REVOKED;
	if (DatumGetBool(key->values[APIKEY_KEY_DISABLED]))
		return APIKEY_STATUS_DISABLED;
	if (!key->nulls[APIKEY_KEY_STARTS_AT] &&
		now < DatumGetTimestampTz(key->values[APIKEY_KEY_STARTS_AT]))
		return APIKEY_STATUS_SCHEDULED;
	if (!key->nulls[APIKEY_KEY_EXPIRES_AT] &&
		now >= DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]))
		return APIKEY_STATUS_EXPIRED;
	return APIKEY_STATUS_ACTIVE;
}

/*
 * Reads the first count columns of the row whose primary key is id, detoasted
 * and copied into the current context; false where there is none.
 */
static bool
fetch_row(Oid table, Oid index, const pg_uuid_t *id, Snapshot snapshot,
		  int count, Datum *values, bool *nulls)
{
	Relation	rel = table_open(table, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	scan = systable_beginscan(rel, index, true, snapshot, 1, &scankey);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		tuple = heap_copytuple(tuple);
		for (int i = 0; i < count; i++)
		{
			values[i] = heap_getattr(tuple, i + 1, desc, &nulls[i]);
			if (!nulls[i] && TupleDescAttr(desc, i)->attlen == -1)
				values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[i]));
		}
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

/* Reads a key as a snapshot shows it; false where there is none. */
bool
apikey_key_fetch(const pg_uuid_t *id, Snapshot snapshot, ApikeyKey *key)
{
	const ApikeyCatalog *catalog = apikey_catalog();

	return fetch_row(catalog->key, catalog->key_pkey, id, snapshot,
					 APIKEY_KEY_COLUMNS, key->values, key->nulls);
}

/* Reads a key's stored digest; false where there is none. */
bool
apikey_key_fetch_digest(const pg_uuid_t *id, Snapshot snapshot, uint8 *digest)
{
	const ApikeyCatalog *catalog = apikey_catalog();
	Datum		values[DIGEST_COLUMNS];
	bool		nulls[DIGEST_COLUMNS];
	bytea	   *stored;

	if (!fetch_row(catalog->digest, catalog->digest_pkey, id, snapshot,
				   DIGEST_COLUMNS, values, nulls) ||
		DatumGetInt32(values[DIGEST_PEPPER]) != UNPEPPERED)
		return false;
	stored = DatumGetByteaPP(values[DIGEST_DIGEST]);
	if (VARSIZE_ANY_EXHDR(stored) != APIKEY_DIGEST_BYTES)
		return false;
	memcpy(digest, VARDATA_ANY(stored), APIKEY_DIGEST_BYTES);
	return true;
}

/*
 * Locks a key's row to the end of the transaction and reads its latest
 * version; false where it is gone.
 */
bool
apikey_key_lock(const pg_uuid_t *id, ApikeyKey *key)
{
	static ApikeyStatement statement;
	ApikeyStorage storage;
	Datum		arg = UUIDPGetDatum(id);
	bool		found;

	apikey_storage_open(&storage);
	if (apikey_storage_stale(&statement))
	{
		StringInfoData sql;
		Oid			type = UUIDOID;

		initStringInfo(&sql);
		for (int i = 0; i < APIKEY_KEY_COLUMNS; i++)
			appendStringInfo(&sql, "%s %s", i == 0 ? "SELECT" : ",",
							 columns[i].name);
		appendStringInfo(&sql, " FROM %s.apikey_key WHERE id = $1 FOR UPDATE",
						 apikey_catalog()->schema);
		apikey_storage_prepare(&statement, sql.data, 1, &type);
	}

	found = apikey_storage_run(&statement, &arg, NULL) == 1;
	for (int i = 0; found && i < APIKEY_KEY_COLUMNS; i++)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		key->values[i] = SPI_getbinval(SPI_tuptable->vals[0], desc, i + 1,
									   &key->nulls[i]);
		if (!key->nulls[i])
			key->values[i] = SPI_datumTransfer(key->values[i],
											   attribute->attbyval,
											   attribute->attlen);
	}
	apikey_storage_close(&storage);
	return found;
}

/*
 * Runs a statement whose parameters are a key's columns, and tells a name
 * that is taken in the user's words.
 */
static void
run_with_key(const ApikeyStatement *statement, ApikeyKey *key)
{
	MemoryContext context = CurrentMemoryContext;
	char		nulls[APIKEY_KEY_COLUMNS];

	for (int i = 0; i < APIKEY_KEY_COLUMNS; i++)
		nulls[i] = key->nulls[i] ? 'n' : ' ';

	PG_TRY();
	{
		apikey_storage_run(statement, key->values, nulls);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION ||
			error->constraint_name == NULL ||
			strcmp(error->constraint_name, "apikey_key_name") != 0)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("API key \"%s\" already exists",
						text_to_cstring(apikey_key_text(key, APIKEY_KEY_NAME)))));
	}
	PG_END_TRY();
}

/* Prepares a statement whose parameters are a key's columns. */
static void
prepare_with_key(ApikeyStatement *statement, const char *sql)
{
	Oid			types[APIKEY_KEY_COLUMNS];

	for (int i = 0; i < APIKEY_KEY_COLUMNS; i++)
		types[i] = columns[i].type;
	apikey_storage_prepare(statement, sql, APIKEY_KEY_COLUMNS, types);
}

/* What is stored of the owner beside his OID is his name at each write. */
static void
refresh_owner_name(ApikeyKey *key)
{
	apikey_key_set(key, APIKEY_KEY_OWNER_NAME,
				   cstring_to_text(apikey_role_name(apikey_key_owner(key),
													apikey_key_text(key, APIKEY_KEY_OWNER_NAME))));
}

static void
insert_digest(const pg_uuid_t *id, const uint8 *digest)
{
	static ApikeyStatement statement;
	bytea	   *stored = palloc(VARHDRSZ + APIKEY_DIGEST_BYTES);
	Datum		values[DIGEST_COLUMNS];

	if (apikey_storage_stale(&statement))
	{
		Oid			types[DIGEST_COLUMNS] = {UUIDOID, BYTEAOID, INT4OID};

		apikey_storage_prepare(&statement,
							   psprintf("INSERT INTO %s.apikey_digest (id, digest, pepper)"
										" VALUES ($1, $2, $3)",
										apikey_catalog()->schema),
							   DIGEST_COLUMNS, types);
	}

	SET_VARSIZE(stored, VARHDRSZ + APIKEY_DIGEST_BYTES);
	apikey_digest_stored("", 0, digest, (uint8 *) VARDATA(stored));
	values[DIGEST_ID] = UUIDPGetDatum(id);
	values[DIGEST_DIGEST] = PointerGetDatum(stored);
	values[DIGEST_PEPPER] = Int32GetDatum(UNPEPPERED);
	apikey_storage_run(&statement, values, NULL);
}

/* Stores a new key under the SHA-256 of its text. */
void
apikey_key_insert(ApikeyKey *key, const uint8 *digest)
{
	static ApikeyStatement statement;
	ApikeyStorage storage;

	refresh_owner_name(key);
	apikey_storage_open(&storage);
	if (apikey_storage_stale(&statement))
	{
		StringInfoData sql;

		initStringInfo(&sql);
		appendStringInfo(&sql, "INSERT INTO %s.apikey_key",
						 apikey_catalog()->schema);
		for (int i = 0; i < APIKEY_KEY_COLUMNS; i++)
			appendStringInfo(&sql, "%s %s", i == 0 ? " (" : ",",
							 columns[i].name);
		for (int i = 0; i < APIKEY_KEY_COLUMNS; i++)
			appendStringInfo(&sql, "%s $%d", i == 0 ? ") VALUES (" : ",",
							 i + 1);
		appendStringInfoChar(&sql, ')');
		prepare_with_key(&statement, sql.data);
	}
	run_with_key(&statement, key);
	insert_digest(apikey_key_id(key), digest);
	apikey_storage_close(&storage);
}

/* Writes back a key that was locked. */
void
apikey_key_update(ApikeyKey *key)
{
	static ApikeyStatement statement;
	ApikeyStorage storage;

	refresh_owner_name(key);
	apikey_storage_open(&storage);
	if (apikey_storage_stale(&statement))
	{
		StringInfoData sql;

		initStringInfo(&sql);
		appendStringInfo(&sql, "UPDATE %s.apikey_key",
						 apikey_catalog()->schema);
		for (int i = APIKEY_KEY_ID + 1; i < APIKEY_KEY_COLUMNS; i++)
			appendStringInfo(&sql, "%s %s = $%d",
							 i == APIKEY_KEY_ID + 1 ? " SET" : ",",
							 columns[i].name, i + 1);
		appendStringInfo(&sql, " WHERE id = $%d", APIKEY_KEY_ID + 1);
		prepare_with_key(&statement, sql.data);
	}
	run_with_key(&statement, key);
	apikey_storage_close(&storage);
}

/* Removes a key that was locked, digest and all. */
void
apikey_key_delete(const pg_uuid_t *id)
{
	static ApikeyStatement statements[2];
	static const char *const tables[] = {"apikey_key", "apikey_digest"};
	ApikeyStorage storage;
	Datum		arg = UUIDPGetDatum(id);

	apikey_storage_open(&storage);
	for (size_t i = 0; i < lengthof(statements); i++)
	{
		if (apikey_storage_stale(&statements[i]))
		{
			Oid			type = UUIDOID;

			apikey_storage_prepare(&statements[i],
								   psprintf("DELETE FROM %s.%s WHERE id = $1",
											apikey_catalog()->schema,
											tables[i]),
								   1, &type);
		}
		apikey_storage_run(&statements[i], &arg, NULL);
	}
	apikey_storage_close(&storage);
}
