/*
 * triggers.c
 *		The triggers that our tables have to have, as the script makes them.
 *
 * A superuser may drop one by mistake: then sessions would not hear of
 * changes, roles of a dump would not be resolved anew, or the audit log could
 * be written to.  What is missing is found by the lack of it.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "store/store_internal.h"

#define CHANGED	"AFTER INSERT OR UPDATE OR DELETE", "ROW", "_apikey_changed()"
#define CHANGED_LATER	"AFTER UPDATE OR DELETE", "ROW", "_apikey_changed()"
#define ARRIVED	"BEFORE INSERT", "ROW", "_apikey_arrived()"
#define ARRIVED_TOO	"BEFORE INSERT OR UPDATE", "ROW", "_apikey_arrived()"
#define OWNER_ARRIVED	"BEFORE INSERT OR UPDATE", "ROW", "_apikey_arrived('owner', 'owner_name')"
#define OWNER_NAMED	"BEFORE INSERT", "ROW", "_apikey_named('owner', 'owner_name')"
#define KEY_OWNER_NAMED	"BEFORE INSERT", "ROW", "_apikey_event_named('key_owner', 'key_owner_name')"

/* Names are without the prefix that all have. */
static const struct
{
	ApikeyRelation table;
	const char *name;
	const char *when;
	const char *each;
	const char *function;
}			triggers[] = {
	{APIKEY_REL_ORGANIZATION, "organization_arrived", ARRIVED_TOO},
	{APIKEY_REL_PROJECT, "project_arrived", ARRIVED_TOO},
	{APIKEY_REL_PROJECT, "project_restored", "BEFORE INSERT", "ROW", "_apikey_project_restored()"},
	{APIKEY_REL_PROJECT, "project_changed", CHANGED},
	{APIKEY_REL_MEMBER, "member_arrived", "BEFORE INSERT OR UPDATE", "ROW", "_apikey_arrived('member', 'member_name')"},
	{APIKEY_REL_MEMBER, "member_named", "BEFORE INSERT", "ROW", "_apikey_named('member', 'member_name')"},
	{APIKEY_REL_MEMBER, "member_changed", CHANGED},
	{APIKEY_REL_KEY, "key_arrived", "BEFORE INSERT OR UPDATE", "ROW", "_apikey_arrived('owner', 'owner_name', 'vouched_by', 'vouched_by_name')"},
	{APIKEY_REL_KEY, "key_named", "BEFORE INSERT", "ROW", "_apikey_named('owner', 'owner_name', 'vouched_by', 'vouched_by_name')"},
	{APIKEY_REL_KEY, "key_changed", CHANGED_LATER},
	{APIKEY_REL_DIGEST, "digest_arrived", ARRIVED},
	{APIKEY_REL_DIGEST, "digest_changed", CHANGED_LATER},
	{APIKEY_REL_IMPORT, "import_arrived", ARRIVED},
	{APIKEY_REL_IMPORT, "import_changed", CHANGED},
	{APIKEY_REL_REVEAL, "reveal_arrived", ARRIVED},
	{APIKEY_REL_REVOCATION, "revocation_arrived", ARRIVED},
	{APIKEY_REL_REVOCATION, "revocation_restored", "BEFORE INSERT", "ROW", "_apikey_beside_restored()"},
	{APIKEY_REL_REVOCATION, "revocation_changed", CHANGED},
	{APIKEY_REL_USAGE, "usage_arrived", ARRIVED},
	{APIKEY_REL_CREDIT, "credit_arrived", ARRIVED},
	{APIKEY_REL_ADMINISTRATOR, "administrator_arrived", "BEFORE INSERT OR UPDATE", "ROW", "_apikey_arrived('role', 'role_name')"},
	{APIKEY_REL_NAME_HOLD, "name_hold_arrived", "BEFORE INSERT OR UPDATE", "ROW", "_apikey_arrived('role', 'role_name')"},
	{APIKEY_REL_NAME_HOLD, "name_hold_named", "BEFORE INSERT", "ROW", "_apikey_named('role', 'role_name')"},
	{APIKEY_REL_EVENT, "event_arrived", "BEFORE INSERT", "ROW", "_apikey_arrived('key_owner', 'key_owner_name')"},
	{APIKEY_REL_EVENT, "event_named", KEY_OWNER_NAMED},
	{APIKEY_REL_EVENT, "event_kept", "BEFORE UPDATE OR DELETE", "ROW", "_apikey_event_kept()"},
	{APIKEY_REL_EVENT, "event_kept_whole", "BEFORE TRUNCATE", "STATEMENT", "_apikey_event_kept()"},
	{APIKEY_REL_LIMIT, "limit_arrived", OWNER_ARRIVED},
	{APIKEY_REL_LIMIT, "limit_named", OWNER_NAMED},
	{APIKEY_REL_LIMIT, "limit_changed", CHANGED},
	{APIKEY_REL_DELETED, "deleted_arrived", OWNER_ARRIVED},
	{APIKEY_REL_DELETED, "deleted_named", OWNER_NAMED},
	{APIKEY_REL_HISTORY, "history_arrived", "BEFORE INSERT OR UPDATE", "ROW", "_apikey_arrived('key_owner', 'key_owner_name')"},
	{APIKEY_REL_HISTORY, "history_named", KEY_OWNER_NAMED},
	{APIKEY_REL_SERVER, "server_arrived", ARRIVED_TOO},
	{APIKEY_REL_SERVER_LEASE, "server_lease_arrived", ARRIVED},
	{APIKEY_REL_BEAT, "beat_arrived", ARRIVED_TOO}
};

/* Does a trigger fire in this session? */
bool
apikey_trigger_fires(const Trigger *trigger)
{
	char		off = SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA ?
		TRIGGER_FIRES_ON_ORIGIN : TRIGGER_FIRES_ON_REPLICA;

	return trigger->tgenabled != TRIGGER_DISABLED && trigger->tgenabled != off;
}

/* Does one of a table's, or NULL, fire where a row is updated? */
bool
apikey_triggers_on_update(const TriggerDesc *there)
{
	for (int i = 0; there != NULL && i < there->numtriggers; i++)
	{
		if (TRIGGER_FOR_UPDATE(there->triggers[i].tgtype) &&
			apikey_trigger_fires(&there->triggers[i]))
			return true;
	}
	return false;
}

/*
 * Looks up the functions of a table's triggers, for as long as rows are written:
 * the first call would do so in memory that is given back with its row, and a
 * function that sets something, or is its definer's, keeps there what it needs.
 */
void
apikey_triggers_prepare(ResultRelInfo *target)
{
	const TriggerDesc *there = target->ri_TrigDesc;

	for (int i = 0; there != NULL && i < there->numtriggers; i++)
	{
		if (apikey_trigger_fires(&there->triggers[i]))
			fmgr_info(there->triggers[i].tgfoid, &target->ri_TrigFunctions[i]);
	}
}

/*
 * The triggers of a table that is not open, as far as they are looked at here,
 * in the current memory context; NULL, for whoever reads leniently, where somebody
 * keeps us from that.
 */
TriggerDesc *
apikey_triggers_read(Oid relid)
{
	TriggerDesc *there;
	Relation	rel;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!apikey_lookup_begin(APIKEY_LOOKUP_TRIGGER))
		return NULL;
	there = palloc0(sizeof(TriggerDesc));
	there->triggers = palloc(0);
	rel = table_open(TriggerRelationId, NoLock);
	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger row = (Form_pg_trigger) GETSTRUCT(tuple);
		Trigger    *trigger;

		there->triggers = repalloc(there->triggers,
								   (there->numtriggers + 1) * sizeof(Trigger));
		trigger = &there->triggers[there->numtriggers++];
		memset(trigger, 0, sizeof(Trigger));
		trigger->tgname = pstrdup(NameStr(row->tgname));
		trigger->tgenabled = row->tgenabled;
		trigger->tgisinternal = row->tgisinternal;
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	apikey_lookup_end(APIKEY_LOOKUP_TRIGGER);
	return there;
}

/* Is one of them among those that a table has? */
static bool
has_trigger(const TriggerDesc *there, const char *name)
{
	for (int i = 0; there != NULL && i < there->numtriggers; i++)
	{
		if (strncmp(there->triggers[i].tgname, APIKEY_TRIGGER_PREFIX,
					strlen(APIKEY_TRIGGER_PREFIX)) == 0 &&
			strcmp(there->triggers[i].tgname + strlen(APIKEY_TRIGGER_PREFIX),
				   name) == 0)
			return true;
	}
	return false;
}

/* The next one, from a number on, that a table lacks; -1 for none. */
static int
next_missing(const TriggerDesc *there, ApikeyRelation table, int from)
{
	/* A script that has not been updated has made others. */
	if (apikey_catalog()->first_script)
		return -1;
	for (int i = from; i < (int) lengthof(triggers); i++)
	{
		if (triggers[i].table == table && !has_trigger(there, triggers[i].name))
			return i;
	}
	return -1;
}

/* Does a table that has some triggers, or NULL, lack one? */
bool
apikey_triggers_missing(const TriggerDesc *there, ApikeyRelation table)
{
	return next_missing(there, table, 0) >= 0;
}

/* Adds to a text of SQL what makes the triggers that an open table lacks. */
void
apikey_triggers_repair(Relation rel, ApikeyRelation table, StringInfo sql)
{
	const char *schema = apikey_catalog_schema();
	const char *name = RelationGetRelationName(rel);

	for (int i = next_missing(rel->trigdesc, table, 0); i >= 0;
		 i = next_missing(rel->trigdesc, table, i + 1))
		appendStringInfo(sql, " CREATE TRIGGER " APIKEY_TRIGGER_PREFIX "%s %s ON %s.%s FOR EACH %s EXECUTE FUNCTION %s.%s; ALTER TABLE %s.%s ENABLE %s TRIGGER " APIKEY_TRIGGER_PREFIX "%s;",
						 triggers[i].name, triggers[i].when, schema, name,
						 triggers[i].each, schema, triggers[i].function,
						 schema, name,
						 strstr(triggers[i].name, "_arrived") != NULL ?
						 "REPLICA" : "ALWAYS",
						 triggers[i].name);
}
