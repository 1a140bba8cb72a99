/*
 * health_tables.c
 *		Whether the extension's tables are as they should be.
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/executor.h"
#include "lib/stringinfo.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "sql/health.h"

#define OWNERS_MAX		500		/* are looked at, */
#define OWNED_MAX		100		/* so many keys of one that is missing, */
#define ENTRIES_MAX		2000	/* and so many of all, also of those that are gone */

void
apikey_check_indexes(ApikeyFinding *finding)
{
	const char *missing = apikey_intact_problem();

	if (missing == NULL)
		apikey_health_find(finding, APIKEY_HEALTH_OK, "intact", NULL);
	else
		apikey_health_find(finding, APIKEY_HEALTH_CRITICAL, psprintf("%s is missing", missing),
						   APIKEY_MISSING_HINT);
}

void
apikey_check_triggers(ApikeyFinding *finding)
{
	StringInfoData repairs;

	initStringInfo(&repairs);
	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		if (apikey_catalog_is_table(i) && !apikey_catalog_lacks(i))
			appendStringInfoString(&repairs, apikey_intact_repairs(i));
	}
	if (repairs.len == 0)
		apikey_health_find(finding, APIKEY_HEALTH_OK, "intact", NULL);
	else
		apikey_health_find(finding, APIKEY_HEALTH_CRITICAL, "some are missing, or do not fire for all changes",
						   psprintf("Run, as a superuser:%s", repairs.data));
}

/* The keys of one owner, as far as they are looked at. */
typedef struct Owned
{
	Oid			owner;
	int			seen;
	bool		live;
} Owned;

static bool
see_owned(const ApikeyRow *key, void *state)
{
	Owned	   *owned = state;
	Oid			owner = DatumGetObjectId(key->values[APIKEY_KEY_OWNER]);

	if (owner != owned->owner && owned->seen > 0)
		return false;
	owned->owner = owner;
	owned->live = key->nulls[APIKEY_KEY_REVOKED_AT];
	/* One is enough of a role that there is, and one that is live. */
	return ++owned->seen < OWNED_MAX && !owned->live &&
		!apikey_role_exists(owner);
}

/*
 * Steps from owner to owner in the index of owners, not through any number of keys
 * that somebody has made and not committed, or removed.
 */
void
apikey_check_roles(ApikeyFinding *finding)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	Owned		owned = {0};
	int			missing = 0;
	int			left = ENTRIES_MAX;

	for (int i = 0; i < OWNERS_MAX && left > 0; i++)
	{
		ScanKeyData key;

		ScanKeyInit(&key, APIKEY_KEY_OWNER + 1, BTGreaterStrategyNumber,
					F_OIDGT, ObjectIdGetDatum(owned.owner));
		owned.seen = 0;
		owned.live = false;
		apikey_table_walk_among(&apikey_key_table, APIKEY_REL_KEY_OWNER, &key,
								1, snapshot, &left, see_owned, &owned);
		if (owned.seen == 0)
			break;
		if (owned.live && !apikey_role_exists(owned.owner))
			missing++;
	}
	UnregisterSnapshot(snapshot);
	apikey_health_find(finding, missing > 0 ? APIKEY_HEALTH_WARN : APIKEY_HEALTH_OK,
					   missing == 0 && left == 0 ? "not looked at" :
					   psprintf("%d owners of live rows are missing", missing),
					   missing > 0 ? "The worker revokes the keys of dropped roles in their rows; where they stay, see \"flush\". No such key is accepted." : NULL);
}

/* Raises where one is not our own any more, or distributed. */
void
apikey_check_citus(ApikeyFinding *finding)
{
	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		if (apikey_catalog_is_table(i) && !apikey_catalog_lacks(i))
			(void) apikey_catalog_relation(i);
	}
	apikey_health_find(finding, APIKEY_HEALTH_OK, "local", NULL);
}

/* Raises where a publication would forbid a change. */
void
apikey_check_publications(ApikeyFinding *finding)
{
	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		Relation	rel;

		if (!apikey_catalog_is_table(i) || apikey_catalog_lacks(i))
			continue;
		rel = table_open(apikey_catalog_relation(i), AccessShareLock);
		CheckCmdReplicaIdentity(rel, CMD_UPDATE);
		CheckCmdReplicaIdentity(rel, CMD_DELETE);
		table_close(rel, AccessShareLock);
	}
	apikey_health_find(finding, APIKEY_HEALTH_OK, "none forbids a change", NULL);
}
