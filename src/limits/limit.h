/*
 * limit.h
 *		Limits of keys, subjects, projects and organizations: their rows, and
 *		what a key is bound by.
 */
#ifndef APIKEY_LIMIT_H
#define APIKEY_LIMIT_H

#include "utils/uuid.h"

#include "store/store.h"
#include "events/events.h"
#include "keys/keys.h"

#define APIKEY_LIMIT_MOST	(INT64CONST(1) << 53)	/* of an amount */
#define APIKEY_REQUESTS		"requests"	/* the unit that a cost is of */

/* Whose a limit is: a key's, a tenant's, or a role's keys of a subject. */
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
extern void apikey_limit_holder(const ApikeyRow *limit,
								ApikeyLimitHolder *holder);
extern bool apikey_limit_exists(const pg_uuid_t *id);
extern ApikeyLimitKind apikey_limit_kind(const ApikeyRow *limit);
extern void apikey_limit_require_library(void);

/* limit_rule.c */
extern bool apikey_limit_unit_valid(const text *unit);
extern void apikey_limit_rule(const ApikeyRow *limit);

/* limit_set.c */
pg_noreturn extern void apikey_limit_refuse_concurrent(const pg_uuid_t *id);
extern void apikey_limit_lock(const pg_uuid_t *id, ApikeyRow *limit);
extern void apikey_limit_claim_subject(Oid owner, const text *subject);
extern void apikey_limit_put(ApikeyRow *limit, pg_uuid_t *id);
extern void apikey_limit_change(const ApikeyRow *before, ApikeyRow *limit,
								const char *changes);
extern bool apikey_limit_only_tighter(const ApikeyRow *limit);
extern void apikey_limit_remove(const ApikeyRow *limit);
extern const ApikeyKeyPart apikey_limit_of_key;

/* limit_tell.c */
extern void apikey_limit_tell(const ApikeyRow *limit, ApikeyEvent event,
							  const char *detail);
extern char *apikey_limit_detail_with(const ApikeyRow *limit, const char *name,
									  int64 value, const pg_uuid_t *key);

#endif							/* APIKEY_LIMIT_H */
