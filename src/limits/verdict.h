/*
 * verdict.h
 *		What a verification asks of a key, and comes to; verify/ fills it in.
 */
#ifndef APIKEY_VERDICT_H
#define APIKEY_VERDICT_H

#include "access/htup.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "access/access.h"

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

/* costs.c */
extern ApikeyCosts *apikey_costs_read(Datum json, bool charge);

#endif							/* APIKEY_VERDICT_H */
