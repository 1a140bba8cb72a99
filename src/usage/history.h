/*
 * history.h
 *		The use of keys by hours and days.
 */
#ifndef APIKEY_HISTORY_H
#define APIKEY_HISTORY_H

#include "nodes/pg_list.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"

/* The columns of apikey_history, in their order there. */
typedef enum ApikeyHistoryColumn
{
	HISTORY_ID,
	HISTORY_KEY_ID,
	HISTORY_KEY_NAME,
	HISTORY_KEY_OWNER,
	HISTORY_KEY_OWNER_NAME,
	HISTORY_KEY_SUBJECT,
	HISTORY_PLACE,
	HISTORY_ORGANIZATION,
	HISTORY_PROJECT,
	HISTORY_STARTS_AT,
	HISTORY_STEP,
	HISTORY_USE_COUNT,
	HISTORY_DENIED,
	HISTORY_SPENT
} ApikeyHistoryColumn;

/* A refusal's code, or of a unit what was spent, and how much. */
typedef struct ApikeyHistoryCount
{
	bool		of_unit;
	const char *name;
	int64		count;
} ApikeyHistoryCount;

/* history_rows.c */
extern const ApikeyTable apikey_history_table;
extern ApikeyWriter *apikey_history_open(void);
extern void apikey_history_close(ApikeyWriter *writer);
extern bool apikey_history_free(ApikeyWriter *writer, const pg_uuid_t *id,
								uint32 whose, uint64 uses);
extern void apikey_history_add(ApikeyWriter *writer, const pg_uuid_t *id,
							   uint32 whose, uint64 uses);
extern bool apikey_history_add_free(ApikeyWriter *writer, const pg_uuid_t *id,
									uint64 uses, const List *counts);
extern bool apikey_history_retain(ApikeyPass *pass);

/* history_whose.c */
extern uint32 apikey_history_whose(const ApikeyRow *key);

/* history.c */
extern const ApikeyMemoryPart apikey_history_memory;
extern void apikey_history_spent(const pg_uuid_t *key, Oid role,
								 const char *unit, int64 amount);
extern List *apikey_history_databases(void);
extern bool apikey_history_waits(Oid database);
extern bool apikey_history_write(int *next);
extern bool apikey_history_move(ApikeyBatch *batch, uint32 *from);
extern void apikey_history_move_back(Oid database,
									 const ApikeyBatchCount *count);

#endif							/* APIKEY_HISTORY_H */
