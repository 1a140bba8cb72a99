/*
 * catalog.c
 *		Where this database's copy of the extension keeps its tables.
 *
 * Found by the extension's OID, never by a search path, each when it is needed
 * first, and kept until an invalidation names one of them: DROP EXTENSION, a
 * rebuilt index, a change of owner or of schema.  The table of keys is always
 * among them, so that none of these is missed.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "store/store_internal.h"

#define FIRST_VERSION	"0.1.0"

static ApikeyCatalog catalog;
static Oid	extension_oid;
static uint32 schema_hash = 0;	/* of the extension's schema, in messages */
static bool catalog_valid = false;

/* Is a relation one of ours? */
static bool
catalog_has(Oid relid)
{
	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		if (relid == catalog.relations[i])
			return true;
	}
	return false;
}

static void
catalog_invalidate(Datum arg pg_attribute_unused(), Oid relid)
{
	if (OidIsValid(relid) && !catalog_has(relid))
		return;
	catalog_valid = false;
	/* What was read of it is old, too. */
	apikey_changes_forget();
}

/*
 * Our schema was renamed, or perhaps.  Others are anybody's: by what is done to
 * them nobody is to forget anything.
 */
static void
catalog_invalidate_schema(Datum arg, int cacheid pg_attribute_unused(),
						  uint32 hashvalue)
{
	if (hashvalue == 0 || hashvalue == schema_hash)
		catalog_invalidate(arg, InvalidOid);
}

/*
 * The OID of an extension, its schema and, unless that is NULL, its version, in
 * one look at a catalog of which nothing is cached, and which is so small that
 * to open its index costs more; invalid for one that is not there, or for whoever
 * reads leniently where somebody keeps us from that.
 */
Oid
apikey_extension_find(const char *name, Oid *schema, char **version)
{
	Relation	rel;
	Oid			extension = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;

	if (!apikey_relation_lock("pg_extension", ExtensionRelationId,
							  AccessShareLock))
		return InvalidOid;
	rel = table_open(ExtensionRelationId, NoLock);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension row = (Form_pg_extension) GETSTRUCT(tuple);

		extension = row->oid;
		*schema = row->extnamespace;
		if (version != NULL)
			*version = TextDatumGetCString(heap_getattr(tuple,
														Anum_pg_extension_extversion,
														RelationGetDescr(rel),
														&isnull));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return extension;
}

pg_noreturn static void
refuse_not_ours(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("relation \"%s\" does not belong to extension \"apikey\"",
					name)));
}

/*
 * Is this an index of a table of ours?  The schema's owner can drop ours, and
 * have another of that name.
 */
static bool
catalog_is_index(Oid relid, ApikeyRelation table)
{
	return IndexGetRelation(relid, true) == apikey_catalog_relation(table);
}

static Oid
catalog_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	/* Somebody has dropped it since it was found. */
	if (!HeapTupleIsValid(tuple))
	{
		if (!apikey_lenient_miss("apikey"))
			apikey_refuse_gone();
		return InvalidOid;
	}
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Is a table of an owner, which belongs to an extension, one of ours?  Who owns
 * the extension can add one to it, and its triggers would be run with the
 * rights of the table of keys' owner: so it must be that owner's, or a
 * superuser's, who may have updated the extension.
 */
bool
apikey_catalog_owned(ApikeyRelation relation, Oid extension, Oid owner)
{
	bool		owned;

	if (extension != extension_oid || relation == APIKEY_REL_KEY ||
		owner == catalog.tables_owner)
		return extension == extension_oid;
	if (!apikey_lookup_begin(APIKEY_LOOKUP_ROLE))
		return false;
	owned = superuser_arg(owner);
	apikey_lookup_end(APIKEY_LOOKUP_ROLE);
	return owned;
}

/*
 * The OID of a relation of ours: a table must be the extension's own, and an
 * index one of that table.
 */
static Oid
catalog_find(ApikeyRelation relation)
{
	const char *name = apikey_relation_names[relation].name;
	ApikeyRelation table = apikey_relation_names[relation].table;
	Oid			relid = get_relname_relid(name, catalog.schema);
	Oid			extension;

	if (!OidIsValid(relid) && apikey_lenient_miss(name))
		return InvalidOid;
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" of extension \"apikey\" does not exist",
						name),
				 errhint(APIKEY_MISSING_HINT)));
	if (table != relation)
	{
		if (!catalog_is_index(relid, table))
			refuse_not_ours(name);
		return relid;
	}
	if (!apikey_extension_of(RelationRelationId, relid, &extension))
		return InvalidOid;
	if (!apikey_catalog_owned(relation, extension, catalog_owner(relid)))
	{
		if (!apikey_lenient_missed())
			refuse_not_ours(name);
		return InvalidOid;
	}
	apikey_catalog_require_local(relid);
	return relid;
}

/* What a relation of ours is called. */
const char *
apikey_catalog_name(ApikeyRelation relation)
{
	return apikey_relation_names[relation].name;
}

/* The table of an index of ours; a table's own is itself. */
ApikeyRelation
apikey_catalog_table(ApikeyRelation relation)
{
	return apikey_relation_names[relation].table;
}

/*
 * Looks until no message came in between that may make old what was seen
 * first.  Messages are asked for, not our callbacks: those are also called
 * without any, at each look where the server is told to debug its caches.
 */
void
apikey_catalog_look(ApikeyCatalogLook look, void *result, int which)
{
	uint64		messages;

	do
	{
		messages = SharedInvalidMessageCounter;
		look(result, which);
	} while (messages != SharedInvalidMessageCounter);
}

static void
look_for_relation(void *result, int which)
{
	*(Oid *) result = catalog_find((ApikeyRelation) which);
}

/* Is the SQL of a version made for this library, or one that it goes on with? */
static bool
version_known(const char *version)
{
	return strcmp(version, FIRST_VERSION) == 0 ||
		strcmp(version, APIKEY_VERSION) == 0;
}

/*
 * Does the current database have the extension, and of a version that this
 * library knows?
 */
bool
apikey_extension_usable(void)
{
	Oid			schema;
	char	   *version;

	return OidIsValid(apikey_extension_find("apikey", &schema, &version)) &&
		version_known(version);
}

/*
 * Raises where the SQL is newer than the library, as in a session that was
 * there before: what the tables mean is not known then.
 */
static void
require_known_version(const char *version)
{
	if (!version_known(version))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"apikey\" is of version %s, which its library of version %s does not know",
						version, APIKEY_VERSION),
				 errhint("Reconnect or, where \"shared_preload_libraries\" names the library, restart the server.")));
}

static void
look_for_extension(void *result, int which pg_attribute_unused())
{
	ApikeyCatalog *found = result;
	char	   *version = NULL;

	memset(found->relations, 0, sizeof(found->relations));
	found->schema = InvalidOid;
	extension_oid = apikey_extension_find("apikey", &found->schema, &version);
	if (!OidIsValid(extension_oid))
	{
		if (!apikey_lenient_miss("apikey"))
			apikey_refuse_gone();
		return;
	}
	require_known_version(version);
	found->first_script = strcmp(version, FIRST_VERSION) == 0;
	pfree(version);
	catalog.schema = found->schema;
	found->relations[APIKEY_REL_KEY] = catalog_find(APIKEY_REL_KEY);
	found->tables_owner = catalog_owner(found->relations[APIKEY_REL_KEY]);
}

static void
catalog_load(void)
{
	static bool registered = false;
	ApikeyCatalog found = {.generation = catalog.generation + 1};

	if (!registered)
	{
		CacheRegisterRelcacheCallback(catalog_invalidate, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, catalog_invalidate_schema,
									  (Datum) 0);
		registered = true;
	}
	apikey_catalog_look(look_for_extension, &found, 0);
	schema_hash = GetSysCacheHashValue1(NAMESPACEOID,
										ObjectIdGetDatum(found.schema));
	catalog = found;
	/* For whoever reads leniently none may be there, and is looked for anew. */
	catalog_valid = OidIsValid(found.relations[APIKEY_REL_KEY]);
}

/*
 * The catalog as of the invalidations received so far; raises where the
 * extension is gone.
 */
const ApikeyCatalog *
apikey_catalog(void)
{
	if (!catalog_valid)
		catalog_load();
	return &catalog;
}

/* The name of our schema, quoted where it needs to be. */
const char *
apikey_catalog_schema(void)
{
	return quote_identifier(get_namespace_name(apikey_catalog()->schema));
}

/*
 * Raises where a trigger of ours stands on what is not the extension's: it
 * would take other columns for ours.
 */
void
apikey_catalog_require(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	Oid			extension;

	(void) apikey_catalog();
	if (!catalog_has(relid) &&
		(!apikey_extension_of(RelationRelationId, relid, &extension) ||
		 extension != extension_oid))
		refuse_not_ours(RelationGetRelationName(rel));
}

/* One of them was found, as of a generation. */
void
apikey_catalog_found(ApikeyRelation relation, Oid relid, uint64 generation)
{
	if (catalog_valid && generation == catalog.generation)
		catalog.relations[relation] = relid;
}

/* The OID of one of our relations; invalid for one that is passed over. */
Oid
apikey_catalog_relation(ApikeyRelation relation)
{
	uint64		generation = apikey_catalog()->generation;
	Oid			relid = catalog.relations[relation];

	if (OidIsValid(relid) || !catalog_valid)
		return relid;
	apikey_catalog_look(look_for_relation, &relid, relation);
	/* Finding it may be what invalidates the catalog. */
	apikey_catalog_found(relation, relid, generation);
	return relid;
}

/* The first index that a table lacks; APIKEY_RELATIONS for none. */
ApikeyRelation
apikey_catalog_missing(ApikeyRelation table)
{
	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		Oid			relid;

		if (apikey_relation_names[i].table != table || i == (int) table ||
			OidIsValid(apikey_catalog()->relations[i]) ||
			(apikey_relation_names[i].later && catalog.first_script))
			continue;
		relid = get_relname_relid(apikey_relation_names[i].name, catalog.schema);
		if (!OidIsValid(relid) || !catalog_is_index(relid, table))
			return (ApikeyRelation) i;
	}
	return APIKEY_RELATIONS;
}

/* Is it a table, with columns and triggers? */
bool
apikey_catalog_is_table(ApikeyRelation relation)
{
	return apikey_relation_names[relation].table == relation &&
		relation != APIKEY_REL_EVENT_ID_SEQ;
}

/* Does a relation not exist yet, as the script has not been updated? */
bool
apikey_catalog_lacks(ApikeyRelation relation)
{
	return apikey_catalog()->first_script && apikey_relation_names[relation].later;
}
