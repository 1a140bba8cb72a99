/*
 * reveals.h
 *		Keys that have been revealed by who may undo the event of it.
 */
#ifndef APIKEY_REVEALS_H
#define APIKEY_REVEALS_H

#include "nodes/pg_list.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "memory/part.h"

#define APIKEY_REVEALED_KEYS	32	/* of a place */
#define APIKEY_REVEALED_SUBJECT	(255 * 4)	/* bytes of the longest that there may be */

/* Whose end is not known yet, or what has come of it. */
typedef enum ApikeyRevealedState
{
	APIKEY_REVEALED_FREE,
	APIKEY_REVEALED_OPEN,
	APIKEY_REVEALED_UNDONE,
	APIKEY_REVEALED_PREPARED
} ApikeyRevealedState;

typedef struct ApikeyRevealedKey
{
	pg_uuid_t	id;
	TimestampTz at;
} ApikeyRevealedKey;

/* What a subtransaction has revealed to a principal: a place of the list. */
typedef struct ApikeyRevealed
{
	ApikeyRevealedState state;
	Oid			database;
	Oid			actor;
	char		actor_name[NAMEDATALEN];
	bool		has_addr;
	inet_struct addr;
	int			subject_len;	/* 0: none */
	char		subject[APIKEY_REVEALED_SUBJECT];
	int			count;
	ApikeyRevealedKey keys[APIKEY_REVEALED_KEYS];
} ApikeyRevealed;

/* reveals.c */
extern const ApikeyMemoryPart apikey_reveals_memory;
extern int	apikey_reveals_keep(const ApikeyRevealed *what);
extern bool apikey_reveals_add(int place, const ApikeyRevealed *what);
extern void apikey_reveals_settle(int place, ApikeyRevealedState state);
extern List *apikey_reveals_databases(void);
extern bool apikey_reveals_next(Oid database, int *place,
								ApikeyRevealed *what);
extern void apikey_reveals_drop(Oid database);
extern const ApikeyRevealed *apikey_reveals_at(int place);
extern bool apikey_reveals_ok(const ApikeyRevealed *what);
extern void apikey_reveals_restore(const ApikeyRevealed *what);

#endif							/* APIKEY_REVEALS_H */
