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
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "apikey.h"
#include "verify/verify.h"

#define FIRST_VERSION	"0.1.0"

static ApikeyCatalog catalog;
static Oid	extension_oid;
static bool catalog_valid = false;

/*
 * Their names; of an index its table, too, and whether 0.1.0 does without it,
 * as long as that script has not been updated.
 */
static const struct
{
	const char *name;
	ApikeyRelation table;
	bool		later;
}			relations[APIKEY_RELATIONS] = {
	[APIKEY_REL_KEY] = {"apikey_key", APIKEY_REL_KEY},
	[APIKEY_REL_KEY_PKEY] = {"apikey_key_pkey", APIKEY_REL_KEY},
	[APIKEY_REL_KEY_NAME] = {"apikey_key_name", APIKEY_REL_KEY},
	[APIKEY_REL_KEY_PROJECT_NAME] = {"apikey_key_project_name", APIKEY_REL_KEY},
	[APIKEY_REL_KEY_PROJECT] = {"apikey_key_project", APIKEY_REL_KEY},
	[APIKEY_REL_KEY_EXPIRES_AT] = {"apikey_key_expires_at", APIKEY_REL_KEY},
	[APIKEY_REL_KEY_CREDITS_ACCOUNT] = {"apikey_key_credits_account", APIKEY_REL_KEY},
	[APIKEY_REL_KEY_PROJECT_SUBJECT] = {"apikey_key_project_subject", APIKEY_REL_KEY, true},
	[APIKEY_REL_KEY_OWNER] = {"apikey_key_owner", APIKEY_REL_KEY, true},
	[APIKEY_REL_KEY_OWNER_SUBJECT] = {"apikey_key_owner_subject", APIKEY_REL_KEY, true},
	[APIKEY_REL_KEY_VOUCHED_BY] = {"apikey_key_vouched_by", APIKEY_REL_KEY, true},
	[APIKEY_REL_KEY_ROTATED_TO] = {"apikey_key_rotated_to", APIKEY_REL_KEY},
	[APIKEY_REL_DIGEST] = {"apikey_digest", APIKEY_REL_DIGEST},
	[APIKEY_REL_DIGEST_PKEY] = {"apikey_digest_pkey", APIKEY_REL_DIGEST},
	[APIKEY_REL_CREDIT] = {"apikey_credit", APIKEY_REL_CREDIT},
	[APIKEY_REL_CREDIT_PKEY] = {"apikey_credit_pkey", APIKEY_REL_CREDIT},
	[APIKEY_REL_ORGANIZATION] = {"apikey_organization", APIKEY_REL_ORGANIZATION},
	[APIKEY_REL_ORGANIZATION_PKEY] = {"apikey_organization_pkey", APIKEY_REL_ORGANIZATION},
	[APIKEY_REL_ORGANIZATION_NAME] = {"apikey_organization_name", APIKEY_REL_ORGANIZATION},
	[APIKEY_REL_PROJECT] = {"apikey_project", APIKEY_REL_PROJECT},
	[APIKEY_REL_PROJECT_PKEY] = {"apikey_project_pkey", APIKEY_REL_PROJECT},
	[APIKEY_REL_PROJECT_PATH] = {"apikey_project_path", APIKEY_REL_PROJECT},
	[APIKEY_REL_PROJECT_ORGANIZATION] = {"apikey_project_organization", APIKEY_REL_PROJECT},
	[APIKEY_REL_MEMBER] = {"apikey_member", APIKEY_REL_MEMBER},
	[APIKEY_REL_MEMBER_PKEY] = {"apikey_member_pkey", APIKEY_REL_MEMBER},
	[APIKEY_REL_MEMBER_WHO] = {"apikey_member_who", APIKEY_REL_MEMBER},
	[APIKEY_REL_MEMBER_MEMBER] = {"apikey_member_member", APIKEY_REL_MEMBER, true},
	[APIKEY_REL_REVEAL] = {"apikey_reveal", APIKEY_REL_REVEAL},
	[APIKEY_REL_REVEAL_PKEY] = {"apikey_reveal_pkey", APIKEY_REL_REVEAL},
	[APIKEY_REL_IMPORT] = {"apikey_import", APIKEY_REL_IMPORT},
	[APIKEY_REL_IMPORT_PKEY] = {"apikey_import_pkey", APIKEY_REL_IMPORT},
	[APIKEY_REL_IMPORT_FOREIGN] = {"apikey_import_foreign", APIKEY_REL_IMPORT},
	[APIKEY_REL_IMPORT_DIGEST] = {"apikey_import_digest", APIKEY_REL_IMPORT},
	[APIKEY_REL_IMPORT_LOOKUP] = {"apikey_import_lookup", APIKEY_REL_IMPORT},
	[APIKEY_REL_USAGE] = {"apikey_usage", APIKEY_REL_USAGE},
	[APIKEY_REL_USAGE_PKEY] = {"apikey_usage_pkey", APIKEY_REL_USAGE},
	[APIKEY_REL_ADMINISTRATOR] = {"apikey_administrator", APIKEY_REL_ADMINISTRATOR},
	[APIKEY_REL_ADMINISTRATOR_PKEY] = {"apikey_administrator_pkey", APIKEY_REL_ADMINISTRATOR, true},
	[APIKEY_REL_NAME_HOLD] = {"apikey_name_hold", APIKEY_REL_NAME_HOLD, true},
	[APIKEY_REL_NAME_HOLD_PKEY] = {"apikey_name_hold_pkey", APIKEY_REL_NAME_HOLD, true},
	[APIKEY_REL_NAME_HOLD_NAME] = {"apikey_name_hold_name", APIKEY_REL_NAME_HOLD, true},
	[APIKEY_REL_REVOCATION] = {"apikey_revocation", APIKEY_REL_REVOCATION, true},
	[APIKEY_REL_REVOCATION_PKEY] = {"apikey_revocation_pkey", APIKEY_REL_REVOCATION, true},
	[APIKEY_REL_REVOCATION_KEY] = {"apikey_revocation_key", APIKEY_REL_REVOCATION, true},
	[APIKEY_REL_EVENT] = {"apikey_event", APIKEY_REL_EVENT},
	[APIKEY_REL_EVENT_PKEY] = {"apikey_event_pkey", APIKEY_REL_EVENT},
	[APIKEY_REL_EVENT_KEY] = {"apikey_event_key", APIKEY_REL_EVENT},
	[APIKEY_REL_EVENT_OWNER] = {"apikey_event_owner", APIKEY_REL_EVENT, true},
	[APIKEY_REL_EVENT_OWNER_SUBJECT] = {"apikey_event_owner_subject", APIKEY_REL_EVENT, true},
	[APIKEY_REL_EVENT_OWNER_PLACE] = {"apikey_event_owner_place", APIKEY_REL_EVENT, true},
	[APIKEY_REL_EVENT_ORGANIZATION] = {"apikey_event_organization", APIKEY_REL_EVENT, true},
	[APIKEY_REL_EVENT_ORGANIZATION_SUBJECT] = {"apikey_event_organization_subject", APIKEY_REL_EVENT, true},
	[APIKEY_REL_EVENT_PLACE] = {"apikey_event_place", APIKEY_REL_EVENT, true},
	[APIKEY_REL_EVENT_UNNAMED] = {"apikey_event_unnamed", APIKEY_REL_EVENT, true},
	[APIKEY_REL_EVENT_ID_SEQ] = {"apikey_event_id_seq", APIKEY_REL_EVENT_ID_SEQ},
	[APIKEY_REL_LIMIT] = {"apikey_limit", APIKEY_REL_LIMIT},
	[APIKEY_REL_LIMIT_PKEY] = {"apikey_limit_pkey", APIKEY_REL_LIMIT, true},
	[APIKEY_REL_LIMIT_HOLDER] = {"apikey_limit_holder", APIKEY_REL_LIMIT, true},
	[APIKEY_REL_DELETED] = {"apikey_deleted", APIKEY_REL_DELETED},
	[APIKEY_REL_DELETED_PKEY] = {"apikey_deleted_pkey", APIKEY_REL_DELETED, true},
	[APIKEY_REL_DELETED_AT] = {"apikey_deleted_at", APIKEY_REL_DELETED, true},
	[APIKEY_REL_HISTORY] = {"apikey_history", APIKEY_REL_HISTORY},
	[APIKEY_REL_HISTORY_PKEY] = {"apikey_history_pkey", APIKEY_REL_HISTORY, true},
	[APIKEY_REL_HISTORY_PLACE] = {"apikey_history_place", APIKEY_REL_HISTORY, true},
	[APIKEY_REL_HISTORY_OWNER] = {"apikey_history_owner", APIKEY_REL_HISTORY, true},
	[APIKEY_REL_HISTORY_STEP] = {"apikey_history_step", APIKEY_REL_HISTORY, true},
	[APIKEY_REL_SERVER] = {"apikey_server", APIKEY_REL_SERVER, true},
	[APIKEY_REL_SERVER_PKEY] = {"apikey_server_pkey", APIKEY_REL_SERVER, true},
	[APIKEY_REL_SERVER_NAME] = {"apikey_server_name", APIKEY_REL_SERVER, true},
	[APIKEY_REL_SERVER_LEASE] = {"apikey_server_lease", APIKEY_REL_SERVER_LEASE, true},
	[APIKEY_REL_SERVER_LEASE_PKEY] = {"apikey_server_lease_pkey", APIKEY_REL_SERVER_LEASE, true},
	[APIKEY_REL_SERVER_LEASE_SERVER] = {"apikey_server_lease_server", APIKEY_REL_SERVER_LEASE, true},
	[APIKEY_REL_SERVER_LEASE_GRANTED_AT] = {"apikey_server_lease_granted_at", APIKEY_REL_SERVER_LEASE, true},
	[APIKEY_REL_BEAT] = {"apikey_beat", APIKEY_REL_BEAT, true},
	[APIKEY_REL_BEAT_PKEY] = {"apikey_beat_pkey", APIKEY_REL_BEAT, true}
};

static const char *const role_names[APIKEY_ROLES] = {
	[APIKEY_ROLE_DEVELOPER] = "developer",
	[APIKEY_ROLE_ADMIN] = "admin",
	[APIKEY_ROLE_OWNER] = "owner"
};

/* Is a relation one of ours? */
bool
apikey_catalog_has(Oid relid)
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
	if (!OidIsValid(relid) || apikey_catalog_has(relid))
		catalog_valid = false;
}

/* A schema was renamed, or perhaps. */
static void
catalog_invalidate_schema(Datum arg, int cacheid pg_attribute_unused(),
						  uint32 hashvalue pg_attribute_unused())
{
	/* Which relations were found is forgotten, and so what was read of them. */
	apikey_changes_forget();
	catalog_invalidate(arg, InvalidOid);
}

/*
 * The OID of an extension, its schema and, unless that is NULL, its version, in
 * one look at a catalog of which nothing is cached; invalid for one that is not
 * there.
 */
Oid
apikey_extension_find(const char *name, Oid *schema, char **version)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	Oid			extension = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		isnull;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
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

/*
 * Refuses to work on a table that Citus has distributed: what is left of it
 * here is a shell, whose rows we would take for the table's.  Citus tells of
 * such a change by an invalidation of the table, so this is asked again.
 */
static void
catalog_require_local(Oid relid)
{
	Oid			partitions = get_relname_relid("pg_dist_partition",
											   PG_CATALOG_NAMESPACE);
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	AttrNumber	column;

	if (!OidIsValid(partitions) ||
		!OidIsValid(get_extension_oid("citus", true)))
		return;
	column = get_attnum(partitions, "logicalrelid");
	if (column == InvalidAttrNumber)
		return;
	rel = table_open(partitions, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		table = heap_getattr(tuple, column, RelationGetDescr(rel),
										 &isnull);

		if (!isnull && DatumGetObjectId(table) == relid)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table \"%s\" is distributed by Citus",
							get_rel_name(relid)),
					 errhint("Keep the tables of extension \"apikey\" local to the node that verifies.")));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

pg_noreturn static void
refuse_foreign(const char *name)
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

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Is a table the extension's own?  Who owns the extension can add one to it,
 * and its triggers would be run with the rights of the table of keys' owner: so
 * it must be that owner's, or a superuser's, who may have updated the
 * extension.
 */
static bool
catalog_is_ours(Oid relid, ApikeyRelation relation)
{
	Oid			owner = catalog_owner(relid);

	return getExtensionOfObject(RelationRelationId, relid) == extension_oid &&
		(relation == APIKEY_REL_KEY || owner == catalog.tables_owner ||
		 superuser_arg(owner));
}

/*
 * The OID of a relation of ours: a table must be the extension's own, and an
 * index one of that table.
 */
static Oid
catalog_find(ApikeyRelation relation)
{
	const char *name = relations[relation].name;
	ApikeyRelation table = relations[relation].table;
	Oid			relid = get_relname_relid(name, catalog.schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relation \"%s\" of extension \"apikey\" does not exist",
						name),
				 errhint(APIKEY_MISSING_HINT)));
	if (table != relation)
	{
		if (!catalog_is_index(relid, table))
			refuse_foreign(name);
		return relid;
	}
	if (!catalog_is_ours(relid, relation))
		refuse_foreign(name);
	catalog_require_local(relid);
	return relid;
}

/* What a relation of ours is called. */
const char *
apikey_catalog_name(ApikeyRelation relation)
{
	return relations[relation].name;
}

/* The table of an index of ours; a table's own is itself. */
ApikeyRelation
apikey_catalog_table(ApikeyRelation relation)
{
	return relations[relation].table;
}

/* What a look at the system catalogs fills in. */
typedef void (*CatalogLook) (void *result, int which);

/*
 * Looks until no message came in between that may make old what was seen
 * first.  Messages are asked for, not our callbacks: those are also called
 * without any, at each look where the server is told to debug its caches.
 */
static void
catalog_look(CatalogLook look, void *result, int which)
{
	uint64		messages;

	do
	{
		messages = SharedInvalidMessageCounter;
		look(result, which);
	} while (messages != SharedInvalidMessageCounter);
}

static void
look_for_roles(void *result, int which pg_attribute_unused())
{
	Oid		   *roles = result;

	for (int i = APIKEY_ROLE_DEVELOPER; i < APIKEY_ROLES; i++)
	{
		roles[i] = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
								   ObjectIdGetDatum(catalog.role_type),
								   CStringGetDatum(role_names[i]));
		if (!OidIsValid(roles[i]))
			elog(ERROR, "type apikey_role has no value \"%s\"", role_names[i]);
	}
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

	extension_oid = apikey_extension_find("apikey", &found->schema, &version);
	if (!OidIsValid(extension_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"apikey\" does not exist")));
	require_known_version(version);
	found->first_script = strcmp(version, FIRST_VERSION) == 0;
	pfree(version);
	catalog.schema = found->schema;
	found->relations[APIKEY_REL_KEY] = catalog_find(APIKEY_REL_KEY);
	found->tables_owner = catalog_owner(found->relations[APIKEY_REL_KEY]);
	found->role_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   CStringGetDatum("apikey_role"),
									   ObjectIdGetDatum(found->schema));
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
	catalog_look(look_for_extension, &found, 0);
	catalog = found;
	catalog_valid = true;
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
	(void) apikey_catalog();
	if (apikey_catalog_has(RelationGetRelid(rel)) ||
		getExtensionOfObject(RelationRelationId, RelationGetRelid(rel)) ==
		get_extension_oid("apikey", false))
		return;
	refuse_foreign(RelationGetRelationName(rel));
}

/* The OID of one of our relations. */
Oid
apikey_catalog_relation(ApikeyRelation relation)
{
	uint64		generation = apikey_catalog()->generation;
	Oid			relid = catalog.relations[relation];

	if (OidIsValid(relid))
		return relid;
	catalog_look(look_for_relation, &relid, relation);
	/* Finding it may be what invalidates the catalog. */
	if (catalog_valid && generation == catalog.generation)
		catalog.relations[relation] = relid;
	return relid;
}

/* The first index that a table lacks; APIKEY_RELATIONS for none. */
ApikeyRelation
apikey_catalog_missing(ApikeyRelation table)
{
	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		Oid			relid;

		if (relations[i].table != table || i == (int) table ||
			OidIsValid(apikey_catalog()->relations[i]) ||
			(relations[i].later && catalog.first_script))
			continue;
		relid = get_relname_relid(relations[i].name, catalog.schema);
		if (!OidIsValid(relid) || !catalog_is_index(relid, table))
			return (ApikeyRelation) i;
	}
	return APIKEY_RELATIONS;
}

/* Is it a table, with columns and triggers? */
bool
apikey_catalog_is_table(ApikeyRelation relation)
{
	return relations[relation].table == relation &&
		relation != APIKEY_REL_EVENT_ID_SEQ;
}

/* Does a relation not exist yet, as the script has not been updated? */
bool
apikey_catalog_lacks(ApikeyRelation relation)
{
	return apikey_catalog()->first_script && relations[relation].later;
}

/* The OIDs of the enum's values. */
static void
catalog_roles(Oid *roles)
{
	uint64		generation = apikey_catalog()->generation;

	if (!OidIsValid(catalog.roles[APIKEY_ROLE_OWNER]))
	{
		catalog_look(look_for_roles, roles, 0);
		if (!catalog_valid || generation != catalog.generation)
			return;
		memcpy(catalog.roles, roles, sizeof(catalog.roles));
	}
	memcpy(roles, catalog.roles, sizeof(catalog.roles));
}

ApikeyRole
apikey_role_from_datum(Datum value)
{
	Oid			roles[APIKEY_ROLES] = {0};
	int			role;

	catalog_roles(roles);
	for (role = APIKEY_ROLE_DEVELOPER; role < APIKEY_ROLES; role++)
	{
		if (roles[role] == DatumGetObjectId(value))
			return (ApikeyRole) role;
	}
	elog(ERROR, "value of type apikey_role expected");
}

Datum
apikey_role_datum(ApikeyRole role)
{
	Oid			roles[APIKEY_ROLES] = {0};

	catalog_roles(roles);
	return ObjectIdGetDatum(roles[role]);
}

const char *
apikey_role_label(ApikeyRole role)
{
	return role_names[role];
}
