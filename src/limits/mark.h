/*
 * mark.h
 *		What is to be told of limits.
 */
#ifndef APIKEY_MARK_H
#define APIKEY_MARK_H

#include "nodes/pg_list.h"
#include "utils/uuid.h"
#include "memory/memory.h"

extern const ApikeyMemoryPart apikey_mark_memory;
extern bool apikey_mark_reserve(void);
extern void apikey_mark_release(void);
extern void apikey_mark_overdrawn(const pg_uuid_t *limit, const pg_uuid_t *key,
								  int64 dropped);
extern List *apikey_mark_databases(void);
extern void apikey_mark_drop(Oid database);
extern bool apikey_mark_tell(void);

#endif							/* APIKEY_MARK_H */
