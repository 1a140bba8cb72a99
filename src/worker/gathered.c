/*
 * gathered.c
 *		What a worker carries out of shared memory into tables, in steps.
 *
 * Each step goes on where the last one has ended, of whichever worker: where many
 * go on gathering, what is late in the order comes too.
 */
#include "postgres.h"

#include "store/store.h"
#include "memory/memory.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "limits/limits.h"
#include "servers/servers.h"
#include "worker/worker_internal.h"

#define FLUSH_BATCH		250		/* keys in a step: two small rows of each */

static int64
sum_of_uses(const List *uses)
{
	int64		sum = 0;
	ListCell   *cell;

	foreach(cell, uses)
		sum += (int64) ((const ApikeyCollectedUse *) lfirst(cell))->use.uses;
	return sum;
}

/*
 * A step through what is in memory: true while there is more.  One that fails is
 * not taken again before the next way.
 */
bool
apikey_gathered_step(ApikeyPassOver what, bool (*step) (ApikeyPass *pass, bool first))
{
	ApikeyPass *pass = apikey_pass_take(what);
	bool		first = !pass->begun;

	if (first)
		apikey_pass_begin(pass);
	pass->begun = step(pass, first);
	return apikey_pass_keep(what);
}

/*
 * Writes some of what has gathered.  The flush has ended when all slots were
 * looked at, and not before: what was counted before the last flush ended is
 * in the tables when the next one has.
 */
static bool
write_uses(ApikeyPass *pass, bool first pg_attribute_unused())
{
	int64		flush = GetCurrentTimestamp();	/* another one each time */
	List	   *uses = apikey_usage_collect(&pass->number, FLUSH_BATCH, flush);
	bool		more = list_length(uses) == FLUSH_BATCH;

	pass->found |= uses != NIL;
	/* Collected outside the transaction, to be there after its commit. */
	if (uses != NIL && apikey_step_begin())
	{
		uses = apikey_flush_write(uses, flush);
		if (apikey_preloaded() && !apikey_catalog()->first_script)
			apikey_server_count_own(sum_of_uses(uses));
		apikey_step_commit();
	}
	apikey_usage_flushed(uses, flush);
	if (pass->found && !more)
		apikey_stats_flushed();
	return more;
}

bool
apikey_gathered_uses(void)
{
	return apikey_gathered_step(APIKEY_PASS_USES, write_uses);
}

static bool
tell_denials(ApikeyPass *pass, bool first pg_attribute_unused())
{
	return apikey_denial_tell(&pass->number, apikey_pass_awaited() != 0);
}

bool
apikey_gathered_denials(void)
{
	return apikey_gathered_step(APIKEY_PASS_DENIALS, tell_denials);
}

static bool
tell_marks(ApikeyPass *pass, bool first)
{
	return apikey_mark_tell(first, &pass->number);
}

bool
apikey_gathered_marks(void)
{
	return apikey_gathered_step(APIKEY_PASS_MARKS, tell_marks);
}

static bool
write_reveals(ApikeyPass *pass, bool first pg_attribute_unused())
{
	return apikey_reveal_write(&pass->number);
}

bool
apikey_gathered_reveals(void)
{
	return apikey_gathered_step(APIKEY_PASS_REVEALS, write_reveals);
}

static bool
write_history(ApikeyPass *pass, bool first pg_attribute_unused())
{
	return apikey_history_write(&pass->number);
}

bool
apikey_gathered_history(void)
{
	return apikey_gathered_step(APIKEY_PASS_HISTORY, write_history);
}

static bool
return_leases(ApikeyPass *pass, bool first pg_attribute_unused())
{
	return apikey_credit_return(&pass->number, apikey_pass_awaited() != 0);
}

bool
apikey_gathered_leases(void)
{
	return apikey_gathered_step(APIKEY_PASS_LEASES, return_leases);
}
