/*
 * access_internal.h
 *		What stays within access/.
 */
#ifndef APIKEY_ACCESS_INTERNAL_H
#define APIKEY_ACCESS_INTERNAL_H

#include "store/store.h"
#include "rows/rows.h"
#include "access/access.h"

/* administrator.c */
extern bool apikey_administrator_add(Oid role);
extern bool apikey_administrator_remove(Oid role);

/* authority.c */
extern void apikey_authority_at(const ApikeyTenant *tenant,
								ApikeyAuthority *result);

/* hold.c */
extern void apikey_hold_keep(void);
extern bool apikey_hold_take(const ApikeyTenant *organization);

/* member.c */
extern bool apikey_member_covers(const ApikeyRow *row, Oid role,
								 const text *subject);

/* member_id.c */
extern void apikey_member_note_removed(const ApikeyTenant *tenant, Oid member,
									   const text *subject,
									   const pg_uuid_t *id);
extern void apikey_member_new_id(const ApikeyTenant *tenant, Oid member,
								 const text *subject, pg_uuid_t *id);

/* viewer.c */
extern void apikey_viewer_memberships(ApikeyViewer *viewer,
									  ApikeyVisitMembership visit,
									  void *state);

#endif							/* APIKEY_ACCESS_INTERNAL_H */
