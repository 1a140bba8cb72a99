/*
 * fleet.h
 *		The door of fleet/: what a member says to its primary.
 */
#ifndef APIKEY_FLEET_DOOR_H
#define APIKEY_FLEET_DOOR_H

/* worker.c */
extern void apikey_fleet_init(void);

#endif							/* APIKEY_FLEET_DOOR_H */
