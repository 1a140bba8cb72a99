/*
 * target.c
 *		Where the primary is, and which databases there are to speak of.
 *
 * Databases are listed anew now and then, by the worker, which is connected to
 * none of them: pg_database is shared.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_database.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "memory/memory.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define LISTED_EVERY	(10 * USECS_PER_SEC)
#define LISTED_AGAIN	USECS_PER_SEC	/* where not all could be read */

static ApikeyFleetDatabase *databases = NULL;
static int	database_count = 0;
static int	database_room = 0;
static Oid	reached = InvalidOid;	/* a connection came into it, last */

/* Where the server's own replication leads, unless we are told. */
static const char *
conninfo(void)
{
	if (apikey_primary_conninfo[0] != '\0')
		return apikey_primary_conninfo;
	return RecoveryInProgress() && PrimaryConnInfo != NULL ?
		PrimaryConnInfo : "";
}

static void
add_database(const FormData_pg_database *database)
{
	if (database_count == database_room)
	{
		database_room = Max(16, database_room * 2);
		databases = databases == NULL ?
			MemoryContextAlloc(TopMemoryContext,
							   database_room * sizeof(ApikeyFleetDatabase)) :
			repalloc(databases, database_room * sizeof(ApikeyFleetDatabase));
	}
	databases[database_count].oid = database->oid;
	strlcpy(databases[database_count].name, NameStr(database->datname),
			NAMEDATALEN);
	databases[database_count].subscribed = false;
	database_count++;
}

/*
 * Lists them anew, and forgets those that are gone; false where somebody keeps us
 * from that.
 */
static bool
list_databases(const List *reported)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	if (!apikey_system_lock("pg_database", DatabaseRelationId, false))
		return false;
	if (!apikey_system_lock("pg_database", DatabaseOidIndexId, false))
	{
		apikey_system_unlock(DatabaseRelationId);
		return false;
	}
	apikey_memory_forget_gone(reported);
	apikey_system_unlock(DatabaseOidIndexId);
	rel = table_open(DatabaseRelationId, NoLock);
	database_count = 0;
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		/* A limit of -2 marks one whose DROP was broken off. */
		if (database->datallowconn && !database->datistemplate &&
			database->datconnlimit >= -1)
			add_database(database);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return true;
}

/* Marks those that subscribe; where somebody keeps us from that, as before. */
static bool
mark_subscribers(void)
{
	static List *subscribing = NIL;
	List	   *read;
	bool		told = apikey_subscription_read(false, &read);

	if (told)
	{
		MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);

		list_free(subscribing);
		subscribing = list_copy(read);
		MemoryContextSwitchTo(context);
	}
	for (int i = 0; i < database_count; i++)
		databases[i].subscribed = list_member_oid(subscribing, databases[i].oid);
	return told;
}

/*
 * Lists the databases that can be connected to, if it is time; true then.  Of
 * one that is gone nothing is to be reported.
 */
bool
apikey_target_list(void)
{
	static ApikeyTick list_at = 0;
	MemoryContext context = CurrentMemoryContext;
	List	   *reported;

	if (apikey_tick() < list_at)
		return false;
	list_at = apikey_tick() + LISTED_AGAIN;
	reported = apikey_batch_databases();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	if (list_databases(reported) && mark_subscribers())
		list_at = apikey_tick() + LISTED_EVERY;
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return true;
}

/* One of them, by its number; NULL for none. */
const ApikeyFleetDatabase *
apikey_target_database(int number)
{
	return number < database_count ? &databases[number] : NULL;
}

/* A connection has come into a database. */
void
apikey_target_reach(Oid database)
{
	reached = database;
}

/* One has failed. */
void
apikey_target_lose(Oid database)
{
	if (reached == database)
		reached = InvalidOid;
}

static const char *
name_of(Oid database)
{
	for (int i = 0; i < database_count; i++)
	{
		if (databases[i].oid == database)
			return databases[i].name;
	}
	return NULL;
}

/* Is there a database that can be connected to, as far as is known? */
bool
apikey_target_reached(void)
{
	return OidIsValid(reached) && name_of(reached) != NULL;
}

/* The database of an attempt, each time another one, or one that was reached. */
static const char *
any_name(unsigned attempt)
{
	if (apikey_target_reached())
	{
		if (attempt % 2 == 0)
			return name_of(reached);
		attempt /= 2;
	}
	return database_count == 0 ? "postgres" :
		databases[attempt % (unsigned) database_count].name;
}

/* Of a server as a whole: it may be any database, so each is tried in turn. */
bool
apikey_target_any(const ApikeyWire *wire, unsigned attempt,
				  ApikeyWireTarget *target)
{
	int			hosts;

	memset(target, 0, sizeof(*target));
	target->conninfo = conninfo();
	if (target->conninfo[0] == '\0')
		return false;
	hosts = wire->hosts(target->conninfo, &target->own_database);
	target->own_database &= apikey_primary_conninfo[0] != '\0';
	target->attempt = attempt % (unsigned) hosts;
	target->hosts = hosts;
	target->timeout = apikey_fleet_timeout;
	target->database = any_name(attempt / (unsigned) hosts);
	return true;
}

/* Of one database: false where it is not known where the primary is. */
bool
apikey_target_of(const ApikeyWire *wire, unsigned attempt,
				 const ApikeyFleetDatabase *database, ApikeyWireTarget *target)
{
	if (!apikey_target_any(wire, attempt, target))
		return false;
	/* A subscriber's database may be called otherwise than the publisher's. */
	target->own_database &= !RecoveryInProgress();
	target->attempt = attempt;
	target->database = database->name;
	return true;
}
