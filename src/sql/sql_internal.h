/*
 * sql_internal.h
 *		What stays within sql/.
 */
#ifndef APIKEY_SQL_INTERNAL_H
#define APIKEY_SQL_INTERNAL_H

#include "utils/relcache.h"
#include "utils/uuid.h"

#include "compat.h"
#include "store/store.h"
#include "sql/sql.h"

/* instead.c */
extern int	apikey_instead_writable(const ApikeyTable *table, Relation view,
									const char *name);
pg_noreturn extern void apikey_instead_refuse(const char *view,
											  const char *command);

/* sql_limits.c */
extern void apikey_limit_open_row(const pg_uuid_t *id, ApikeyRow *limit);

/* sql_usage.c */
extern void apikey_require_reader(const char *view);

#endif							/* APIKEY_SQL_INTERNAL_H */
