/*
 * intact.c
 *		Whether our tables are as the extension's script makes them.
 *
 * Who owns the schema can drop an index of ours, a superuser a trigger or what
 * keeps a column from being null, and
 * pg_restore with --disable-triggers leaves triggers on that fire for this
 * session's changes, but not for those which an apply worker makes.  So:
 *
 * - Nothing is written to a table that lacks an index or a trigger, or whose
 *   triggers would not fire for everybody: 55000, which says what to do.
 * - Nothing is verified while an index is missing: what could not be revoked
 *   is "unavailable".
 * - No row is read of a table whose columns are others than this library takes
 *   it to have: what is verified is "unavailable", all else 55000.
 * - What is read of a table whose triggers are so is not remembered, since nobody would tell of its change.
 *
 * What was looked at is known until an invalidation names one of the tables;
 * a change of its indexes and triggers sends one.  An open table's list of
 * triggers lasts only until the catalogs are looked at next.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "store/store_internal.h"

/* The names of triggers on what arrives end so. */
#define ARRIVED		"_arrived"

typedef enum Known
{
	UNKNOWN,
	INTACT,
	ALTERED
} Known;

/* Of each table; of what is no table, nothing. */
static Known known_indexes[APIKEY_RELATIONS];
static Known known_triggers[APIKEY_RELATIONS];
static Known known_columns[APIKEY_RELATIONS];
static Known known_verifying;

/* Forgets what an invalidation has made old. */
static void
begin(void)
{
	static uint64 generation;
	uint64		current = apikey_catalog()->generation;

	if (generation == current)
		return;
	memset(known_indexes, 0, sizeof(known_indexes));
	memset(known_triggers, 0, sizeof(known_triggers));
	memset(known_columns, 0, sizeof(known_columns));
	known_verifying = UNKNOWN;
	generation = current;
}

/* Is a trigger one of those that a replica needs as well? */
static bool
on_arrival(const Trigger *trigger)
{
	size_t		len = strlen(trigger->tgname);

	return len > strlen(ARRIVED) &&
		strcmp(trigger->tgname + len - strlen(ARRIVED), ARRIVED) == 0;
}

/* Does a trigger of ours not fire where it has to? */
static bool
fires_too_seldom(const Trigger *trigger)
{
	if (trigger->tgisinternal ||
		strncmp(trigger->tgname, APIKEY_TRIGGER_PREFIX,
				strlen(APIKEY_TRIGGER_PREFIX)) != 0 ||
		trigger->tgenabled == TRIGGER_FIRES_ALWAYS)
		return false;
	return !on_arrival(trigger) ||
		trigger->tgenabled != TRIGGER_FIRES_ON_REPLICA;
}

/* What repairs the triggers of a table; empty where they are intact. */
static char *
trigger_repairs(Relation rel, ApikeyRelation table)
{
	const char *schema = apikey_catalog_schema();
	const TriggerDesc *triggers = rel->trigdesc;
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (fires_too_seldom(trigger))
			appendStringInfo(&sql, " ALTER TABLE %s.%s ENABLE %s TRIGGER %s;",
							 schema,
							 RelationGetRelationName(rel),
							 on_arrival(trigger) ? "REPLICA" : "ALWAYS",
							 trigger->tgname);
	}
	apikey_triggers_repair(rel, table, &sql);
	return sql.data;
}

/* Has a table all triggers, and do all fire that have to? */
static bool
all_fire(const TriggerDesc *triggers, ApikeyRelation table)
{
	bool		all = !apikey_triggers_missing(triggers, table);

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		all = all && !fires_too_seldom(&triggers->triggers[i]);
	return all;
}

/*
 * Do changes of a table fire all triggers that they have to, whoever makes them?
 * rel is NULL where the table is not open: whoever reads leniently, and is kept
 * from what tells of it, takes it that they do not.
 */
static bool
triggers_intact(Relation rel, ApikeyRelation table)
{
	const TriggerDesc *there = NULL;

	begin();
	if (known_triggers[table] == UNKNOWN)
	{
		if (rel != NULL)
			there = rel->trigdesc;
		else if ((there = apikey_triggers_read(apikey_catalog_relation(table))) == NULL)
			return false;
		known_triggers[table] = all_fire(there, table) ? INTACT : ALTERED;
	}
	return known_triggers[table] == INTACT;
}

/* May what is read of a table, which is open, or NULL, be remembered? */
bool
apikey_intact_to_remember(Relation rel, ApikeyRelation table)
{
	return triggers_intact(rel, table);
}

/* Can the rows of an open table be read? */
bool
apikey_intact_columns(Relation rel, const ApikeyTable *table)
{
	Known	   *known = &known_columns[table->relation];

	begin();
	if (*known == UNKNOWN)
		*known = apikey_columns_problem(rel, table) == NULL ? INTACT : ALTERED;
	return *known == INTACT;
}

/* Raises where an open table has not the columns that it is read by. */
void
apikey_intact_require_columns(Relation rel, const ApikeyTable *table)
{
	if (apikey_intact_columns(rel, table))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("column \"%s\" of table \"%s\" is not as extension \"apikey\" makes it",
					apikey_columns_problem(rel, table), table->name),
			 errhint("A superuser can give it the name, the type and the NOT NULL again that it has in the extension's script.")));
}

static void
require_triggers(Relation rel, ApikeyRelation table)
{
	if (!triggers_intact(rel, table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("triggers of table \"%s\" do not fire for all changes",
						RelationGetRelationName(rel)),
				 errdetail("A trigger is missing, or sessions would not hear of changes that arrive by replication, as after a restore with --disable-triggers."),
				 errhint("Run, as a superuser:%s", trigger_repairs(rel, table))));
}

static void
require_indexes(Relation rel, ApikeyRelation table)
{
	ApikeyRelation missing;

	begin();
	if (known_indexes[table] == INTACT)
		return;
	missing = apikey_catalog_missing(table);
	if (missing != APIKEY_RELATIONS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" of table \"%s\" does not exist",
						apikey_catalog_name(missing),
						RelationGetRelationName(rel)),
				 errhint(APIKEY_MISSING_HINT)));
	known_indexes[table] = INTACT;
}

/* Raises where nothing may be written to an open table. */
void
apikey_intact_require(Relation rel, ApikeyRelation table)
{
	require_indexes(rel, table);
	require_triggers(rel, table);
}

/* What repairs the triggers of a table; empty where they are intact. */
char *
apikey_intact_repairs(ApikeyRelation table)
{
	Relation	rel = table_open(apikey_catalog_relation(table),
								 AccessShareLock);
	char	   *repairs = trigger_repairs(rel, table);

	table_close(rel, AccessShareLock);
	return repairs;
}

/* The name of an index that is missing; NULL for none. */
const char *
apikey_intact_problem(void)
{
	ApikeyRelation missing;

	begin();
	if (known_verifying == INTACT)
		return NULL;
	missing = apikey_survey_missing();
	if (missing != APIKEY_RELATIONS)
		return apikey_catalog_name(missing);
	known_verifying = INTACT;
	return NULL;
}
