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
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "store/store_internal.h"

#define PASSED_BY	1000		/* numbers that come from elsewhere */
#define PASSED_AT_LEAST	500		/* else they are passed again */

#define LOOKS_MOST	3

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

/* Are the numbers that it gives beyond one that comes from elsewhere? */
static bool
is_passed(Relation sequence, int64 number)
{
	bool		given;

	return last_number(sequence, &given) > number + PASSED_AT_LEAST;
}

/* Between looking and setting. */
typedef struct Numbering
{
	Relation	sequence;
	bool		passing;		/* a number that comes from elsewhere */
	int64		number;			/* that; else the next one */
} Numbering;

static void
look_and_set(void *work)
{
	Numbering  *numbering = work;
	Oid			sequence = RelationGetRelid(numbering->sequence);
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, sequence, 0);
	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		apikey_holder_note_lock(&tag, ExclusiveLock);
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	}
	if (!numbering->passing)
		set_number(sequence, numbering->number = number_after(numbering->sequence));
	else if (!is_passed(numbering->sequence, numbering->number))
		set_number(sequence, numbering->number + PASSED_BY);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

/* Of what the server has all in its caches that setting a number looks up. */
typedef struct Known
{
	Oid			sequence;		/* invalid: of none */
	Oid			owner;
	uint32		sequence_hash;	/* in messages */
	uint32		owner_hash;
} Known;

static Known known;

static void
forget(Datum arg pg_attribute_unused(), int cache, uint32 hash)
{
	if (hash == 0 ||
		hash == (cache == SEQRELID ? known.sequence_hash : known.owner_hash))
		known.sequence = InvalidOid;
}

/* Looks it up, unless it is known. */
static bool
look_up(Oid sequence, Oid owner, bool wait)
{
	static bool registered = false;
	HeapTuple	tuple;

	if (known.sequence == sequence && known.owner == owner)
		return true;
	if (!(wait ? apikey_lookup_begin(APIKEY_LOOKUP_SEQUENCE) :
		  apikey_lookup_try(APIKEY_LOOKUP_SEQUENCE)))
		return false;
	if (!registered)
	{
		CacheRegisterSyscacheCallback(SEQRELID, forget, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, forget, (Datum) 0);
		registered = true;
	}
	known.sequence_hash = GetSysCacheHashValue1(SEQRELID, ObjectIdGetDatum(sequence));
	known.owner_hash = GetSysCacheHashValue1(AUTHOID, ObjectIdGetDatum(owner));
	known.owner = owner;
	known.sequence = sequence;
	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	(void) superuser_arg(owner);
	apikey_lookup_end(APIKEY_LOOKUP_SEQUENCE);
	return true;
}

/*
 * Looks and sets while nobody else does; false where that is not to be waited for.
 * All events of all roles wait for who is between.  So what is looked up to set a
 * number is looked up before, and no messages are taken in that would make it
 * old: nobody is waited for in there.
 */
static bool
take_turn(Numbering *numbering, bool wait)
{
	Oid			sequence = RelationGetRelid(numbering->sequence);

	for (int looks = 0; looks < LOOKS_MOST; looks++)
	{
		Oid			owner = apikey_catalog()->tables_owner;

		if (!look_up(sequence, owner, wait))
			return false;
		(void) pg_class_aclcheck(sequence, owner, ACL_UPDATE);
		if (owner == apikey_catalog()->tables_owner && known.sequence == sequence)
			break;
	}
	apikey_wait_bounded(apikey_catalog_name(APIKEY_REL_EVENT_ID_SEQ),
						look_and_set, numbering);
	return true;
}

/*
 * The next number of a sequence of ours.  nextval() would be what lastval() of
 * the caller's session speaks of from then on; setval() is not, and loses
 * nothing in a crash either.
 */
int64
apikey_sequence_next(Oid sequence)
{
	Numbering	numbering = {0};

	PreventCommandIfReadOnly("INSERT");
	PreventCommandIfParallelMode("INSERT");
	numbering.sequence = open_sequence(sequence);
	(void) take_turn(&numbering, true);
	table_close(numbering.sequence, NoLock);
	return numbering.number;
}

/*
 * Numbers up to one have come from elsewhere: what a sequence of ours gives from
 * now on is beyond, by some, so that not each that comes is written.  Where
 * somebody keeps us from that, one of the next does it; but what comes waits where
 * none of those between is left, and the next of ours would be one that has come.
 */
void
apikey_sequence_pass(Oid sequence, int64 number)
{
	Numbering	numbering = {.passing = true,.number = number};

	numbering.sequence = open_sequence(sequence);
	if (number <= PG_INT64_MAX / 2 &&
		!is_passed(numbering.sequence, number))
		(void) take_turn(&numbering,
						 last_number(numbering.sequence, &(bool) {false}) <= number);
	table_close(numbering.sequence, NoLock);
}
