/*
 * link.h
 *		A member's connection to a database of the primary.
 */
#ifndef APIKEY_LINK_H
#define APIKEY_LINK_H

#include "fleet/member.h"

#define APIKEY_QUERY_VALUES	20	/* most parameters of a call */

typedef struct ApikeyLink
{
	ApikeyFleetDatabase database;	/* here; oid is invalid: free */
	ApikeyWireConn *conn;		/* NULL: none */
	char		schema[2 * NAMEDATALEN + 3];	/* of the extension there, quoted */
	bool		joined;			/* on this connection */
	bool		working;		/* as far as the log is told */
	bool		told;			/* it is */
	unsigned	attempts;
	int			again;			/* milliseconds */
	ApikeyTick	try_at;			/* not before */
	ApikeyTick	report_at;		/* the next one */
} ApikeyLink;

/* A call of one of the functions on the primary, as it is being written. */
typedef struct ApikeyCall
{
	const char *function;		/* without its prefix */
	const char *result;			/* what of it is selected */
	int			count;
	const char *types[APIKEY_QUERY_VALUES];
	const char *values[APIKEY_QUERY_VALUES];
} ApikeyCall;

/* link.c */
extern bool apikey_link_open(ApikeyLink *link);
extern void apikey_link_close(ApikeyLink *link);
extern void apikey_link_fail(ApikeyLink *link, const char *reason);
extern void apikey_link_works(ApikeyLink *link);
extern void apikey_call_add(ApikeyCall *call, const char *type,
							const char *value);
extern ApikeyWireAnswer *apikey_call(ApikeyLink *link, const ApikeyCall *call);

/* join.c */
extern bool apikey_link_join(ApikeyLink *link);

/* report.c */
extern bool apikey_link_report(ApikeyLink *link, bool *more);

#endif							/* APIKEY_LINK_H */
