/*
 * lenient.c
 *		Reading our tables for whoever is to raise nothing.
 *
 * A table that somebody has dropped, or changed so that it cannot be read, is
 * refused by an error.  To who reads leniently it has no row, and in the end he
 * is told which it was: what he has found means nothing then, and is not
 * remembered.
 */
#include "postgres.h"

#include "store/store_internal.h"

static bool lenient = false;
static const char *missed = NULL;	/* of the static names of ours */

/* Is what cannot be read to be passed over?  Else it is to be refused. */
bool
apikey_lenient_miss(const char *name)
{
	if (!lenient)
		return false;
	missed = name;
	apikey_changes_not_final();
	return true;
}

/*
 * Runs a work that reads, and writes nothing.  Returns what was not there, or
 * not as the extension makes it; NULL where all was.
 */
const char *
apikey_lenient_read(ApikeyWork run, void *work)
{
	const char *volatile found = NULL;

	missed = NULL;
	lenient = true;
	PG_TRY();
	{
		run(work);
		found = missed;
	}
	PG_FINALLY();
	{
		lenient = false;
	}
	PG_END_TRY();
	return found;
}
