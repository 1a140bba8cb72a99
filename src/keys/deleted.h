/*
 * deleted.h
 *		Keys that have been deleted: what charges still count for.
 */
#ifndef APIKEY_DELETED_H
#define APIKEY_DELETED_H

#include "apikey.h"

extern void apikey_deleted_note(const ApikeyRow *key);
extern bool apikey_deleted_fetch(const pg_uuid_t *id, ApikeyRow *key,
								 ApikeyPlace *place);
extern bool apikey_deleted_forget(void);

#endif							/* APIKEY_DELETED_H */
