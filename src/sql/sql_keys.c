/*
 * sql_keys.c
 *		The SQL functions that make and change keys: arguments in, result out.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"
#include "credits/credits.h"
#include "verify/verify.h"

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

/* The arguments that apikey_import has beside, after the name. */
enum
{
	IMPORT_ALGORITHM = CREATE_NAME + 1,
	IMPORT_HASH,
	IMPORT_LOOKUP,
	IMPORT_MORE = IMPORT_LOOKUP - CREATE_NAME
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
 * The arguments of apikey_create, behind the name of which so many more may
 * stand.
 */
static void
read_new_key(FunctionCallInfo fcinfo, int more, ApikeyRow *key,
			 ApikeyIssue *issue)
{
	static const struct
	{
		int			argument;
		ApikeyKeyColumn column;
	}			attributes[] = {
		{CREATE_DESCRIPTION, APIKEY_KEY_DESCRIPTION},
		{CREATE_SCOPES, APIKEY_KEY_SCOPES},
		{CREATE_STARTS_AT, APIKEY_KEY_STARTS_AT},
		{CREATE_EXPIRES_AT, APIKEY_KEY_EXPIRES_AT},
		{CREATE_RATE_LIMIT, APIKEY_KEY_RATE_LIMIT},
		{CREATE_RATE_WINDOW, APIKEY_KEY_RATE_WINDOW},
		{CREATE_CREDITS, APIKEY_KEY_CREDITS},
		{CREATE_CREDITS_REFILL, APIKEY_KEY_CREDITS_REFILL},
		{CREATE_CREDITS_INTERVAL, APIKEY_KEY_CREDITS_INTERVAL},
		{CREATE_ALLOWED_IPS, APIKEY_KEY_ALLOWED_IPS},
		{CREATE_METADATA, APIKEY_KEY_METADATA}
	};

	issue->name = apikey_required_text(fcinfo, CREATE_NAME, "name");
	issue->project = text_argument(fcinfo, more + CREATE_PROJECT);
	issue->subject = text_argument(fcinfo, more + CREATE_SUBJECT);
	issue->prefix = text_argument(fcinfo, more + CREATE_PREFIX);
	issue->accept_terms = text_argument(fcinfo, more + CREATE_ACCEPT_TERMS);
	issue->role = PG_ARGISNULL(more + CREATE_ROLE) ? APIKEY_ROLE_NONE :
		apikey_role_from_datum(PG_GETARG_DATUM(more + CREATE_ROLE));

	apikey_row_clear(key);
	for (size_t i = 0; i < lengthof(attributes); i++)
		set_from_argument(fcinfo, more + attributes[i].argument, key,
						  attributes[i].column);
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
	read_new_key(fcinfo, 0, &key, &issue);
	PG_RETURN_TEXT_P(apikey_issue(&key, &issue));
}

/*
 * apikey_import(name text, algorithm text, hash text, lookup text, ...)
 *		returns uuid
 *		Takes over a key that another system issued, by the hash it stored.
 */
PG_FUNCTION_INFO_V1(apikey_import);
Datum
apikey_import(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	ApikeyIssue issue;
	ApikeyImportHash import_hash;
	text	   *lookup = text_argument(fcinfo, IMPORT_LOOKUP);

	PreventCommandIfReadOnly("apikey_import()");
	read_new_key(fcinfo, IMPORT_MORE, &key, &issue);
	apikey_hash_read(apikey_required_text(fcinfo, IMPORT_ALGORITHM, "algorithm"),
					 apikey_required_text(fcinfo, IMPORT_HASH, "hash"),
					 lookup, &import_hash);
	if (apikey_hash_slow(import_hash.algorithm) || lookup != NULL)
		apikey_rule_lookup(apikey_required_text(fcinfo, IMPORT_LOOKUP, "lookup"),
						   import_hash.algorithm ==
						   APIKEY_ALGORITHM_SHA256_PART);
	if (import_hash.algorithm == APIKEY_ALGORITHM_HMAC_SHA256)
		apikey_secret_require();
	apikey_import_key(&key, &issue, &import_hash, lookup);
	PG_RETURN_DATUM(key.values[APIKEY_KEY_ID]);
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
	apikey_require(fcinfo, 0, "id");
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
	ApikeyTenant tenant;
	text	   *before;

	apikey_require(fcinfo, 1, "new_name");
	open_argument(fcinfo, "apikey_rename()", APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_current(&key);
	before = apikey_row_text(&key, APIKEY_KEY_NAME);
	apikey_row_set_pointer(&key, APIKEY_KEY_NAME,
						   apikey_rule_name("new_name", PG_GETARG_TEXT_PP(1),
											apikey_manage_project(&key,
																  &tenant)));
	if (!apikey_same_text(before, apikey_row_text(&key, APIKEY_KEY_NAME)))
		apikey_key_update(&key, APIKEY_EVENT_RENAMED,
						  apikey_json_text("name_before", before));
	PG_RETURN_VOID();
}

/*
 * apikey_disable(id uuid) returns boolean
 *		False where the key was disabled, or revoked, already.
 */
PG_FUNCTION_INFO_V1(apikey_disable);
Datum
apikey_disable(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("apikey_disable()");
	apikey_require(fcinfo, 0, "id");
	PG_RETURN_BOOL(apikey_manage_disable(PG_GETARG_UUID_P(0)));
}

/*
 * apikey_enable(id uuid) returns boolean
 *		False where the key was not disabled; 55000 where it is revoked or was
 *		replaced.
 */
PG_FUNCTION_INFO_V1(apikey_enable);
Datum
apikey_enable(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;

	open_argument(fcinfo, "apikey_enable()", APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_current(&key);
	if (!apikey_row_bool(&key, APIKEY_KEY_DISABLED))
		PG_RETURN_BOOL(false);
	apikey_row_set(&key, APIKEY_KEY_DISABLED, BoolGetDatum(false));
	apikey_row_set(&key, APIKEY_KEY_ENABLED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_key_update(&key, APIKEY_EVENT_ENABLED, NULL);
	PG_RETURN_BOOL(true);
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
	text	   *reason = reason_argument(fcinfo);

	PreventCommandIfReadOnly("apikey_revoke()");
	apikey_require(fcinfo, 0, "id");
	PG_RETURN_BOOL(apikey_manage_revoke(PG_GETARG_UUID_P(0), reason));
}

/*
 * apikey_self_revoke(key text, reason text) returns boolean
 *		True where this call revoked the key; false for any other text, but
 *		55000 for one like a key's where the pepper cannot be used.
 */
PG_FUNCTION_INFO_V1(apikey_self_revoke);
Datum
apikey_self_revoke(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	ApikeyCredential credential;
	ApikeyTokenText token;
	ApikeyCode	code;
	text	   *reason = reason_argument(fcinfo);

	PreventCommandIfReadOnly("apikey_self_revoke()");
	apikey_credential_from_key(fcinfo->args[0], &credential);
	if (credential.shape < APIKEY_SHAPE_OTHER ||
		apikey_credential_token(&credential, &token))
		PG_RETURN_BOOL(false);
	apikey_pepper_require();
	code = apikey_credential_find(&credential, &key);
	if (code == APIKEY_CODE_UNAVAILABLE)
		apikey_pepper_refuse();
	if (code != APIKEY_CODE_VALID ||
		apikey_key_status(&key, GetCurrentTimestamp()) == APIKEY_STATUS_REVOKED)
		PG_RETURN_BOOL(false);
	apikey_manage_revoke_read(&key, false, reason);
	PG_RETURN_BOOL(true);
}

/*
 * apikey_delete(id uuid, confirm_name text) returns void
 *		Removes a key that the caller can name.
 */
PG_FUNCTION_INFO_V1(apikey_delete);
Datum
apikey_delete(PG_FUNCTION_ARGS)
{
	apikey_require(fcinfo, 1, "confirm_name");
	PreventCommandIfReadOnly("apikey_delete()");
	apikey_require(fcinfo, 0, "id");
	apikey_manage_delete(PG_GETARG_UUID_P(0), PG_GETARG_TEXT_PP(1));
	PG_RETURN_VOID();
}

/*
 * apikey_rotate(id uuid, grace interval, expires_at timestamptz) returns text
 *		Makes a key's successor, and returns its text, which is stored nowhere.
 */
PG_FUNCTION_INFO_V1(apikey_rotate);
Datum
apikey_rotate(PG_FUNCTION_ARGS)
{
	TimestampTz expires_at;
	bool		given = PG_NARGS() > 2 && !PG_ARGISNULL(2); /* not by the SQL of
															 * 0.1.0 */

	PreventCommandIfReadOnly("apikey_rotate()");
	apikey_require(fcinfo, 0, "id");
	apikey_require(fcinfo, 1, "grace");
	apikey_rule_span("grace", PG_GETARG_INTERVAL_P(1));
	if (given)
		expires_at = PG_GETARG_TIMESTAMPTZ(2);
	PG_RETURN_TEXT_P(apikey_rotate_key(PG_GETARG_UUID_P(0),
									   PG_GETARG_INTERVAL_P(1),
									   given ? &expires_at : NULL));
}

/*
 * apikey_reveal(id uuid) returns text
 *		The text of a key that was made to be shown again.
 */
PG_FUNCTION_INFO_V1(apikey_reveal);
Datum
apikey_reveal(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;

	open_argument(fcinfo, "apikey_reveal()", APIKEY_RIGHT_CHANGE, &key);
	PG_RETURN_TEXT_P(apikey_reveal_key(&key));
}

/*
 * Raises where a key may not be handed to a principal: a project's key goes to
 * its members alone, and a superuser that is none of them would lend it a name
 * that others trust.
 */
static void
require_transferable(const ApikeyRow *key, Oid new_owner, const text *subject)
{
	ApikeyTenant tenant;

	if (apikey_manage_project(key, &tenant) == NULL)
	{
		if (!superuser())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("permission denied to transfer a personal API key"),
					 errdetail("Only superusers may.")));
	}
	else if (!apikey_member_named(new_owner, subject, &tenant))
		apikey_refuse("new_owner", "The new owner must be a member of the key's project, or of its organization.");
}

/*
 * apikey_transfer(id uuid, new_owner regrole, subject text) returns void
 *		Hands a project's key to another member of the project, and vouches for
 *		it; a superuser may hand a personal key to anybody.
 */
PG_FUNCTION_INFO_V1(apikey_transfer);
Datum
apikey_transfer(PG_FUNCTION_ARGS)
{
	ApikeyRow	key;
	Oid			new_owner;
	text	   *subject = text_argument(fcinfo, 2);
	ApikeyRow	before;

	apikey_require(fcinfo, 1, "new_owner");
	new_owner = PG_GETARG_OID(1);
	if (subject != NULL)
		apikey_rule_subject(subject);
	open_argument(fcinfo, "apikey_transfer()", APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_current(&key);
	apikey_role_require(new_owner);
	require_transferable(&key, new_owner, subject);

	before = key;
	apikey_key_set_owner(&key, new_owner);
	apikey_row_set_pointer(&key, APIKEY_KEY_SUBJECT, subject);
	apikey_status_vouch(&key);
	apikey_key_update(&key, APIKEY_EVENT_TRANSFERRED,
					  apikey_event_handed(&before, &key));
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

	apikey_require(fcinfo, 1, "amount");
	amount = PG_GETARG_INT64(1);
	if (amount < 1)
		apikey_refuse("amount", "The amount is 1 or more.");
	open_argument(fcinfo, "apikey_credits_add()", APIKEY_RIGHT_CHANGE, &key);
	apikey_manage_require_current(&key);
	if (apikey_key_account(&key) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the API key has no credits to add to"),
				 errhint("Give it some by UPDATE apikeys SET credits.")));
	left = apikey_account_add(apikey_key_account(&key), amount);
	apikey_event_key(&key, APIKEY_EVENT_UPDATED,
					 psprintf("{\"columns\": [\"credits\"], \"credits_added\": " INT64_FORMAT "}",
							  amount));
	PG_RETURN_INT64(left);
}
