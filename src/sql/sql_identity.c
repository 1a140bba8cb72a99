/*
 * sql_identity.c
 *		The SQL functions that authenticate a transaction and tell as whom.
 *
 * What they return is a copy, since the next call of the same query may
 * authenticate somebody else.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "text/text.h"
#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "limits/limits.h"
#include "verify/verify.h"

/*
 * Verifies; the transaction is the key's from here on, or the error says which
 * code refused it.  The log does not get the statement, which may have a key
 * in it that other requirements would find valid.
 */
static void
authenticate(ApikeyCredential *credential, const ApikeyRequirements *required,
			 int (*sqlstate) (ApikeyCode code))
{
	ApikeyVerdict verdict;

	apikey_verify_credential(credential, required, &verdict);
	apikey_verification_end();
	if (verdict.code != APIKEY_CODE_VALID)
		ereport(ERROR,
				(errcode(sqlstate(verdict.code)),
				 errmsg("API key refused"),
				 errdetail_internal("%s", apikey_code_name(verdict.code)),
				 errhidestmt(true)));
	apikey_identity_set(&verdict);
}

static int
sqlstate_of_any(ApikeyCode code pg_attribute_unused())
{
	return ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
}

static Datum
current_key(void)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	*id = apikey_identity_current()->key;
	return UUIDPGetDatum(id);
}

/*
 * apikey_authenticate(key text, scopes text[], project text,
 *					   min_role apikey_role, client_addr inet, cost integer,
 *					   owner regrole) returns uuid
 *		To the end of the transaction, the functions below speak of this key.
 */
PG_FUNCTION_INFO_V1(apikey_authenticate);
Datum
apikey_authenticate(PG_FUNCTION_ARGS)
{
	ApikeyCredential credential;
	ApikeyRequirements required;

	apikey_verification_begin();
	apikey_requirements_of_key(fcinfo, &credential, &required);
	authenticate(&credential, &required, sqlstate_of_any);
	PG_RETURN_DATUM(current_key());
}

/*
 * apikey_authenticate_digest(handle text, digest bytea, ...) returns uuid
 *		The same for a caller that keeps the plaintext to itself.
 */
PG_FUNCTION_INFO_V1(apikey_authenticate_digest);
Datum
apikey_authenticate_digest(PG_FUNCTION_ARGS)
{
	ApikeyCredential credential;
	ApikeyRequirements required;

	apikey_verification_begin();
	apikey_requirements_of_digest(fcinfo, &credential, &required);
	authenticate(&credential, &required, sqlstate_of_any);
	PG_RETURN_DATUM(current_key());
}

/*
 * What PostgREST makes HTTP's status of: 403 where the key is good here and
 * may not do this, 401 where another one is needed, or another client.
 */
static int
sqlstate_of_request(ApikeyCode code)
{
	switch (code)
	{
		case APIKEY_CODE_FORBIDDEN:
		case APIKEY_CODE_INSUFFICIENT_ROLE:
		case APIKEY_CODE_INSUFFICIENT_SCOPE:
			return MAKE_SQLSTATE('P', 'T', '4', '0', '3');
		case APIKEY_CODE_RATE_LIMITED:
		case APIKEY_CODE_EXHAUSTED:
			return MAKE_SQLSTATE('P', 'T', '4', '2', '9');
		case APIKEY_CODE_UNAVAILABLE:
			return MAKE_SQLSTATE('P', 'T', '5', '0', '3');
		case APIKEY_CODE_MISSING:
		case APIKEY_CODE_MALFORMED:
		case APIKEY_CODE_NOT_FOUND:
		case APIKEY_CODE_REVOKED:
		case APIKEY_CODE_DISABLED:
		case APIKEY_CODE_NOT_YET_VALID:
		case APIKEY_CODE_EXPIRED:
		case APIKEY_CODE_WRONG_PROJECT:
		case APIKEY_CODE_WRONG_OWNER:
		case APIKEY_CODE_IP_DENIED:
		case APIKEY_CODE_VALID:
			break;
	}
	return MAKE_SQLSTATE('P', 'T', '4', '0', '1');
}

/*
 * apikey_pre_request() returns void
 *		PostgREST's db-pre-request: authenticates whom the headers name, of
 *		those whose keys the settings accept.
 */
PG_FUNCTION_INFO_V1(apikey_pre_request);
Datum
apikey_pre_request(PG_FUNCTION_ARGS)
{
	text	   *key = apikey_request_key();
	ApikeyCredential credential;
	ApikeyRequirements required;

	if (key == NULL)
		PG_RETURN_VOID();
	apikey_verification_begin();
	apikey_request_requirements(&required);
	apikey_credential_from_key((NullableDatum) {.value = PointerGetDatum(key)},
							   &credential);
	authenticate(&credential, &required, sqlstate_of_request);
	PG_RETURN_VOID();
}

/* apikey_current_key() returns uuid */
PG_FUNCTION_INFO_V1(apikey_current_key);
Datum
apikey_current_key(PG_FUNCTION_ARGS)
{
	if (apikey_identity_current() == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(current_key());
}

/* apikey_current_project() returns text */
PG_FUNCTION_INFO_V1(apikey_current_project);
Datum
apikey_current_project(PG_FUNCTION_ARGS)
{
	const ApikeyIdentity *identity = apikey_identity_current();

	if (identity == NULL || identity->project == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(identity->project));
}

/*
 * apikey_current_owner() returns name
 *		NULL for a project's key: it proves nothing about its owner, since
 *		anyone may make a project and have others own keys there.
 */
PG_FUNCTION_INFO_V1(apikey_current_owner);
Datum
apikey_current_owner(PG_FUNCTION_ARGS)
{
	const ApikeyIdentity *identity = apikey_identity_current();
	Name		owner;

	if (identity == NULL || identity->project != NULL)
		PG_RETURN_NULL();
	owner = palloc(NAMEDATALEN);
	*owner = identity->owner;
	PG_RETURN_NAME(owner);
}

/* apikey_current_subject() returns text */
PG_FUNCTION_INFO_V1(apikey_current_subject);
Datum
apikey_current_subject(PG_FUNCTION_ARGS)
{
	const ApikeyIdentity *identity = apikey_identity_current();

	if (identity == NULL || identity->subject == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(DatumGetTextPCopy(PointerGetDatum(identity->subject)));
}

/* apikey_current_role() returns apikey_role */
PG_FUNCTION_INFO_V1(apikey_current_role);
Datum
apikey_current_role(PG_FUNCTION_ARGS)
{
	const ApikeyIdentity *identity = apikey_identity_current();

	if (identity == NULL || identity->role == APIKEY_ROLE_NONE)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(apikey_role_datum(identity->role));
}

/* apikey_current_scopes() returns text[] */
PG_FUNCTION_INFO_V1(apikey_current_scopes);
Datum
apikey_current_scopes(PG_FUNCTION_ARGS)
{
	const ApikeyIdentity *identity = apikey_identity_current();

	if (identity == NULL)
		PG_RETURN_NULL();
	PG_RETURN_ARRAYTYPE_P(DatumGetArrayTypePCopy(PointerGetDatum(identity->scopes)));
}

/* apikey_current_metadata() returns jsonb */
PG_FUNCTION_INFO_V1(apikey_current_metadata);
Datum
apikey_current_metadata(PG_FUNCTION_ARGS)
{
	const ApikeyIdentity *identity = apikey_identity_current();

	if (identity == NULL)
		PG_RETURN_NULL();
	PG_RETURN_POINTER(PG_DETOAST_DATUM_COPY(PointerGetDatum(identity->metadata)));
}

/*
 * apikey_has_scope(scope text, project text) returns boolean
 *		Never NULL, so that a policy may negate it.
 */
PG_FUNCTION_INFO_V1(apikey_has_scope);
Datum
apikey_has_scope(PG_FUNCTION_ARGS)
{
	const ApikeyIdentity *identity = apikey_identity_current();

	if (identity == NULL || PG_ARGISNULL(0) ||
		(!PG_ARGISNULL(1) &&
		 !apikey_tenant_within(identity->project, PG_GETARG_TEXT_PP(1))))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(apikey_scope_granted(PointerGetDatum(identity->scopes),
										PG_GETARG_DATUM(0)));
}
