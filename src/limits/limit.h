/*
 * limit.h
 *		Limits of keys, subjects, projects and organizations: their rows, and
 *		what a key is bound by.
 */
#ifndef APIKEY_LIMIT_H
#define APIKEY_LIMIT_H

#include "apikey.h"
#include "memory/slot.h"

#define APIKEY_LIMIT_MOST	(INT64CONST(1) << 53)	/* of an amount */
#define APIKEY_UNIT_MAX		40	/* characters */
#define APIKEY_REQUESTS		"requests"	/* the unit that a cost is of */

/* The columns of apikey_limit, in their order there. */
typedef enum ApikeyLimitColumn
{
	APIKEY_LIMIT_ID,
	APIKEY_LIMIT_KEY,
	APIKEY_LIMIT_ORGANIZATION,
	APIKEY_LIMIT_PROJECT,
	APIKEY_LIMIT_OWNER,
	APIKEY_LIMIT_OWNER_NAME,
	APIKEY_LIMIT_SUBJECT,
	APIKEY_LIMIT_UNIT,
	APIKEY_LIMIT_KIND,
	APIKEY_LIMIT_AMOUNT,
	APIKEY_LIMIT_PERIOD,
	APIKEY_LIMIT_SHARED,
	APIKEY_LIMIT_OVERDRAFT,
	APIKEY_LIMIT_STARTS_AT,
	APIKEY_LIMIT_CREATED_AT,
	APIKEY_LIMIT_CREATED_BY
} ApikeyLimitColumn;

/* Whose a limit is: a key's, a place's, or a role's keys of a subject. */
typedef struct ApikeyLimitHolder
{
	const pg_uuid_t *key;
	const pg_uuid_t *organization;
	const pg_uuid_t *project;
	Oid			owner;			/* of personal keys; or invalid */
	const text *subject;
} ApikeyLimitHolder;

typedef enum ApikeyLimitKind
{
	APIKEY_LIMIT_RATE,
	APIKEY_LIMIT_QUOTA,
	APIKEY_LIMIT_BALANCE
} ApikeyLimitKind;

/* limit.c */
extern ApikeyTable apikey_limit_table;

extern bool apikey_limit_any(void);
extern void apikey_limit_holder(const ApikeyRow *limit,
								ApikeyLimitHolder *holder);
extern ApikeyLimitKind apikey_limit_kind(const ApikeyRow *limit);
extern const char *apikey_limit_kind_name(ApikeyLimitKind kind);
extern const char *apikey_limit_holder_name(const ApikeyRow *limit);
extern void apikey_limit_scan(const ApikeyLimitHolder *holder,
							  ApikeyVisit visit, void *state);
extern void apikey_limit_period(const ApikeyRow *limit, TimestampTz now,
								TimestampTz *begin, TimestampTz *end);
extern bool apikey_limit_unit_valid(const text *unit);
extern void apikey_limit_rule(const ApikeyRow *limit);
extern void apikey_limit_require_library(void);
extern void apikey_limit_put(ApikeyRow *limit, pg_uuid_t *id);
extern void apikey_limit_change(const ApikeyRow *before, ApikeyRow *limit,
								const char *changes);
extern bool apikey_limit_only_tighter(const ApikeyRow *limit);
extern void apikey_limit_remove(const ApikeyRow *limit);
extern void apikey_limit_tell(const ApikeyRow *limit, ApikeyEvent event,
							  const char *detail);
extern char *apikey_limit_detail(const ApikeyRow *limit);
extern char *apikey_limit_detail_with(const ApikeyRow *limit, const char *name,
									  int64 value, const pg_uuid_t *key);
extern void apikey_limit_drop_of_place(const pg_uuid_t *organization,
									   const pg_uuid_t *project);

/* sql_limits.c */
extern void apikey_limit_open_row(const pg_uuid_t *id, ApikeyRow *limit);

/* limit.c, for the files of limits */
extern int	apikey_limit_find_kind(const text *name);
extern int64 apikey_limit_number(const ApikeyRow *row, int column);
extern void apikey_limit_scan_key(ScanKey key, int column,
								  const pg_uuid_t *value);

/* limit_tell.c */
extern void apikey_limit_detail_begin(StringInfo json, const ApikeyRow *limit);

/* limit_set.c */
extern const ApikeyKeyPart apikey_limit_of_key;

#endif							/* APIKEY_LIMIT_H */
