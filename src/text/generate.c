/*
 * generate.c
 *		Making a new key: its id, its secret, its text and digest.
 */
#include "postgres.h"

#include <time.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "text/text.h"

#define NS_PER_MS	1000000

#define KEY_VERSION		7
#define ACCOUNT_VERSION	8
#define UUID_VARIANT	2		/* of RFC 9562 */

/*
 * Random bytes, of which some are asked for at once: to ask costs more than what
 * is given.  Each is given once, and wiped here; a process that was forked begins
 * with none.
 */
static void
generate_random(void *out, size_t len)
{
	static uint8 pool[512];
	static size_t left = 0;
	static int	pool_of = 0;

	Assert(len <= sizeof(pool));
	if (left < len || pool_of != MyProcPid)
	{
		left = 0;
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		left = sizeof(pool);
		pool_of = MyProcPid;
	}
	left -= len;
	memcpy(out, pool + left, len);
	explicit_bzero(pool + left, len);
}

/*
 * A UUIDv7 (RFC 9562, 5.7): milliseconds since 1970, then, by its method 3,
 * 12 bits of the fraction, so that ids made in one millisecond still rise and
 * fall into neighbouring index pages, then 62 random bits.  Or the same of another
 * version.
 */
static void
generate_uuid(pg_uuid_t *id, uint8 version)
{
	struct timespec now;
	uint64		ms;
	uint32		fraction;

	clock_gettime(CLOCK_REALTIME, &now);
	ms = (uint64) now.tv_sec * 1000 + now.tv_nsec / NS_PER_MS;
	fraction = (uint32) ((uint64) (now.tv_nsec % NS_PER_MS) * 4096 / NS_PER_MS);

	generate_random(id->data + 8, 8);
	for (int i = 0; i < 6; i++)
		id->data[i] = (uint8) (ms >> (40 - 8 * i));
	id->data[6] = (uint8) (version << 4) | (uint8) (fraction >> 8);
	id->data[7] = (uint8) fraction;
	id->data[8] = (uint8) (UUID_VARIANT << 6) | (id->data[8] & 0x3F);
}

void
apikey_generate_id(pg_uuid_t *id)
{
	generate_uuid(id, KEY_VERSION);
}

/*
 * An id for what has a place in shared memory as keys have, and is none: a limit, or
 * an account that is not named after a key.  No key ever has it.
 */
void
apikey_generate_account_id(pg_uuid_t *id)
{
	generate_uuid(id, ACCOUNT_VERSION);
}

/* Is an id such as keys are given? */
bool
apikey_id_of_key(const pg_uuid_t *id)
{
	return id->data[6] >> 4 == KEY_VERSION && id->data[8] >> 6 == UUID_VARIANT;
}

/* Unbiased base-62 digits: of 256 values the last 8 are drawn again. */
static void
generate_secret(char *secret)
{
	uint8		pool[2 * APIKEY_SECRET_DIGITS];
	int			made = 0;

	while (made < APIKEY_SECRET_DIGITS)
	{
		generate_random(pool, sizeof(pool));
		for (size_t i = 0; i < sizeof(pool) && made < APIKEY_SECRET_DIGITS; i++)
		{
			if (pool[i] < 4 * 62)
				secret[made++] = apikey_text_digit(pool[i] % 62);
		}
	}
	explicit_bzero(pool, sizeof(pool));
}

/* A new key of a valid prefix: its text, its id and its SHA-256. */
text *
apikey_generate(const char *prefix, int prefix_len, pg_uuid_t *id,
				uint8 *digest)
{
	char		key[APIKEY_TEXT_MAX];
	char		secret[APIKEY_SECRET_DIGITS];
	size_t		len;
	text	   *result;

	apikey_generate_id(id);
	generate_secret(secret);
	len = apikey_text_format(prefix, prefix_len, id->data, secret, key);
	apikey_digest_text(key, len, digest);
	result = cstring_to_text_with_len(key, len);

	explicit_bzero(secret, sizeof(secret));
	explicit_bzero(key, sizeof(key));
	return result;
}
