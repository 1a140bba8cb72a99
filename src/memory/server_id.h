/*
 * server_id.h
 *		Who this server is among those that verify together.
 */
#ifndef APIKEY_SERVER_ID_H
#define APIKEY_SERVER_ID_H

#include "utils/uuid.h"

#include "memory/part.h"

/* server_id.c */
extern const ApikeyMemoryPart apikey_server_id_memory;
extern void apikey_server_own_id(pg_uuid_t *id);
extern bool apikey_server_is_own(const pg_uuid_t *id);
extern void apikey_server_new_id(void);
extern const char *apikey_server_own_name(void);

#endif							/* APIKEY_SERVER_ID_H */
