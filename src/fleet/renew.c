/*
 * renew.c
 *		Keys that were verified here by a pepper of before: the primary is told,
 *		by proofs, and writes their digests.
 *
 * What does not get there comes again with the key's next use.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "text/text.h"
#include "store/store.h"
#include "keys/keys.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define PROOFS_AT_ONCE	100

static const ApikeyWire *wire = NULL;

void
apikey_renew_begin(const ApikeyWire *table)
{
	wire = table;
}

static ApikeyWireAnswer *
call_rehash(ApikeyLink *link, const ApikeyProof *proofs, int count)
{
	ApikeyCall	call;
	ApikeyArray keys;
	ApikeyArray texts;

	apikey_call_begin(&call, "rehash", "r", link);
	apikey_array_begin(&keys);
	apikey_array_begin(&texts);
	for (int i = 0; i < count; i++)
	{
		char		hex[2 * APIKEY_DIGEST_BYTES + 1];

		hex[hex_encode((const char *) proofs[i].proof, APIKEY_DIGEST_BYTES, hex)] = '\0';
		apikey_array_add_id(&keys, &proofs[i].key);
		apikey_array_add(&texts, psprintf("\\x%s", hex));
	}
	apikey_array_put(&keys, &call, "uuid[]");
	apikey_array_put(&texts, &call, "bytea[]");
	return apikey_call(link, &call);
}

/*
 * Tells some of what has gathered, and whether there may be more; false where the
 * connection has failed.
 */
bool
apikey_link_renew(ApikeyLink *link, bool *more)
{
	ApikeyProof *proofs = palloc(PROOFS_AT_ONCE * sizeof(ApikeyProof));
	int			count = apikey_rehash_take_proofs(link->database.oid, proofs,
												  PROOFS_AT_ONCE);
	ApikeyWireAnswer *answer = count == 0 ? NULL : call_rehash(link, proofs, count);

	*more = count == PROOFS_AT_ONCE;
	pfree(proofs);
	if (answer != NULL && wire->error_code(answer) != NULL)
	{
		char		reason[256];

		wire->tell(link->conn, answer, reason, sizeof(reason));
		apikey_link_fail(link, reason);
	}
	wire->free(answer);
	return link->joined;
}
