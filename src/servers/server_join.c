/*
 * server_join.c
 *		Joining: whether a server is who it says, and what it is called.
 *
 *		its row			its tokens		comes of it
 *		there is none	none			a new one: it has joined
 *		there is none	some			nobody: it was forgotten
 *		the new token	any				the same attempt again, the same answer
 *		one of them		some			the new token and another epoch
 *		another token	any				nobody: a copy of it was here before
 *
 * A server that has joined is still there when its answer is lost: it asks with
 * the same new token.  Names are unique, so that one can be forgotten by its
 * name: another server of the same name is called by a number, too, until the
 * first is silent for good.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "events/events.h"
#include "servers/server_lease.h"
#include "servers/servers_internal.h"

#define SERVERS_MAX		1000

static bool
same_id(const pg_uuid_t *one, const pg_uuid_t *other)
{
	return memcmp(one, other, sizeof(pg_uuid_t)) == 0;
}

static bool
count_server(const ApikeyRow *server pg_attribute_unused(), void *state)
{
	return ++*(int *) state < SERVERS_MAX;
}

static void
require_room(void)
{
	int			count = 0;

	apikey_server_walk(count_server, &count);
	if (count >= SERVERS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many servers have joined"),
				 errhint("Forget those that are gone by apikey_server_forget().")));
}

/*
 * May a server's name be another's?  Where it has been silent for so long that
 * its leases are forfeited, and where it was the primary and is not any more, it
 * is forgotten for that.  One that is cut off for less has yet to report.
 */
static bool
make_way(const ApikeyRow *found)
{
	ApikeyRow	server;
	bool		primary = apikey_same_text(apikey_row_text(found, SERVER_KIND),
										   cstring_to_text(APIKEY_SERVER_PRIMARY));

	if (!primary &&
		DatumGetTimestampTz(found->values[SERVER_SEEN_AT]) >=
		GetCurrentTimestamp() - APIKEY_LEASE_KEPT_FOR)
		return false;
	if (primary && apikey_server_is_own(apikey_row_id(found)))
		return false;
	/* Somebody is at it: then it is not silent. */
	if (!apikey_table_lock(&apikey_server_table, apikey_row_id(found),
						   APIKEY_LOCK_UPDATE_SKIP, &server))
		return false;
	apikey_server_remove(&server);
	return true;
}

/* The name that a server gets: the one that it wants, or with a number. */
text *
apikey_server_free_name(const text *wanted, const pg_uuid_t *id)
{
	for (int number = 1;; number++)
	{
		text	   *name = number == 1 ?
			cstring_to_text(text_to_cstring(wanted)) :
			cstring_to_text(psprintf("%s (%d)", text_to_cstring(wanted), number));
		ApikeyRow	found;

		if (!apikey_server_find(name, &found) ||
			same_id(apikey_row_id(&found), id) || make_way(&found))
			return name;
	}
}

/* Fills in what a server says of itself. */
static void
set_server(ApikeyRow *server, const ApikeyJoin *join, TimestampTz now)
{
	apikey_row_set_pointer(server, SERVER_NAME,
						   apikey_server_free_name(join->name, &join->id));
	apikey_row_set_pointer(server, SERVER_KIND, join->kind);
	apikey_row_set_pointer(server, SERVER_VERSION, join->version);
	apikey_row_set(server, SERVER_TOKEN,
				   UUIDPGetDatum(&unconstify(ApikeyJoin *, join)->new_token));
	apikey_row_set(server, SERVER_SEEN_AT, TimestampTzGetDatum(now));
	server->nulls[SERVER_LOST_AT] = true;
}

static void
add_server(const ApikeyJoin *join, ApikeyRow *server)
{
	TimestampTz now = GetCurrentTimestamp();

	require_room();
	apikey_row_clear(server);
	apikey_row_set_pointer(server, SERVER_ID, &join->id);
	apikey_row_set(server, SERVER_EPOCH, Int64GetDatum(1));
	apikey_row_set(server, SERVER_SEQUENCE, Int64GetDatum(0));
	apikey_row_set(server, SERVER_FIRST_SEEN_AT, TimestampTzGetDatum(now));
	apikey_row_set(server, SERVER_USES, Int64GetDatum(0));
	set_server(server, join, now);
	apikey_table_insert(&apikey_server_table, server);
	apikey_server_tell(APIKEY_EVENT_SERVER_JOINED, server);
}

/* Does one of its tokens stand in a server's row? */
static bool
knows_token(const ApikeyJoin *join, const ApikeyRow *server)
{
	for (int i = 0; i < join->token_count && !server->nulls[SERVER_TOKEN]; i++)
	{
		if (same_id(&join->tokens[i], DatumGetUUIDP(server->values[SERVER_TOKEN])))
			return true;
	}
	return false;
}

static void
join_anew(const ApikeyJoin *join, ApikeyRow *server)
{
	bool		lost = !server->nulls[SERVER_LOST_AT];

	apikey_row_set(server, SERVER_EPOCH,
				   Int64GetDatum(DatumGetInt64(server->values[SERVER_EPOCH]) + 1));
	set_server(server, join, GetCurrentTimestamp());
	apikey_table_update(&apikey_server_table, server);
	if (lost)
		apikey_server_tell(APIKEY_EVENT_SERVER_JOINED, server);
}

/* Joins a server; false where it is not the one that has this id. */
bool
apikey_server_admit(const ApikeyJoin *join, ApikeyRow *server)
{
	if (!apikey_table_lock(&apikey_server_table, &join->id, APIKEY_LOCK_UPDATE,
						   server))
	{
		if (join->token_count > 0)
			return false;
		add_server(join, server);
	}
	else if (server->nulls[SERVER_TOKEN] ||
			 !same_id(DatumGetUUIDP(server->values[SERVER_TOKEN]),
					  &join->new_token))
	{
		if (!knows_token(join, server))
			return false;
		join_anew(join, server);
	}
	return true;
}
