/*
 * requirements.c
 *		What a caller offers and asks of it: the arguments that the functions
 *		which verify a key share.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/supportnodes.h"
#include "utils/builtins.h"
#include "utils/inet.h"

#include "text/text.h"
#include "store/store.h"
#include "limits/limits.h"
#include "verify/verify.h"

#define COST_DEFAULT	1
#define PATH_BYTES_MAX	129		/* two names of 64, and what is between */

#define ABSENT			FUNC_MAX_ARGS	/* no argument of a function's */

/*
 * Is an argument there and not null?  The functions of an older install script
 * have fewer, and see apikey_verify_support.
 */
#define GIVEN(argument)	((argument) < PG_NARGS() && !PG_ARGISNULL(argument))

/* Where a function has its arguments. */
typedef struct Arguments
{
	int			scopes;
	int			project;
	int			min_role;
	int			client_addr;
	int			cost;
	int			owner;
	int			costs;
} Arguments;

static const Arguments of_key = {
	.scopes = 1,
	.project = 2,
	.min_role = 3,
	.client_addr = 4,
	.cost = 5,
	.owner = 6,
	.costs = 7
};

static const Arguments of_digest = {
	.scopes = 2,
	.project = 3,
	.min_role = 4,
	.client_addr = 5,
	.cost = 6,
	.owner = 7,
	.costs = 8
};

static const Arguments of_check = {
	.scopes = 1,
	.project = 2,
	.owner = 3,
	.client_addr = 4,
	.min_role = ABSENT,
	.cost = ABSENT,
	.costs = ABSENT
};

/* A project's path; one too long to be any is as good as the empty one. */
static text *
read_path(Datum path)
{
	return toast_raw_datum_size(path) - VARHDRSZ > PATH_BYTES_MAX ?
		cstring_to_text("") : DatumGetTextPP(path);
}

/* A role of members that is asked for, and what it comes to. */
typedef struct AskedRole
{
	Datum		value;
	ApikeyRole	role;
} AskedRole;

static void
read_role(void *work)
{
	AskedRole  *asked = work;

	asked->role = apikey_role_from_datum(asked->value);
}

static void
require_role(Datum value, ApikeyRequirements *required)
{
	AskedRole	asked = {.value = value};

	required->unknown |= !apikey_lenient_try(read_role, &asked);
	required->min_role = asked.role;
}

/*
 * What is asked.  Where the caller does not say whose key it accepts, it is
 * its own: that of current_user, which in a function with SECURITY DEFINER is
 * the function's owner.
 */
static pg_attribute_always_inline void
read_requirements(FunctionCallInfo fcinfo, const Arguments *at,
				  ApikeyRequirements *required)
{
	memset(required, 0, sizeof(*required));
	required->cost = COST_DEFAULT;
	if (at->cost < PG_NARGS())
	{
		if (PG_ARGISNULL(at->cost))
			apikey_refuse_null("cost");
		required->cost = PG_GETARG_INT32(at->cost);
		if (required->cost < 0)
			apikey_refuse("cost", "A cost must not be negative.");
	}
	if (GIVEN(at->costs))
		required->costs = apikey_costs_read(PG_GETARG_DATUM(at->costs), false);
	required->by_scopes = GIVEN(at->scopes);
	if (required->by_scopes)
		required->scopes = PG_GETARG_DATUM(at->scopes);
	if (GIVEN(at->project))
		required->project = read_path(PG_GETARG_DATUM(at->project));
	if (GIVEN(at->client_addr))
		required->client_addr = PG_GETARG_INET_PP(at->client_addr);
	if (GIVEN(at->min_role))
		require_role(PG_GETARG_DATUM(at->min_role), required);
	required->by_owner = GIVEN(at->owner);
	required->owner = required->by_owner ? PG_GETARG_OID(at->owner) :
		GetUserId();
}

/* Reads (key text, scopes, project, ...). */
void
apikey_requirements_of_key(FunctionCallInfo fcinfo,
						   ApikeyCredential *credential,
						   ApikeyRequirements *required)
{
	read_requirements(fcinfo, &of_key, required);
	apikey_credential_from_key(fcinfo->args[0], credential);
}

/* Reads (key text, scopes, project, owner, client_addr). */
void
apikey_requirements_of_check(FunctionCallInfo fcinfo,
							 ApikeyCredential *credential,
							 ApikeyRequirements *required)
{
	read_requirements(fcinfo, &of_check, required);
	apikey_credential_from_key(fcinfo->args[0], credential);
}

/* The same from (handle text, digest bytea, scopes, project, ...). */
void
apikey_requirements_of_digest(FunctionCallInfo fcinfo,
							  ApikeyCredential *credential,
							  ApikeyRequirements *required)
{
	static const NullableDatum none = {.isnull = true};

	read_requirements(fcinfo, &of_digest, required);
	apikey_credential_from_digest(fcinfo->args[0],
								  PG_NARGS() > 1 ? fcinfo->args[1] : none,
								  credential);
}

/* Is this what read_requirements takes a missing argument for? */
static bool
is_default(const Node *argument)
{
	const Const *constant = (const Const *) argument;

	if (!IsA(argument, Const))
		return false;
	if (constant->consttype == INT4OID)
		return !constant->constisnull &&
			DatumGetInt32(constant->constvalue) == COST_DEFAULT;
	return constant->constisnull;
}

/*
 * _apikey_verify_support(internal) returns internal
 *		Leaves out the last arguments of a call that say no more than their
 *		defaults, when it is planned: for a function in FROM, the executor sets
 *		up each of them anew at each execution, which costs as much as half of
 *		a verification.
 */
PG_FUNCTION_INFO_V1(_apikey_verify_support);
Datum
_apikey_verify_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);
	FuncExpr   *call;
	FuncExpr   *shorter;
	int			count;

	if (!IsA(request, SupportRequestSimplify))
		PG_RETURN_POINTER(NULL);
	call = ((SupportRequestSimplify *) request)->fcall;
	count = list_length(call->args);
	while (count > 1 && is_default(list_nth(call->args, count - 1)))
		count--;
	if (count == list_length(call->args))
		PG_RETURN_POINTER(NULL);

	shorter = makeNode(FuncExpr);
	*shorter = *call;
	shorter->args = list_truncate(list_copy(call->args), count);
	PG_RETURN_POINTER(shorter);
}
