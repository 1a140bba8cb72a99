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
extern void apikey_administrator_keep(void);

/* hold.c */
extern void apikey_hold_keep(void);
extern bool apikey_hold_take(const ApikeyTenant *organization);

/* member.c */
extern Oid	apikey_member_oid(const ApikeyRow *row);
extern bool apikey_member_stands(const ApikeyRow *row);
extern void apikey_member_keys(ScanKeyData *keys,
							   const pg_uuid_t *organization,
							   const pg_uuid_t *project);
extern void apikey_member_scan_rows(const pg_uuid_t *organization,
									const pg_uuid_t *project,
									Snapshot snapshot, ApikeyVisit visit,
									void *state);
extern void apikey_member_scan_one(const pg_uuid_t *organization,
								   const pg_uuid_t *project, Oid member,
								   const text *subject, Snapshot snapshot,
								   ApikeyVisit visit, void *state);
extern bool apikey_member_place_read(void);
extern bool apikey_member_covers(const ApikeyRow *row, Oid role,
								 const text *subject);

/* member_change.c */
extern void apikey_member_found(const ApikeyTenant *tenant, text *subject);

/* member_id.c */
extern void apikey_member_note_removed(const ApikeyTenant *tenant, Oid member,
									   const text *subject,
									   const pg_uuid_t *id);
extern bool apikey_member_new_id(const ApikeyTenant *tenant, Oid member,
								 const text *subject, pg_uuid_t *id);

/* standing.c */
extern void apikey_standing_note(const ApikeyTenant *tenant);
extern List *apikey_standing_ending(const ApikeyTenant *tenant,
									const pg_uuid_t *id);
extern void apikey_standing_ended(const ApikeyTenant *tenant,
								  const List *committing);

/* undo.c */
extern void apikey_undo(const ApikeyTenant *tenant, const List *committing);

/* viewer.c */
extern void apikey_viewer_memberships(ApikeyViewer *viewer,
									  ApikeyVisitMembership visit,
									  void *state);

#endif							/* APIKEY_ACCESS_INTERNAL_H */
