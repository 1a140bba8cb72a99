/*
 * stats.h
 *		What this server counts in its databases, and when a worker is due there.
 */
#ifndef APIKEY_STATS_H
#define APIKEY_STATS_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "memory/code.h"
#include "memory/part.h"

/* stats.c */
extern const ApikeyMemoryPart apikey_stats_memory;

/* verdicts.c */
extern const ApikeyMemoryPart apikey_verdicts_memory;

/* What a worker is to come to a database for, at a time. */
typedef enum ApikeyVisitFor
{
	APIKEY_VISIT_EXPIRY,		/* a key comes near its expiry */
	APIKEY_VISIT_IDLE,			/* one may have been idle for too long */
	APIKEY_VISIT_ORPHANS,		/* a role's drop may have ended since */
	APIKEY_VISIT_SETTLE,		/* something stands beside a row */
	APIKEY_VISIT_UNTOLD,		/* whether rows arrive could not be told */
	APIKEY_VISITS
} ApikeyVisitFor;

/* What this server has counted in a database since its start. */
typedef struct ApikeyStats
{
	TimestampTz since;
	uint64		codes[APIKEY_VERDICTS];
	uint64		evictions;
	uint64		not_attributed;
	TimestampTz last_flush_at;	/* 0: never */
} ApikeyStats;

extern void apikey_stats_count(ApikeyCode code);
extern void apikey_stats_not_attributed(bool use_of_project);
extern void apikey_stats_not_attributed_to(Oid database, uint64 counts);
extern TimestampTz apikey_stats_use_lost_at(void);
extern void apikey_stats_flushed(void);
extern void apikey_stats_flushed_in(Oid database);
extern void apikey_stats_role_dropped(void);
extern uint64 apikey_stats_roles_dropped(void);
extern void apikey_stats_orphans_revoked(uint64 dropped);
extern bool apikey_stats_orphans_left(void);
extern void apikey_stats_visit(ApikeyVisitFor what, TimestampTz at);
extern uint64 apikey_stats_visits_asked(ApikeyVisitFor what);
extern bool apikey_stats_visit_waits(ApikeyVisitFor what);
extern bool apikey_stats_begin_visit(ApikeyVisitFor what, TimestampTz again);
extern void apikey_stats_end_visit(ApikeyVisitFor what, TimestampTz again,
								   TimestampTz next);
extern void apikey_stats_visit_all(void);
extern void apikey_stats_add_database(Oid database);
extern void apikey_stats_rest_database(Oid database);
extern void apikey_stats_forget_database(Oid database);
extern List *apikey_stats_due(void);
extern void apikey_stats_called(Oid database);
extern void apikey_stats_served(void);
extern TimestampTz apikey_stats_waiting_since(void);
extern void apikey_stats_read_times(ApikeyStats *result);
extern bool apikey_stats_read(ApikeyStats *result);

#endif							/* APIKEY_STATS_H */
