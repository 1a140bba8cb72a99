/*
 * lenient.c
 *		Reading our tables for whoever is to raise nothing, and not to wait long.
 *
 * A table that somebody has dropped, or changed so that it cannot be read, is
 * refused by an error.  To who reads leniently it has no row, and in the end he
 * is told which it was: what he has found means nothing then, and is not
 * remembered.  So it is with one that a verification has waited for in vain.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

#include "store/store_internal.h"

#define WAIT_MAX	100			/* milliseconds that a verification waits, in all */

static bool lenient = false;
static bool missing = false;	/* something was missed, */
static bool held = false;		/* for somebody has it locked */
static char missed[NAMEDATALEN];

/* The level of the transaction in which a verification has begun; 0 for none. */
static int	verifying = 0;
static TimestampTz wait_until = 0;	/* 0: it has not waited yet */

/*
 * What is called from now on is part of a verification; to its end, or that of
 * its subtransaction.
 */
void
apikey_verification_begin(void)
{
	verifying = GetCurrentTransactionNestLevel();
	wait_until = 0;
}

void
apikey_verification_end(void)
{
	verifying = 0;
}

bool
apikey_verifying(void)
{
	return verifying > 0;
}

/*
 * Until when it may be waited: in a verification for all together, from its
 * first wait on.
 */
TimestampTz
apikey_verification_until(void)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													WAIT_MAX);

	if (verifying == 0)
		return until;
	if (wait_until == 0)
		wait_until = until;
	return wait_until;
}

static void
on_transaction_end(ApikeyEnd end pg_attribute_unused())
{
	verifying = 0;
}

static void
on_subtransaction_end(int level, bool committed)
{
	if (!committed && level <= verifying)
		verifying = 0;
}

ApikeyTransactionPart apikey_verification_transaction = {
	.sub_end = on_subtransaction_end,
	.end = on_transaction_end
};

/* What is told first is that something is locked: it hides the rest. */
static bool
miss(const char *name, bool by_lock)
{
	if (!lenient)
		return false;
	if (!held)
		strlcpy(missed, name, sizeof(missed));
	missing = true;
	held |= by_lock;
	apikey_changes_not_final();
	return true;
}

/* Is what cannot be read to be passed over?  Else it is to be refused. */
bool
apikey_lenient_miss(const char *name)
{
	return miss(name, false);
}

/* The same of what somebody has locked. */
bool
apikey_lenient_miss_held(const char *name)
{
	return miss(name, true);
}

/* Was something missed, of what is being read leniently? */
bool
apikey_lenient_missed(void)
{
	return lenient && missing;
}

/*
 * Runs a work that reads, and writes nothing.  Returns what was not there, or
 * not as the extension makes it, or *locked by somebody; NULL where all was.
 */
const char *
apikey_lenient_read(ApikeyWork run, void *work, bool *locked)
{
	missing = held = false;
	lenient = true;
	PG_TRY();
	{
		run(work);
	}
	PG_FINALLY();
	{
		lenient = false;
	}
	PG_END_TRY();
	*locked = held;
	return missing ? missed : NULL;
}

/*
 * Runs a work that reads; in a verification leniently: false where something
 * was missed.  Whoever reads leniently already is told of it himself.
 */
bool
apikey_lenient_try(ApikeyWork run, void *work)
{
	bool		locked;

	if (verifying > 0 && !lenient)
		return apikey_lenient_read(run, work, &locked) == NULL;
	run(work);
	return true;
}
