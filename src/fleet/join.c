/*
 * join.c
 *		A member joins the primary: is it still who it was?
 *
 * It shows the tokens by which it may be known, and one that it is known by
 * from now on: the primary keeps that one alone, so of a server and its copies
 * one is known.  What came with the file of the last run counts only then, and
 * only where nothing has been reported since it was written.
 *
 *		known, nothing reported since	what came with the file counts
 *		known, something reported since	it is not attributed: it was reported
 *		unknown							the same, and it joins as somebody new
 *		unknown without a token, too	its id is somebody else's: it is another
 *										one from now on, in all databases
 */
#include "postgres.h"

#include "access/xlog.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define ANOTHER_AGAIN	(INT64CONST(3600) * USECS_PER_SEC)
#define ANOTHER_LAST	(INT64CONST(30) * 86400 * USECS_PER_SEC)

static const ApikeyWire *wire = NULL;

void
apikey_join_begin(const ApikeyWire *table)
{
	wire = table;
}

/* What has been counted for somebody whom the primary does not know. */
static void
give_up_batch(Oid database)
{
	ApikeyBatch *batch = apikey_batch_of(database);

	if (batch == NULL)
		return;
	apikey_stats_not_attributed_to(database, apikey_batch_sum(batch));
	apikey_batch_end(batch);
}

/* Nothing counts any more that is of a membership. */
static void
end_membership(ApikeyMembership *membership)
{
	if (!OidIsValid(membership->database))
		return;
	apikey_usage_settle_kept(membership->database, false);
	give_up_batch(membership->database);
	apikey_fleet_lease_void_all(membership->database);
	memset(membership, 0, sizeof(*membership));
}

/* This server is another one from now on. */
static void
become_another(void)
{
	ApikeyMembership *membership;

	apikey_batch_lock(true);
	for (int i = 0; (membership = apikey_membership_at(i)) != NULL; i++)
		end_membership(membership);
	apikey_server_new_id();
	apikey_batch_unlock();
}

/*
 * A database of the primary says that it does not know this server.  It may have
 * forgotten it: then it joins there as somebody new, and that is nothing to other
 * databases.  If it cannot, its id is that of a copy, which was there before, and
 * so it becomes another one.  Whoever owns that database may have it say so again
 * and again: so the next time is later, and later each time.
 */
static void
not_known(ApikeyLink *link, ApikeyMembership *membership)
{
	static ApikeyTick another_at = 0;
	static int64 pause = ANOTHER_AGAIN;

	if (membership->token_count == 0 && apikey_tick() < another_at)
	{
		apikey_link_fail(link, "The primary takes this server for another one.");
		return;
	}
	if (membership->token_count == 0)
	{
		become_another();
		another_at = apikey_tick() + (ApikeyTick) pause;
		pause = Min(pause * 2, ANOTHER_LAST);
	}
	else
	{
		apikey_batch_lock(true);
		end_membership(membership);
		apikey_batch_unlock();
	}
	link->try_at = 0;
	apikey_link_close(link);
}

static const char *
token_list(const ApikeyMembership *membership)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < membership->token_count; i++)
		appendStringInfo(&list, "%c%s", i == 0 ? '{' : ',',
						 apikey_id_string(&membership->tokens[i]));
	appendStringInfoString(&list, membership->token_count == 0 ? "{}" : "}");
	return list.data;
}

/* The token of this attempt, and of those that repeat it. */
static void
make_token(ApikeyMembership *membership)
{
	apikey_batch_lock(true);
	if (!membership->joining &&
		!pg_strong_random(membership->new_token.data, UUID_LEN))
	{
		apikey_batch_unlock();
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	}
	membership->joining = true;
	apikey_batch_unlock();
}

/* It is known by the new token now. */
static void
keep_token(ApikeyMembership *membership)
{
	int			kept = Min(membership->token_count, APIKEY_TOKENS_MAX - 1);

	memmove(&membership->tokens[1], &membership->tokens[0],
			kept * sizeof(pg_uuid_t));
	membership->tokens[0] = membership->new_token;
	membership->token_count = kept + 1;
	membership->joining = false;
}

/* It is known: what has it told already? */
static void
settle(ApikeyMembership *membership, int64 epoch, int64 sequence)
{
	ApikeyBatch *batch;
	int64		last;

	apikey_batch_lock(true);
	batch = apikey_batch_of(membership->database);
	last = batch != NULL ? batch->sequence : membership->sequence;
	keep_token(membership);
	membership->epoch = epoch;
	apikey_usage_settle_kept(membership->database,
							 !membership->from_file || sequence <= last);
	membership->from_file = false;
	if (batch != NULL && batch->sequence <= sequence)
		apikey_batch_end(batch);
	membership->sequence = Max(membership->sequence, sequence);
	apikey_batch_unlock();
}

static ApikeyWireAnswer *
call_join(ApikeyLink *link, const ApikeyMembership *membership)
{
	ApikeyCall	call = {.function = "join", .result = "r.known, r.epoch, r.sequence"};
	pg_uuid_t	id;

	apikey_link_server(link, &id);
	apikey_call_add(&call, "uuid", apikey_id_string(&id));
	apikey_call_add(&call, "uuid[]", token_list(membership));
	apikey_call_add(&call, "uuid", apikey_id_string(&membership->new_token));
	apikey_call_add(&call, "text", apikey_server_own_name());
	apikey_call_add(&call, "text",
					RecoveryInProgress() ? "standby" : "subscriber");
	apikey_call_add(&call, "text", APIKEY_VERSION);
	apikey_call_add(&call, "int8",
					psprintf(INT64_FORMAT, (int64) GetSystemIdentifier()));
	apikey_call_add(&call, "bool", membership->epoch != 0 ? "true" : "false");
	return apikey_call(link, &call);
}

/*
 * Is this server known there, as who it is now?  Where it has become another for
 * one database, it is not known for the others any more.
 */
bool
apikey_link_known(const ApikeyLink *link)
{
	return link->joined &&
		apikey_membership(link->database.oid, false) != NULL;
}

/* Joins on a new connection, or anew; false where that has failed. */
bool
apikey_link_join(ApikeyLink *link)
{
	ApikeyMembership *membership;
	ApikeyWireAnswer *answer;

	if (apikey_link_known(link))
	{
		/* Once there was no place to tell it, perhaps. */
		apikey_fleet_tell(link->database.oid, APIKEY_TICK_LAST, false);
		return true;
	}
	link->joined = false;
	membership = apikey_membership(link->database.oid, true);
	if (membership == NULL)
	{
		apikey_link_fail(link, "There are too many databases.");
		return false;
	}
	make_token(membership);
	answer = call_join(link, membership);
	if (answer == NULL)
		return false;
	if (!apikey_answer_holds(link, answer, 1, 1))
		 /* it is told */ ;
	else if (strcmp(wire->value(answer, 0, 0), "t") != 0)
		not_known(link, membership);
	else if (apikey_answer_holds(link, answer, 1, 3))
	{
		settle(membership, strtoi64(wire->value(answer, 0, 1), NULL, 10),
			   strtoi64(wire->value(answer, 0, 2), NULL, 10));
		link->joined = true;
		apikey_fleet_tell(link->database.oid, APIKEY_TICK_LAST, false);
		apikey_link_works(link, false);
	}
	wire->free(answer);
	return link->joined;
}
