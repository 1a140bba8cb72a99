/*
 * address.c
 *		Where a client's address may be.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inet.h"

#include "text/text.h"

/* An address as IPv4 where it is an IPv6-mapped one (RFC 4291, 2.5.5.2). */
static inet *
unmapped_address(inet *address)
{
	static const uint8 mapped[12] = {[10] = 0xFF, [11] = 0xFF};
	inet	   *result;

	if (ip_family(address) != PGSQL_AF_INET6 || ip_bits(address) < 96 ||
		memcmp(ip_addr(address), mapped, sizeof(mapped)) != 0)
		return address;
	result = palloc0(sizeof(inet));
	ip_family(result) = PGSQL_AF_INET;
	ip_bits(result) = ip_bits(address) - 96;
	memcpy(ip_addr(result), ip_addr(address) + 12, 4);
	SET_INET_VARSIZE(result);
	return result;
}

/* Is the client in one of the networks?  An unknown one is in none. */
bool
apikey_address_allowed(Datum networks, inet *client)
{
	ArrayType  *array;
	Datum	   *elements;
	int			count;

	if (client == NULL)
		return false;
	client = unmapped_address(client);
	array = DatumGetArrayTypeP(networks);
	deconstruct_array(array, CIDROID, -1, false, TYPALIGN_INT, &elements,
					  NULL, &count);
	for (int i = 0; i < count; i++)
	{
		inet	   *network;

		CHECK_FOR_INTERRUPTS();
		network = unmapped_address(DatumGetInetPP(elements[i]));
		if (DatumGetBool(DirectFunctionCall2(network_subeq,
											 InetPGetDatum(client),
											 InetPGetDatum(network))))
			return true;
	}
	return false;
}
