/*
 * health_subjects.c
 *		Whether keys that carry subjects are told apart by them.
 *
 * Subjects may as well be labels, which an application's own code looks at.  So
 * that nothing tells them apart is no fault, but something to know for who meant
 * them to: as where the settings of a database have not been restored.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_db_role_setting.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "store/store.h"
#include "rows/rows.h"
#include "sql/health.h"

#define ENTRIES_MAX		1000	/* of keys are looked at, also of those that are gone */

/* Do settings that are kept for a database or role name where subjects are? */
static bool
name_subjects(ArrayType *settings)
{
	ArrayIterator iterator = array_create_iterator(settings, 0, NULL);
	bool		found = false;
	bool		isnull;
	Datum		setting;

	while (!found && array_iterate(iterator, &setting, &isnull))
	{
		char	   *name;
		char	   *value;

		if (isnull)
			continue;
		ParseLongOption(TextDatumGetCString(setting), &name, &value);
		found = pg_strcasecmp(name, "apikey.subject_setting") == 0 &&
			value != NULL && value[0] != '\0';
	}
	array_free_iterator(iterator);
	return found;
}

/* Is there a session in which they do, of those that a database's settings are for? */
static bool
set_for_some(Oid database)
{
	Relation	rel = table_open(DbRoleSettingRelationId, AccessShareLock);
	bool		found = false;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_db_role_setting_setdatabase,
				BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(database));
	scan = systable_beginscan(rel, DbRoleSettingDatidRolidIndexId, true, NULL,
							  1, &key);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		settings = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig,
											RelationGetDescr(rel), &isnull);

		found = !isnull && name_subjects(DatumGetArrayTypeP(settings));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

/* An owner, and whether keys of it have subjects. */
typedef struct Owned
{
	Oid			owner;
	bool		found;
	bool		subject;
} Owned;

/* The first of an owner in the index: keys without a subject are behind the others. */
static bool
see_first(const ApikeyRow *key, void *state)
{
	Owned	   *owned = state;

	owned->owner = DatumGetObjectId(key->values[APIKEY_KEY_OWNER]);
	owned->found = true;
	owned->subject = !key->nulls[APIKEY_KEY_SUBJECT];
	return false;
}

/* Steps from owner to owner.  *all: so many of them that there is no other one. */
static bool
keys_have_subjects(bool *all)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	Owned		owned = {.found = true};
	int			left = ENTRIES_MAX;

	while (owned.found && !owned.subject)
	{
		ScanKeyData key;

		ScanKeyInit(&key, APIKEY_KEY_OWNER + 1, BTGreaterStrategyNumber,
					F_OIDGT, ObjectIdGetDatum(owned.owner));
		owned.found = false;
		apikey_table_visit_first(&apikey_key_table,
								 APIKEY_REL_KEY_OWNER_SUBJECT, &key, 1,
								 snapshot, &left, see_first, &owned);
	}
	UnregisterSnapshot(snapshot);
	*all = left > 0;
	return owned.subject;
}

void
apikey_check_subjects(ApikeyFinding *finding)
{
	bool		all;

	if (apikey_principal_subjects_in_use())
		apikey_health_find(finding, APIKEY_HEALTH_OK, "kept apart", NULL);
	else if (!keys_have_subjects(&all))
		apikey_health_find(finding, APIKEY_HEALTH_OK,
						   all ? "none" : "not looked at", NULL);
	else if (set_for_some(MyDatabaseId) || set_for_some(InvalidOid))
		apikey_health_find(finding, APIKEY_HEALTH_OK, "kept apart in other sessions", NULL);
	else
		apikey_health_find(finding, APIKEY_HEALTH_OK, "labels",
						   "If the users whom subjects name reach SQL themselves, set \"apikey.subject_setting\" for the database, as a superuser: without it whoever has the role of a key sees and changes the keys of all subjects of that role.");
}
