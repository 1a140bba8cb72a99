/*
 * rotate.c
 *		Replacing a key by a successor that has its attributes.
 *
 * The old key goes on through its grace, in which it shows its successor and
 * when it stops; manage.c ends it with the successor.
 *
 * What limits a key is one thing for it and all that replace it, so that no
 * instant of a rotation, and no rollback of one, has two states or none: credits
 * and the state of a rate limit stay under the id of the first of them, named
 * by credits_account and rate_account; its other limits become the successor's,
 * as rows, under ids of their own.  bound.c reads all of it by the last of them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "text/text.h"
#include "store/store.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys_internal.h"

/*
 * Raises where a key has been replaced already, or has ended and its successor
 * is not given another end.
 */
static void
require_rotatable(const ApikeyRow *key, const TimestampTz *expires_at)
{
	apikey_manage_require_current(key);
	if (expires_at == NULL && !key->nulls[APIKEY_KEY_EXPIRES_AT] &&
		DatumGetTimestampTz(key->values[APIKEY_KEY_EXPIRES_AT]) <=
		GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("API key \"%s\" has expired",
						apikey_id_string(apikey_row_id(key))),
				 errhint("Its successor would expire at the same time: give it another \"expires_at\".")));
}

/*
 * A project's key goes to whoever rotates it, subject included; while subjects
 * are not in use, what a key has is a label, and stays.  A personal key stays
 * its owner's.
 */
static void
set_owner(ApikeyRow *successor)
{
	if (apikey_key_project(successor) == NULL)
		return;
	apikey_key_set_owner(successor, GetUserId());
	if (apikey_principal_subjects_in_use())
		apikey_row_set_pointer(successor, APIKEY_KEY_SUBJECT,
							   apikey_principal_new_subject(NULL, false));
}

/* Tells that a project's max_ttl ends something earlier than it would have. */
static void
notice_earlier(const char *message, const ApikeyRow *project)
{
	ereport(NOTICE,
			(errmsg_internal("%s", message),
			 errdetail("That is %s from now.",
					   DatumGetCString(DirectFunctionCall1(interval_out,
														   project->values[APIKEY_PROJECT_MAX_TTL])))));
}

/*
 * A successor ends when its predecessor would have, or when the caller says;
 * where its project has a max_ttl, no later than that from now.
 */
static void
set_end(ApikeyRow *successor, const TimestampTz *expires_at,
		const ApikeyRow *project)
{
	TimestampTz latest = apikey_rule_latest_end(DatumGetTimestampTz(successor->values[APIKEY_KEY_CREATED_AT]),
												project);

	if (expires_at != NULL)
	{
		apikey_row_set(successor, APIKEY_KEY_EXPIRES_AT,
					   TimestampTzGetDatum(*expires_at));
		apikey_rule_dates(successor, NULL);
		apikey_rule_not_ended(successor);
	}
	if (!apikey_rule_ends_after(successor, latest))
		return;
	apikey_row_set(successor, APIKEY_KEY_EXPIRES_AT,
				   TimestampTzGetDatum(latest));
	apikey_rule_dates(successor, NULL);
	notice_earlier("the successor expires within the \"max_ttl\" of its project",
				   project);
}

/*
 * Fills in what a key's successor is: the same but for its text and, in a
 * project, its owner, who is the caller, and its role, at most the caller's.
 * What its project has come to ask of values holds; its name is the one it has.
 */
static text *
make_successor(const ApikeyRow *old, const ApikeyTenant *tenant,
			   const TimestampTz *expires_at, ApikeyRow *successor,
			   uint8 *digest)
{
	const ApikeyRow *project = tenant == NULL ? NULL : &tenant->project;

	*successor = *old;
	apikey_row_set(successor, APIKEY_KEY_CREATED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	if (tenant != NULL)
		apikey_row_set(successor, APIKEY_KEY_ROLE,
					   apikey_role_datum(Min(apikey_row_role(old, APIKEY_KEY_ROLE),
											 apikey_tenant_role(tenant))));
	apikey_rule_attributes(successor, project);
	set_end(successor, expires_at, project);
	apikey_rule_limit_held(successor);
	set_owner(successor);
	if (successor->nulls[APIKEY_KEY_RATE_ACCOUNT])
		apikey_row_set_pointer(successor, APIKEY_KEY_RATE_ACCOUNT,
							   apikey_row_id(old));
	return apikey_issue_text(successor, digest);
}

/* Ends the old key at that time; where that is now, it is revoked. */
static void
retire(ApikeyRow *old, const ApikeyRow *successor, TimestampTz stops_at)
{
	TimestampTz now = GetCurrentTimestamp();
	text	   *reason = cstring_to_text("rotated");

	if (!old->nulls[APIKEY_KEY_EXPIRES_AT])
		stops_at = Min(stops_at,
					   DatumGetTimestampTz(old->values[APIKEY_KEY_EXPIRES_AT]));
	if (stops_at > now)
		apikey_chain_require_near(old);
	apikey_row_set(old, APIKEY_KEY_ROTATED_TO,
				   successor->values[APIKEY_KEY_ID]);
	apikey_row_set(old, APIKEY_KEY_EXPIRES_AT, TimestampTzGetDatum(stops_at));
	if (stops_at <= now)
	{
		apikey_row_set(old, APIKEY_KEY_REVOKED_AT, TimestampTzGetDatum(now));
		apikey_row_set_pointer(old, APIKEY_KEY_REVOKE_REASON, reason);
	}
	apikey_key_update(old, APIKEY_EVENT_ROTATED,
					  psprintf("{\"rotated_to\": \"%s\", \"stops_at\": %s}",
							   apikey_id_string(apikey_row_id(successor)),
							   apikey_json_time(stops_at)));
	if (stops_at <= now)
	{
		apikey_reveal_forget(old);
		apikey_manage_revoke_predecessors(old, reason);
	}
}

/*
 * When a replaced key stops: after its grace; where its project has a max_ttl, no
 * later than that from now.
 */
static TimestampTz
end_of_grace(const ApikeyRow *old, const ApikeyRow *successor,
			 const Interval *grace, const ApikeyRow *project)
{
	Datum		now = successor->values[APIKEY_KEY_CREATED_AT];
	TimestampTz latest = apikey_rule_latest_end(DatumGetTimestampTz(now), project);
	TimestampTz end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
															  now,
															  IntervalPGetDatum(grace)));

	if (end <= latest)
		return end;
	if (apikey_rule_ends_after(old, latest))
		notice_earlier("the replaced key stops within the \"max_ttl\" of its project",
					   project);
	return latest;
}

/*
 * Replaces a key, for who may change it, and returns its successor's text,
 * which is stored nowhere.
 */
text *
apikey_rotate_key(const pg_uuid_t *id, const Interval *grace,
				  const TimestampTz *expires_at)
{
	ApikeyRow	old;
	ApikeyRow	successor;
	ApikeyTenant tenant;
	uint8		digest[APIKEY_DIGEST_BYTES];
	const ApikeyRow *project;
	text	   *plaintext;

	apikey_pepper_require();
	project = apikey_manage_open_in_project(id, APIKEY_RIGHT_CHANGE, &old,
											&tenant);
	require_rotatable(&old, expires_at);
	plaintext = make_successor(&old, project == NULL ? NULL : &tenant,
							   expires_at,
							   &successor, digest);
	/* The old one first: its name is its successor's. */
	retire(&old, &successor,
		   end_of_grace(&old, &successor, grace, project));
	apikey_key_insert(&successor, digest, APIKEY_EVENT_CREATED,
					  psprintf("{\"rotated_from\": \"%s\"}",
							   apikey_id_string(id)));
	apikey_reveal_keep(&successor, project, plaintext);
	apikey_key_replaced(&old, &successor);
	return plaintext;
}
