/*
 * event_revealed.c
 *		Telling of a key that was shown in a transaction that is over: by then it
 *		may be gone.
 */
#include "postgres.h"

#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events_internal.h"

static bool
take_id(const ApikeyRow *event, void *state)
{
	*(int64 *) state = DatumGetInt64(event->values[EVENT_ID]);
	return false;
}

/* The id of the last event of a key; 0 for none. */
static int64
last_event(const pg_uuid_t *id)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	int64		last = 0;
	ScanKeyData key;

	ScanKeyInit(&key, EVENT_KEY_ID + 1, BTEqualStrategyNumber, F_UUID_EQ,
				UUIDPGetDatum(id));
	apikey_table_walk_back(&apikey_event_table, APIKEY_REL_EVENT_KEY, &key, 1,
						   snapshot, take_id, &last);
	UnregisterSnapshot(snapshot);
	return last;
}

/* Fills in a key that is gone, as its last event says; false where there is none. */
static bool
set_gone(const pg_uuid_t *id, ApikeyRow *row)
{
	static const ApikeyEventColumn same[] = {
		EVENT_KEY_ID, EVENT_KEY_NAME, EVENT_KEY_OWNER, EVENT_KEY_OWNER_NAME,
		EVENT_KEY_SUBJECT, EVENT_PLACE, EVENT_ORGANIZATION, EVENT_PROJECT
	};
	ApikeyRow	last;
	ScanKeyData key;

	ScanKeyInit(&key, EVENT_ID + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(last_event(id)));
	if (!apikey_table_find(&apikey_event_table, APIKEY_REL_EVENT_PKEY, &key, 1,
						   &last))
		return false;
	for (int i = 0; i < (int) lengthof(same); i++)
	{
		row->values[same[i]] = last.values[same[i]];
		row->nulls[same[i]] = last.nulls[same[i]];
	}
	return true;
}

/*
 * Tells that a role, of that name then, has been shown a key.  Of a key that was
 * made in the same transaction, and went with it, there is nothing to tell.
 */
void
apikey_event_revealed(const pg_uuid_t *id, Oid actor, const text *actor_name,
					  text *subject, inet *client_addr, const char *detail)
{
	ApikeyRow	key;
	ApikeyRow	row;

	apikey_row_clear(&row);
	if (apikey_table_fetch_latest(&apikey_key_table, id, &key))
		apikey_event_set_key(&key, &row);
	else if (!set_gone(id, &row))
		return;
	apikey_row_set_pointer(&row, EVENT_ACTOR,
						   apikey_role_name_text(actor, actor_name));
	apikey_row_set_pointer(&row, EVENT_ACTOR_SUBJECT, subject);
	apikey_row_set_pointer(&row, EVENT_CLIENT_ADDR, client_addr);
	apikey_event_insert(APIKEY_EVENT_REVEALED, detail, &row);
}
