/*
 * tick.h
 *		A time that no clock's setting moves.
 */
#ifndef APIKEY_TICK_H
#define APIKEY_TICK_H

/* In microseconds; 0 is over at any time, and the last never comes. */
typedef uint64 ApikeyTick;

#define APIKEY_TICK_LAST	PG_UINT64_MAX

/* tick.c */
extern ApikeyTick apikey_tick(void);

#endif							/* APIKEY_TICK_H */
