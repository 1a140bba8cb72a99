/*
 * sql_limits.c
 *		The SQL functions that set, change and drop limits: whose they are, and
 *		who may.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "compat.h"
#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"
#include "credits/credits.h"
#include "limits/limits.h"
#include "verify/verify.h"
#include "sql/sql_internal.h"

/* The arguments of apikey_limit_set, in their order. */
enum
{
	SET_UNIT,
	SET_AMOUNT,
	SET_PERIOD,
	SET_KIND,
	SET_KEY,
	SET_PATH,
	SET_SUBJECT,
	SET_SHARED,
	SET_OVERDRAFT
};

/* Reads what the limit is to be, but whose. */
static void
read_limit(FunctionCallInfo fcinfo, ApikeyRow *limit)
{
	static const struct
	{
		int			argument;
		ApikeyLimitColumn column;
		const char *name;
	}			required[] = {
		{SET_UNIT, APIKEY_LIMIT_UNIT, "unit"},
		{SET_AMOUNT, APIKEY_LIMIT_AMOUNT, "amount"},
		{SET_KIND, APIKEY_LIMIT_KIND, "kind"},
		{SET_SHARED, APIKEY_LIMIT_SHARED, "shared"},
		{SET_OVERDRAFT, APIKEY_LIMIT_OVERDRAFT, "overdraft"}
	};

	apikey_row_clear(limit);
	for (size_t i = 0; i < lengthof(required); i++)
	{
		apikey_require(fcinfo, required[i].argument, required[i].name);
		apikey_row_set(limit, required[i].column,
					   PG_GETARG_DATUM(required[i].argument));
	}
	limit->values[APIKEY_LIMIT_UNIT] = PointerGetDatum(PG_GETARG_TEXT_PP(SET_UNIT));
	limit->values[APIKEY_LIMIT_KIND] = PointerGetDatum(PG_GETARG_TEXT_PP(SET_KIND));
	limit->values[APIKEY_LIMIT_PERIOD] = PG_GETARG_DATUM(SET_PERIOD);
	limit->nulls[APIKEY_LIMIT_PERIOD] = PG_ARGISNULL(SET_PERIOD);
	apikey_limit_rule(limit);
}

/* Raises where the arguments do not name one holder. */
static void
require_one_holder(FunctionCallInfo fcinfo)
{
	bool		key = !PG_ARGISNULL(SET_KEY);
	bool		path = !PG_ARGISNULL(SET_PATH);
	bool		subject = !PG_ARGISNULL(SET_SUBJECT);

	if (key ? path || subject : !path && !subject)
		apikey_refuse_by("apikey_limit_holder",
						 !key ? "key" : path ? "path" : "subject",
						 "A limit is a key's, or a subject's, a path's, or a subject's in a path.");
	if (subject)
		apikey_rule_subject(PG_GETARG_TEXT_PP(SET_SUBJECT));
}

/*
 * The role whose personal keys of a subject a limit is about, claimed against
 * others that set one of these.  Who has a subject of its own is that.
 */
static Oid
open_subject(const text *subject)
{
	const text *own = apikey_principal_subject();

	if (own != NULL && !superuser() && !apikey_same_text(own, subject))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for \"subject\""),
				 errdetail("It is not your own.")));
	apikey_limit_claim_subject(GetUserId(), subject);
	return GetUserId();
}

static void
set_tenant(ApikeyRow *limit, const ApikeyTenant *tenant)
{
	apikey_row_set_pointer(limit, APIKEY_LIMIT_ORGANIZATION,
						   apikey_tenant_organization(tenant));
	apikey_row_set_pointer(limit, APIKEY_LIMIT_PROJECT,
						   apikey_tenant_project(tenant));
}

/*
 * Locks the holder, for whoever may limit it, against others who do; and says
 * whose the limit is.
 */
static void
open_holder(FunctionCallInfo fcinfo, ApikeyRow *limit)
{
	static ApikeyTenant tenant; /* the row points into it */
	ApikeyRow	key;
	Oid			owner;

	if (!PG_ARGISNULL(SET_KEY))
	{
		apikey_manage_open(PG_GETARG_UUID_P(SET_KEY), APIKEY_RIGHT_CHANGE, &key);
		apikey_manage_require_current(&key);
		apikey_row_set(limit, APIKEY_LIMIT_KEY, PG_GETARG_DATUM(SET_KEY));
		return;
	}
	if (!PG_ARGISNULL(SET_SUBJECT))
		apikey_row_set_pointer(limit, APIKEY_LIMIT_SUBJECT,
							   PG_GETARG_TEXT_PP(SET_SUBJECT));
	if (!PG_ARGISNULL(SET_PATH))
	{
		apikey_tenant_open_with(PG_GETARG_TEXT_PP(SET_PATH), APIKEY_LOCK_CHANGE,
								&tenant);
		set_tenant(limit, &tenant);
		return;
	}
	owner = open_subject(PG_GETARG_TEXT_PP(SET_SUBJECT));
	apikey_row_set(limit, APIKEY_LIMIT_OWNER, ObjectIdGetDatum(owner));
	apikey_row_set_pointer(limit, APIKEY_LIMIT_OWNER_NAME,
						   apikey_role_name_text(owner, NULL));
}

/*
 * apikey_limit_set(unit text, amount bigint, period interval, kind text,
 *					key uuid, path text, subject text, shared boolean,
 *					overdraft bigint) returns uuid
 *		Makes a limit, or replaces the holder's of that unit, kind and period.
 */
PG_FUNCTION_INFO_V1(apikey_limit_set);
Datum
apikey_limit_set(PG_FUNCTION_ARGS)
{
	ApikeyRow	limit;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	PreventCommandIfReadOnly("apikey_limit_set()");
	apikey_limit_require_library();
	read_limit(fcinfo, &limit);
	require_one_holder(fcinfo);
	open_holder(fcinfo, &limit);
	apikey_limit_put(&limit, id);
	PG_RETURN_UUID_P(id);
}

pg_noreturn static void
refuse_unknown(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("limit \"%s\" does not exist", apikey_id_string(id))));
}

/* May the caller see, or change, a limit of a role's keys of a subject? */
static void
authorize_subject(const pg_uuid_t *id, const ApikeyLimitHolder *holder)
{
	const text *own = apikey_principal_subject();

	if (superuser() ||
		(apikey_role_has(GetUserId(), holder->owner) &&
		 (own == NULL || apikey_same_text(own, holder->subject))))
		return;
	if (!apikey_authority_sees_keys())
		refuse_unknown(id);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied for limit \"%s\"", apikey_id_string(id))));
}

/*
 * Does the view show a tenant's limit to a caller that is something there?  One
 * of a subject, where it shows the keys, or the caller is that subject.
 */
static bool
sees_tenant(const ApikeyLimitHolder *holder, ApikeyRole member_role)
{
	ApikeyAuthority authority;

	if (holder->subject == NULL ||
		(apikey_principal_subject() != NULL &&
		 apikey_same_text(apikey_principal_subject(), holder->subject)))
		return member_role != APIKEY_ROLE_NONE;
	if (holder->project == NULL)
		return member_role >= APIKEY_ROLE_ADMIN;
	apikey_authority_in_project(holder->project, &authority);
	return apikey_authority_lists(&authority);
}

/*
 * Locks the tenant of a limit, as whoever sets one does; a stranger is told of no
 * such limit.
 */
static void
authorize_tenant(const pg_uuid_t *id, const ApikeyLimitHolder *holder)
{
	ApikeyTenant tenant;
	ApikeyRow	organization;
	ApikeyRole	member_role;
	text	   *path;

	member_role = apikey_member_role(GetUserId(), apikey_principal_subject(),
									 holder->organization, holder->project);
	if (!sees_tenant(holder, member_role) && !apikey_authority_sees_keys())
		refuse_unknown(id);
	if (holder->project != NULL)
	{
		if (!apikey_tenant_fetch_project(holder->project, &tenant))
			refuse_unknown(id);
		path = cstring_to_text(tenant.path);
	}
	else
	{
		if (!apikey_table_fetch_latest(&apikey_organization_table,
									   holder->organization, &organization))
			refuse_unknown(id);
		path = apikey_row_text(&organization, APIKEY_ORGANIZATION_NAME);
	}
	apikey_tenant_open_with(path, APIKEY_LOCK_CHANGE, &tenant);
}

/* The same of a key's. */
static void
authorize_key(const pg_uuid_t *id, const ApikeyLimitHolder *holder)
{
	ApikeyRow	key;

	if (!apikey_key_fetch_latest(holder->key, &key) ||
		!apikey_authority_may(APIKEY_RIGHT_SEE, &key))
		refuse_unknown(id);
	apikey_manage_open(holder->key, APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_current(&key);
}

/* Locks a limit for whoever may change it; false where there is none. */
static bool
open_limit(const pg_uuid_t *id, ApikeyRow *limit)
{
	ApikeyLimitHolder holder;

	apikey_principal_require();
	apikey_key_keep();
	if (!apikey_table_fetch_latest(&apikey_limit_table, id, limit))
		return false;
	apikey_limit_holder(limit, &holder);
	if (holder.key != NULL)
		authorize_key(id, &holder);
	else if (holder.organization != NULL)
		authorize_tenant(id, &holder);
	else
		authorize_subject(id, &holder);
	apikey_limit_lock(id, limit);
	return true;
}

/* The limit that the first argument of a function names. */
static void
open_argument(FunctionCallInfo fcinfo, const char *function, ApikeyRow *limit)
{
	PreventCommandIfReadOnly(function);
	apikey_limit_require_library();
	apikey_require(fcinfo, 0, "id");
	if (!open_limit(PG_GETARG_UUID_P(0), limit))
		refuse_unknown(PG_GETARG_UUID_P(0));
}

/*
 * apikey_limit_add(id uuid, amount bigint) returns bigint
 *		Adds to a balance; returns what is left then.
 */
PG_FUNCTION_INFO_V1(apikey_limit_add);
Datum
apikey_limit_add(PG_FUNCTION_ARGS)
{
	ApikeyRow	limit;
	int64		amount;
	int64		left;
	StringInfoData json;

	PreventCommandIfReadOnly("apikey_limit_add()");
	apikey_limit_require_library();
	apikey_require(fcinfo, 1, "amount");
	amount = PG_GETARG_INT64(1);
	if (amount < 1 || amount > APIKEY_LIMIT_MOST)
		apikey_refuse("amount", "An amount is 1 to 9007199254740992.");
	open_argument(fcinfo, "apikey_limit_add()", &limit);
	if (apikey_limit_only_tighter(&limit))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to loosen a limit"),
				 errdetail("Whoever has a subject may only make limits tighter.")));
	if (apikey_limit_kind(&limit) != APIKEY_LIMIT_BALANCE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only a balance can be added to"),
				 errhint("Set another amount of a rate or quota by apikey_limit_set().")));
	left = apikey_account_add(apikey_row_id(&limit), amount);
	apikey_detail_begin(&json);
	apikey_detail_string(&json, "id", apikey_id_string(apikey_row_id(&limit)));
	apikey_detail_json(&json, "added", psprintf(INT64_FORMAT, amount));
	apikey_limit_tell(&limit, APIKEY_EVENT_LIMIT_SET, apikey_detail_end(&json));
	PG_RETURN_INT64(left);
}

/*
 * apikey_limit_drop(id uuid) returns boolean
 *		Removes a limit; false where there is none.
 */
PG_FUNCTION_INFO_V1(apikey_limit_drop);
Datum
apikey_limit_drop(PG_FUNCTION_ARGS)
{
	ApikeyRow	limit;

	open_argument(fcinfo, "apikey_limit_drop()", &limit);
	apikey_limit_remove(&limit);
	PG_RETURN_BOOL(true);
}

/*
 * apikey_charge(key uuid, costs jsonb, project text, owner regrole)
 *		returns void
 *		Spends what a request has turned out to cost, or gives back.
 */
PG_FUNCTION_INFO_V1(apikey_charge);
Datum
apikey_charge(PG_FUNCTION_ARGS)
{
	ApikeyRequirements required = {0};
	ApikeyVerdict verdict;
	Jsonb	   *costs;

	PreventCommandIfParallelMode("apikey_charge()");
	apikey_limit_require_library();
	apikey_require(fcinfo, 0, "key");
	apikey_require(fcinfo, 1, "costs");
	costs = apikey_costs_read(PG_GETARG_DATUM(1), true);
	if (!PG_ARGISNULL(2))
		required.project = PG_GETARG_TEXT_PP(2);
	required.by_owner = !PG_ARGISNULL(3);
	required.owner = required.by_owner ? PG_GETARG_OID(3) : GetUserId();
	if (!apikey_verify_known(PG_GETARG_UUID_P(0), &required, &verdict))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("API key \"%s\" does not exist",
						apikey_id_string(PG_GETARG_UUID_P(0)))));
	if (verdict.bounds != NULL)
		apikey_charge_key(&verdict, costs);
	PG_RETURN_VOID();
}

/* Opens the limit that an UPDATE of the view changes. */
void
apikey_limit_open_row(const pg_uuid_t *id, ApikeyRow *limit)
{
	apikey_limit_require_library();
	if (!open_limit(id, limit))
		apikey_limit_refuse_concurrent(id);
}
