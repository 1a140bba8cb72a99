/*
 * shared_rate.h
 *		Rates that several servers share.
 */
#ifndef APIKEY_SHARED_RATE_H
#define APIKEY_SHARED_RATE_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

/* What the primary is asked for: arguments of apikey_server_take. */
typedef struct ApikeyFleetTake
{
	pg_uuid_t	limit;
	int64		least;
	int64		most;
	bool		charging;
} ApikeyFleetTake;

/* Its answer about one. */
typedef struct ApikeyFleetTaken
{
	pg_uuid_t	limit;
	int64		granted;
	int64		wait;			/* milliseconds, where that is 0; below 0: no such
								 * rate */
} ApikeyFleetTaken;

/* shared_rate.c */
extern int64 apikey_shared_rate_hand_out(const ApikeyFleetTake *take,
										 int64 *wait);

/* shared_rate_member.c */
/* For the member's worker. */
extern int	apikey_fleet_rate_asked(Oid database, ApikeyFleetTake *takes,
									int most);
extern void apikey_fleet_rate_answered(Oid database,
									   const ApikeyFleetTaken *taken,
									   TimestampTz sent_at);
extern void apikey_fleet_rate_unanswered(Oid database, const pg_uuid_t *limit);

#endif							/* APIKEY_SHARED_RATE_H */
