/*
 * proof.c
 *		Proofs by which a member tells the primary of keys that it has verified
 *		by a pepper that is not the current one.
 *
 * The primary needs the SHA-256 of the key's text: of that it computes the
 * digest that it has, which proves it, and the one that it writes.  It waits in
 * memory and travels masked,
 *
 *		SHA-256(key) XOR HMAC-SHA-256(current pepper, stored || PURPOSE)
 *
 * where stored is what the tables hold of the key.  So neither the wire, nor a
 * log of statements, nor who may call the function learns anything that
 * verifies, and who has not seen the key can prove nothing.
 */
#include "postgres.h"

#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "secrets/secrets.h"
#include "keys/keys_internal.h"

/* Digests of other purposes are over texts of another length. */
#define PURPOSE			"apikey proof v1"
#define PURPOSE_LEN		(sizeof(PURPOSE) - 1)

StaticAssertDecl(PURPOSE_LEN == 15, "as long as no other purpose's");

/* Lays the mask on a digest, or takes it off. */
static void
mask(const ApikeyStored *stored, const uint8 *in, uint8 *out)
{
	const ApikeyPepper *pepper = apikey_pepper_current();
	uint8		source[APIKEY_DIGEST_BYTES + PURPOSE_LEN];
	uint8		pad[APIKEY_DIGEST_BYTES];

	memcpy(source, stored->digest, APIKEY_DIGEST_BYTES);
	memcpy(source + APIKEY_DIGEST_BYTES, PURPOSE, PURPOSE_LEN);
	apikey_digest_hmac(pepper->bytes, pepper->len, source, sizeof(source), pad);
	for (int i = 0; i < APIKEY_DIGEST_BYTES; i++)
		out[i] = in[i] ^ pad[i];
	explicit_bzero(pad, sizeof(pad));
}

/*
 * Reads what is stored of a key and the pepper that this is keyed with; false
 * where there is none, or it is the current one.
 */
static bool
read_outdated(const pg_uuid_t *id, ApikeyStored *stored,
			  const ApikeyPepper **pepper)
{
	Snapshot	snapshot = apikey_latest_snapshot();
	bool		found = apikey_stored_fetch(id, snapshot, stored);

	UnregisterSnapshot(snapshot);
	if (!found || apikey_pepper_current()->len == 0 ||
		stored->fingerprint == apikey_pepper_current()->fingerprint)
		return false;
	*pepper = apikey_pepper_find(stored->fingerprint);
	return *pepper != NULL;
}

/* Is a SHA-256 that of the text that something is stored of? */
static bool
is_of_stored(const uint8 *digest, const ApikeyPepper *pepper,
			 const ApikeyStored *stored)
{
	uint8		offered[APIKEY_DIGEST_BYTES];

	apikey_digest_stored(pepper, digest, offered);
	return apikey_digest_equal(stored->digest, offered);
}

/*
 * Makes the proof of a key whose SHA-256 is known; false where it would prove
 * nothing, as of an imported key that has no digest of the native form yet.
 */
bool
apikey_proof_make(const pg_uuid_t *id, const uint8 *digest, uint8 *proof)
{
	ApikeyStored stored;
	const ApikeyPepper *pepper;

	if (!read_outdated(id, &stored, &pepper) ||
		!is_of_stored(digest, pepper, &stored))
		return false;
	mask(&stored, digest, proof);
	return true;
}

/* Takes the SHA-256 of a key out of a proof of it; false for no proof. */
bool
apikey_proof_read(const pg_uuid_t *id, const uint8 *proof, uint8 *digest,
				  bool *native)
{
	ApikeyStored stored;
	const ApikeyPepper *pepper;

	if (!read_outdated(id, &stored, &pepper))
		return false;
	mask(&stored, proof, digest);
	*native = stored.native;
	return is_of_stored(digest, pepper, &stored);
}
