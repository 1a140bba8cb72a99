/*
 * survey.c
 *		Where all our tables and indexes are, and whether all indexes are there,
 *		in three scans.
 *
 * A process asks this before its first verification.  To look up each by its
 * name, and whose it is, reads the catalogs some hundred times; here they are
 * read in the order of their own indexes: all relations that are called as ours
 * are, then what tables of those belong to the extension, then their indexes.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "storage/sinval.h"
#include "utils/array.h"
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
	Oid			owners[APIKEY_RELATIONS];
	bool		ours[APIKEY_RELATIONS]; /* a table of the extension, or its index */
} Survey;

static void
take_name(Survey *survey, const FormData_pg_class *row)
{
	const char *rest = NameStr(row->relname) + strlen(NAMES_FROM);

	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		const char *ours = apikey_relation_names[i].name + strlen(NAMES_FROM);

		if (*ours != *rest || strcmp(ours, rest) != 0)
			continue;
		survey->named[i] = row->oid;
		survey->owners[i] = row->relowner;
		return;
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

/* The OIDs of all tables, so that one scan looks for each of them. */
static ArrayType *
table_oids(const Survey *survey)
{
	Datum		oids[APIKEY_RELATIONS];
	int			count = 0;

	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		if (apikey_catalog_is_table((ApikeyRelation) i) &&
			OidIsValid(survey->named[i]))
			oids[count++] = ObjectIdGetDatum(survey->named[i]);
	}
	return construct_array(oids, count, OIDOID, sizeof(Oid), true,
						   TYPALIGN_INT);
}

/* Makes a scan key for a column that is one of those OIDs. */
static void
one_of(ScanKey key, AttrNumber column, ArrayType *oids)
{
	ScanKeyEntryInitialize(key, SK_SEARCHARRAY, column, BTEqualStrategyNumber,
						   InvalidOid, InvalidOid, F_OIDEQ,
						   PointerGetDatum(oids));
}

/* Marks the tables that belong to the extension. */
static void
read_members(Survey *survey, ArrayType *oids)
{
	Relation	rel = table_open(DependRelationId, AccessShareLock);
	Relation	index = index_open(DependDependerIndexId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	one_of(&keys[1], Anum_pg_depend_objid, oids);
	scan = systable_beginscan_ordered(rel, index, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		Form_pg_depend row = (Form_pg_depend) GETSTRUCT(tuple);

		if (row->refclassid != ExtensionRelationId ||
			row->deptype != DEPENDENCY_EXTENSION)
			continue;
		for (int i = 0; i < APIKEY_RELATIONS; i++)
			survey->ours[i] |= survey->named[i] == row->objid &&
				apikey_catalog_owned((ApikeyRelation) i, row->refobjid,
									 survey->owners[i]);
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}

/* Marks the indexes that these tables have. */
static void
read_indexes(Survey *survey, ArrayType *oids)
{
	Relation	rel = table_open(IndexRelationId, AccessShareLock);
	Relation	index = index_open(IndexIndrelidIndexId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	one_of(&key, Anum_pg_index_indrelid, oids);
	scan = systable_beginscan_ordered(rel, index, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		Form_pg_index row = (Form_pg_index) GETSTRUCT(tuple);

		for (int i = 0; i < APIKEY_RELATIONS; i++)
		{
			ApikeyRelation table = apikey_relation_names[i].table;

			survey->ours[i] |= survey->named[i] == row->indexrelid &&
				survey->named[table] == row->indrelid && survey->ours[table];
		}
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
}

/*
 * Looks until no message came in between that may make old what was seen;
 * returns as of which generation of the catalog that is.
 */
static uint64
look(Survey *survey)
{
	uint64		generation;
	uint64		messages;

	do
	{
		ArrayType  *oids;

		messages = SharedInvalidMessageCounter;
		generation = apikey_catalog()->generation;
		memset(survey, 0, sizeof(*survey));
		read_names(survey);
		oids = table_oids(survey);
		read_members(survey, oids);
		read_indexes(survey, oids);
		for (int i = 0; i < APIKEY_RELATIONS; i++)
		{
			if (survey->ours[i] && apikey_catalog_is_table((ApikeyRelation) i))
				apikey_catalog_require_local(survey->named[i]);
		}
	} while (messages != SharedInvalidMessageCounter);
	return generation;
}

/*
 * An index that a table of ours lacks; APIKEY_RELATIONS for none.  What is
 * found is known from then on.  A table that is not to be taken for ours is
 * told as at any other time.
 */
ApikeyRelation
apikey_survey_missing(void)
{
	Survey		survey;
	uint64		generation = look(&survey);

	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		ApikeyRelation relation = (ApikeyRelation) i;
		ApikeyRelation table = apikey_catalog_table(relation);

		if (survey.ours[i])
			apikey_catalog_found(relation, survey.named[i], generation);
		else if (table != relation && !apikey_catalog_lacks(relation))
		{
			(void) apikey_catalog_relation(table);
			return relation;
		}
	}
	return APIKEY_RELATIONS;
}
