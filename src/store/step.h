/*
 * step.h
 *		The transactions in which a worker does its work.
 */
#ifndef APIKEY_STEP_H
#define APIKEY_STEP_H

/* step.c */
extern bool apikey_step_begin(void);
extern void apikey_step_commit(void);

#endif							/* APIKEY_STEP_H */
