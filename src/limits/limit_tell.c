/*
 * limit_tell.c
 *		What is told of a limit, and to whom.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys.h"
#include "limits/limits_internal.h"

/* {"id": ..., "holder": ..., ...}: what a limit is, to be told in an event. */
void
apikey_limit_detail_begin(StringInfo json, const ApikeyRow *limit)
{
	apikey_detail_begin(json);
	apikey_detail_string(json, "id", apikey_id_string(apikey_row_id(limit)));
	apikey_detail_string(json, "holder", apikey_limit_holder_name(limit));
	if (!limit->nulls[APIKEY_LIMIT_SUBJECT])
		apikey_detail_text(json, "subject",
						   apikey_row_text(limit, APIKEY_LIMIT_SUBJECT));
	for (int i = APIKEY_LIMIT_UNIT; i <= APIKEY_LIMIT_OVERDRAFT; i++)
		apikey_detail_value(json, apikey_limit_table.columns[i].name, apikey_limit_table.columns[i].type,
							limit->values[i], limit->nulls[i]);
}

char *
apikey_limit_detail(const ApikeyRow *limit)
{
	StringInfoData json;

	apikey_limit_detail_begin(&json, limit);
	return apikey_detail_end(&json);
}

/* The same with a number, and the key that it is about, or NULL. */
char *
apikey_limit_detail_with(const ApikeyRow *limit, const char *name,
						 int64 value, const pg_uuid_t *key)
{
	StringInfoData json;

	apikey_limit_detail_begin(&json, limit);
	apikey_detail_json(&json, name, psprintf(INT64_FORMAT, value));
	if (key != NULL)
		apikey_detail_string(&json, "key_id", apikey_id_string(key));
	return apikey_detail_end(&json);
}

/* Finds the tenant of a limit; false where it is gone. */
static bool
fetch_tenant(const ApikeyLimitHolder *holder, ApikeyTenant *tenant)
{
	if (holder->project != NULL)
		return apikey_tenant_fetch_project(holder->project, tenant);
	tenant->is_project = false;
	if (!apikey_table_fetch_latest(&apikey_organization_table,
								   holder->organization,
								   &tenant->organization))
		return false;
	tenant->path = text_to_cstring(apikey_row_text(&tenant->organization,
												   APIKEY_ORGANIZATION_NAME));
	return true;
}

/* Tells of a limit whom its holder concerns; of one that is gone, nobody. */
void
apikey_limit_tell(const ApikeyRow *limit, ApikeyEvent event,
				  const char *detail)
{
	ApikeyLimitHolder holder;
	ApikeyTenant tenant;
	ApikeyRow	key;

	apikey_limit_holder(limit, &holder);
	if (holder.key != NULL)
	{
		if (apikey_key_fetch_latest(holder.key, &key))
			apikey_event_key(&key, event, detail);
	}
	else if (holder.organization == NULL)
		apikey_event_subject(holder.owner, holder.subject, event, detail);
	else if (fetch_tenant(&holder, &tenant))
		apikey_event_tenant(&tenant, event, detail);
}
