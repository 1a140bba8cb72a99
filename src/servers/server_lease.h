/*
 * server_lease.h
 *		Credits that are leased to other servers, as the primary knows them.
 */
#ifndef APIKEY_SERVER_LEASE_H
#define APIKEY_SERVER_LEASE_H

#include "utils/uuid.h"

#include "store/store.h"

/* What is leased is forfeited when it was not asked about for so long. */
#define APIKEY_LEASE_KEPT_FOR	USECS_PER_DAY

/* The columns of apikey_server_lease, in their order there. */
typedef enum ApikeyServerLeaseColumn
{
	SERVER_LEASE_ID,
	SERVER_LEASE_SERVER,
	SERVER_LEASE_ACCOUNT,
	SERVER_LEASE_NUMBER,
	SERVER_LEASE_GRANTED,		/* with that number */
	SERVER_LEASE_AMOUNT,		/* at most so much is not spent */
	SERVER_LEASE_GENERATION,
	SERVER_LEASE_UNTIL,			/* null: for ever */
	SERVER_LEASE_LEFT_OVER,		/* in the account's row then */
	SERVER_LEASE_GRANTED_AT
} ApikeyServerLeaseColumn;

/* server_lease.c */
extern const ApikeyTable apikey_server_lease_table;
extern void apikey_server_lease_walk(const pg_uuid_t *server,
									 ApikeyVisit visit, void *state);

#endif							/* APIKEY_SERVER_LEASE_H */
