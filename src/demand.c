/*
 * demand.c
 *		What a caller offers and asks of it: the arguments that the functions
 *		which verify a key share.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/inet.h"

#include "apikey.h"
#include "verify.h"

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
	if (PG_ARGISNULL(cost))
		apikey_refuse_null("cost");
	if (PG_GETARG_INT32(cost) < 0)
		apikey_refuse("cost", "A cost must not be negative.");
	demand->cost = PG_GETARG_INT32(cost);
	if (!PG_ARGISNULL(scopes))
		demand->scopes = PG_GETARG_ARRAYTYPE_P(scopes);
	if (!PG_ARGISNULL(project))
		demand->project = PG_GETARG_TEXT_PP(project);
	if (!PG_ARGISNULL(client_addr))
		demand->client_addr = PG_GETARG_INET_PP(client_addr);
	if (!PG_ARGISNULL(min_role))
		demand->min_role = apikey_role_from_datum(PG_GETARG_DATUM(min_role));
	demand->by_owner = !PG_ARGISNULL(owner);
	if (demand->by_owner)
		demand->owner = PG_GETARG_OID(owner);
}

/*
 * Reads (key text, scopes, project, ...).  Returns the credential, or NULL for
 * a malformed one.
 */
const ApikeyCredential *
apikey_demand_of_key(FunctionCallInfo fcinfo, ApikeyCredential *credential,
					 ApikeyDemand *demand)
{
	read_demand(fcinfo, 1, demand);
	return !PG_ARGISNULL(0) &&
		apikey_credential_from_key(PG_GETARG_DATUM(0), credential) ?
		credential : NULL;
}

/* The same from (handle text, digest bytea, scopes, project, ...). */
const ApikeyCredential *
apikey_demand_of_digest(FunctionCallInfo fcinfo, ApikeyCredential *credential,
						ApikeyDemand *demand)
{
	read_demand(fcinfo, 2, demand);
	return !PG_ARGISNULL(0) && !PG_ARGISNULL(1) &&
		apikey_credential_from_digest(PG_GETARG_DATUM(0), PG_GETARG_DATUM(1),
									  credential) ?
		credential : NULL;
}
