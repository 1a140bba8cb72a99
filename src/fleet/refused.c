/*
 * refused.c
 *		Reports that the primary does not take, and what of them is to wait.
 *
 * An error of the statement alone tells that nothing of the report was applied; so
 * what is left out of it may go back to where it was counted, and the rest is sent
 * by the same number.  What one key brings along keeps no other's from being told,
 * nor the connection from what else it serves.
 *
 *		55P03, with keys		these are left out
 *		22...					the report is given up
 *		any other				nothing can be told now: it comes again later,
 *								as it is
 */
#include "postgres.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define REFUSALS_MAX	20		/* before the next interval, of what was found */

static const ApikeyWire *wire = NULL;

void
apikey_refused_begin(const ApikeyWire *table)
{
	wire = table;
}

/*
 * The rows of these keys are locked there: what needs them goes back.  False where
 * there is nothing of them.
 */
static bool
leave_out(ApikeyBatch *batch, const char *keys)
{
	int			uses = 0;
	int			counts = 0;
	bool		any;

	if (keys == NULL)
		return false;
	apikey_batch_lock(true);
	for (int i = 0; i < batch->use_count; i++)
	{
		if (strstr(keys, apikey_id_string(&batch->uses[i].key)) != NULL)
			apikey_usage_move_back(batch->database, &batch->uses[i]);
		else
			batch->uses[uses++] = batch->uses[i];
	}
	for (int i = 0; i < batch->count_count; i++)
	{
		if (strstr(keys, apikey_id_string(&batch->counts[i].key)) != NULL)
			apikey_history_move_back(batch->database, &batch->counts[i]);
		else
			batch->counts[counts++] = batch->counts[i];
	}
	any = uses < batch->use_count || counts < batch->count_count;
	batch->use_count = uses;
	batch->count_count = counts;
	apikey_batch_unlock();
	return any;
}

/* The primary does not take it, however often it is sent. */
static void
give_up(ApikeyBatch *batch, const char *reason)
{
	ereport(LOG,
			(errmsg("the primary refuses a report of the use of API keys"),
			 errdetail_internal("%s", reason)));
	apikey_stats_not_attributed_to(batch->database, apikey_batch_sum(batch));
	apikey_batch_lock(true);
	batch->use_count = batch->count_count = batch->denial_count =
		batch->mark_count = 0;
	apikey_batch_unlock();
}

/* Leaves out what is refused; false where that is not what an error is about. */
static bool
sent_without(ApikeyBatch *batch, const char *code, const char *detail,
			 const char *reason)
{
	if (strcmp(code, "55P03") == 0)
		return leave_out(batch, detail);
	if (strncmp(code, "22", 2) != 0)
		return false;
	give_up(batch, reason);
	return true;
}

/* What becomes of a batch that the primary has refused. */
ApikeyReportEnd
apikey_report_refused(ApikeyLink *link, ApikeyBatch *batch,
					  const ApikeyWireAnswer *answer)
{
	const char *code = wire->error_code(answer);
	char		reason[256];

	wire->tell(link->conn, answer, reason, sizeof(reason));
	if (!wire->goes_on(link->conn, answer))
	{
		apikey_link_fail(link, reason);
		return APIKEY_REPORT_FAILED;
	}
	if (link->sweep.refusals++ < REFUSALS_MAX &&
		sent_without(batch, code, wire->detail(answer), reason))
		return APIKEY_REPORT_AGAIN;
	/* Who has joined anew has to join again: the number tells what was taken. */
	if (strcmp(code, "55000") == 0)
		link->joined = false;
	apikey_link_refused(link, reason);
	return APIKEY_REPORT_REFUSED;
}
