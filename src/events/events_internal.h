/*
 * events_internal.h
 *		What stays within events/.
 */
#ifndef APIKEY_EVENTS_INTERNAL_H
#define APIKEY_EVENTS_INTERNAL_H

#include "utils/timestamp.h"

#include "events/events.h"

/* event_name.c */
extern const char *apikey_event_name(ApikeyEvent event);

/* event.c */
extern void apikey_event_insert(ApikeyEvent event, const char *detail,
								ApikeyRow *row);
extern void apikey_event_set_key(const ApikeyRow *key, ApikeyRow *row);

/* notify.c */
extern void apikey_notify_event(ApikeyEvent event, int64 id, TimestampTz at);

#endif							/* APIKEY_EVENTS_INTERNAL_H */
