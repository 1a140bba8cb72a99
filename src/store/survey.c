/*
 * survey.c
 *		Where all our tables and indexes are, and whether all indexes are there,
 *		in few scans.
 *
 * A process asks this before its first verification.  To look up each by its
 * name, and whose it is, reads the catalogs some hundred times; here they are
 * read in the order of their own indexes: all relations that are called as ours
 * are, then what tables of those belong to the extension, then their indexes.
 * Names are anybody's, and so are messages, for which what was seen is looked at
 * again: where there are many of either, each is looked up after all.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "store/store_internal.h"

/* All names of ours are at least the first, and less than the second. */
#define NAMES_FROM	"apikey_"
#define NAMES_TO	"apikey`"

/* How many relations that are called so are read, and how often all is. */
#define NAMES_MOST	(4 * APIKEY_RELATIONS)
#define LOOKS_MOST	3

/* Indexes whose OIDs are no further apart are read in one scan. */
#define NEARBY		256

/* What is called as a relation of ours; none for what is not there. */
typedef struct Survey
{
	Oid			named[APIKEY_RELATIONS];
	Oid			owners[APIKEY_RELATIONS];
	bool		ours[APIKEY_RELATIONS]; /* a table of the extension, or its index */
} Survey;

/* Which of ours has an OID; APIKEY_RELATIONS for none. */
static ApikeyRelation
find_named(const Survey *survey, Oid relid)
{
	int			i = 0;

	while (i < APIKEY_RELATIONS && survey->named[i] != relid)
		i++;
	return (ApikeyRelation) i;
}

static void
take_name(Survey *survey, const FormData_pg_class *row)
{
	const char *rest = NameStr(row->relname) + strlen(NAMES_FROM);

	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		const char *ours = apikey_relation_names[i].name + strlen(NAMES_FROM);

		if (*ours != *rest || strcmp(ours, rest) != 0)
			continue;
		/* Another kind of index is none of ours. */
		if (row->relkind == RELKIND_INDEX && row->relam != BTREE_AM_OID)
			return;
		survey->named[i] = row->oid;
		survey->owners[i] = row->relowner;
		return;
	}
}

/* False where there are too many that are called so. */
static bool
read_names(Survey *survey)
{
	int			count = 0;
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
	while (count <= NAMES_MOST &&
		   HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_class row = (Form_pg_class) GETSTRUCT(tuple);

		count++;
		if (row->relnamespace == schema)
			take_name(survey, row);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return count <= NAMES_MOST;
}

/* The extension that a scan of what a relation depends on finds. */
static Oid
find_extension(ApikeyScan *scan)
{
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = apikey_scan_next(scan, ForwardScanDirection)))
	{
		Form_pg_depend row = (Form_pg_depend) GETSTRUCT(tuple);

		if (row->refclassid == ExtensionRelationId &&
			row->deptype == DEPENDENCY_EXTENSION)
			return row->refobjid;
	}
	return InvalidOid;
}

/*
 * Marks the tables that belong to the extension; false for whoever reads leniently
 * where somebody keeps us from that.
 */
static bool
read_members(Survey *survey)
{
	Relation	rel;
	Relation	index;
	ScanKeyData keys[2];
	ApikeyScan	scan;

	if (!apikey_lookup_begin(APIKEY_LOOKUP_DEPENDENCY))
		return false;
	rel = table_open(DependRelationId, NoLock);
	index = index_open(DependDependerIndexId, NoLock);
	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(RelationRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(InvalidOid));
	apikey_scan_begin(&scan, rel, index, NULL, keys, lengthof(keys));
	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		ApikeyRelation table = (ApikeyRelation) i;

		if (!apikey_catalog_is_table(table) || !OidIsValid(survey->named[i]))
			continue;
		keys[1].sk_argument = ObjectIdGetDatum(survey->named[i]);
		apikey_scan_again(&scan, keys);
		survey->ours[i] = apikey_catalog_owned(table, find_extension(&scan),
											   survey->owners[i]);
	}
	apikey_scan_end(&scan);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	apikey_lookup_end(APIKEY_LOOKUP_DEPENDENCY);
	return true;
}

/* The OIDs of all indexes, in their order; how many. */
static int
index_oids(const Survey *survey, Oid *oids)
{
	int			count = 0;

	for (int i = 0; i < APIKEY_RELATIONS; i++)
	{
		if (apikey_relation_names[i].table != (ApikeyRelation) i &&
			OidIsValid(survey->named[i]))
			oids[count++] = survey->named[i];
	}
	qsort(oids, count, sizeof(Oid), oid_cmp);
	return count;
}

/* Marks the indexes from one OID to another that our tables have. */
static void
read_indexes_between(Relation rel, Survey *survey, Oid from, Oid to)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_index_indexrelid,
				BTGreaterEqualStrategyNumber, F_OIDGE, ObjectIdGetDatum(from));
	ScanKeyInit(&keys[1], Anum_pg_index_indexrelid,
				BTLessEqualStrategyNumber, F_OIDLE, ObjectIdGetDatum(to));
	scan = systable_beginscan(rel, IndexRelidIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_index row = (Form_pg_index) GETSTRUCT(tuple);
		ApikeyRelation index = find_named(survey, row->indexrelid);
		ApikeyRelation table;

		if (index == APIKEY_RELATIONS)
			continue;
		table = apikey_relation_names[index].table;
		survey->ours[index] = survey->named[table] == row->indrelid &&
			survey->ours[table];
	}
	systable_endscan(scan);
}

/*
 * Marks the indexes that these tables have.  Those that one script has made have
 * OIDs near each other, with few of others between: to read on costs a fourth of
 * what it costs to look for each.
 */
static void
read_indexes(Survey *survey)
{
	Relation	rel = table_open(IndexRelationId, AccessShareLock);
	Oid			oids[APIKEY_RELATIONS];
	int			count = index_oids(survey, oids);

	for (int first = 0, next; first < count; first = next)
	{
		next = first + 1;
		while (next < count && oids[next] - oids[next - 1] <= NEARBY)
			next++;
		read_indexes_between(rel, survey, oids[first], oids[next - 1]);
	}
	table_close(rel, AccessShareLock);
}

/*
 * Looks until no message came in between that may make old what was seen; as of
 * which generation of the catalog that is.  False where that cannot be had.
 */
static bool
look(Survey *survey, uint64 *generation)
{
	for (int looks = 0; looks < LOOKS_MOST; looks++)
	{
		uint64		messages = SharedInvalidMessageCounter;

		*generation = apikey_catalog()->generation;
		memset(survey, 0, sizeof(*survey));
		if (!read_names(survey) || !read_members(survey))
			return false;
		read_indexes(survey);
		for (int i = 0; i < APIKEY_RELATIONS; i++)
		{
			if (survey->ours[i] && apikey_catalog_is_table((ApikeyRelation) i))
				apikey_catalog_require_local(survey->named[i]);
		}
		if (messages == SharedInvalidMessageCounter)
			return true;
	}
	return false;
}

/* Looks up each; the first index that a table of ours lacks. */
static ApikeyRelation
look_up_each(void)
{
	ApikeyRelation missing = APIKEY_RELATIONS;

	for (int i = 0; i < APIKEY_RELATIONS && missing == APIKEY_RELATIONS; i++)
	{
		ApikeyRelation table = (ApikeyRelation) i;

		if (!apikey_catalog_is_table(table) || apikey_catalog_lacks(table))
			continue;
		(void) apikey_catalog_relation(table);
		missing = apikey_catalog_missing(table);
	}
	return missing;
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
	uint64		generation;

	if (!look(&survey, &generation))
		return look_up_each();
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
