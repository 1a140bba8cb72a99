/*
 * event.c
 *		The trail: what was done to what, by whom.
 *
 * An event is written in the transaction of the change it tells of, and keeps
 * names and OIDs as they were.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "apikey.h"

static bool purging = false;	/* in apikey_event_purge */

static const char *const event_names[] = {
	[APIKEY_EVENT_CREATED] = "created",
	[APIKEY_EVENT_UPDATED] = "updated",
	[APIKEY_EVENT_RENAMED] = "renamed",
	[APIKEY_EVENT_DISABLED] = "disabled",
	[APIKEY_EVENT_ENABLED] = "enabled",
	[APIKEY_EVENT_REVOKED] = "revoked",
	[APIKEY_EVENT_DELETED] = "deleted",
	[APIKEY_EVENT_ROTATED] = "rotated",
	[APIKEY_EVENT_REVEALED] = "revealed",
	[APIKEY_EVENT_IMPORTED] = "imported",
	[APIKEY_EVENT_REHASHED] = "rehashed",
	[APIKEY_EVENT_TRANSFERRED] = "transferred",
	[APIKEY_EVENT_MEMBER_ADDED] = "member_added",
	[APIKEY_EVENT_MEMBER_REMOVED] = "member_removed",
	[APIKEY_EVENT_ORGANIZATION_CREATED] = "organization_created",
	[APIKEY_EVENT_ORGANIZATION_DROPPED] = "organization_dropped",
	[APIKEY_EVENT_PROJECT_CREATED] = "project_created",
	[APIKEY_EVENT_PROJECT_UPDATED] = "project_updated",
	[APIKEY_EVENT_PROJECT_DROPPED] = "project_dropped"
};

/* The columns of apikey_event that are given, in the order of the insert. */
enum
{
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
	EVENT_ACTOR_OID,
	EVENT_ACTOR_SUBJECT,
	EVENT_DETAIL,
	EVENT_COLUMNS
};

/* {"name": "value"} */
char *
apikey_json_text(const char *name, const text *value)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"%s\": ", name);
	escape_json(&json, text_to_cstring(value));
	appendStringInfoChar(&json, '}');
	return json.data;
}

/* "value", as JSON has times. */
char *
apikey_json_time(TimestampTz time)
{
	char		buffer[MAXDATELEN + 1];

	JsonEncodeDateTime(buffer, TimestampTzGetDatum(time), TIMESTAMPTZOID, NULL);
	return psprintf("\"%s\"", buffer);
}

/* Writes an event, of which what it is about is filled in. */
static void
event_write(ApikeyEvent event, const char *detail, Datum *values, char *nulls)
{
	static ApikeyStatement statement;
	ApikeyStorage storage;
	text	   *subject = apikey_principal_subject();
	Oid			actor = GetUserId();

	values[EVENT_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[EVENT_EVENT] = CStringGetTextDatum(event_names[event]);
	values[EVENT_ACTOR] = PointerGetDatum(apikey_role_name_text(actor, NULL));
	values[EVENT_ACTOR_OID] = ObjectIdGetDatum(actor);
	values[EVENT_ACTOR_SUBJECT] = PointerGetDatum(subject);
	nulls[EVENT_ACTOR_SUBJECT] = subject == NULL ? 'n' : ' ';
	values[EVENT_DETAIL] = detail == NULL ? (Datum) 0 :
		CStringGetTextDatum(detail);
	nulls[EVENT_DETAIL] = detail == NULL ? 'n' : ' ';

	apikey_storage_open(&storage);
	if (apikey_storage_stale(&statement))
	{
		Oid			types[EVENT_COLUMNS] = {
			TIMESTAMPTZOID, TEXTOID, UUIDOID, TEXTOID, OIDOID, TEXTOID,
			TEXTOID, UUIDOID, UUIDOID, TEXTOID, OIDOID, TEXTOID, TEXTOID
		};

		apikey_storage_prepare(&statement,
							   psprintf("INSERT INTO %s.apikey_event (at, event, key_id,"
										" key_name, key_owner, key_subject, place,"
										" organization, project, actor, actor_oid,"
										" actor_subject, client_addr, detail)"
										" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
										" $11, $12, inet_client_addr(), $13::jsonb)",
										apikey_catalog()->schema),
							   EVENT_COLUMNS, types);
	}
	apikey_storage_run(&statement, values, nulls);
	apikey_storage_close(&storage);
}

static void
set_place(const ApikeyPlace *place, Datum *values, char *nulls)
{
	values[EVENT_PLACE] = CStringGetTextDatum(place->path);
	values[EVENT_ORGANIZATION] = UUIDPGetDatum(apikey_place_organization(place));
	values[EVENT_PROJECT] = UUIDPGetDatum(apikey_place_project(place));
	nulls[EVENT_PLACE] = nulls[EVENT_ORGANIZATION] = ' ';
	nulls[EVENT_PROJECT] = place->is_project ? ' ' : 'n';
}

/* Tells of a key; detail is the text of a JSON object, or NULL. */
void
apikey_event_key(const ApikeyRow *key, ApikeyEvent event, const char *detail)
{
	Datum		values[EVENT_COLUMNS];
	char		nulls[EVENT_COLUMNS];
	ApikeyPlace place;

	memset(nulls, ' ', sizeof(nulls));
	values[EVENT_KEY_ID] = key->values[APIKEY_KEY_ID];
	values[EVENT_KEY_NAME] = key->values[APIKEY_KEY_NAME];
	values[EVENT_KEY_OWNER] = key->values[APIKEY_KEY_OWNER];
	values[EVENT_KEY_SUBJECT] = key->values[APIKEY_KEY_SUBJECT];
	nulls[EVENT_KEY_SUBJECT] = key->nulls[APIKEY_KEY_SUBJECT] ? 'n' : ' ';
	nulls[EVENT_PLACE] = nulls[EVENT_ORGANIZATION] = nulls[EVENT_PROJECT] = 'n';
	if (apikey_key_project(key) != NULL &&
		apikey_place_fetch_project(apikey_key_project(key), &place))
		set_place(&place, values, nulls);
	event_write(event, detail, values, nulls);
}

/* Tells of an organization or project. */
void
apikey_event_place(const ApikeyPlace *place, ApikeyEvent event,
				   const char *detail)
{
	Datum		values[EVENT_COLUMNS];
	char		nulls[EVENT_COLUMNS];

	memset(nulls, ' ', sizeof(nulls));
	nulls[EVENT_KEY_ID] = nulls[EVENT_KEY_NAME] = 'n';
	nulls[EVENT_KEY_OWNER] = nulls[EVENT_KEY_SUBJECT] = 'n';
	set_place(place, values, nulls);
	event_write(event, detail, values, nulls);
}

/* Tells of a member, and of the role it had before. */
void
apikey_event_member(const ApikeyPlace *place, ApikeyEvent event, Oid member,
					const text *subject, ApikeyRole role, ApikeyRole before)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"member\": ");
	escape_json(&json, text_to_cstring(apikey_role_name_text(member, NULL)));
	if (subject != NULL)
	{
		appendStringInfoString(&json, ", \"subject\": ");
		escape_json(&json, text_to_cstring(subject));
	}
	appendStringInfo(&json, ", \"role\": \"%s\"", apikey_role_label(role));
	if (before != APIKEY_ROLE_NONE)
		appendStringInfo(&json, ", \"role_before\": \"%s\"",
						 apikey_role_label(before));
	appendStringInfoChar(&json, '}');
	apikey_event_place(place, event, json.data);
}

/*
 * Raises unless it is a superuser who changes or removes events: the tables'
 * owner may not, but for carrying out a superuser's purge.
 */
void
apikey_event_require_removable(void)
{
	if (!purging && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to change or remove events"),
				 errdetail("Only superusers may.")));
}

static uint64
purge(Datum before)
{
	static ApikeyStatement statement;
	ApikeyStorage storage;
	uint64		rows;

	apikey_storage_open(&storage);
	if (apikey_storage_stale(&statement))
	{
		Oid			type = TIMESTAMPTZOID;

		apikey_storage_prepare(&statement,
							   psprintf("DELETE FROM %s.apikey_event WHERE at < $1",
										apikey_catalog()->schema),
							   1, &type);
	}
	rows = apikey_storage_run(&statement, &before, NULL);
	apikey_storage_close(&storage);
	return rows;
}

/* Removes the events from before a time; returns how many. */
uint64
apikey_event_purge(TimestampTz before)
{
	uint64		rows;

	purging = true;
	PG_TRY();
	{
		rows = purge(TimestampTzGetDatum(before));
	}
	PG_FINALLY();
	{
		purging = false;
	}
	PG_END_TRY();
	return rows;
}
