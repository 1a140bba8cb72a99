/*
 * fleet_lease.h
 *		Leases in the memory of a server that has them of the primary.
 *
 * The account's row is not written here: the primary takes what is leased out
 * of it, and has a row of its own for the lease.  In memory such a lease is spent
 * as any other; what it is settled with are the primary's answers.
 *
 *		NONE or OPEN --- asked, with a number chosen here --> (the same, and offer)
 *		offer --- granted: OPEN, more --- fresh: OPEN, anew --- short: as it was,
 *				  void, gone: NONE --- busy: as it was, without an offer
 *		offer --- not answered: asked again, with the same number
 *		OPEN --- idle --> taken out of memory: NONE, and returned
 */
#ifndef APIKEY_FLEET_LEASE_H
#define APIKEY_FLEET_LEASE_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

/* What the primary is asked for: arguments of apikey_server_lease. */
typedef struct ApikeyFleetAsk
{
	pg_uuid_t	account;
	int64		number;
	int64		held_number;
	int64		held;
	int64		least;
	int64		most;
	bool		charging;
} ApikeyFleetAsk;

/* Its answer about one. */
typedef struct ApikeyFleetGrant
{
	pg_uuid_t	account;
	const char *state;
	int64		number;
	int64		granted;
	int64		left_over;		/* with what follows unless busy or gone */
	int64		generation;
	int64		remaining;		/* milliseconds; below 0: for ever */
} ApikeyFleetGrant;

/* What goes back: arguments of apikey_server_return. */
typedef struct ApikeyFleetReturn
{
	pg_uuid_t	account;
	int64		number;
	int64		unspent;
} ApikeyFleetReturn;

/* fleet_lease.c */
extern int	apikey_fleet_lease_asked(Oid database, ApikeyFleetAsk *asks,
									 int most);
extern void apikey_fleet_lease_answered(Oid database,
										const ApikeyFleetGrant *grant,
										TimestampTz sent_at);
extern void apikey_fleet_lease_unanswered(Oid database,
										  const pg_uuid_t *account);
extern int	apikey_fleet_lease_idle(Oid database, TimestampTz before,
									ApikeyFleetReturn *returns, int most);
extern bool apikey_fleet_lease_held(Oid database);
extern void apikey_fleet_lease_void_all(Oid database);

/* For the worker of what has become the primary. */
extern int64 apikey_fleet_lease_adopt(const pg_uuid_t *account, int64 number);

#endif							/* APIKEY_FLEET_LEASE_H */
