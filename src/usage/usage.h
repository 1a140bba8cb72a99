/*
 * usage.h
 *		Counts and last use of keys, gathered in shared memory.
 */
#ifndef APIKEY_USAGE_H
#define APIKEY_USAGE_H

#include "port/atomics.h"
#include "utils/inet.h"

#include "apikey.h"
#include "memory/seat.h"
#include "memory/slot.h"
#include "memory/use.h"
#include "store/step.h"
#include "verify/verify.h"

/* Time in the limiter is in nanoseconds: this many to a microsecond. */
#define APIKEY_LIMITER_UNITS	1000

/* So many tokens in so long: the time in the limiter's units. */
typedef struct ApikeyRate
{
	int64		tokens;
	int64		window;
} ApikeyRate;

/* What is left of it, and when this cost passes or, if it did, all is back. */
typedef struct ApikeyRateState
{
	int64		remaining;
	int64		reset;			/* 0: never */
} ApikeyRateState;

typedef enum ApikeyLimitVerdict
{
	APIKEY_LIMIT_PASSED,
	APIKEY_LIMIT_REACHED,
	APIKEY_LIMIT_UNAVAILABLE
} ApikeyLimitVerdict;

/* What a worker is to come to a database for, at a time. */
typedef enum ApikeyVisitFor
{
	APIKEY_VISIT_EXPIRY,		/* a key comes near its expiry */
	APIKEY_VISIT_IDLE,			/* one may have been idle for too long */
	APIKEY_VISITS
} ApikeyVisitFor;

/* Are all uses of keys known here? */
typedef enum ApikeyUsesKnown
{
	APIKEY_USES_KNOWN,			/* up to a time */
	APIKEY_USES_UNSEEN,			/* somebody is there who tells of none */
	APIKEY_USES_ELSEWHERE		/* the keys are a publisher's */
} ApikeyUsesKnown;

/* What this server has counted in a database since its start. */
typedef struct ApikeyStats
{
	TimestampTz since;
	uint64		codes[APIKEY_CODE_VALID + 1];
	uint64		evictions;
	uint64		not_attributed;
	TimestampTz last_flush_at;	/* 0: never */
} ApikeyStats;

/* limiter.c */
extern bool apikey_key_rate(const ApikeyRow *key, ApikeyRate *rate);
extern bool apikey_limiter_take(ApikeySlot *slot, const ApikeyRate *rate,
								int64 now, int64 cost,
								ApikeyRateState *state);
extern void apikey_limiter_not_before(ApikeySlot *slot, int64 full_at);
extern int64 apikey_limiter_charge(ApikeySlot *slot, const ApikeyRate *rate,
								   int64 now, int64 cost);
extern void apikey_limiter_return(ApikeySlot *slot, const ApikeyRate *rate,
								  int64 now, int64 tokens);
extern void apikey_limiter_return_time(ApikeySlot *slot,
									   const ApikeyRate *rate, int64 now,
									   int64 time);
extern int64 apikey_limiter_time(const ApikeyRate *rate, int64 tokens);

/* slot.c */
extern bool apikey_usage_shared(void);

/* usage.c */
extern void apikey_usage_note(ApikeyCode code, const pg_uuid_t *id,
							  ApikeySlotHint *hint, inet *client_addr,
							  bool counts, TimestampTz now);
extern ApikeyLimitVerdict apikey_usage_limit(const pg_uuid_t *id,
											 ApikeySlotHint *hint,
											 const ApikeyRate *rate,
											 int64 cost, TimestampTz now,
											 ApikeyRateState *state);
extern void apikey_usage_unlimit(const pg_uuid_t *id, ApikeySlotHint *hint,
								 const ApikeyRate *rate, int64 cost,
								 TimestampTz now, ApikeyRateState *state);
extern bool apikey_usage_charge(const pg_uuid_t *id, ApikeySlotHint *hint,
								const ApikeyRate *rate, int64 cost,
								TimestampTz now, int64 *taken);
extern void apikey_usage_look(const pg_uuid_t *id, const ApikeyRate *rate,
							  TimestampTz now, ApikeyRateState *state);
extern bool apikey_usage_pending(const pg_uuid_t *id, int64 flushed,
								 ApikeyUse *use);
extern List *apikey_usage_databases(void);
extern List *apikey_usage_collect(int *from, int most, int64 flush);
extern void apikey_usage_flushed(const List *uses, int64 flush);

/* stats.c */
extern void apikey_stats_count(ApikeyCode code);
extern void apikey_stats_not_attributed(void);
extern void apikey_stats_not_attributed_to(Oid database, uint64 counts);
extern void apikey_stats_flushed(void);
extern void apikey_stats_flushed_in(Oid database);
extern void apikey_stats_role_dropped(void);
extern uint64 apikey_stats_roles_dropped(void);
extern void apikey_stats_retired(uint64 dropped);
extern bool apikey_stats_unretired(void);
extern void apikey_stats_visit(ApikeyVisitFor what, TimestampTz at);
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

/* sql_usage.c */
extern void apikey_require_reader(const char *view);

/* touch.c */
typedef bool (*ApikeyTouchDue) (const void *credential, TimestampTz now,
								TimestampTz before);

extern void apikey_touch(const pg_uuid_t *key, inet *client_addr,
						 ApikeyTouchDue due, const void *credential);

/* asker.c */
extern const ApikeyMemoryPart apikey_asker_memory;
extern void apikey_asker_note(Oid database, const pg_uuid_t *key, Oid actor,
							  const text *subject);
extern text *apikey_asker_subject(Oid database, const pg_uuid_t *key,
								  Oid actor);

/* denial.c */
extern void apikey_denial_note(ApikeySlot *slot, ApikeyCode code,
							   inet *client_addr);
extern List *apikey_denial_databases(void);
extern bool apikey_denial_tell(bool first, bool all);

/* notify.c */

/* What this server has to notify, and what it did not. */
typedef struct ApikeyNotices
{
	int			waiting;		/* in this database */
	int64		dropped;		/* in any, since the start */
	TimestampTz dropped_at;		/* the last time; 0: never */
} ApikeyNotices;

extern void apikey_notify_read(ApikeyNotices *notices);
extern ApikeyTransactionPart apikey_notify_transaction;
extern void apikey_notify_event(ApikeyEvent event, int64 id, TimestampTz at);
extern List *apikey_notify_databases(void);
extern void apikey_notify_drop(Oid database);
extern bool apikey_notify_waiting(Oid database);
extern bool apikey_notify_send(void);

/* expiry.c */
extern ApikeyTransactionPart apikey_expiry_transaction;
extern void apikey_expiry_note(const ApikeyRow *key);
extern bool apikey_expiry_tell(TimestampTz *again);

/* idle.c */
extern ApikeyTransactionPart apikey_idle_transaction;
extern void apikey_idle_set(ApikeyRow *project);
extern void apikey_idle_look_soon(void);
extern bool apikey_idle_step(TimestampTz *again);

/* replicas.c */
extern ApikeyUsesKnown apikey_uses_known(TimestampTz *until);

/* retire.c */
extern ApikeyTransactionPart apikey_retire_transaction;
extern void apikey_retire_role(void);
extern bool apikey_retire_found(void);

/* ended.c */
extern void apikey_ended_key(const pg_uuid_t *id, bool gone);
extern void apikey_ended_database(Oid database);
extern void apikey_ended_extension(void);
extern void apikey_ended_found(void);
extern void apikey_begun_extension(Oid database);

/* flush.c */
extern List *apikey_flush_write(List *uses, int64 flush);

#endif							/* APIKEY_USAGE_H */
