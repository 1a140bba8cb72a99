/*
 * server_promoted.c
 *		What a member had not reported yet when it was promoted; for the worker.
 *
 * The row by which its primary knew it tells what was applied, as it would if
 * it joined itself: a batch of a later number goes back to where it was counted,
 * and from there into the tables.  Where the row is another's, or is not here,
 * the batch may have been applied or not: it is not attributed.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "limits/limits.h"
#include "servers/servers.h"

/* Is a row that of this membership? */
static bool
knows(const ApikeyRow *server, const ApikeyMembership *membership)
{
	const pg_uuid_t *token;

	if (server->nulls[SERVER_TOKEN])
		return false;
	token = DatumGetUUIDP(server->values[SERVER_TOKEN]);
	if (membership->joining &&
		memcmp(token, &membership->new_token, sizeof(pg_uuid_t)) == 0)
		return true;
	for (int i = 0; i < membership->token_count; i++)
	{
		if (memcmp(token, &membership->tokens[i], sizeof(pg_uuid_t)) == 0)
			return true;
	}
	return false;
}

/* Puts a batch back to where it was counted. */
static void
move_back(const ApikeyBatch *batch)
{
	for (int i = 0; i < batch->use_count; i++)
		apikey_usage_move_back(batch->database, &batch->uses[i]);
	for (int i = 0; i < batch->count_count; i++)
		apikey_history_move_back(batch->database, &batch->counts[i]);
	for (int i = 0; i < batch->denial_count; i++)
		apikey_denial_move_back(batch->database, &batch->denials[i]);
	for (int i = 0; i < batch->mark_count; i++)
		apikey_mark_move_back(&batch->marks[i]);
}

static void
settle(const ApikeyMembership *membership, bool known, int64 sequence)
{
	ApikeyBatch *batch = apikey_batch_of(membership->database);
	int64		last = batch != NULL ? batch->sequence : membership->sequence;

	apikey_usage_settle_kept(membership->database,
							 known && (!membership->from_file || sequence <= last));
	if (batch == NULL || (known && batch->sequence <= sequence))
		return;
	if (known)
		move_back(batch);
	else
		apikey_stats_not_attributed_to(batch->database, apikey_batch_sum(batch));
}

/*
 * Settles what this database's membership has left, if this server is no member
 * any more.  To be called before anything of it is written.
 */
void
apikey_server_settle_promoted(void)
{
	ApikeyMembership *membership;
	pg_uuid_t	id;
	ApikeyRow	server;
	bool		known;

	if (RecoveryInProgress() || apikey_fleet_worker_of_member())
		return;
	membership = apikey_membership(MyDatabaseId, false);
	if (membership == NULL)
		return;
	apikey_server_own_id(&id);
	known = apikey_table_fetch_latest(&apikey_server_table, &id, &server) &&
		knows(&server, membership);
	apikey_batch_lock(true);
	settle(membership, known,
		   known ? DatumGetInt64(server.values[SERVER_SEQUENCE]) : 0);
	apikey_membership_end(MyDatabaseId);
	apikey_batch_unlock();
}
