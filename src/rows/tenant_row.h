/*
 * tenant_row.h
 *		The rows of tenants: organizations and projects.
 */
#ifndef APIKEY_TENANT_ROW_H
#define APIKEY_TENANT_ROW_H

#include "utils/uuid.h"

#include "store/store.h"

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

/* An organization, or a project of it. */
typedef struct ApikeyTenant
{
	char	   *path;
	bool		is_project;
	ApikeyRow	organization;	/* where it is one, or was locked */
	ApikeyRow	project;		/* where it is one */
} ApikeyTenant;

/* tenant_row.c */
extern ApikeyTable apikey_organization_table;
extern ApikeyTable apikey_project_table;
extern const pg_uuid_t *apikey_tenant_organization(const ApikeyTenant *tenant);
extern const pg_uuid_t *apikey_tenant_project(const ApikeyTenant *tenant);
extern bool apikey_tenant_within(const char *project, const text *path);
extern bool apikey_tenant_fetch_project(const pg_uuid_t *id,
										ApikeyTenant *tenant);

#endif							/* APIKEY_TENANT_ROW_H */
