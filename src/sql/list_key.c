/*
 * list_key.c
 *		The columns of view apikeys, as they are made of a key.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "access/access.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "sql/list_key.h"
#include "sql/listing.h"

/* Of the view's columns, those that are columns of the table. */
static const struct
{
	int			listed;
	ApikeyKeyColumn stored;
}			plain[] = {
	{LIST_ID, APIKEY_KEY_ID},
	{LIST_NAME, APIKEY_KEY_NAME},
	{LIST_DESCRIPTION, APIKEY_KEY_DESCRIPTION},
	{LIST_SUBJECT, APIKEY_KEY_SUBJECT},
	{LIST_ROLE, APIKEY_KEY_ROLE},
	{LIST_SCOPES, APIKEY_KEY_SCOPES},
	{LIST_CREATED_AT, APIKEY_KEY_CREATED_AT},
	{LIST_STARTS_AT, APIKEY_KEY_STARTS_AT},
	{LIST_EXPIRES_AT, APIKEY_KEY_EXPIRES_AT},
	{LIST_RATE_LIMIT, APIKEY_KEY_RATE_LIMIT},
	{LIST_RATE_WINDOW, APIKEY_KEY_RATE_WINDOW},
	{LIST_ALLOWED_IPS, APIKEY_KEY_ALLOWED_IPS},
	{LIST_METADATA, APIKEY_KEY_METADATA},
	{LIST_REVOKED_AT, APIKEY_KEY_REVOKED_AT},
	{LIST_REVOKE_REASON, APIKEY_KEY_REVOKE_REASON},
	{LIST_ROTATED_TO, APIKEY_KEY_ROTATED_TO},
	{LIST_ACCEPTED_TERMS, APIKEY_KEY_ACCEPTED_TERMS}
};

/* The name of a role, or the one last known. */
static Name
role_name(Oid role, const text *last_known)
{
	Name		name = palloc0(sizeof(NameData));

	namestrcpy(name, text_to_cstring(apikey_role_name_text(role, last_known)));
	return name;
}

Name
apikey_list_owner_name(const ApikeyRow *key)
{
	return role_name(apikey_key_owner(key),
					 apikey_row_text(key, APIKEY_KEY_OWNER_NAME));
}

/* prefix_...last, of an imported key once it has been used. */
static Datum
masked_key(ApikeyListing *listing, const ApikeyRow *key)
{
	char	   *prefix = text_to_cstring(apikey_row_text(key, APIKEY_KEY_PREFIX));
	text	   *last_four = apikey_row_text(key, APIKEY_KEY_LAST_FOUR);

	if (VARSIZE_ANY_EXHDR(last_four) == 0)
		last_four = apikey_import_last_four(apikey_row_id(key),
											listing->viewer.snapshot);
	return CStringGetTextDatum(psprintf("%s_...%s", prefix,
										last_four == NULL ? "" :
										text_to_cstring(last_four)));
}

/* The later of two times, either of which may be 0, which is none. */
static void
set_latest(Datum *values, bool *nulls, int column, TimestampTz one,
		   TimestampTz two)
{
	nulls[column] = one == 0 && two == 0;
	values[column] = TimestampTzGetDatum(one == 0 ? two : two == 0 ? one :
										 Max(one, two));
}

/*
 * May the viewer be told what is true of a key now?  Its row may be an old one:
 * only where the key is one that it sees now.
 */
static bool
shows_live(ApikeyListing *listing, const ApikeyRow *key)
{
	ApikeyRow	latest;

	return listing->viewer.sees_all ||
		(!apikey_latest_hidden() &&
		 apikey_key_fetch_latest(apikey_row_id(key), &latest) &&
		 apikey_viewer_sees_key(&listing->viewer, &latest));
}

/* The use of a key: the table's, and what this server has not written yet. */
static void
make_use(ApikeyListing *listing, const ApikeyRow *key, Datum *values,
		 bool *nulls)
{
	ApikeyUse	use;
	ApikeyRow	stored;
	bool		found = apikey_table_fetch(&apikey_use_table,
										   apikey_row_id(key),
										   listing->viewer.snapshot, &stored);
	int64		flush;

	if (!found)
	{
		apikey_row_clear(&stored);
		stored.values[APIKEY_USE_USE_COUNT] = Int64GetDatum(0);
		stored.values[APIKEY_USE_DENIED_COUNT] = Int64GetDatum(0);
	}
	flush = stored.nulls[APIKEY_USE_FLUSH] ? 0 :
		DatumGetInt64(stored.values[APIKEY_USE_FLUSH]);
	if (!apikey_usage_pending(apikey_row_id(key), flush, &use) ||
		!shows_live(listing, key))
		memset(&use, 0, sizeof(use));
	values[LIST_USE_COUNT] =
		Int64GetDatum(DatumGetInt64(stored.values[APIKEY_USE_USE_COUNT]) +
					  (int64) use.uses);
	values[LIST_DENIED_COUNT] =
		Int64GetDatum(DatumGetInt64(stored.values[APIKEY_USE_DENIED_COUNT]) +
					  (int64) use.denials);
	nulls[LIST_USE_COUNT] = nulls[LIST_DENIED_COUNT] = false;
	set_latest(values, nulls, LIST_LAST_USED_AT, use.last_used_at,
			   stored.nulls[APIKEY_USE_LAST_USED_AT] ? 0 :
			   DatumGetTimestampTz(stored.values[APIKEY_USE_LAST_USED_AT]));
	values[LIST_LAST_USED_ADDR] = stored.values[APIKEY_USE_LAST_USED_ADDR];
	nulls[LIST_LAST_USED_ADDR] = stored.nulls[APIKEY_USE_LAST_USED_ADDR];
	if (use.has_addr)
	{
		values[LIST_LAST_USED_ADDR] = InetPGetDatum(apikey_use_inet(&use.addr));
		nulls[LIST_LAST_USED_ADDR] = false;
	}
}

static void
make_credits(ApikeyListing *listing, ApikeyRow *key, Datum *values,
			 bool *nulls)
{
	if (apikey_key_account(key) == NULL || !shows_live(listing, key) ||
		!apikey_account_fetch(apikey_key_account(key), key))
		return;
	for (int i = 0; i < 3; i++)
	{
		values[LIST_CREDITS + i] = key->values[APIKEY_KEY_CREDITS + i];
		nulls[LIST_CREDITS + i] = key->nulls[APIKEY_KEY_CREDITS + i];
	}
}

/* What the key is now, by the clock of the statement. */
static void
make_status(ApikeyListing *listing, const ApikeyViewedProject *project,
			const ApikeyRow *key, Datum *values, bool *nulls)
{
	ApikeyKeyState state;
	ApikeySpan	span;
	ApikeyStatus status;
	ApikeyTenant tenant;
	bool		exists = project != NULL && project->exists;

	if (exists)
		apikey_viewer_tenant(project, &tenant);
	apikey_status_read(key, exists ? &tenant : NULL, &listing->known_roles,
					   &state, &span);
	status = apikey_status_at(&state, &span,
							  GetCurrentStatementStartTimestamp());
	values[LIST_STATUS] = CStringGetTextDatum(apikey_status_name(status));
	nulls[LIST_STATUS] = false;
	nulls[LIST_EFFECTIVE_ROLE] = state.role == APIKEY_ROLE_NONE;
	if (state.role != APIKEY_ROLE_NONE)
		values[LIST_EFFECTIVE_ROLE] = apikey_role_datum(state.role);
}

static void
set_text(Datum *values, bool *nulls, int column, const text *value)
{
	values[column] = PointerGetDatum(value);
	nulls[column] = value == NULL;
}

static void
set_name(Datum *values, bool *nulls, int column, Name value)
{
	values[column] = NameGetDatum(value);
	nulls[column] = false;
}

/* Whose it is, who made it, and who vouches: see the rows' comments. */
static void
make_principals(const ApikeyRow *key, Datum *values, bool *nulls)
{
	bool		created = !key->nulls[APIKEY_KEY_CREATED_BY];
	const text *subject;

	set_name(values, nulls, LIST_OWNER, apikey_list_owner_name(key));
	set_name(values, nulls, LIST_CREATED_BY, !created ? apikey_list_owner_name(key) :
			 role_name(InvalidOid, apikey_row_text(key, APIKEY_KEY_CREATED_BY)));
	set_text(values, nulls, LIST_CREATED_BY_SUBJECT,
			 apikey_row_text(key, created ? APIKEY_KEY_CREATED_BY_SUBJECT :
							 APIKEY_KEY_SUBJECT));
	if (apikey_key_project(key) == NULL)
		return;
	set_name(values, nulls, LIST_VOUCHED_BY,
			 role_name(apikey_status_voucher(key, &subject),
					   apikey_status_voucher_name(key)));
	set_text(values, nulls, LIST_VOUCHED_BY_SUBJECT, subject);
}

/* Makes a row of the view; what costs a reading only where it is wanted. */
void
apikey_list_key_make(ApikeyListing *listing,
					 const ApikeyViewedProject *project, ApikeyRow *key,
					 Datum *values, bool *nulls)
{
	const ApikeyListWanted *wanted = listing->state;

	if (wanted->revocations)
		(void) apikey_revocation_apply(key, listing->viewer.snapshot);
	for (size_t i = 0; i < lengthof(plain); i++)
	{
		values[plain[i].listed] = key->values[plain[i].stored];
		nulls[plain[i].listed] = key->nulls[plain[i].stored];
	}
	make_principals(key, values, nulls);
	set_text(values, nulls, LIST_PROJECT, project == NULL ? NULL : project->path);
	values[LIST_UPDATED_AT] = key->values[key->nulls[APIKEY_KEY_UPDATED_AT] ?
										  APIKEY_KEY_CREATED_AT :
										  APIKEY_KEY_UPDATED_AT];
	nulls[LIST_UPDATED_AT] = false;
	if (apikey_list_wants(wanted, LIST_MASKED_KEY))
		set_text(values, nulls, LIST_MASKED_KEY,
				 DatumGetTextPP(masked_key(listing, key)));
	if (apikey_list_wants(wanted, LIST_STATUS) || apikey_list_wants(wanted, LIST_EFFECTIVE_ROLE))
		make_status(listing, project, key, values, nulls);
	if (apikey_list_wants(wanted, LIST_USE_COUNT) || apikey_list_wants(wanted, LIST_DENIED_COUNT) ||
		apikey_list_wants(wanted, LIST_LAST_USED_AT) || apikey_list_wants(wanted, LIST_LAST_USED_ADDR))
		make_use(listing, key, values, nulls);
	if (apikey_list_wants(wanted, LIST_CREDITS) || apikey_list_wants(wanted, LIST_CREDITS_REFILL) ||
		apikey_list_wants(wanted, LIST_CREDITS_INTERVAL))
		make_credits(listing, key, values, nulls);
	values[LIST_REVEALABLE] = BoolGetDatum(apikey_list_wants(wanted, LIST_REVEALABLE) &&
										   apikey_reveal_can(key));
	nulls[LIST_REVEALABLE] = false;
}
