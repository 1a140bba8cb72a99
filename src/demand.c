/*
 * demand.c
 *		What a caller offers and asks of it: the arguments that the functions
 *		which verify a key share.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/supportnodes.h"
#include "utils/array.h"
#include "utils/inet.h"

#include "apikey.h"
#include "verify.h"

#define COST_DEFAULT	1

/* Is an argument there and not null?  See apikey_verify_support. */
#define GIVEN(argument)	((argument) < PG_NARGS() && !PG_ARGISNULL(argument))

/* What is asked: the arguments from one on. */
static void
read_demand(FunctionCallInfo fcinfo, int first, ApikeyDemand *demand)
{
	int			scopes = first;
	int			project = first + 1;
	int			min_role = first + 2;
	int			client_addr = first + 3;
	int			cost = first + 4;
	int			owner = first + 5;

	memset(demand, 0, sizeof(*demand));
	demand->cost = COST_DEFAULT;
	if (cost < PG_NARGS())
	{
		if (PG_ARGISNULL(cost))
			apikey_refuse_null("cost");
		demand->cost = PG_GETARG_INT32(cost);
		if (demand->cost < 0)
			apikey_refuse("cost", "A cost must not be negative.");
	}
	if (GIVEN(scopes))
		demand->scopes = PG_GETARG_ARRAYTYPE_P(scopes);
	if (GIVEN(project))
		demand->project = PG_GETARG_TEXT_PP(project);
	if (GIVEN(client_addr))
		demand->client_addr = PG_GETARG_INET_PP(client_addr);
	if (GIVEN(min_role))
		demand->min_role = apikey_role_from_datum(PG_GETARG_DATUM(min_role));
	demand->by_owner = GIVEN(owner);
	if (demand->by_owner)
		demand->owner = PG_GETARG_OID(owner);
}

/*
 * Reads (key text, scopes, project, ...).  Returns the credential, or NULL for
 * a malformed one.
 */
ApikeyCredential *
apikey_demand_of_key(FunctionCallInfo fcinfo, ApikeyCredential *credential,
					 ApikeyDemand *demand)
{
	read_demand(fcinfo, 1, demand);
	return GIVEN(0) &&
		apikey_credential_from_key(PG_GETARG_DATUM(0), credential) ?
		credential : NULL;
}

/* The same from (handle text, digest bytea, scopes, project, ...). */
ApikeyCredential *
apikey_demand_of_digest(FunctionCallInfo fcinfo, ApikeyCredential *credential,
						ApikeyDemand *demand)
{
	read_demand(fcinfo, 2, demand);
	return GIVEN(0) && GIVEN(1) &&
		apikey_credential_from_digest(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1),
									  credential) ?
		credential : NULL;
}

/* Is this what read_demand takes a missing argument for? */
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
