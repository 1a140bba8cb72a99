/*
 * chain.c
 *		Keys that have replaced one another, and how far one looks along them.
 *
 * A key in its grace ends with what has replaced it, and is bound by the limits
 * of the last that has.  So whoever ends or disables a key looks back at what it
 * has replaced, and whoever verifies one looks on to the last.  Neither goes on
 * for as long as somebody has gone on rotating.
 *
 * No key is left behind in its grace that has been replaced more than
 * APIKEY_REPLACED_MAX times: that is refused.  0.1.0 did not, and a successor that
 * it made names no account of the rate.  Behind one of these one looks further,
 * but not without end either.  Both ways are as long for the same key, whatever
 * has ended between and whenever one looks: a key in its grace that is too far
 * away to be ended with the last is too far away to be verified.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "store/store.h"
#include "rows/rows.h"
#include "keys/keys_internal.h"

#define MADE_BEFORE_MAX	1000	/* behind a key that 0.1.0 made */

/* How many times may what is in its grace have been replaced, up to a key? */
static int
reach(const ApikeyRow *key)
{
	return key->nulls[APIKEY_KEY_RATE_ACCOUNT] ? MADE_BEFORE_MAX :
		APIKEY_REPLACED_MAX;
}

/* Finds what the key of an id has replaced, up to the first, and makes the id its. */
static bool
find_replaced(pg_uuid_t *id, const pg_uuid_t *first, ApikeyRow *key)
{
	CHECK_FOR_INTERRUPTS();
	if (!apikey_key_find_predecessor(id, key))
		return false;
	*id = *apikey_row_id(key);
	/* A circle can only be made by hand. */
	return memcmp(id, first, sizeof(pg_uuid_t)) != 0;
}

/*
 * Visits what a key has replaced, and what that had replaced before, where it is
 * not over with it: the nearest first.  What is made meanwhile is gone when visit
 * returns.
 */
void
apikey_chain_visit_replaced(const ApikeyRow *key, ApikeyChainVisit visit,
							void *state)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "apikey chain",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext outer = MemoryContextSwitchTo(context);
	const pg_uuid_t first = *apikey_row_id(key);
	const int	most = reach(key);
	pg_uuid_t	id = first;
	ApikeyRow	replaced;

	for (int times = 1;
		 times <= most && find_replaced(&id, &first, &replaced); times++)
	{
		if (!apikey_key_ended(&replaced))
			visit(&replaced, times, state);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(context);
}

static void
refuse_far(ApikeyRow *replaced pg_attribute_unused(), int times, void *key)
{
	if (times >= APIKEY_REPLACED_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("API key \"%s\" is the last of %d rotations, and what the first replaced is in its grace yet",
						apikey_id_string(apikey_row_id(key)), APIKEY_REPLACED_MAX),
				 errhint("Revoke that one, or rotate without a grace, which revokes all that is in its grace.")));
}

/*
 * Raises where a key that is to be replaced, and to have a grace, would leave one
 * behind in its grace that has been replaced as many times as may be.
 */
void
apikey_chain_require_near(ApikeyRow *key)
{
	apikey_chain_visit_replaced(key, refuse_far, key);
}

/*
 * The last key that has replaced another, or that one itself; what it points to
 * is there as long as the current memory.  False where it is too far away, as
 * none is of a key in its grace, or they are a circle.
 */
bool
apikey_chain_last(const ApikeyRow *key, ApikeyRow *last)
{
	MemoryContext contexts[2];

	*last = *key;
	if (key->nulls[APIKEY_KEY_ROTATED_TO])
		return true;
	for (int i = 0; i < 2; i++)
		contexts[i] = AllocSetContextCreate(CurrentMemoryContext,
											"apikey chain",
											ALLOCSET_SMALL_SIZES);
	for (int times = 1; !last->nulls[APIKEY_KEY_ROTATED_TO]; times++)
	{
		/* The other has the last one. */
		MemoryContext context = contexts[times % 2];
		MemoryContext outer;
		ApikeyRow	row;
		bool		found;

		CHECK_FOR_INTERRUPTS();
		if (times > MADE_BEFORE_MAX)
			return false;
		MemoryContextReset(context);
		outer = MemoryContextSwitchTo(context);
		found = apikey_key_fetch_latest(DatumGetUUIDP(last->values[APIKEY_KEY_ROTATED_TO]),
										&row);
		MemoryContextSwitchTo(outer);
		if (!found)
			return true;
		if (times > reach(&row))
			return false;
		*last = row;
	}
	return true;
}
