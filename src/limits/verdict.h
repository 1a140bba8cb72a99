/*
 * verdict.h
 *		What a verification asks of a key, and comes to; verify/ fills it in.
 */
#ifndef APIKEY_VERDICT_H
#define APIKEY_VERDICT_H

#include "utils/inet.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/memory.h"
#include "access/access.h"

struct ApikeyBounds;

struct ApikeyBoundState;

struct ApikeyCacheEntry;

/* What a request needs of a key; NULL and false ask for nothing. */
typedef struct ApikeyRequirements
{
	Datum		scopes;			/* a text[] as it was given, of any size */
	bool		by_scopes;		/* some are asked for */
	text	   *project;
	inet	   *client_addr;
	ApikeyRole	min_role;
	Oid			owner;			/* whose key; see judge_whose */
	bool		by_owner;		/* the caller has named the owner */
	bool		unknown;		/* somebody keeps us from telling what is named */
	int32		cost;			/* 0 asks without spending */
	Jsonb	   *costs;			/* of other units; NULL: none are named */
} ApikeyRequirements;

/*
 * What has been decided; beyond the code only where the secret matched.  "fresh"
 * is what is pointed to where nothing is remembered of the key.
 */
typedef struct ApikeyVerdict
{
	ApikeyCode	code;
	TimestampTz at;				/* when the key was judged */
	const pg_uuid_t *id;
	const struct ApikeyCacheEntry *entry;	/* what is remembered; or NULL */
	const ApikeyRow *key;		/* of an entry only after apikey_verdict_key */
	const char *project;		/* path; NULL for a personal key */
	ApikeyKeyState state;		/* what it is, but for the time, */
	const ApikeySpan *term;		/* and for how long */
	ApikeySpan	fresh_term;
	const ApikeySpan *span;		/* of a token; NULL for a key */
	ApikeySpan	fresh_span;
	bool		known;			/* the secret matched: there is a key */
	uint64		begun;			/* what apikey_changes_begin said before it was
								 * read, where nothing is remembered */
	bool		rated;			/* what follows is known */
	int32		rate_remaining;
	TimestampTz rate_reset_at;	/* 0: never */
	bool		credited;		/* what follows is known */
	int64		credits;
	struct ApikeyBounds *bounds;	/* its limits; NULL for none */
	struct ApikeyBoundState *states;	/* of each, once it was judged by them */
	int			refused_by;		/* the number of one of them; -1: none */
	ApikeySlotHint *hint;		/* who is charged, and where its slot may be */
	ApikeySlotHint fresh_hint;
} ApikeyVerdict;

/* costs.c */
extern Jsonb *apikey_costs_read(Datum costs_json, bool charge);

#endif							/* APIKEY_VERDICT_H */
