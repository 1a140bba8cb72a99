/*
 * sequence.c
 *		The numbers that our sequences give, as their owner.
 *
 * As in storage.c there is no text of SQL, and no name: a sequence is that of
 * the OID that catalog.c has found.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#include "store/store_internal.h"

#define PASSED_BY	1000		/* numbers that come from elsewhere */

/* The number that a sequence gave last, or is to begin with. */
static int64
last_number(Relation sequence, bool *given)
{
	SysScanDesc scan = systable_beginscan(sequence, InvalidOid, false,
										  SnapshotAny, 0, NULL);
	HeapTuple	tuple = systable_getnext(scan);
	int64		last;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "sequence \"%s\" is empty",
			 RelationGetRelationName(sequence));
	last = DatumGetInt64(heap_getattr(tuple, SEQ_COL_LASTVAL,
									  RelationGetDescr(sequence), &isnull));
	*given = DatumGetBool(heap_getattr(tuple, SEQ_COL_CALLED,
									   RelationGetDescr(sequence), &isnull));
	systable_endscan(scan);
	return last;
}

static int64
number_after(Relation sequence)
{
	bool		given;
	int64		last = last_number(sequence, &given);

	if (given && last == PG_INT64_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				 errmsg("sequence \"%s\" has come to its end",
						RelationGetRelationName(sequence))));
	return given ? last + 1 : last;
}

/*
 * Makes a number the last that a sequence of ours gave, for who holds the lock
 * on it.
 */
static void
set_number(Oid sequence, int64 number)
{
	ApikeyOwnerScope before;

	apikey_owner_begin(&before);
	(void) DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence),
							   Int64GetDatum(number));
	apikey_owner_end(&before);
}

/* Opens a sequence, if nobody has dropped it meanwhile. */
static Relation
open_sequence(Oid sequence)
{
	Relation	rel;

	(void) apikey_relation_lock(apikey_catalog_name(APIKEY_REL_EVENT_ID_SEQ),
								sequence, RowExclusiveLock);
	rel = try_table_open(sequence, NoLock);
	if (rel == NULL)
		apikey_refuse_gone();
	return rel;
}

/*
 * The next number of a sequence of ours.  nextval() would be what lastval() of
 * the caller's session speaks of from then on; setval() is not, and loses
 * nothing in a crash either.  Between looking and setting a lock is held that
 * nobody else takes, and that nobody waits under: the sequence itself has been
 * locked before.
 */
int64
apikey_sequence_next(Oid sequence)
{
	Relation	rel;
	int64		number;

	PreventCommandIfReadOnly("INSERT");
	PreventCommandIfParallelMode("INSERT");
	rel = open_sequence(sequence);
	LockDatabaseObject(RelationRelationId, sequence, 0, ExclusiveLock);
	number = number_after(rel);
	set_number(sequence, number);
	UnlockDatabaseObject(RelationRelationId, sequence, 0, ExclusiveLock);
	table_close(rel, NoLock);
	return number;
}

/*
 * Numbers up to one have come from elsewhere: what a sequence of ours gives from
 * now on is beyond, by some, so that not each that comes is written.
 */
void
apikey_sequence_pass(Oid sequence, int64 number)
{
	Relation	rel = open_sequence(sequence);

	LockDatabaseObject(RelationRelationId, sequence, 0, ExclusiveLock);
	if (number <= PG_INT64_MAX / 2 && last_number(rel, &(bool) {false}) <= number)
		set_number(sequence, number + PASSED_BY);
	UnlockDatabaseObject(RelationRelationId, sequence, 0, ExclusiveLock);
	table_close(rel, NoLock);
}
