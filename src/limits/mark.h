/*
 * mark.h
 *		What is to be told of limits.
 */
#ifndef APIKEY_MARK_H
#define APIKEY_MARK_H

#include "utils/uuid.h"

#include "memory/memory.h"

#define APIKEY_MARKS_AT_ONCE	50	/* told in a transaction */

/* mark.c */
extern bool apikey_mark_put(const ApikeyMark *mark, Oid role, bool bounded);
extern uint64 apikey_mark_keep(Oid role);
extern void apikey_mark_release(uint64 number);
extern void apikey_mark_overdrawn(uint64 number, const pg_uuid_t *limit,
								  const pg_uuid_t *key, int64 dropped);
extern int	apikey_mark_count(Oid database);
extern int	apikey_mark_collect(Oid database, ApikeyMark *marks, int most,
								bool here);
extern void apikey_mark_remove(Oid database, int count, const bool *later);
extern void apikey_mark_drop(Oid database);

#endif							/* APIKEY_MARK_H */
