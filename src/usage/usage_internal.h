/*
 * usage_internal.h
 *		What stays within usage/.
 */
#ifndef APIKEY_USAGE_INTERNAL_H
#define APIKEY_USAGE_INTERNAL_H

#include "utils/inet.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"

/* history.c */
extern void apikey_history_denied(const pg_uuid_t *key, Oid role,
								  const char *code);
extern void apikey_history_drop(Oid database);

/* history_rows.c */
extern bool apikey_history_key(const pg_uuid_t *id, ApikeyRow *key,
							   bool *deleted);
extern bool apikey_history_change(ApikeyWriter *writer, const ApikeyRow *key,
								  uint64 uses, const List *counts);
extern bool apikey_history_off(void);
extern bool apikey_history_row_held(const ApikeyRow *key);
extern void apikey_history_put(const ApikeyRow *key, uint64 uses,
							   const List *counts);

/* history_counts.c */
extern void apikey_history_count(ApikeyRow *row, const List *added);
extern void apikey_history_sum(ApikeyRow *row, const ApikeyRow *added);

/* history_whose.c */
extern uint32 apikey_history_row_whose(const ApikeyRow *row);
extern void apikey_history_first_id(const pg_uuid_t *key, TimestampTz begin,
									bool day, pg_uuid_t *id);
extern void apikey_history_later_id(const pg_uuid_t *first,
									const ApikeyRow *row, pg_uuid_t *id);

/* asker.c */
extern void apikey_asker_note(const pg_uuid_t *key, Oid charged, Oid actor,
							  const text *subject);
extern text *apikey_asker_subject(const pg_uuid_t *key, Oid actor);

/* denial.c */
extern void apikey_denial_note(ApikeySlot *slot, ApikeyCode code,
							   inet *client_addr);

#endif							/* APIKEY_USAGE_INTERNAL_H */
