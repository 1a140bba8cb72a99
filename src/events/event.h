/*
 * event.h
 *		The rows of the trail.
 */
#ifndef APIKEY_EVENT_H
#define APIKEY_EVENT_H

#include "apikey.h"

/* The columns of apikey_event, in their order there. */
typedef enum ApikeyEventColumn
{
	EVENT_ID,
	EVENT_AT,
	EVENT_EVENT,
	EVENT_KEY_ID,
	EVENT_KEY_NAME,
	EVENT_KEY_OWNER,
	EVENT_KEY_SUBJECT,
	EVENT_PLACE,
	EVENT_ORGANIZATION,
	EVENT_PROJECT,
	EVENT_ACTOR,
	EVENT_ACTOR_OID,			/* null: only rows of 0.1.0 have it */
	EVENT_ACTOR_SUBJECT,
	EVENT_CLIENT_ADDR,
	EVENT_DETAIL,
	EVENT_KEY_OWNER_NAME
} ApikeyEventColumn;

/* event.c */
extern const ApikeyTable apikey_event_table;

extern bool apikey_event_own(const ApikeyRow *event);

#endif							/* APIKEY_EVENT_H */
