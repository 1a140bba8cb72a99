/*
 * limit_set.c
 *		Setting limits and dropping them.
 *
 * Whoever gives a holder another limit locks, or claims, the holder first: there are
 * so many of them at most, and one of each unit, kind and period.  One that is there
 * is locked before it is judged, as whoever changes it does, and its account after
 * that.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "limits/limits_internal.h"

#define LIMITS_MAX	8			/* of a holder */

/* The search among a holder's limits for the one that is to be replaced. */
typedef struct Search
{
	const ApikeyRow *like;
	ApikeyRow  *found_row;
	bool		found;
	int			count;
} Search;

static bool
same_period(const ApikeyRow *one, const ApikeyRow *two)
{
	if (one->nulls[APIKEY_LIMIT_PERIOD] || two->nulls[APIKEY_LIMIT_PERIOD])
		return one->nulls[APIKEY_LIMIT_PERIOD] == two->nulls[APIKEY_LIMIT_PERIOD];
	return apikey_period_same(DatumGetIntervalP(one->values[APIKEY_LIMIT_PERIOD]),
							  DatumGetIntervalP(two->values[APIKEY_LIMIT_PERIOD]));
}

static bool
is_like(const ApikeyRow *row, const ApikeyRow *like)
{
	return apikey_same_text(apikey_row_text(row, APIKEY_LIMIT_UNIT),
							apikey_row_text(like, APIKEY_LIMIT_UNIT)) &&
		apikey_same_text(apikey_row_text(row, APIKEY_LIMIT_KIND),
						 apikey_row_text(like, APIKEY_LIMIT_KIND)) &&
		same_period(row, like);
}

static bool
search_visit(const ApikeyRow *row, void *state)
{
	Search	   *search = state;

	search->count++;
	if (is_like(row, search->like))
	{
		apikey_row_copy(&apikey_limit_table, row, search->found_row);
		search->found = true;
	}
	return true;
}

/*
 * May whoever has a subject make this of a limit?  Only what is tighter:
 * neither more nor for other periods, nor for one server alone.
 */
static bool
tighter(const ApikeyRow *before, const ApikeyRow *limit)
{
	return apikey_limit_number(limit, APIKEY_LIMIT_AMOUNT) <=
		apikey_limit_number(before, APIKEY_LIMIT_AMOUNT) &&
		apikey_limit_number(limit, APIKEY_LIMIT_OVERDRAFT) <=
		apikey_limit_number(before, APIKEY_LIMIT_OVERDRAFT) &&
		(apikey_row_bool(limit, APIKEY_LIMIT_SHARED) ||
		 !apikey_row_bool(before, APIKEY_LIMIT_SHARED)) &&
		same_period(before, limit);
}

/*
 * May the caller only make it tighter: has it a subject, and is the limit a
 * subject's, or that of a personal key?  Those of a project, and of its keys,
 * are for its owners and admins, with a subject or without.
 */
bool
apikey_limit_only_tighter(const ApikeyRow *limit)
{
	ApikeyRow	key;

	if (superuser() || apikey_principal_subject() == NULL ||
		!limit->nulls[APIKEY_LIMIT_ORGANIZATION])
		return false;
	return limit->nulls[APIKEY_LIMIT_KEY] ||
		!apikey_key_fetch_latest(DatumGetUUIDP(limit->values[APIKEY_LIMIT_KEY]),
								 &key) ||
		key.nulls[APIKEY_KEY_PROJECT];
}

static void
require_tighter(const ApikeyRow *before, const ApikeyRow *limit)
{
	if (apikey_limit_only_tighter(limit) && !tighter(before, limit))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to loosen a limit"),
				 errdetail("Whoever has a subject may only make limits tighter.")));
}

/*
 * Claims the limits of a role's keys of a subject, which have no row to be
 * locked.  Everybody sees what is claimed, and is not to know the subject by it:
 * nor by claiming one with limits of its own, which is seen as something else.
 */
void
apikey_limit_claim_subject(Oid owner, const text *subject)
{
	pg_uuid_t	server;
	uint64		seed;

	apikey_server_own_id(&server);
	memcpy(&seed, server.data, sizeof(seed));
	seed = hash_bytes_extended((const unsigned char *) &owner, sizeof(owner),
							   seed);
	apikey_claim(&apikey_limit_table, owner,
				 (uint16) hash_bytes_extended((const unsigned char *) VARDATA_ANY(subject),
											  VARSIZE_ANY_EXHDR(subject), seed));
}

/*
 * Writes a limit that has changed, for whoever may, and the event that tells of
 * it.  What was spent stays spent.
 */
void
apikey_limit_change(const ApikeyRow *before, ApikeyRow *limit,
					const char *changes)
{
	StringInfoData json;
	bool		restarts = !same_period(before, limit);

	require_tighter(before, limit);
	if (restarts)
		apikey_row_set(limit, APIKEY_LIMIT_STARTS_AT,
					   TimestampTzGetDatum(GetCurrentTimestamp()));
	if (apikey_limit_kind(limit) != APIKEY_LIMIT_RATE)
		apikey_account_of_limit_changed(limit,
										apikey_limit_number(limit, APIKEY_LIMIT_AMOUNT) -
										apikey_limit_number(before, APIKEY_LIMIT_AMOUNT),
										restarts);
	apikey_table_update(&apikey_limit_table, limit);
	apikey_limit_detail_begin(&json, limit);
	if (changes != NULL)
		apikey_detail_json(&json, "changes", changes);
	else
		apikey_detail_value(&json, "amount_before", INT8OID,
							before->values[APIKEY_LIMIT_AMOUNT], false);
	apikey_limit_tell(limit, APIKEY_EVENT_LIMIT_SET, apikey_detail_end(&json));
}

static bool
limit_differs(const ApikeyRow *one, const ApikeyRow *two)
{
	return apikey_limit_number(one, APIKEY_LIMIT_AMOUNT) != apikey_limit_number(two, APIKEY_LIMIT_AMOUNT) ||
		apikey_limit_number(one, APIKEY_LIMIT_OVERDRAFT) != apikey_limit_number(two, APIKEY_LIMIT_OVERDRAFT) ||
		apikey_row_bool(one, APIKEY_LIMIT_SHARED) != apikey_row_bool(two, APIKEY_LIMIT_SHARED);
}

/* Makes a new limit of a locked holder. */
static void
create(ApikeyRow *limit)
{
	TimestampTz now = GetCurrentTimestamp();
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	apikey_generate_account_id(id);
	apikey_row_set_pointer(limit, APIKEY_LIMIT_ID, id);
	apikey_row_set(limit, APIKEY_LIMIT_STARTS_AT, TimestampTzGetDatum(now));
	apikey_row_set(limit, APIKEY_LIMIT_CREATED_AT, TimestampTzGetDatum(now));
	apikey_row_set_pointer(limit, APIKEY_LIMIT_CREATED_BY,
						   apikey_role_name_text(GetUserId(), NULL));
	apikey_row_set(limit, APIKEY_LIMIT_LIFETIME,
				   Int64GetDatum(apikey_shared_rate_lifetime()));
	if (apikey_limit_kind(limit) != APIKEY_LIMIT_RATE)
		apikey_account_of_limit_create(limit);
	apikey_table_insert(&apikey_limit_table, limit);
	apikey_limit_tell(limit, APIKEY_EVENT_LIMIT_SET, apikey_limit_detail(limit));
}

void
apikey_limit_refuse_concurrent(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not change limit \"%s\" due to a concurrent change",
					apikey_id_string(id))));
}

/* Locks a limit that was found, and reads what it is now; 40001 where it is gone. */
void
apikey_limit_lock(const pg_uuid_t *id, ApikeyRow *limit)
{
	if (!apikey_table_lock(&apikey_limit_table, id, APIKEY_LOCK_UPDATE, limit))
		apikey_limit_refuse_concurrent(id);
}

/* Gives a limit that was found what another one has. */
static void
replace(const pg_uuid_t *id, ApikeyRow *limit)
{
	ApikeyRow	before;
	ApikeyRow	after;

	apikey_limit_lock(id, &before);
	if (!is_like(&before, limit))
		apikey_limit_refuse_concurrent(id);
	after = before;
	for (int i = APIKEY_LIMIT_AMOUNT; i <= APIKEY_LIMIT_OVERDRAFT; i++)
		after.values[i] = limit->values[i];
	if (limit_differs(&before, &after))
		apikey_limit_change(&before, &after, NULL);
	*limit = after;
}

/*
 * Makes a limit of a locked holder, or replaces the one of its unit, kind and
 * period; returns its id.
 */
void
apikey_limit_put(ApikeyRow *limit, pg_uuid_t *id)
{
	ApikeyLimitHolder holder;
	ApikeyRow	before;
	Search		search = {.like = limit, .found_row = &before};

	apikey_limit_holder(limit, &holder);
	apikey_limit_scan(&holder, search_visit, &search);
	if (!search.found)
	{
		if (search.count >= LIMITS_MAX)
			apikey_refuse_by("apikey_limit_count",
							 holder.key != NULL ? "key" :
							 holder.subject != NULL ? "subject" : "path",
							 psprintf("A holder has at most %d limits.",
									  LIMITS_MAX));
		create(limit);
	}
	else
		replace(apikey_row_id(&before), limit);
	*id = *apikey_row_id(limit);
}

/* Removes a limit, its state and all. */
void
apikey_limit_remove(const ApikeyRow *limit)
{
	if (apikey_limit_only_tighter(limit))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to drop a limit"),
				 errdetail("Whoever has a subject may only make limits tighter.")));
	apikey_limit_tell(limit, APIKEY_EVENT_LIMIT_DROPPED,
					  apikey_limit_detail(limit));
	apikey_account_of_limit_drop(apikey_row_id(limit));
	apikey_table_delete_found(&apikey_limit_table, apikey_row_id(limit));
	apikey_ended_key(apikey_row_id(limit), true);
}

static bool
drop_visited(const ApikeyRow *limit, void *state pg_attribute_unused())
{
	apikey_account_of_limit_drop(apikey_row_id(limit));
	apikey_table_delete_found(&apikey_limit_table, apikey_row_id(limit));
	apikey_ended_key(apikey_row_id(limit), true);
	return true;
}

static bool
free_visited(const ApikeyRow *limit, void *state)
{
	bool	   *is_free = state;

	*is_free = apikey_table_row_free(&apikey_limit_table, apikey_row_id(limit)) &&
		apikey_account_of_limit_free(apikey_row_id(limit));
	return *is_free;
}

/* Can the limits of a key be removed without waiting for anybody? */
static bool
free_of_key(const ApikeyRow *key)
{
	ApikeyLimitHolder holder = {.key = apikey_row_id(key)};
	bool		is_free = true;

	if (apikey_limit_any())
		apikey_limit_scan(&holder, free_visited, &is_free);
	return is_free;
}

/* A key is gone, and its limits with it. */
static void
drop_of_key(const ApikeyRow *key)
{
	ApikeyLimitHolder holder = {.key = apikey_row_id(key)};

	if (apikey_limit_any())
		apikey_limit_scan(&holder, drop_visited, NULL);
}

/* The same of a tenant, those for subjects of it included. */
void
apikey_limit_drop_of_tenant(const pg_uuid_t *organization,
							const pg_uuid_t *project)
{
	Snapshot	snapshot;
	ApikeyTurns turns;
	ScanKeyData keys[3];

	if (!apikey_limit_any())
		return;
	apikey_limit_scan_key(&keys[0], APIKEY_LIMIT_KEY, NULL);
	apikey_limit_scan_key(&keys[1], APIKEY_LIMIT_ORGANIZATION, organization);
	apikey_limit_scan_key(&keys[2], APIKEY_LIMIT_PROJECT, project);
	snapshot = apikey_latest_snapshot();
	apikey_turns_begin(&turns, drop_visited, NULL);
	apikey_table_walk(&apikey_limit_table, APIKEY_REL_LIMIT_HOLDER, keys, 3,
					  snapshot, apikey_turns_visit, &turns);
	apikey_turns_end(&turns);
	UnregisterSnapshot(snapshot);
}

static bool
follow_visited(const ApikeyRow *row, void *state)
{
	ApikeyRow	limit;

	if (apikey_table_lock(&apikey_limit_table, apikey_row_id(row),
						  APIKEY_LOCK_UPDATE, &limit))
	{
		apikey_row_set_pointer(&limit, APIKEY_LIMIT_KEY, state);
		apikey_table_update(&apikey_limit_table, &limit);
	}
	else
		apikey_table_require_seen(&apikey_limit_table, apikey_row_id(row));
	return true;
}

/* The limits of a key go on as its successor's, with what was spent. */
static void
follow(const ApikeyRow *key, const ApikeyRow *successor)
{
	ApikeyLimitHolder holder = {.key = apikey_row_id(key)};

	if (apikey_limit_any())
		apikey_limit_scan(&holder, follow_visited,
						  unconstify(pg_uuid_t *,
									 apikey_row_id(successor)));
}

const ApikeyKeyPart apikey_limit_of_key = {
	.replaced = follow,
	.free = free_of_key,
	.deleting = drop_of_key
};
