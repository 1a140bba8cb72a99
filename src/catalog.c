/*
 * catalog.c
 *		Where this database's copy of the extension keeps its tables.
 *
 * Found by the extension's OID, never by a search path, and kept until an
 * invalidation names one of them: DROP EXTENSION, a rebuilt index, a change
 * of owner or of schema.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "apikey.h"

static ApikeyCatalog catalog;
static bool catalog_valid = false;
static uint64 catalog_invalidations = 0;

static void
catalog_invalidate(Datum arg pg_attribute_unused(), Oid relid)
{
	if (!OidIsValid(relid) ||
		relid == catalog.key || relid == catalog.key_pkey ||
		relid == catalog.digest || relid == catalog.digest_pkey)
	{
		catalog_valid = false;
		catalog_invalidations++;
	}
}

/* A schema was renamed, or perhaps. */
static void
catalog_invalidate_schema(Datum arg, int cacheid pg_attribute_unused(),
						  uint32 hashvalue pg_attribute_unused())
{
	catalog_invalidate(arg, InvalidOid);
}

/* The schema of an extension. */
static Oid
catalog_extension_schema(Oid extension)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid			schema = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return schema;
}

static Oid
catalog_relation(const char *name, Oid schema)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s\" of extension \"apikey\" does not exist",
						name)));
	return relid;
}

/* The same for a table, which must be the extension's own. */
static Oid
catalog_table(const char *name, Oid schema, Oid extension)
{
	Oid			relid = catalog_relation(name, schema);

	if (getExtensionOfObject(RelationRelationId, relid) != extension)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" does not belong to extension \"apikey\"",
						name)));
	return relid;
}

static Oid
catalog_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

static void
catalog_load(void)
{
	static bool registered = false;
	static char schema_name[2 * NAMEDATALEN + 3];
	Oid			extension = get_extension_oid("apikey", false);
	Oid			schema = catalog_extension_schema(extension);

	if (!registered)
	{
		CacheRegisterRelcacheCallback(catalog_invalidate, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, catalog_invalidate_schema,
									  (Datum) 0);
		registered = true;
	}

	catalog.key = catalog_table("apikey_key", schema, extension);
	catalog.key_pkey = catalog_relation("apikey_key_pkey", schema);
	catalog.digest = catalog_table("apikey_digest", schema, extension);
	catalog.digest_pkey = catalog_relation("apikey_digest_pkey", schema);
	catalog.tables_owner = catalog_owner(catalog.key);
	strlcpy(schema_name, quote_identifier(get_namespace_name(schema)),
			sizeof(schema_name));
	catalog.schema = schema_name;
}

/*
 * The catalog as of the invalidations received so far; raises where the
 * extension is gone.
 */
const ApikeyCatalog *
apikey_catalog(void)
{
	while (!catalog_valid)
	{
		uint64		before = catalog_invalidations;

		catalog_load();
		catalog_valid = before == catalog_invalidations;
		catalog.generation++;
	}
	return &catalog;
}
