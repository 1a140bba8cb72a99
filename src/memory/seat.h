/*
 * seat.h
 *		The seats of workers, and who asks for one to come.
 */
#ifndef APIKEY_SEAT_H
#define APIKEY_SEAT_H

#include "storage/latch.h"
#include "storage/spin.h"

#include "memory/part.h"

struct BackgroundWorker;

#define APIKEY_SEATS	3
#define APIKEY_FLUSH_REQUESTS	64		/* databases that are flushed on request */

typedef enum ApikeySeatState
{
	APIKEY_SEAT_EMPTY,
	APIKEY_SEAT_STARTING,
	APIKEY_SEAT_WAITING,		/* for a call */
	APIKEY_SEAT_CALLED,			/* to a database */
	APIKEY_SEAT_WORKING,		/* there */
	APIKEY_SEAT_LEAVING
} ApikeySeatState;

typedef struct ApikeySeat
{
	ApikeySeatState state;
	uint32		number;			/* of the start */
	Latch	   *latch;			/* the worker's, from WAITING on */
	Oid			database;		/* from CALLED on; none: to list them */
	bool		flush;			/* all there is to be done */
	bool		more;			/* not all of it was done */
	bool		reached;		/* the database */
} ApikeySeat;

/*
 * A round of all that a worker does in its database, for those who wait in
 * apikey_flush(): it may take many turns of workers, and of no stage is more than
 * one way done for it, whatever is asked for meanwhile.
 */
typedef struct ApikeyRound
{
	uint64		number;			/* no other's; 0: nobody waits */
	uint64		requests;		/* so many are over with it */
	uint32		through;		/* the stages that have come to their end */
} ApikeyRound;

/* apikey_flush() in a database: the number of its last call, and of the last that is done. */
typedef struct ApikeyFlushRequest
{
	Oid			database;
	uint64		asked;
	uint64		done;
	ApikeyRound round;			/* that has begun */
} ApikeyFlushRequest;

typedef struct ApikeySeats
{
	slock_t		mutex;			/* guards all of it */
	Latch	   *launcher;
	uint32		starts;
	bool		starved;		/* no worker process can be had */
	bool		others_wait;	/* for prompt work, and there is none to go */
	bool		others_flush;	/* when this one has had its turn */
	uint32		turns;			/* so that another stage begins each time */
	uint64		rounds;			/* that have begun */
	uint64		flushes;		/* that were asked for, in any database */
	ApikeySeat	seats[APIKEY_SEATS];
	ApikeyFlushRequest requests[APIKEY_FLUSH_REQUESTS];
} ApikeySeats;

/* seat.c */
extern ApikeySeats *apikey_seats;
extern const ApikeyMemoryPart apikey_seat_memory;
extern void apikey_seat_call(Oid database);
extern bool apikey_seat_at_hand(void);
extern bool apikey_seat_launched(void);
extern void apikey_seat_wake_launcher(void);
extern void apikey_seat_describe_worker(struct BackgroundWorker *worker,
										const char *library,
										const char *function, Datum argument,
										uint32 number);
extern void apikey_seat_await_flush(bool at_hand, TimestampTz *since);
extern void apikey_seat_flush(void);
extern ApikeyRound apikey_seat_round(void);
extern void apikey_seat_end_turn(const ApikeyRound *round, bool all);

#endif							/* APIKEY_SEAT_H */
