/*
 * step.h
 *		The transactions in which a worker does its work.
 */
#ifndef APIKEY_STEP_H
#define APIKEY_STEP_H

/*
 * So many rows are changed in a step at most, each with what belongs to it.  Who
 * waits for the worker, for credits above all, waits for its step to end, and
 * may not wait for longer than a verification does: 100 ms in all.
 */
#define APIKEY_STEP_CHANGES	100

/* step.c */
extern bool apikey_step_begin(void);
extern bool apikey_step_full(int changes);
extern void apikey_step_commit(void);

#endif							/* APIKEY_STEP_H */
