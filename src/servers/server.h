/*
 * server.h
 *		The servers that verify beside the primary, as the primary knows them.
 */
#ifndef APIKEY_SERVER_H
#define APIKEY_SERVER_H

#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"

/* The columns of apikey_server, in their order there. */
typedef enum ApikeyServerColumn
{
	SERVER_ID,
	SERVER_NAME,
	SERVER_KIND,
	SERVER_VERSION,
	SERVER_TOKEN,				/* null: of the primary, which joins nobody */
	SERVER_EPOCH,
	SERVER_SEQUENCE,
	SERVER_FIRST_SEEN_AT,
	SERVER_SEEN_AT,
	SERVER_LAST_REPORT_AT,
	SERVER_USES,
	SERVER_LAG,
	SERVER_LOST_AT				/* an event has told of it */
} ApikeyServerColumn;

#define APIKEY_SERVER_PRIMARY		"primary"
#define APIKEY_SERVER_STANDBY		"standby"
#define APIKEY_SERVER_SUBSCRIBER	"subscriber"

/* What a server says of itself when it joins. */
typedef struct ApikeyJoin
{
	pg_uuid_t	id;
	const pg_uuid_t *tokens;	/* any of which may stand in its row */
	int			token_count;
	pg_uuid_t	new_token;
	text	   *name;
	text	   *kind;
	text	   *version;
	bool		keep;			/* its leases */
} ApikeyJoin;

/* server.c */
extern const ApikeyTable apikey_server_table;
extern void apikey_server_require_primary(const char *function);
extern void apikey_server_serve(const char *function);
extern void apikey_server_open(const pg_uuid_t *id, int64 epoch,
							   ApikeyRow *server);
extern void apikey_server_require(const pg_uuid_t *id, int64 epoch);
extern void apikey_server_walk(ApikeyVisit visit, void *state);
extern bool apikey_server_silent(const ApikeyRow *server, TimestampTz now);
extern void apikey_server_remove(const ApikeyRow *server);
extern bool apikey_server_find(const text *name, ApikeyRow *server);

/* server_join.c */
extern bool apikey_server_admit(const ApikeyJoin *join, ApikeyRow *server);

/* server_watch.c */
extern void apikey_server_count_own(int64 uses);
extern bool apikey_server_watch(void);

/* server_promoted.c */
extern void apikey_server_settle_promoted(void);

/* server_beat.c */
extern int64 apikey_server_next_beat(int64 *age);

#endif							/* APIKEY_SERVER_H */
