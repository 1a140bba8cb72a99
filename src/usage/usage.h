/*
 * usage.h
 *		The door of usage/: what is counted of the use of keys, and carried into
 *		tables.
 */
#ifndef APIKEY_USAGE_H
#define APIKEY_USAGE_H

#include "nodes/pg_list.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/history.h"

/* usage.c */
extern void apikey_usage_note(ApikeyCode code, const pg_uuid_t *id,
							  ApikeySlotHint *hint, const uint32 *whose,
							  bool of_project, inet *client_addr, bool counts,
							  TimestampTz now);
extern ApikeyLimitVerdict apikey_usage_limit(const pg_uuid_t *id,
											 ApikeySlotHint *hint,
											 const ApikeyRate *rate,
											 int64 cost, TimestampTz now,
											 ApikeyRateState *state);
extern void apikey_usage_unlimit(const pg_uuid_t *id, ApikeySlotHint *hint,
								 const ApikeyRate *rate, int64 cost,
								 TimestampTz taken_at, ApikeyRateState *state);
extern bool apikey_usage_charge(const pg_uuid_t *id, ApikeySlotHint *hint,
								const ApikeyRate *rate, int64 cost,
								TimestampTz now, int64 *taken, uint8 *era);
extern void apikey_usage_look(const pg_uuid_t *id, const ApikeyRate *rate,
							  TimestampTz now, ApikeyRateState *state);
extern bool apikey_usage_pending(const pg_uuid_t *id, int64 flushed,
								 ApikeyUse *use);
extern List *apikey_usage_databases(void);
extern bool apikey_usage_waits(void);
extern List *apikey_usage_collect(int *from, int most, int64 flush);
extern void apikey_usage_flushed(const List *uses, int64 flush);
extern bool apikey_usage_move(ApikeyBatch *batch, int *from);
extern void apikey_usage_move_back(Oid database, const ApikeyBatchUse *use);
extern void apikey_usage_settle_kept(Oid database, bool counts);

typedef bool (*ApikeyLastUseDue) (const void *credential, TimestampTz now,
								  TimestampTz before);

/* last_use.c */
extern void apikey_last_use_write(const pg_uuid_t *key, inet *client_addr,
								  ApikeyLastUseDue due,
								  const void *credential);

/* asker.c */
extern const ApikeyMemoryPart apikey_asker_memory;

/* denial.c */
extern List *apikey_denial_databases(void);
extern bool apikey_denial_tell(int *from, bool all);
extern bool apikey_denial_move(ApikeyBatch *batch, int *from);
extern void apikey_denial_move_back(Oid database,
									const ApikeyBatchDenial *denial);

/* ended.c */
extern void apikey_ended_key(const pg_uuid_t *id, bool gone);
extern void apikey_ended_database(Oid database);
extern void apikey_ended_extension(void);
extern void apikey_ended_found(void);
extern void apikey_begun_extension(Oid database);
extern ApikeyTransactionPart apikey_ended_transaction;

/* flush.c */
extern List *apikey_flush_write(List *uses, int64 number);

#endif							/* APIKEY_USAGE_H */
