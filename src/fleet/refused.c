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
 *		of what it says			half of it is left out, by chance, so that the
 *								rest gets there in time; until one thing is
 *								refused by itself
 *		any other				nothing can be told now: it comes again later,
 *								as it is
 *
 * One that is refused by itself goes back, and waits, as what is wrong may be
 * mended there; but one that is no report (22...) would be refused for ever.  It is
 * given up, once a report that says nothing has been taken in its place: then it is
 * nothing else that is refused.
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "limits/limits.h"
#include "fleet/link.h"
#include "fleet/member.h"
#include "fleet/wire.h"

#define REFUSALS_MAX	30		/* before the next interval, of what was found */

static const ApikeyWire *wire = NULL;

void
apikey_refused_begin(const ApikeyWire *table)
{
	wire = table;
}

/* What stays in a batch: all that needs no row of some keys, or so many things. */
typedef struct Sieve
{
	const char *locked;			/* the keys; NULL: by numbers */
	int			from;
	int			to;
	int			number;			/* of what is looked at next */
} Sieve;

static bool
stays(Sieve *sieve, const pg_uuid_t *key)
{
	int			number = sieve->number++;

	if (sieve->locked != NULL)
		return key == NULL || strstr(sieve->locked, apikey_id_string(key)) == NULL;
	return number >= sieve->from && number < sieve->to;
}

static int
size_of(const ApikeyBatch *batch)
{
	return batch->use_count + batch->count_count + batch->denial_count +
		batch->mark_count;
}

/* Puts back what does not stay; false where all does. */
static bool
sift(ApikeyBatch *batch, Sieve sieve)
{
	int			before = size_of(batch);
	int			count = 0;

	apikey_batch_lock(true);
	for (int i = 0; i < batch->use_count; i++)
	{
		if (stays(&sieve, &batch->uses[i].key))
			batch->uses[count++] = batch->uses[i];
		else
			apikey_usage_move_back(batch->database, &batch->uses[i]);
	}
	batch->use_count = count;
	count = 0;
	for (int i = 0; i < batch->count_count; i++)
	{
		if (stays(&sieve, &batch->counts[i].key))
			batch->counts[count++] = batch->counts[i];
		else
			apikey_history_move_back(batch->database, &batch->counts[i]);
	}
	batch->count_count = count;
	count = 0;
	for (int i = 0; i < batch->denial_count; i++)
	{
		if (stays(&sieve, NULL))
			batch->denials[count++] = batch->denials[i];
		else
			apikey_denial_move_back(batch->database, &batch->denials[i]);
	}
	batch->denial_count = count;
	count = 0;
	for (int i = 0; i < batch->mark_count; i++)
	{
		if (stays(&sieve, NULL))
			batch->marks[count++] = batch->marks[i];
		else
			apikey_mark_move_back(&batch->marks[i]);
	}
	batch->mark_count = count;
	apikey_batch_unlock();
	return size_of(batch) < before;
}

/* Is an error one of what a report says, perhaps, and not one that any would meet? */
static bool
of_content(const char *code)
{
	static const char *const others[] = {
		"08", "0A", "25", "26", "28", "2D", "34", "3D", "3F", "40", "42", "53",
		"55", "57"
	};

	for (size_t i = 0; i < lengthof(others); i++)
	{
		if (strncmp(code, others[i], 2) == 0)
			return false;
	}
	return true;
}

/* Leaves out half of a batch, or the one that it has; what it can, comes soon. */
static void
halve(ApikeyBatch *batch, ApikeySweep *sweep)
{
	int			size = size_of(batch);
	bool		first = pg_prng_bool(&pg_global_prng_state);
	Sieve		sieve = {
		.from = first ? 0 : size / 2,
		.to = first ? size / 2 : size
	};

	if (size == 1)
		sieve.from = sieve.to = 0;
	else
	{
		sweep->uses = sweep->denials = 0;
		sweep->counts = 0;
		sweep->more = true;
	}
	(void) sift(batch, sieve);
}

/* Leaves out what is refused, perhaps; false where that would be of no use. */
static bool
sent_without(ApikeyBatch *batch, ApikeySweep *sweep, const char *code,
			 const char *detail)
{
	if (strcmp(code, "55P03") == 0)
		return detail != NULL && sift(batch, (Sieve) {.locked = detail});
	if (sweep->alone || size_of(batch) == 0 || !of_content(code))
		return false;
	if (size_of(batch) == 1 && strncmp(code, "22", 2) == 0)
		sweep->alone = true;
	else
		halve(batch, sweep);
	return true;
}

/* What becomes of a batch that the primary has refused. */
ApikeyReportEnd
apikey_report_refused(ApikeyLink *link, ApikeyBatch *batch,
					  const ApikeyWireAnswer *answer)
{
	const char *code = wire->error_code(answer);
	char		reason[APIKEY_REASON_MAX];

	wire->tell(link->conn, answer, reason, sizeof(reason));
	if (!wire->goes_on(link->conn, answer))
	{
		apikey_link_fail(link, reason);
		return APIKEY_REPORT_FAILED;
	}
	/* The database may have been dropped while the primary was waited for. */
	if (!OidIsValid(batch->database))
		return APIKEY_REPORT_FAILED;
	if (link->sweep.refusals++ < REFUSALS_MAX &&
		sent_without(batch, &link->sweep, code, wire->detail(answer)))
	{
		strlcpy(link->sweep.reason, reason, sizeof(link->sweep.reason));
		return APIKEY_REPORT_AGAIN;
	}
	apikey_link_refused(link, reason);
	return APIKEY_REPORT_REFUSED;
}

/* The one thing that a batch has is what is refused: it is given up. */
void
apikey_report_give_up(const ApikeyBatch *batch, const char *reason)
{
	const pg_uuid_t *id = batch->use_count > 0 ? &batch->uses[0].key :
		batch->count_count > 0 ? &batch->counts[0].key :
		batch->denial_count > 0 ? &batch->denials[0].key : &batch->marks[0].key;

	ereport(LOG,
			(errmsg("the primary refuses a report of the use of API keys"),
			 errdetail_internal("Of key %s: %s", apikey_id_string(id), reason)));
	apikey_stats_not_attributed_to(batch->database, apikey_batch_sum(batch));
}
