/*
 * event.c
 *		The trail: what was done to what, by whom.
 *
 * An event is written in the transaction of the change it tells of, and keeps
 * names and OIDs as they were.
 *
 * Whose key it was is stored as keys have it, by OID with the role's name at
 * that time beside it, and is told by the same rule, apikey_role_stands.  But
 * a dump holds the events of dropped roles, too, whose numbers are those of
 * others where it is restored, and does not tell them from renamed roles.  So
 * an event that comes from elsewhere keeps the name only while it fits the
 * number (_apikey_event_named); one without a name is told by its key.
 * Who did it is a name, which decides nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events_internal.h"

static bool purging = false;	/* in remove_events */
static bool inserting = false;	/* in apikey_event_insert */

static const ApikeyColumn event_columns[] = {
	[EVENT_ID] = {"id", INT8OID, false, true},
	[EVENT_AT] = {"at", TIMESTAMPTZOID, false, true},
	[EVENT_EVENT] = {"event", TEXTOID, false, true},
	[EVENT_KEY_ID] = {"key_id", UUIDOID, false},
	[EVENT_KEY_NAME] = {"key_name", TEXTOID, false},
	[EVENT_KEY_OWNER] = {"key_owner", REGROLEOID, false},
	[EVENT_KEY_SUBJECT] = {"key_subject", TEXTOID, false},
	[EVENT_PLACE] = {"place", TEXTOID, false},
	[EVENT_ORGANIZATION] = {"organization", UUIDOID, false},
	[EVENT_PROJECT] = {"project", UUIDOID, false},
	[EVENT_ACTOR] = {"actor", TEXTOID, false, true},
	[EVENT_ACTOR_OID] = {"actor_oid", OIDOID, false},
	[EVENT_ACTOR_SUBJECT] = {"actor_subject", TEXTOID, false},
	[EVENT_CLIENT_ADDR] = {"client_addr", INETOID, false},
	[EVENT_DETAIL] = {"detail", JSONBOID, false},
	[EVENT_KEY_OWNER_NAME] = {"key_owner_name", TEXTOID, false}
};

const ApikeyTable apikey_event_table = {
	.name = "apikey_event",
	.relation = APIKEY_REL_EVENT,
	.pkey = APIKEY_REL_EVENT_PKEY,
	.columns = event_columns,
	.count = lengthof(event_columns)
};

/* The address that the client has connected from; NULL where it has none. */
inet *
apikey_event_client_addr(void)
{
	LOCAL_FCINFO(call, 0);
	Datum		addr;

	InitFunctionCallInfoData(*call, NULL, 0, InvalidOid, NULL, NULL);
	addr = inet_client_addr(call);
	return call->isnull ? NULL : DatumGetInetPP(addr);
}

static void
set_actor(ApikeyRow *row, Oid actor)
{
	apikey_row_set_pointer(row, EVENT_ACTOR, apikey_role_name_text(actor, NULL));
}

/* Writes an event, of which what it is about, and who did it, is filled in. */
void
apikey_event_insert(ApikeyEvent event, const char *detail, ApikeyRow *row)
{
	Oid			sequence = apikey_catalog_relation(APIKEY_REL_EVENT_ID_SEQ);
	int64		id = apikey_sequence_next(sequence);
	TimestampTz now = GetCurrentTimestamp();

	apikey_row_set(row, EVENT_ID, Int64GetDatum(id));
	apikey_row_set(row, EVENT_AT, TimestampTzGetDatum(now));
	apikey_row_set(row, EVENT_EVENT, CStringGetTextDatum(apikey_event_name(event)));
	if (detail != NULL)
		apikey_row_set(row, EVENT_DETAIL,
					   DirectFunctionCall1(jsonb_in, CStringGetDatum(detail)));
	inserting = true;
	PG_TRY();
	{
		apikey_table_insert(&apikey_event_table, row);
	}
	PG_FINALLY();
	{
		inserting = false;
	}
	PG_END_TRY();
	apikey_notify_event(event, id, now);
}

/* The same of what the caller does. */
static void
event_write(ApikeyEvent event, const char *detail, ApikeyRow *row)
{
	set_actor(row, GetUserId());
	apikey_row_set_pointer(row, EVENT_ACTOR_SUBJECT,
						   apikey_principal_subject_if_known());
	apikey_row_set_pointer(row, EVENT_CLIENT_ADDR, apikey_event_client_addr());
	apikey_event_insert(event, detail, row);
}

static void
set_tenant(const ApikeyTenant *tenant, ApikeyRow *row)
{
	apikey_row_set(row, EVENT_PLACE, CStringGetTextDatum(tenant->path));
	apikey_row_set_pointer(row, EVENT_ORGANIZATION,
						   apikey_tenant_organization(tenant));
	apikey_row_set_pointer(row, EVENT_PROJECT,
						   tenant->is_project ? apikey_tenant_project(tenant) :
						   NULL);
}

/* Fills in which key an event is about, and whose. */
void
apikey_event_set_key(const ApikeyRow *key, ApikeyRow *row)
{
	ApikeyTenant tenant;

	apikey_row_set(row, EVENT_KEY_ID, key->values[APIKEY_KEY_ID]);
	apikey_row_set(row, EVENT_KEY_NAME, key->values[APIKEY_KEY_NAME]);
	apikey_row_set(row, EVENT_KEY_OWNER, key->values[APIKEY_KEY_OWNER]);
	apikey_row_set_pointer(row, EVENT_KEY_OWNER_NAME,
						   apikey_role_name_text(apikey_key_owner(key),
												 apikey_row_text(key, APIKEY_KEY_OWNER_NAME)));
	apikey_row_set_pointer(row, EVENT_KEY_SUBJECT,
						   apikey_row_text(key, APIKEY_KEY_SUBJECT));
	if (apikey_key_project(key) != NULL &&
		apikey_tenant_fetch_project(apikey_key_project(key), &tenant))
		set_tenant(&tenant, row);
}

/*
 * Was the key of an event the caller's?  Without a name there is but a number
 * of elsewhere: what such an event is about is the caller's if the key is, and
 * was that subject's.
 */
bool
apikey_event_owned(Oid owner, const text *owner_name, const text *subject,
				   const pg_uuid_t *id)
{
	ApikeyRow	key;

	if (owner_name != NULL)
		return apikey_principal_meant(owner, owner_name, subject);
	return id != NULL &&
		apikey_table_fetch_latest(&apikey_key_table, id, &key) &&
		apikey_same_text(apikey_row_text(&key, APIKEY_KEY_SUBJECT), subject) &&
		apikey_principal_meant(apikey_key_owner(&key),
							   apikey_row_text(&key, APIKEY_KEY_OWNER_NAME),
							   subject);
}

/* The same of an event's row. */
bool
apikey_event_own(const ApikeyRow *event)
{
	return !event->nulls[EVENT_KEY_OWNER] &&
		apikey_event_owned(DatumGetObjectId(event->values[EVENT_KEY_OWNER]),
						   apikey_row_text(event, EVENT_KEY_OWNER_NAME),
						   apikey_row_text(event, EVENT_KEY_SUBJECT),
						   apikey_row_uuid(event, EVENT_KEY_ID));
}

/*
 * Does an event that is inserted come from elsewhere, with a number and a name
 * that are not one role's here?
 */
bool
apikey_event_unfit(Oid owner, const text *owner_name)
{
	return !inserting && owner_name != NULL &&
		!apikey_role_is(owner, owner_name);
}

/* Tells of a key; detail is the text of a JSON object, or NULL. */
void
apikey_event_key(const ApikeyRow *key, ApikeyEvent event, const char *detail)
{
	ApikeyRow	row;

	apikey_row_clear(&row);
	apikey_event_set_key(key, &row);
	event_write(event, detail, &row);
}

static void
add_owner(StringInfo json, const char *suffix, const ApikeyRow *key)
{
	apikey_detail_text(json, psprintf("owner%s", suffix),
					   apikey_role_name_text(apikey_key_owner(key),
											 apikey_row_text(key, APIKEY_KEY_OWNER_NAME)));
	apikey_detail_text(json, psprintf("subject%s", suffix),
					   apikey_row_text(key, APIKEY_KEY_SUBJECT));
}

/* What there is to tell of a key that goes from one owner to another. */
char *
apikey_event_handed(const ApikeyRow *before, const ApikeyRow *key)
{
	StringInfoData json;

	apikey_detail_begin(&json);
	add_owner(&json, "_before", before);
	add_owner(&json, "", key);
	return apikey_detail_end(&json);
}

/* Tells of a key that somebody else was refused with, from an address. */
void
apikey_event_denied(const ApikeyRow *key, Oid actor, text *subject,
					inet *client_addr, const char *detail)
{
	ApikeyRow	row;

	apikey_row_clear(&row);
	apikey_event_set_key(key, &row);
	set_actor(&row, actor);
	apikey_row_set_pointer(&row, EVENT_ACTOR_SUBJECT, subject);
	apikey_row_set_pointer(&row, EVENT_CLIENT_ADDR, client_addr);
	apikey_event_insert(APIKEY_EVENT_DENIED, detail, &row);
}

/* The same on another server, by a role that is told by its name; or NULL. */
void
apikey_event_denied_by(const ApikeyRow *key, text *actor, inet *client_addr,
					   const char *detail)
{
	ApikeyRow	row;

	apikey_row_clear(&row);
	apikey_event_set_key(key, &row);
	set_actor(&row, GetUserId());
	if (actor != NULL)
		apikey_row_set_pointer(&row, EVENT_ACTOR, actor);
	apikey_row_set_pointer(&row, EVENT_CLIENT_ADDR, client_addr);
	apikey_event_insert(APIKEY_EVENT_DENIED, detail, &row);
}

/* Tells of what is about no key and no tenant. */
void
apikey_event_change(ApikeyEvent event, const char *detail)
{
	ApikeyRow	row;

	apikey_row_clear(&row);
	event_write(event, detail, &row);
}

/* Tells of what is about the personal keys of a role with a subject. */
void
apikey_event_subject(Oid owner, const text *subject, ApikeyEvent event,
					 const char *detail)
{
	ApikeyRow	row;

	apikey_row_clear(&row);
	apikey_row_set(&row, EVENT_KEY_OWNER, ObjectIdGetDatum(owner));
	apikey_row_set_pointer(&row, EVENT_KEY_OWNER_NAME,
						   apikey_role_name_text(owner, NULL));
	apikey_row_set_pointer(&row, EVENT_KEY_SUBJECT, subject);
	event_write(event, detail, &row);
}

/* Tells of an organization or project. */
void
apikey_event_tenant(const ApikeyTenant *tenant, ApikeyEvent event,
					const char *detail)
{
	ApikeyRow	row;

	apikey_row_clear(&row);
	set_tenant(tenant, &row);
	event_write(event, detail, &row);
}

/* Tells of a member, and of the role it had before. */
void
apikey_event_member(const ApikeyTenant *tenant, ApikeyEvent event, Oid member,
					const text *subject, ApikeyRole role, ApikeyRole before)
{
	StringInfoData json;

	apikey_detail_begin(&json);
	apikey_detail_text(&json, "member", apikey_role_name_text(member, NULL));
	if (subject != NULL)
		apikey_detail_text(&json, "subject", subject);
	apikey_detail_string(&json, "role", apikey_role_label(role));
	if (before != APIKEY_ROLE_NONE)
		apikey_detail_string(&json, "role_before", apikey_role_label(before));
	apikey_event_tenant(tenant, event, apikey_detail_end(&json));
}

/* Locks the trail for events, unless that would be waiting for somebody. */
bool
apikey_event_writable(void)
{
	return apikey_table_free(&apikey_event_table);
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

/* A purge: from before when, by what, how many. */
typedef struct Purge
{
	TimestampTz before;
	ApikeyLock	lock;			/* the worker waits for nobody */
	ApikeyWriter *writer;
	uint64		rows;
	ApikeyPass *pass;			/* the worker's */
} Purge;

static bool
purge_event(const ApikeyRow *row, void *state)
{
	Purge	   *purge = state;
	ScanKeyData key;

	if (DatumGetTimestampTz(row->values[EVENT_AT]) >= purge->before)
		return true;
	ScanKeyInit(&key, EVENT_ID + 1, BTEqualStrategyNumber, F_INT8EQ,
				row->values[EVENT_ID]);
	if (apikey_table_take(purge->writer, &apikey_event_table, &key,
						  purge->lock, NULL))
	{
		apikey_table_remove(purge->writer, &apikey_event_table);
		purge->rows++;
	}
	return true;
}

static void
purge_all(void *work)
{
	Purge	   *purge = work;
	Snapshot	snapshot = apikey_latest_snapshot();

	purge->writer = apikey_table_open(&apikey_event_table);
	apikey_table_walk(&apikey_event_table, APIKEY_REL_EVENT, NULL, 0, snapshot,
					  purge_event, purge);
	apikey_table_close(purge->writer);
	UnregisterSnapshot(snapshot);
}

/* The oldest first; there is nothing to be done after one that stays. */
static bool
retain_event(const ApikeyRow *row, void *state)
{
	Purge	   *purge = state;
	uint64		before = purge->rows;

	if (before < APIKEY_STEP_CHANGES)
		(void) purge_event(row, state);
	return purge->rows > before;
}

/*
 * The next ones.  What the steps before have removed stays in the index where
 * somebody's snapshot is older, and is not to be read at each.
 */
static void
purge_next(void *work)
{
	Purge	   *purge = work;
	ApikeyPass *pass = purge->pass;
	ApikeyWalk	walk = {
		.table = &apikey_event_table,
		.index = APIKEY_REL_EVENT_PKEY,
		.order = {EVENT_ID},
		.columns = 1,
		.snapshot = apikey_latest_snapshot(),
		.visit = retain_event,
		.state = purge
	};

	purge->writer = apikey_table_open(&apikey_event_table);
	pass->begun = apikey_walk_step(&walk, &pass->place) ||
		purge->rows == APIKEY_STEP_CHANGES;
	apikey_table_close(purge->writer);
	UnregisterSnapshot(walk.snapshot);
}

/* A work that removes events. */
static void
remove_events(ApikeyWork work, void *state)
{
	purging = true;
	PG_TRY();
	{
		work(state);
	}
	PG_FINALLY();
	{
		purging = false;
	}
	PG_END_TRY();
}

/* Removes the events from before a time; returns how many. */
uint64
apikey_event_purge(TimestampTz before)
{
	Purge		purge = {.before = before, .lock = APIKEY_LOCK_UPDATE};

	remove_events(purge_all, &purge);
	return purge.rows;
}

/*
 * For the worker, in a transaction: removes some of the events that are older
 * than apikey.event_retention; true while there may be more.
 */
bool
apikey_event_retain(ApikeyPass *pass)
{
	Purge		purge = {.lock = APIKEY_LOCK_UPDATE_SKIP, .pass = pass};

	if (apikey_event_retention == 0)
		return pass->begun = false;
	if (!pass->begun)
		apikey_pass_begin(pass);
	purge.before = pass->began_at -
		(TimestampTz) apikey_event_retention * USECS_PER_SEC;
	remove_events(purge_next, &purge);
	return pass->begun;
}
