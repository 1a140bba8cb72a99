/*
 * gone.c
 *		Databases that are gone, where nobody could tell: on a standby a drop is
 *		only replayed, and who drops one where the library is not preloaded may
 *		not know of us.
 */
#include "postgres.h"

#include "utils/syscache.h"

#include "memory/memory_internal.h"

/*
 * In a transaction: of these databases, which were found in memory before it
 * began, those that are gone have nothing there any more.
 */
void
apikey_memory_forget_gone(const List *databases)
{
	ListCell   *cell;

	foreach(cell, databases)
	{
		Oid			database = lfirst_oid(cell);

		if (!OidIsValid(database) ||
			SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)))
			continue;
		apikey_memory_forget_database(database);
		apikey_stats_forget_database(database);
	}
}
