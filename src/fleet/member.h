/*
 * member.h
 *		The worker of a member that speaks to the primary.
 */
#ifndef APIKEY_MEMBER_H
#define APIKEY_MEMBER_H

#include "fleet/wire.h"

/* A database that may have something to tell. */
typedef struct ApikeyFleetDatabase
{
	Oid			oid;
	char		name[NAMEDATALEN];
	bool		subscribed;		/* it has a subscription */
} ApikeyFleetDatabase;

/* target.c: where the primary is */
extern bool apikey_target_list(void);
extern const ApikeyFleetDatabase *apikey_target_database(int number);
extern bool apikey_target_any(const ApikeyWire *wire, unsigned attempt,
							  ApikeyWireTarget *target);
extern bool apikey_target_of(const ApikeyWire *wire, unsigned attempt,
							 const ApikeyFleetDatabase *database,
							 ApikeyWireTarget *target);
extern void apikey_target_reach(Oid database);
extern void apikey_target_lose(Oid database);
extern bool apikey_target_reached(void);

/* pulse.c: how fresh this server is */
extern void apikey_pulse_begin(const ApikeyWire *table);
extern void apikey_pulse_step(void);
extern void apikey_pulse_stop(void);
extern long apikey_pulse_wait(pgsocket *socket, uint32 *events);

/* leases.c */
extern void apikey_leases_begin(const ApikeyWire *table);
extern void apikey_leases_forget(Oid database);

/* beat.c */
extern void apikey_beat_begin(const ApikeyWire *table);

/* link.c */
extern void apikey_link_begin(const ApikeyWire *table);

/* join.c */
extern void apikey_join_begin(const ApikeyWire *table);

/* report.c */
extern void apikey_report_begin(const ApikeyWire *table);

/* refused.c */
extern void apikey_refused_begin(const ApikeyWire *table);

/* worker.c */
extern PGDLLEXPORT void apikey_fleet_main(Datum arg);

#endif							/* APIKEY_MEMBER_H */
