/*
 * verify.h
 *		Verification, and what is remembered of it.
 */
#ifndef APIKEY_VERIFY_H
#define APIKEY_VERIFY_H

#include "utils/array.h"
#include "utils/inet.h"
#include "utils/uuid.h"

#include "apikey.h"
#include "memory/code.h"
#include "memory/slot.h"
#include "text/tokentext.h"

/* What a text offered as a key can be, before anything is looked up. */
typedef enum ApikeyShape
{
	APIKEY_SHAPE_MISSING,		/* NULL or empty: nothing was offered */
	APIKEY_SHAPE_NONE,			/* no key's */
	APIKEY_SHAPE_FOREIGN,		/* an imported key's, perhaps */
	APIKEY_SHAPE_NATIVE,		/* a key's: prefix and id are right */
	APIKEY_SHAPE_TOKEN			/* a token's: where its prefix ends is right */
} ApikeyShape;

/*
 * What a caller offers; beyond the shape only of NATIVE, FOREIGN and TOKEN.
 * The id of a token is not known before it has been found.
 */
typedef struct ApikeyCredential
{
	ApikeyShape shape;
	pg_uuid_t	id;
	const char *prefix;			/* within the text it came from */
	size_t		prefix_len;
	size_t		text_len;		/* where prefix begins the whole key, or 0 */
	uint8		proof[APIKEY_DIGEST_BYTES]; /* then: of the proving characters */
	uint8		digest[APIKEY_DIGEST_BYTES];	/* then only after apikey_credential_digest */
} ApikeyCredential;

struct ApikeyBounds;
struct ApikeyBoundState;

/* So much of a unit. */
typedef struct ApikeyCost
{
	const char *unit;			/* within the JSON it was read from */
	int			len;
	int64		amount;
} ApikeyCost;

typedef struct ApikeyCosts
{
	int			count;
	ApikeyCost	list[FLEXIBLE_ARRAY_MEMBER];
} ApikeyCosts;

/* What a request needs of a key; NULL and false ask for nothing. */
typedef struct ApikeyDemand
{
	Datum		scopes;			/* a text[] as it was given, of any size */
	bool		by_scopes;		/* some are asked for */
	text	   *project;
	inet	   *client_addr;
	ApikeyRole	min_role;
	Oid			owner;			/* whose key; see judge_whose */
	bool		by_owner;		/* the caller has named the owner */
	int32		cost;			/* 0 asks without spending */
	ApikeyCosts *costs;			/* of other units; NULL: none are named */
} ApikeyDemand;

/* From when to when a token lasts. */
typedef struct ApikeyTokenSpan
{
	TimestampTz begin;
	TimestampTz end;
} ApikeyTokenSpan;

/* What has been decided; beyond the code only where the secret matched. */
typedef struct ApikeyVerdict
{
	ApikeyCode	code;
	TimestampTz at;				/* when the key was judged */
	const ApikeyRow *key;
	char	   *project;		/* path; NULL for a personal key */
	ApikeyKeyState state;		/* what it is, but for the time */
	const ApikeyTokenSpan *span;	/* of a token; NULL for a key */
	ApikeyTokenSpan fresh_span; /* of a token that is not remembered */
	bool		known;			/* the secret matched: there is a key */
	bool		rated;			/* what follows is known */
	int32		rate_remaining;
	TimestampTz rate_reset_at;	/* 0: never */
	bool		credited;		/* what follows is known */
	int64		credits;
	struct ApikeyBounds *bounds;	/* its limits; NULL for none */
	struct ApikeyBoundState *states;	/* of each, once it was judged by them */
	int			refused_by;		/* the number of one of them; -1: none */
	ApikeySlotHint *hint;		/* where the key's slot is, or */
	ApikeySlotHint fresh;		/* of a key that is not remembered */
	HeapTuple  *row;			/* where the row that tells VALID is kept */
} ApikeyVerdict;

/* cache.c */
extern void apikey_cache_init(void);
extern bool apikey_cache_lookup(ApikeyCredential *credential,
								ApikeyVerdict *verdict);
extern bool apikey_cache_lookup_id(const pg_uuid_t *id,
								   ApikeyVerdict *verdict);
extern bool apikey_cache_touch(const ApikeyCredential *credential,
							   TimestampTz now, TimestampTz before);
extern void apikey_cache_keep_row(ApikeyVerdict *verdict, HeapTuple row);
extern void apikey_cache_store(uint64 begun,
							   const ApikeyCredential *credential,
							   const ApikeyVerdict *verdict);

/* demand.c */
extern void apikey_demand_of_key(FunctionCallInfo fcinfo,
								 ApikeyCredential *credential,
								 ApikeyDemand *demand);
extern void apikey_demand_of_check(FunctionCallInfo fcinfo,
								   ApikeyCredential *credential,
								   ApikeyDemand *demand);
extern void apikey_demand_of_digest(FunctionCallInfo fcinfo,
									ApikeyCredential *credential,
									ApikeyDemand *demand);

/* costs.c */
extern ApikeyCosts *apikey_costs_read(Datum json, bool charge);
extern int64 apikey_costs_of(const ApikeyCosts *costs, const char *unit);

/* address.c */
extern bool apikey_address_allowed(Datum networks, inet *client);

/* credential.c */
extern void apikey_credential_from_key(NullableDatum key,
									   ApikeyCredential *credential);
extern void apikey_credential_from_digest(NullableDatum handle,
										  NullableDatum digest,
										  ApikeyCredential *credential);
extern bool apikey_credential_has_prefix(const ApikeyCredential *credential,
										 const ApikeyRow *key);
extern bool apikey_credential_native(const ApikeyCredential *credential);
extern bool apikey_credential_token(const ApikeyCredential *credential,
									ApikeyTokenText *token);
extern void apikey_credential_digest(ApikeyCredential *credential);

/* judge.c */
extern void apikey_judge_complete(ApikeyVerdict *verdict,
								  const ApikeyRow *key);
extern ApikeyCode apikey_judge(ApikeyVerdict *verdict,
							   const ApikeyDemand *demand);
extern ApikeyCode apikey_judge_state(const ApikeyVerdict *verdict);
extern ApikeyCode apikey_judge_use(const ApikeyVerdict *verdict,
								   const ApikeyDemand *demand);
extern ApikeyCode apikey_judge_spend(ApikeyVerdict *verdict,
									 const ApikeyDemand *demand);

/* verify.c */
extern bool apikey_verify_renew(ApikeyCredential *credential);
extern bool apikey_verify_find_pepper(const pg_uuid_t *id, int32 fingerprint,
									  const ApikeyPepper **pepper);
extern ApikeyCode apikey_verify_seen(ApikeyCredential *credential,
									 ApikeyVerdict *verdict);
extern ApikeyCode apikey_verify_held(ApikeyCredential *credential,
									 const ArrayType *scopes,
									 ApikeyVerdict *verdict);
extern ApikeyCode apikey_credential_find(ApikeyCredential *credential,
										 ApikeyRow *key);
extern bool apikey_verify_known(const pg_uuid_t *id,
								const ApikeyDemand *demand,
								ApikeyVerdict *verdict);
extern void apikey_verify_credential(ApikeyCredential *credential,
									 const ApikeyDemand *demand,
									 ApikeyVerdict *verdict);

#endif							/* APIKEY_VERIFY_H */
