/*
 * pass.h
 *		How far the worker is on its ways through rows, and through memory.
 */
#ifndef APIKEY_PASS_H
#define APIKEY_PASS_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"
#include "memory/part.h"

/* What is gone through. */
typedef enum ApikeyPassOver
{
	APIKEY_PASS_USES,			/* in memory, from here on */
	APIKEY_PASS_DENIALS,
	APIKEY_PASS_MARKS,
	APIKEY_PASS_REVEALS,
	APIKEY_PASS_HISTORY,
	APIKEY_PASS_DIGESTS,
	APIKEY_PASS_LEASES,
	APIKEY_PASS_ORPHANS,		/* in tables, from here on */
	APIKEY_PASS_SETTLE,
	APIKEY_PASS_SUMS,
	APIKEY_PASS_DELETED,
	APIKEY_PASS_EVENTS,
	APIKEY_PASS_EXPIRY,
	APIKEY_PASS_IDLE,
	APIKEY_PASSES
} ApikeyPassOver;

/*
 * A way through rows, in the order of an index, or through what is in memory: in
 * steps, each a transaction that goes on behind the last that was looked at.  Each
 * user sets what it needs.
 *
 * Who goes on making, or changing, what is gone through is not to make it longer for
 * ever: what has become due, or was made, since it began is the next one's, and is
 * asked for.
 */
typedef struct ApikeyPass
{
	bool		begun;			/* there may be more */
	bool		left;			/* something is for another pass, soon */
	bool		failed;			/* a step did */
	bool		found;			/* something on the way, as its user means */
	bool		in_project;		/* not all of its rows were looked at */
	int			number;			/* the next one's, in memory */
	uint64		round;			/* of a flush, in which it began; 0: in none */
	TimestampTz began_at;
	pg_uuid_t	project;		/* the last, where projects are gone through */
	ApikeyPlace projects;		/* how far, then */
	ApikeyPlace place;			/* how far it is in an index */
	uint64		asked;			/* how often it was asked for when it began */
	TimestampTz next;			/* when the next pass may find something */
} ApikeyPass;

/* pass.c */
extern const ApikeyMemoryPart apikey_pass_memory;
extern void apikey_pass_begin_step(void);
extern void apikey_pass_await(uint64 round);
extern uint64 apikey_pass_awaited(void);
extern ApikeyPass *apikey_pass_take(ApikeyPassOver what);
extern bool apikey_pass_keep(ApikeyPassOver what);
extern void apikey_pass_failed(void);
extern void apikey_pass_begin(ApikeyPass *pass);
extern bool apikey_pass_since(const ApikeyPass *pass, TimestampTz at);
extern void apikey_pass_next_at(ApikeyPass *pass, TimestampTz next);

#endif							/* APIKEY_PASS_H */
