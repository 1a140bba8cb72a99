/*
 * worker.h
 *		The door of worker/: the processes that work in the background.
 */
#ifndef APIKEY_WORKER_H
#define APIKEY_WORKER_H

/* keeper.c */
extern void apikey_keeper_init(void);

/* launcher.c */
extern void apikey_launcher_init(void);

#endif							/* APIKEY_WORKER_H */
