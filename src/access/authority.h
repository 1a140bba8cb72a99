/*
 * authority.h
 *		Who may do what with a key.
 */
#ifndef APIKEY_AUTHORITY_H
#define APIKEY_AUTHORITY_H

#include "utils/uuid.h"

#include "store/store.h"

typedef enum ApikeyRight
{
	APIKEY_RIGHT_SEE,
	APIKEY_RIGHT_REVOKE,
	APIKEY_RIGHT_DISABLE,
	APIKEY_RIGHT_DELETE,
	APIKEY_RIGHT_CHANGE			/* update, rename, transfer, enable, ... */
} ApikeyRight;

/* What the caller is in a project. */
typedef struct ApikeyAuthority
{
	ApikeyRole	member_role;
	bool		members_can_view;
} ApikeyAuthority;

/* authority.c */
extern bool apikey_authority_sees_all(void);
extern bool apikey_authority_sees_keys(void);
extern bool apikey_authority_lists(const ApikeyAuthority *authority);
extern void apikey_authority_in_project(const pg_uuid_t *project,
										ApikeyAuthority *result);
extern bool apikey_authority_grants(const ApikeyAuthority *authority,
									ApikeyRight right, const ApikeyRow *key);
extern bool apikey_authority_may(ApikeyRight right, const ApikeyRow *key);
extern bool apikey_authority_sees(const ApikeyRow *key);

#endif							/* APIKEY_AUTHORITY_H */
