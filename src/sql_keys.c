/*
 * sql_keys.c
 *		The SQL functions that make and change keys: arguments in, result out.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "apikey.h"
#include "credit.h"
#include "verify.h"

/* The arguments of apikey_create, in their order. */
enum
{
	CREATE_NAME,
	CREATE_PROJECT,
	CREATE_DESCRIPTION,
	CREATE_SUBJECT,
	CREATE_SCOPES,
	CREATE_ROLE,
	CREATE_STARTS_AT,
	CREATE_EXPIRES_AT,
	CREATE_PREFIX,
	CREATE_RATE_LIMIT,
	CREATE_RATE_WINDOW,
	CREATE_CREDITS,
	CREATE_CREDITS_REFILL,
	CREATE_CREDITS_INTERVAL,
	CREATE_ALLOWED_IPS,
	CREATE_METADATA,
	CREATE_ACCEPT_TERMS
};

static text *
text_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : PG_GETARG_TEXT_PP(argument);
}

/* Copies an argument, NULL or not, into a column. */
static void
set_from_argument(FunctionCallInfo fcinfo, int argument, ApikeyRow *key,
				  int column)
{
	key->values[column] = PG_GETARG_DATUM(argument);
	key->nulls[column] = PG_ARGISNULL(argument);
}

/*
 * apikey_create(name text, ...) returns text
 *		Makes a key and returns its text, which is stored nowhere.
 */
PG_FUNCTION_INFO_V1(apikey_create);
Datum
apikey_create(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	ApikeyIssue issue;

	PreventCommandIfReadOnly("apikey_create()");
	if (PG_ARGISNULL(CREATE_NAME))
		apikey_refuse_null("name");

	issue.name = PG_GETARG_TEXT_PP(CREATE_NAME);
	issue.project = text_argument(fcinfo, CREATE_PROJECT);
	issue.subject = text_argument(fcinfo, CREATE_SUBJECT);
	issue.prefix = text_argument(fcinfo, CREATE_PREFIX);
	issue.accept_terms = text_argument(fcinfo, CREATE_ACCEPT_TERMS);
	issue.role = PG_ARGISNULL(CREATE_ROLE) ? APIKEY_ROLE_NONE :
		apikey_role_from_datum(PG_GETARG_DATUM(CREATE_ROLE));

	apikey_row_clear(&key);
	set_from_argument(fcinfo, CREATE_DESCRIPTION, &key, APIKEY_KEY_DESCRIPTION);
	set_from_argument(fcinfo, CREATE_SCOPES, &key, APIKEY_KEY_SCOPES);
	set_from_argument(fcinfo, CREATE_STARTS_AT, &key, APIKEY_KEY_STARTS_AT);
	set_from_argument(fcinfo, CREATE_EXPIRES_AT, &key, APIKEY_KEY_EXPIRES_AT);
	set_from_argument(fcinfo, CREATE_RATE_LIMIT, &key, APIKEY_KEY_RATE_LIMIT);
	set_from_argument(fcinfo, CREATE_RATE_WINDOW, &key, APIKEY_KEY_RATE_WINDOW);
	set_from_argument(fcinfo, CREATE_CREDITS, &key, APIKEY_KEY_CREDITS);
	set_from_argument(fcinfo, CREATE_CREDITS_REFILL, &key,
					  APIKEY_KEY_CREDITS_REFILL);
	set_from_argument(fcinfo, CREATE_CREDITS_INTERVAL, &key,
					  APIKEY_KEY_CREDITS_INTERVAL);
	set_from_argument(fcinfo, CREATE_ALLOWED_IPS, &key, APIKEY_KEY_ALLOWED_IPS);
	set_from_argument(fcinfo, CREATE_METADATA, &key, APIKEY_KEY_METADATA);
	PG_RETURN_TEXT_P(apikey_issue(&key, &issue));
}

/*
 * Opens the key that the first argument of a function names, for a caller who
 * has a right to it.
 */
static void
open_argument(FunctionCallInfo fcinfo, const char *function,
			  ApikeyRight right, ApikeyRow *key)
{
	PreventCommandIfReadOnly(function);
	if (PG_ARGISNULL(0))
		apikey_refuse_null("id");
	apikey_manage_open(PG_GETARG_UUID_P(0), right, key);
}

/*
 * apikey_rename(id uuid, new_name text) returns void
 */
PG_FUNCTION_INFO_V1(apikey_rename);
Datum
apikey_rename(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	ApikeyPlace place;
	text	   *before;

	if (PG_ARGISNULL(1))
		apikey_refuse_null("new_name");
	open_argument(fcinfo, "apikey_rename()", APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_unrevoked(&key);
	before = apikey_row_text(&key, APIKEY_KEY_NAME);
	apikey_row_set_pointer(&key, APIKEY_KEY_NAME,
						   apikey_rule_name("new_name", PG_GETARG_TEXT_PP(1),
											apikey_manage_project(&key, &place)));
	if (!apikey_same_text(before, apikey_row_text(&key, APIKEY_KEY_NAME)))
		apikey_key_update(&key, APIKEY_EVENT_RENAMED,
						  apikey_json_text("name_before", before));
	PG_RETURN_VOID();
}

/* Disables or enables a locked key; false where it already was so. */
static bool
set_disabled(ApikeyRow *key, bool disabled)
{
	if (apikey_row_bool(key, APIKEY_KEY_DISABLED) == disabled)
		return false;
	apikey_row_set(key, APIKEY_KEY_DISABLED, BoolGetDatum(disabled));
	apikey_key_update(key, disabled ? APIKEY_EVENT_DISABLED :
					  APIKEY_EVENT_ENABLED, NULL);
	return true;
}

/*
 * apikey_disable(id uuid) returns boolean
 *		False where the key was disabled, or revoked, already.
 */
PG_FUNCTION_INFO_V1(apikey_disable);
Datum
apikey_disable(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;

	open_argument(fcinfo, "apikey_disable()", APIKEY_RIGHT_DISABLE, &key);
	if (apikey_key_status(&key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED)
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(set_disabled(&key, true));
}

/*
 * apikey_enable(id uuid) returns boolean
 *		False where the key was not disabled; 55000 where it is revoked.
 */
PG_FUNCTION_INFO_V1(apikey_enable);
Datum
apikey_enable(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;

	open_argument(fcinfo, "apikey_enable()", APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_unrevoked(&key);
	PG_RETURN_BOOL(set_disabled(&key, false));
}

/* The second argument of a function as a reason, checked; NULL for none. */
static text *
reason_argument(FunctionCallInfo fcinfo)
{
	text	   *reason = text_argument(fcinfo, 1);

	if (reason != NULL)
		apikey_rule_reason(reason);
	return reason;
}

/*
 * apikey_revoke(id uuid, reason text) returns boolean
 *		False where the key was revoked already.
 */
PG_FUNCTION_INFO_V1(apikey_revoke);
Datum
apikey_revoke(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	text	   *reason = reason_argument(fcinfo);

	open_argument(fcinfo, "apikey_revoke()", APIKEY_RIGHT_REVOKE, &key);
	PG_RETURN_BOOL(apikey_manage_revoke(&key, reason));
}

/*
 * apikey_self_revoke(key text, reason text) returns boolean
 *		True where this call revoked the key; false for any other text.
 */
PG_FUNCTION_INFO_V1(apikey_self_revoke);
Datum
apikey_self_revoke(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	ApikeyCredential credential;
	text	   *reason = reason_argument(fcinfo);

	PreventCommandIfReadOnly("apikey_self_revoke()");
	apikey_pepper_require();
	if (PG_ARGISNULL(0) ||
		!apikey_credential_from_key(PG_GETARG_DATUM(0), &credential) ||
		!apikey_credential_checksum_ok(&credential) ||
		!apikey_credential_matches(&credential, &key))
		PG_RETURN_BOOL(false);
	apikey_manage_lock(&credential.id, &key);
	if (apikey_key_status(&key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED)
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(apikey_manage_revoke(&key, reason));
}

/*
 * apikey_delete(id uuid, confirm_name text) returns void
 *		Removes a key that the caller can name.
 */
PG_FUNCTION_INFO_V1(apikey_delete);
Datum
apikey_delete(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;

	if (PG_ARGISNULL(1))
		apikey_refuse_null("confirm_name");
	open_argument(fcinfo, "apikey_delete()", APIKEY_RIGHT_DELETE, &key);
	if (!apikey_same_text(apikey_row_text(&key, APIKEY_KEY_NAME),
						  PG_GETARG_TEXT_PP(1)))
		apikey_refuse("confirm_name", "It must be the name of the key.");
	apikey_key_delete(&key);
	PG_RETURN_VOID();
}

/*
 * apikey_transfer(id uuid, new_owner regrole, subject text) returns void
 *		Hands a project's key to another member of the project; a superuser
 *		may hand a personal key to anybody.
 */
PG_FUNCTION_INFO_V1(apikey_transfer);
Datum
apikey_transfer(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	ApikeyPlace place;
	Oid			new_owner;
	text	   *subject = text_argument(fcinfo, 2);
	text	   *before;

	if (PG_ARGISNULL(1))
		apikey_refuse_null("new_owner");
	new_owner = PG_GETARG_OID(1);
	if (subject != NULL)
		apikey_rule_subject(subject);
	open_argument(fcinfo, "apikey_transfer()", APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_unrevoked(&key);
	apikey_role_require(new_owner);
	if (apikey_manage_project(&key, &place) == NULL)
	{
		if (!superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to transfer a personal API key"),
					 errdetail("Only superusers may.")));
	}
	else if (apikey_member_standing(new_owner, subject,
									apikey_place_organization(&place),
									apikey_place_project(&place)) ==
			 APIKEY_ROLE_NONE)
		apikey_refuse("new_owner", "The new owner must be a member of the key's project.");

	before = apikey_role_name_text(apikey_key_owner(&key),
								   apikey_row_text(&key, APIKEY_KEY_OWNER_NAME));
	apikey_row_set(&key, APIKEY_KEY_OWNER, ObjectIdGetDatum(new_owner));
	apikey_row_set_pointer(&key, APIKEY_KEY_SUBJECT, subject);
	apikey_key_update(&key, APIKEY_EVENT_TRANSFERRED,
					  apikey_json_text("owner_before", before));
	PG_RETURN_VOID();
}

/*
 * apikey_credits_add(id uuid, amount bigint) returns bigint
 *		Adds to the credits of a key that has some; returns what is left then.
 */
PG_FUNCTION_INFO_V1(apikey_credits_add);
Datum
apikey_credits_add(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	int64		amount;
	int64		left;

	if (PG_ARGISNULL(1))
		apikey_refuse_null("amount");
	amount = PG_GETARG_INT64(1);
	if (amount < 1)
		apikey_refuse("amount", "The amount is 1 or more.");
	open_argument(fcinfo, "apikey_credits_add()", APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_unrevoked(&key);
	if (apikey_key_account(&key) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the API key has no credits to add to"),
				 errhint("Give it some by UPDATE apikeys SET credits.")));
	left = apikey_credit_add(apikey_key_account(&key), amount);
	apikey_event_key(&key, APIKEY_EVENT_UPDATED,
					 psprintf("{\"columns\": [\"credits\"], \"credits_added\": " INT64_FORMAT "}",
							  amount));
	PG_RETURN_INT64(left);
}
