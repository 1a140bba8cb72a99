/*
 * mark.h
 *		What is to be told of limits.
 */
#ifndef APIKEY_MARK_H
#define APIKEY_MARK_H

#include "utils/uuid.h"

/* mark.c */
extern uint64 apikey_mark_keep(Oid role);
extern void apikey_mark_release(uint64 number);
extern void apikey_mark_overdrawn(uint64 number, const pg_uuid_t *limit,
								  const pg_uuid_t *key, int64 dropped);
extern void apikey_mark_drop(Oid database);

#endif							/* APIKEY_MARK_H */
