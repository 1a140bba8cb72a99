/*
 * place.h
 *		Organizations, projects and their members.
 */
#ifndef APIKEY_PLACE_H
#define APIKEY_PLACE_H

#include "store/table.h"

/* The columns of our tables, in their order there. */
typedef enum ApikeyOrganizationColumn
{
	APIKEY_ORGANIZATION_ID,
	APIKEY_ORGANIZATION_NAME,
	APIKEY_ORGANIZATION_CREATED_AT
} ApikeyOrganizationColumn;

typedef enum ApikeyProjectColumn
{
	APIKEY_PROJECT_ID,
	APIKEY_PROJECT_ORGANIZATION,
	APIKEY_PROJECT_PATH,
	APIKEY_PROJECT_CREATED_AT,
	APIKEY_PROJECT_MEMBERS_CAN_VIEW,
	APIKEY_PROJECT_NAME_PATTERN,
	APIKEY_PROJECT_MAX_TTL,
	APIKEY_PROJECT_MAX_KEYS,
	APIKEY_PROJECT_TERMS,
	APIKEY_PROJECT_REVEALABLE,
	APIKEY_PROJECT_MAX_IDLE,
	APIKEY_PROJECT_MAX_IDLE_AT
} ApikeyProjectColumn;

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

/* An organization, or a project of it. */
typedef struct ApikeyPlace
{
	char	   *path;
	bool		is_project;
	ApikeyRow	organization;	/* where it is one, or was locked */
	ApikeyRow	project;		/* where it is one */
} ApikeyPlace;

/* member.c */
extern ApikeyTable apikey_member_table;

extern bool apikey_member_covers(const ApikeyRow *row, Oid role,
								 const text *subject);
extern void apikey_member_scan(const pg_uuid_t *organization,
							   const pg_uuid_t *project,
							   ApikeyVisit visit, void *state);
extern ApikeyRole apikey_member_standing(Oid role, const text *subject,
										 const pg_uuid_t *organization,
										 const pg_uuid_t *project);
extern bool apikey_member_named(Oid role, const text *subject,
								const ApikeyPlace *place);
extern void apikey_member_put(const ApikeyPlace *place, Oid member,
							  text *subject, ApikeyRole role);
extern bool apikey_member_remove_from(const ApikeyPlace *place, Oid member,
									  text *subject);

/* place.c */
extern ApikeyTable apikey_organization_table;
extern ApikeyTable apikey_project_table;

extern const pg_uuid_t *apikey_place_organization(const ApikeyPlace *place);
extern const pg_uuid_t *apikey_place_project(const ApikeyPlace *place);
extern bool apikey_place_within(const char *project, const text *path);
extern ApikeyRole apikey_place_standing(const ApikeyPlace *place);
pg_noreturn extern void apikey_place_refuse_unknown(const char *path,
													bool is_project);
extern void apikey_place_open(const text *path, ApikeyPlace *place);
extern void apikey_place_open_with(const text *path, ApikeyLock lock,
								   ApikeyPlace *place);
extern void apikey_place_open_project(const pg_uuid_t *id, ApikeyPlace *place);
extern void apikey_place_open_for_keys(const text *path, ApikeyPlace *place);
extern void apikey_place_hold(ApikeyPlace *place);
extern void apikey_place_lock(ApikeyPlace *place, ApikeyLock lock);
extern bool apikey_place_fetch_project(const pg_uuid_t *id,
									   ApikeyPlace *place);
extern void apikey_place_create_organization(const text *name,
											 ApikeyPlace *place);
extern void apikey_place_create_project(const text *path, ApikeyPlace *place);
extern void apikey_place_drop(ApikeyPlace *place);

#endif							/* APIKEY_PLACE_H */
