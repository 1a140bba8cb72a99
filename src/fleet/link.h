/*
 * link.h
 *		A member's connection to a database of the primary.
 */
#ifndef APIKEY_LINK_H
#define APIKEY_LINK_H

#include "lib/stringinfo.h"
#include "utils/inet.h"
#include "utils/uuid.h"

#include "memory/memory.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define APIKEY_QUERY_VALUES	24	/* most parameters of a call */

#define APIKEY_BEATS	16
#define APIKEY_REASON_MAX	256

/* The primary's beat of a time; see beat.c. */
typedef struct ApikeyBeat
{
	int64		number;
	ApikeyTick	as_of;
} ApikeyBeat;

/* How far what has gathered was looked through, to be reported. */
typedef struct ApikeySweep
{
	bool		more;			/* not to the end */
	int			uses;			/* by slots */
	int			denials;		/* likewise */
	uint32		counts;			/* by sets of the history */
	int			refusals;		/* of what was found */
	bool		alone;			/* the batch has one thing, which was refused */
	char		reason[APIKEY_REASON_MAX];	/* the last one */
} ApikeySweep;

/* What has become of a report. */
typedef enum ApikeyReportEnd
{
	APIKEY_REPORT_DONE,			/* all is told */
	APIKEY_REPORT_MORE,			/* it is taken, and there may be more */
	APIKEY_REPORT_AGAIN,		/* without what was refused of it, after others */
	APIKEY_REPORT_REFUSED,		/* it is to be sent later, as it is */
	APIKEY_REPORT_FAILED		/* and so is the connection */
} ApikeyReportEnd;

typedef struct ApikeyLink
{
	ApikeyFleetDatabase database;	/* here; oid is invalid: free */
	ApikeyWireConn *conn;		/* NULL: none */
	bool		connecting;		/* it is not there yet, and waits for this: */
	ApikeyWireStep waited;
	ApikeyTick	connect_until;
	int			patience;		/* milliseconds, of an attempt; 0: as for an answer */
	char		schema[2 * NAMEDATALEN + 3];	/* of the extension there, quoted */
	bool		joined;			/* on this connection */
	bool		working;		/* as far as the log is told */
	bool		told;			/* it is */
	bool		refused;		/* the last report was */
	ApikeySweep sweep;
	unsigned	attempts;
	int			again;			/* milliseconds */
	ApikeyTick	try_at;			/* not before */
	ApikeyTick	report_at;		/* the next one */
	ApikeyTick	asked_at;		/* a session asked, last */
	ApikeyTick	beat_at;		/* of a subscriber */
	int			beats;			/* that have not arrived yet */
	ApikeyBeat	waiting[APIKEY_BEATS];
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

/* An array, as it is being written. */
typedef struct ApikeyArray
{
	StringInfoData text;
	bool		any;
} ApikeyArray;

/* array.c */
extern void apikey_array_begin(ApikeyArray *array);
extern void apikey_array_add(ApikeyArray *array, const char *value);
extern void apikey_array_add_id(ApikeyArray *array, const pg_uuid_t *id);
extern void apikey_array_add_number(ApikeyArray *array, int64 number);
extern void apikey_array_add_address(ApikeyArray *array, bool any,
									 const inet_struct *addr);
extern void apikey_array_put(ApikeyArray *array, ApikeyCall *call,
							 const char *type);

/* link.c */
extern bool apikey_link_open(ApikeyLink *link);
extern void apikey_link_close(ApikeyLink *link);
extern void apikey_link_rest(ApikeyLink *link);
extern void apikey_link_fail(ApikeyLink *link, const char *reason);
extern void apikey_link_refused(ApikeyLink *link, const char *reason);
extern void apikey_link_works(ApikeyLink *link, bool reported);
extern void apikey_call_add(ApikeyCall *call, const char *type,
							const char *value);
extern void apikey_link_server(const ApikeyLink *link, pg_uuid_t *id);
extern void apikey_call_begin(ApikeyCall *call, const char *function,
							  const char *result, const ApikeyLink *link);
extern ApikeyWireAnswer *apikey_call(ApikeyLink *link, const ApikeyCall *call);
extern bool apikey_answer_holds(ApikeyLink *link,
								const ApikeyWireAnswer *answer, int rows,
								int columns);

/* join.c */
extern bool apikey_link_known(const ApikeyLink *link);
extern bool apikey_link_join(ApikeyLink *link);

/* report.c */
extern ApikeyReportEnd apikey_link_report(ApikeyLink *link);

/* refused.c */
extern ApikeyReportEnd apikey_report_refused(ApikeyLink *link,
											 ApikeyBatch *batch,
											 const ApikeyWireAnswer *answer);
extern void apikey_report_give_up(const ApikeyBatch *batch,
								  const char *reason);

/* renew.c */
extern void apikey_renew_begin(const ApikeyWire *table);
extern bool apikey_link_renew(ApikeyLink *link, bool *more);

/* beat.c */
extern bool apikey_link_beat(ApikeyLink *link);
extern void apikey_link_look_at_beats(ApikeyLink *link);

/* leases.c */
extern bool apikey_link_lease(ApikeyLink *link);
extern bool apikey_link_owes(const ApikeyLink *link);
extern bool apikey_link_return(ApikeyLink *link, bool even_used);

/* take.c */
extern void apikey_take_begin(const ApikeyWire *table);
extern bool apikey_link_take(ApikeyLink *link);

#endif							/* APIKEY_LINK_H */
