/*
 * lookup.c
 *		Locking the server's catalogs in which something is looked up that no
 *		statement has looked up for itself.
 *
 * What a process has not in its caches is read in a catalog, by an index, and the
 * server waits for both as long as anybody keeps us from them, as anybody can
 * (see lock.c).  So they are locked before, and waited for as tables of ours are;
 * the server then finds that they are locked already.  They are given back at
 * once: what is looked up is nobody's to see.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_trigger.h"
#include "storage/lmgr.h"

#include "store/store_internal.h"

#define CATALOGS_MOST	3

/* A catalog, and the index by which it is read. */
typedef struct Catalog
{
	const char *name;
	Oid			relid;
	Oid			index;
} Catalog;

/* What is read where something is looked up; no more than is named. */
static const Catalog catalogs[][CATALOGS_MOST] = {
	[APIKEY_LOOKUP_ROLE] = {
		{"pg_authid", AuthIdRelationId, AuthIdOidIndexId}
	},
	[APIKEY_LOOKUP_ROLE_NAME] = {
		{"pg_authid", AuthIdRelationId, AuthIdRolnameIndexId}
	},
	/* Of pg_database_owner the database's owner is a member. */
	[APIKEY_LOOKUP_MEMBERSHIP] = {
		{"pg_authid", AuthIdRelationId, AuthIdOidIndexId},
		{"pg_auth_members", AuthMemRelationId, AuthMemMemRoleIndexId},
		{"pg_database", DatabaseRelationId, DatabaseOidIndexId}
	},
	[APIKEY_LOOKUP_ENUM] = {
		{"pg_enum", EnumRelationId, EnumTypIdLabelIndexId}
	},
	[APIKEY_LOOKUP_EXTENSION] = {
		{"pg_extension", ExtensionRelationId, ExtensionNameIndexId}
	},
	[APIKEY_LOOKUP_SEQUENCE] = {
		{"pg_authid", AuthIdRelationId, AuthIdOidIndexId},
		{"pg_sequence", SequenceRelationId, SequenceRelidIndexId}
	},
	[APIKEY_LOOKUP_DEPENDENCY] = {
		{"pg_depend", DependRelationId, DependDependerIndexId}
	},
	[APIKEY_LOOKUP_DEPENDENTS] = {
		{"pg_depend", DependRelationId, DependReferenceIndexId}
	},
	[APIKEY_LOOKUP_TRIGGER] = {
		{"pg_trigger", TriggerRelationId, TriggerRelidNameIndexId}
	}
};

/* Locks a catalog and its index, or neither. */
static bool
lock(const Catalog *catalog, bool wait)
{
	if (!(wait ? apikey_relation_lock(catalog->name, catalog->relid,
									  AccessShareLock) :
		  ConditionalLockRelationOid(catalog->relid, AccessShareLock)))
		return false;
	if (wait ? apikey_relation_lock(catalog->name, catalog->index,
									AccessShareLock) :
		ConditionalLockRelationOid(catalog->index, AccessShareLock))
		return true;
	UnlockRelationOid(catalog->relid, AccessShareLock);
	return false;
}

/* Unlocks the first ones of what a lookup reads. */
static void
unlock(ApikeyLookup what, int count)
{
	while (--count >= 0)
	{
		UnlockRelationOid(catalogs[what][count].index, AccessShareLock);
		UnlockRelationOid(catalogs[what][count].relid, AccessShareLock);
	}
}

static int
count_of(ApikeyLookup what)
{
	int			count = 0;

	while (count < CATALOGS_MOST && catalogs[what][count].name != NULL)
		count++;
	return count;
}

static bool
begin(ApikeyLookup what, bool wait)
{
	int			count = count_of(what);

	for (int i = 0; i < count; i++)
	{
		if (lock(&catalogs[what][i], wait))
			continue;
		unlock(what, i);
		return false;
	}
	return true;
}

/*
 * Locks what is read where something is looked up; false, for whoever reads
 * leniently, where somebody keeps us from it.
 */
bool
apikey_lookup_begin(ApikeyLookup what)
{
	return begin(what, true);
}

/* The same for who does without it where it is not to be had now. */
bool
apikey_lookup_try(ApikeyLookup what)
{
	return begin(what, false);
}

void
apikey_lookup_end(ApikeyLookup what)
{
	unlock(what, count_of(what));
}

/*
 * Which extension does an object of a catalog belong to?  False for whoever reads
 * leniently where somebody keeps us from telling.
 */
bool
apikey_extension_of(Oid catalog, Oid object, Oid *extension)
{
	if (!apikey_lookup_begin(APIKEY_LOOKUP_DEPENDENCY))
		return false;
	*extension = getExtensionOfObject(catalog, object);
	apikey_lookup_end(APIKEY_LOOKUP_DEPENDENCY);
	return true;
}
