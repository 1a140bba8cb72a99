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

/* Refuses what the arguments ask for and this version does not have. */
static void
refuse_unsupported_arguments(FunctionCallInfo fcinfo)
{
	static const struct
	{
		int			argument;
		const char *name;
	}			unsupported[] = {
		{CREATE_PROJECT, "project"},
		{CREATE_RATE_LIMIT, "rate_limit"},
		{CREATE_CREDITS, "credits"},
		{CREATE_CREDITS_REFILL, "credits_refill"},
		{CREATE_CREDITS_INTERVAL, "credits_interval"},
		{CREATE_ACCEPT_TERMS, "accept_terms"}
	};

	for (size_t i = 0; i < lengthof(unsupported); i++)
	{
		if (!PG_ARGISNULL(unsupported[i].argument))
			apikey_refuse_unsupported(unsupported[i].name);
	}
	if (!PG_ARGISNULL(CREATE_RATE_WINDOW))
	{
		Interval   *window = PG_GETARG_INTERVAL_P(CREATE_RATE_WINDOW);

		if (window->month != 0 || window->day != 0 ||
			window->time != USECS_PER_MINUTE)
			apikey_refuse_unsupported("rate_window");
	}
}

/* Copies an argument, NULL or not, into a column. */
static void
set_from_argument(FunctionCallInfo fcinfo, int argument, ApikeyKey *key,
				  ApikeyKeyColumn column)
{
	key->values[column] = PG_GETARG_DATUM(argument);
	key->nulls[column] = PG_ARGISNULL(argument);
}

static text *
text_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? NULL : PG_GETARG_TEXT_PP(argument);
}

/* The attributes of a new key as its creator gives them, checked. */
static void
new_key_attributes(FunctionCallInfo fcinfo, ApikeyKey *key)
{
	if (PG_ARGISNULL(CREATE_NAME))
		apikey_refuse_null("name");
	refuse_unsupported_arguments(fcinfo);
	if (!PG_ARGISNULL(CREATE_ROLE))
		apikey_refuse("role", "A personal key has no role.");

	memset(key->nulls, true, sizeof(key->nulls));
	apikey_key_set(key, APIKEY_KEY_NAME,
				   apikey_rule_name("name", PG_GETARG_TEXT_PP(CREATE_NAME)));
	apikey_key_set(key, APIKEY_KEY_SUBJECT,
				   apikey_principal_new_subject(text_argument(fcinfo, CREATE_SUBJECT)));
	set_from_argument(fcinfo, CREATE_DESCRIPTION, key, APIKEY_KEY_DESCRIPTION);
	set_from_argument(fcinfo, CREATE_SCOPES, key, APIKEY_KEY_SCOPES);
	set_from_argument(fcinfo, CREATE_STARTS_AT, key, APIKEY_KEY_STARTS_AT);
	set_from_argument(fcinfo, CREATE_EXPIRES_AT, key, APIKEY_KEY_EXPIRES_AT);
	set_from_argument(fcinfo, CREATE_ALLOWED_IPS, key, APIKEY_KEY_ALLOWED_IPS);
	set_from_argument(fcinfo, CREATE_METADATA, key, APIKEY_KEY_METADATA);
	apikey_rule_attributes(key);
}

/* The other columns of a new key: what we give it. */
static void
new_key_identity(ApikeyKey *key, text *prefix, pg_uuid_t *id, text *plaintext)
{
	int			len = VARSIZE_ANY_EXHDR(plaintext);

	apikey_key_set(key, APIKEY_KEY_ID, id);
	apikey_key_set(key, APIKEY_KEY_PREFIX, prefix);
	apikey_key_set(key, APIKEY_KEY_LAST_FOUR,
				   cstring_to_text_with_len(VARDATA_ANY(plaintext) + len - 4, 4));
	key->values[APIKEY_KEY_OWNER] = ObjectIdGetDatum(GetUserId());
	key->nulls[APIKEY_KEY_OWNER] = false;
	key->values[APIKEY_KEY_DISABLED] = BoolGetDatum(false);
	key->nulls[APIKEY_KEY_DISABLED] = false;
	key->values[APIKEY_KEY_CREATED_AT] =
		TimestampTzGetDatum(GetCurrentTimestamp());
	key->nulls[APIKEY_KEY_CREATED_AT] = false;
}

/*
 * apikey_create(name text, ...) returns text
 *		Makes a key and returns its text, which is stored nowhere.
 */
PG_FUNCTION_INFO_V1(apikey_create);
Datum
apikey_create(PG_FUNCTION_ARGS)
{
	ApikeyKey	key;
	text	   *prefix;
	text	   *plaintext;
	pg_uuid_t	id;
	uint8		digest[APIKEY_DIGEST_BYTES];

	PreventCommandIfReadOnly("apikey_create()");
	new_key_attributes(fcinfo, &key);
	prefix = PG_ARGISNULL(CREATE_PREFIX) ? cstring_to_text(apikey_prefix) :
		PG_GETARG_TEXT_PP(CREATE_PREFIX);
	apikey_rule_prefix(VARDATA_ANY(prefix), VARSIZE_ANY_EXHDR(prefix));

	plaintext = apikey_generate(VARDATA_ANY(prefix),
								VARSIZE_ANY_EXHDR(prefix), &id, digest);
	new_key_identity(&key, prefix, &id, plaintext);
	apikey_key_insert(&key, digest);
	PG_RETURN_TEXT_P(plaintext);
}

/*
 * Opens the key that the first argument of a function names, for a caller who
 * may manage it.
 */
static void
open_argument(FunctionCallInfo fcinfo, const char *function, ApikeyKey *key)
{
	PreventCommandIfReadOnly(function);
	if (PG_ARGISNULL(0))
		apikey_refuse_null("id");
	apikey_manage_open(PG_GETARG_UUID_P(0), key);
}

/*
 * apikey_rename(id uuid, new_name text) returns void
 */
PG_FUNCTION_INFO_V1(apikey_rename);
Datum
apikey_rename(PG_FUNCTION_ARGS)
{
	ApikeyKey	key;
	text	   *name;

	if (PG_ARGISNULL(1))
		apikey_refuse_null("new_name");
	name = apikey_rule_name("new_name", PG_GETARG_TEXT_PP(1));
	open_argument(fcinfo, "apikey_rename()", &key);
	apikey_manage_require_unrevoked(&key);
	apikey_key_set(&key, APIKEY_KEY_NAME, name);
	apikey_key_update(&key);
	PG_RETURN_VOID();
}

/* Disables or enables a locked key; false where it already was so. */
static bool
set_disabled(ApikeyKey *key, bool disabled)
{
	if (DatumGetBool(key->values[APIKEY_KEY_DISABLED]) == disabled)
		return false;
	key->values[APIKEY_KEY_DISABLED] = BoolGetDatum(disabled);
	apikey_key_update(key);
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
	ApikeyKey	key;

	open_argument(fcinfo, "apikey_disable()", &key);
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
	ApikeyKey	key;

	open_argument(fcinfo, "apikey_enable()", &key);
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
	ApikeyKey	key;
	text	   *reason = reason_argument(fcinfo);

	open_argument(fcinfo, "apikey_revoke()", &key);
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
	ApikeyKey	key;
	ApikeyCredential credential;
	text	   *reason = reason_argument(fcinfo);

	PreventCommandIfReadOnly("apikey_self_revoke()");
	if (PG_ARGISNULL(0) ||
		!apikey_credential_from_key(PG_GETARG_DATUM(0), &credential) ||
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
	ApikeyKey	key;
	text	   *confirmed;
	text	   *name;

	if (PG_ARGISNULL(1))
		apikey_refuse_null("confirm_name");
	confirmed = PG_GETARG_TEXT_PP(1);
	open_argument(fcinfo, "apikey_delete()", &key);
	name = apikey_key_text(&key, APIKEY_KEY_NAME);
	if (VARSIZE_ANY_EXHDR(name) != VARSIZE_ANY_EXHDR(confirmed) ||
		memcmp(VARDATA_ANY(name), VARDATA_ANY(confirmed),
			   VARSIZE_ANY_EXHDR(name)) != 0)
		apikey_refuse("confirm_name", "It must be the name of the key.");
	apikey_key_delete(apikey_key_id(&key));
	PG_RETURN_VOID();
}
