/*
 * request.c
 *		The key that an HTTP request carries, as PostgREST tells of it, and
 *		whose key may be one.
 *
 * PostgREST hands the request's headers over as a JSON object in the setting
 * request.headers, with lower-case names; on a reused connection that has not
 * had one it is an empty text.  Anybody may have sent, or set, what is there:
 * no header is worth more than the key in it, and what cannot be read carries
 * none.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "limits/limits.h"
#include "verify/verify.h"

#define BEARER	"bearer"

/*
 * The token of an Authorization header that is of the scheme Bearer and whose
 * token has the shape of a key, or of a token of ours; others are somebody
 * else's, such as a JWT.
 */
static text *
bearer_key(const char *authorization)
{
	const char *token = authorization + strlen(BEARER);
	ApikeyText	parsed;
	ApikeyTokenText short_lived;
	size_t		len;

	if (pg_strncasecmp(authorization, BEARER, strlen(BEARER)) != 0 ||
		*token != ' ')
		return NULL;
	token += strspn(token, " ");
	len = strlen(token);
	return apikey_text_parse(token, len, &parsed) ||
		apikey_token_parse(token, len, &short_lived) ?
		cstring_to_text(token) : NULL;
}

/* What the request offers as a key, of whatever shape, or NULL for nothing. */
text *
apikey_request_key(void)
{
	const char *headers = GetConfigOption("request.headers", true, false);
	char	   *value;

	if (headers == NULL)
		return NULL;
	if (apikey_json_member(headers, "x-api-key", &value) == APIKEY_JSON_FOUND &&
		value[0] != '\0')
		return cstring_to_text(value);
	return apikey_json_member(headers, "authorization", &value) == APIKEY_JSON_FOUND ?
		bearer_key(value) : NULL;
}

/* The role of a name, as of so many changes of roles. */
typedef struct NamedRole
{
	char	   *name;
	Oid			role;
	uint64		changes;		/* 0: it is not known */
} NamedRole;

static void
look_up_role(void *work)
{
	NamedRole  *named = work;

	named->role = apikey_role_named(named->name);
}

/* Looks it up; false where somebody keeps us from it. */
static bool
find_owner(NamedRole *known)
{
	uint64		changes = apikey_changes_of_roles();

	known->changes = 0;
	if (known->name != NULL)
		pfree(known->name);
	known->name = NULL;
	known->name = MemoryContextStrdup(TopMemoryContext, apikey_request_owner);
	if (!apikey_lenient_try(look_up_role, known))
		return false;
	known->changes = changes;
	return true;
}

/*
 * The role that apikey.request_owner names; invalid for none.  Each request asks,
 * and so it is known until roles have changed.
 */
static void
require_owner(ApikeyRequirements *required)
{
	static NamedRole known;

	required->by_owner = true;
	if ((known.changes == apikey_changes_of_roles() &&
		 strcmp(known.name, apikey_request_owner) == 0) || find_owner(&known))
		required->owner = known.role;
	else
		required->unknown = true;
}

/*
 * Whose key a request may carry: the settings say it, and without them nobody's
 * is accepted.  Who calls is the web's anonymous role, or any other that a
 * token names; its own keys are not what is meant.
 */
void
apikey_request_requirements(ApikeyRequirements *required)
{
	memset(required, 0, sizeof(*required));
	required->cost = 1;
	if (apikey_request_project[0] != '\0')
		required->project = cstring_to_text(apikey_request_project);
	if (apikey_request_owner[0] != '\0')
		require_owner(required);
}
