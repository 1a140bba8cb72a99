/*
 * dynamic.h
 *		Shared memory where the library is not preloaded.
 */
#ifndef APIKEY_DYNAMIC_H
#define APIKEY_DYNAMIC_H

/* dynamic.c */
extern bool apikey_dynamic_attach(void);

/* dynamic_worker.c */
extern void apikey_dynamic_call(void);
extern bool apikey_dynamic_served(void);
extern void apikey_dynamic_flush(void);
extern bool apikey_dynamic_begin(uint32 number);
extern bool apikey_dynamic_alone(uint32 *changes);
extern bool apikey_dynamic_leave(uint32 changes);
extern uint64 apikey_dynamic_requests(void);
extern void apikey_dynamic_done(uint64 requests);

#endif							/* APIKEY_DYNAMIC_H */
