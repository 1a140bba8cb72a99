/*
 * lease_grant.h
 *		Leasing credits to other servers, and taking them back.
 */
#ifndef APIKEY_LEASE_GRANT_H
#define APIKEY_LEASE_GRANT_H

#include "lib/stringinfo.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"

/* What a server asks for. */
typedef struct ApikeyLeaseWish
{
	pg_uuid_t	account;
	int64		number;			/* that the lease is to have; the server's choice */
	int64		held_number;	/* of the one that it has; 0: none */
	int64		held;			/* not spent of that */
	int64		least;			/* more that somebody waits for */
	int64		most;			/* more that it could do with */
	bool		charging;		/* may overdraw the account */
} ApikeyLeaseWish;

typedef enum ApikeyLeaseState
{
	APIKEY_LEASE_GRANTED,		/* so much more than is held */
	APIKEY_LEASE_FRESH,			/* so much, and what is held is void */
	APIKEY_LEASE_SHORT,			/* nothing more; what is held is good */
	APIKEY_LEASE_VOID,			/* nothing, and what is held is void */
	APIKEY_LEASE_BUSY,			/* somebody has the account's row */
	APIKEY_LEASE_GONE			/* there is no such account */
} ApikeyLeaseState;

/* What it is answered. */
typedef struct ApikeyLeaseAnswer
{
	ApikeyLeaseState state;
	int64		granted;
	int64		left_over;		/* in the account's row */
	int64		generation;
	TimestampTz until;			/* the end of time: for ever */
} ApikeyLeaseAnswer;

/* lease_grant.c */
extern TimestampTz apikey_lease_patience(void);
extern void apikey_lease_grant(const ApikeyRow *server,
							   const ApikeyLeaseWish *wish, int servers,
							   TimestampTz patience,
							   ApikeyLeaseAnswer *answer);
extern bool apikey_lease_take_back(const ApikeyRow *server,
								   const pg_uuid_t *account, int64 number,
								   int64 unspent, TimestampTz patience,
								   StringInfo locked);

/* lease_upkeep.c */
extern bool apikey_lease_adopt_own(void);
extern bool apikey_lease_forfeit_old(void);

#endif							/* APIKEY_LEASE_GRANT_H */
