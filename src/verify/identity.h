/*
 * identity.h
 *		Who is authenticated in the current transaction.
 */
#ifndef APIKEY_IDENTITY_H
#define APIKEY_IDENTITY_H

#include "verify/verify.h"

/* What a key was when it was authenticated; see identity.c for how long. */
typedef struct ApikeyIdentity
{
	pg_uuid_t	key;
	char	   *project;		/* path; NULL for a personal key */
	NameData	owner;			/* told of a personal key only */
	text	   *subject;		/* or NULL */
	ApikeyRole	role;			/* none for a personal key */
	ArrayType  *scopes;
	struct varlena *metadata;	/* a jsonb */
} ApikeyIdentity;

/* identity.c */
extern ApikeyTransactionPart apikey_identity_transaction;
extern void apikey_identity_set(const ApikeyVerdict *verdict);
extern const ApikeyIdentity *apikey_identity_current(void);

/* request.c */
extern text *apikey_request_key(void);
extern void apikey_request_demand(ApikeyDemand *demand);

#endif							/* APIKEY_IDENTITY_H */
