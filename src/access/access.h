/*
 * access.h
 *		The door of access/: organizations, projects and members; who may do what,
 *		and see what.
 */
#ifndef APIKEY_ACCESS_H
#define APIKEY_ACCESS_H

#include "utils/hsearch.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "store/store.h"
#include "rows/rows.h"
#include "access/authority.h"
#include "access/viewer.h"

typedef enum ApikeyMemberColumn
{
	APIKEY_MEMBER_ID,
	APIKEY_MEMBER_ORGANIZATION,
	APIKEY_MEMBER_PROJECT,
	APIKEY_MEMBER_SUBJECT,
	APIKEY_MEMBER_MEMBER,
	APIKEY_MEMBER_MEMBER_NAME,
	APIKEY_MEMBER_ROLE,
	APIKEY_MEMBER_CREATED_AT,
	APIKEY_MEMBER_CREATED_BY
} ApikeyMemberColumn;

/* member.c */
extern ApikeyTable apikey_member_table;
extern void apikey_member_scan(const pg_uuid_t *organization,
							   const pg_uuid_t *project,
							   ApikeyVisit visit, void *state);
extern void apikey_member_keep(void);

/* member_change.c */
extern void apikey_member_end(const ApikeyRow *row);
extern bool apikey_member_finish(const pg_uuid_t *id, ApikeyLock lock);
extern void apikey_member_put(const ApikeyTenant *tenant, Oid member,
							  text *subject, ApikeyRole role);
extern bool apikey_member_remove_from(const ApikeyTenant *tenant, Oid member,
									  text *subject);

/* member_id.c */
extern ApikeyTransactionPart apikey_member_transaction;

/* What somebody is in a tenant, remembered during one call. */
typedef struct ApikeyKnownRoles
{
	MemoryContext context;
	bool		removals;		/* some may have been removed beside their rows */
	Snapshot	snapshot;		/* NULL until something is asked */
	HTAB	   *answers;
} ApikeyKnownRoles;

/* member_role.c */
extern void apikey_known_roles_begin(ApikeyKnownRoles *known);
extern void apikey_known_roles_end(ApikeyKnownRoles *known);
extern ApikeyRole apikey_known_role(ApikeyKnownRoles *known, Oid role,
									const text *subject,
									const pg_uuid_t *organization,
									const pg_uuid_t *project);
extern ApikeyRole apikey_member_role(Oid role, const text *subject,
									 const pg_uuid_t *organization,
									 const pg_uuid_t *project);
extern bool apikey_member_named(Oid role, const text *subject,
								const ApikeyTenant *tenant);

/* standing.c */
extern ApikeyTransactionPart apikey_standing_transaction;

/* tenant.c */
extern ApikeyRole apikey_tenant_role(const ApikeyTenant *tenant);
pg_noreturn extern void apikey_tenant_refuse_unknown(const char *path,
													 bool is_project);
extern void apikey_tenant_open_to_remove(const text *path,
										 ApikeyTenant *tenant);
extern void apikey_tenant_open(const text *path, ApikeyTenant *tenant);
extern void apikey_tenant_open_with(const text *path, ApikeyLock lock,
									ApikeyTenant *tenant);
extern void apikey_tenant_open_project(const pg_uuid_t *id,
									   ApikeyTenant *tenant);
extern void apikey_tenant_open_for_keys(const text *path,
										ApikeyTenant *tenant);
extern void apikey_tenant_keep(ApikeyTenant *tenant);
extern void apikey_tenant_lock(ApikeyTenant *tenant, ApikeyLock lock);
extern void apikey_tenant_create_organization(const text *name,
											  ApikeyTenant *tenant);
extern void apikey_tenant_create_project(const text *path,
										 ApikeyTenant *tenant);

/* What a key is at an instant, whoever asks. */
typedef enum ApikeyStatus
{
	APIKEY_STATUS_ACTIVE,
	APIKEY_STATUS_RETIRING,		/* replaced, in its grace */
	APIKEY_STATUS_SCHEDULED,
	APIKEY_STATUS_DISABLED,
	APIKEY_STATUS_FORBIDDEN,	/* owner or voucher has left its project */
	APIKEY_STATUS_EXPIRED,
	APIKEY_STATUS_REVOKED
} ApikeyStatus;

/* administrator.c */
extern bool apikey_administers(void);

/* grant.c */
extern void apikey_grant_change(const text *what, Oid role, bool grant);
extern void apikey_grant_follow_owner(void);
extern List *apikey_grant_lacking(Oid *owner);

/* hold.c */
extern void apikey_hold_name(const ApikeyTenant *organization);

/* What a key is, but for what the clock decides. */
typedef struct ApikeyKeyState
{
	uint8		role;			/* ApikeyRole, in effect; or none */
	bool		personal:1;
	bool		revoked:1;		/* by its row, or its owner has been dropped */
	bool		disabled:1;
	bool		timed:1;		/* it has a start or an end */
	bool		forbidden:1;	/* owner or voucher has left its project */
	bool		replaced:1;		/* it is in its grace */
	bool		by_address:1;	/* not every client may use it */
} ApikeyKeyState;

/* From when to when a key lasts, or a token. */
typedef struct ApikeySpan
{
	TimestampTz begin;
	TimestampTz end;
} ApikeySpan;

/* status.c */
extern Oid	apikey_status_voucher(const ApikeyRow *key, const text **subject);
extern const text *apikey_status_voucher_name(const ApikeyRow *key);
extern Oid	apikey_status_charged(const ApikeyRow *key);
extern void apikey_status_vouch(ApikeyRow *key);
extern void apikey_status_read_own(const ApikeyRow *key, ApikeyKeyState *state,
								   ApikeySpan *span);
extern void apikey_status_read(const ApikeyRow *key,
							   const ApikeyTenant *tenant,
							   ApikeyKnownRoles *known,
							   ApikeyKeyState *state, ApikeySpan *span);
extern ApikeyStatus apikey_status_at(const ApikeyKeyState *state,
									 const ApikeySpan *span, TimestampTz now);
extern bool apikey_status_ended(const ApikeyKeyState *state,
								const ApikeySpan *span, TimestampTz now);
extern const char *apikey_status_name(ApikeyStatus status);

#endif							/* APIKEY_ACCESS_H */
