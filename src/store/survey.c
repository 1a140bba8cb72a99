/*
 * survey.c
 *		Whether all indexes of all our tables are there, in a few scans.
 *
 * A process asks this before its first verification.  To look up each index by
 * its name, and then its table, reads the catalogs more than a hundred times;
 * here they are read in the order of their own indexes: once all relations that
 * are called as ours are, and once for each table its indexes.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "store/store_internal.h"

/* All names of ours are at least the first, and less than the second. */
#define NAMES_FROM	"apikey_"
#define NAMES_TO	"apikey`"

/* What is called as a relation of ours; none for what is not there. */
typedef struct Survey
{
	Oid			named[APIKEY_RELATIONS];
	bool		indexes[APIKEY_RELATIONS];	/* those of the right table */
} Survey;

static void
take_name(Survey *survey, const FormData_pg_class *row)
{
	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		if (strcmp(apikey_catalog_name((ApikeyRelation) i),
				   NameStr(row->relname)) == 0)
			survey->named[i] = row->oid;
	}
}

static void
read_names(Survey *survey)
{
	Relation	rel = table_open(RelationRelationId, AccessShareLock);
	Oid			schema = apikey_catalog()->schema;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_class_relname, BTGreaterEqualStrategyNumber,
				F_NAMEGE, CStringGetDatum(NAMES_FROM));
	ScanKeyInit(&keys[1], Anum_pg_class_relname, BTLessStrategyNumber,
				F_NAMELT, CStringGetDatum(NAMES_TO));
	scan = systable_beginscan(rel, ClassNameNspIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class row = (Form_pg_class) GETSTRUCT(tuple);

		if (row->relnamespace == schema)
			take_name(survey, row);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* Marks the indexes that a table has. */
static void
read_indexes(Survey *survey, Relation rel, ApikeyRelation table)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_index_indrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(apikey_catalog_relation(table)));
	scan = systable_beginscan(rel, IndexIndrelidIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Oid			index = ((Form_pg_index) GETSTRUCT(tuple))->indexrelid;

		for (int i = 0; i < APIKEY_RELATIONS; i++)
			survey->indexes[i] |= survey->named[i] == index &&
				apikey_catalog_table((ApikeyRelation) i) == table;
	}
	systable_endscan(scan);
}

/* Is it an index that has to be there? */
static bool
required(ApikeyRelation relation)
{
	return apikey_catalog_table(relation) != relation &&
		!apikey_catalog_lacks(relation);
}

/* An index that a table of ours lacks; APIKEY_RELATIONS for none. */
ApikeyRelation
apikey_survey_missing(void)
{
	bool		read[APIKEY_RELATIONS] = {false};
	Survey		survey = {0};
	Relation	rel;
	int			missing = APIKEY_RELATIONS;

	read_names(&survey);
	rel = table_open(IndexRelationId, AccessShareLock);
	for (int i = 0; i < APIKEY_RELATIONS && missing == APIKEY_RELATIONS; i++)
	{
		ApikeyRelation table = apikey_catalog_table((ApikeyRelation) i);

		if (!required((ApikeyRelation) i))
			continue;
		if (!read[table])
			read_indexes(&survey, rel, table);
		read[table] = true;
		if (!survey.indexes[i])
			missing = i;
	}
	table_close(rel, AccessShareLock);
	return (ApikeyRelation) missing;
}
