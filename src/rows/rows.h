/*
 * rows.h
 *		The door of rows/: what the rows of keys, organizations and projects say;
 *		who is calling; what a value may be.
 */
#ifndef APIKEY_ROWS_H
#define APIKEY_ROWS_H

#include "utils/timestamp.h"

#include "store/store.h"
#include "rows/key_row.h"
#include "rows/limit_row.h"
#include "rows/tenant_row.h"
#include "rows/revocation_row.h"

/* role.c */
extern bool apikey_role_exists(Oid role);
extern bool apikey_role_stands(Oid role, const text *name);
extern void apikey_role_require(Oid role);
extern bool apikey_role_is(Oid role, const text *name);
extern char *apikey_role_called(Oid role);
extern Oid	apikey_role_named(const char *name);
extern text *apikey_role_name_text(Oid role, const text *last_known);
extern text *apikey_role_name_told(Oid role, const text *last_known);
extern bool apikey_role_superuser(Oid role);
extern bool apikey_role_has(Oid member, Oid role);
extern bool apikey_role_within(Oid member, Oid role);
extern List *apikey_roles_of(Oid role, bool by_memberships);

/* principal.c */
extern bool apikey_principal_readable(void);
extern bool apikey_principal_subjects_in_use(void);
extern void apikey_principal_be_nobody(void);
extern text *apikey_principal_subject(void);
extern void apikey_principal_require(void);
extern text *apikey_principal_subject_if_known(void);
extern bool apikey_principal_covered(Oid role, const text *subject,
									 Oid member, const text *member_subject);
extern bool apikey_principal_matches(Oid role, const text *subject);
extern bool apikey_principal_meant(Oid role, const text *name,
								   const text *subject);
extern text *apikey_principal_new_subject(text *wanted, bool any);

/* name.c */
extern text *apikey_rule_name(const char *argument, text *value,
							  const ApikeyRow *project);

/* rules.c */
extern void apikey_rule_reason(const text *value);
extern void apikey_rule_lookup(const text *value, bool of_part);
extern void apikey_rule_span(const char *argument, const Interval *value);
extern void apikey_rule_subject(const text *value);
extern void apikey_rule_scopes(Datum scopes);
extern void apikey_rule_prefix(const char *prefix, int len);
extern void apikey_rule_terms(const text *accepted, const ApikeyRow *project);
extern void apikey_rule_limit_held(const ApikeyRow *key);
extern void apikey_rule_attributes(const ApikeyRow *key,
								   const ApikeyRow *project);
extern void apikey_rule_metadata(const ApikeyRow *key);
extern TimestampTz apikey_rule_latest_end(TimestampTz begin,
										  const ApikeyRow *project);
extern bool apikey_rule_ends_after(const ApikeyRow *key, TimestampTz latest);
extern void apikey_rule_dates(const ApikeyRow *key, const ApikeyRow *project);
extern void apikey_rule_not_ended(const ApikeyRow *key);
extern void apikey_rule_project(const ApikeyRow *project);

#endif							/* APIKEY_ROWS_H */
