/*
 * redact_log.c
 *		Keeping keys out of the server's log and of pg_stat_activity.
 *
 * A message is masked in place before it is written: in its own fields, which
 * the client is sent too, and in a copy of the statement.  The session's
 * activity is masked in shared memory, where it stands, as soon as a hook
 * gives the occasion: at each error, after parse analysis, and before each
 * execution, since each protocol message reports its text anew and parallel
 * workers do so for themselves.
 *
 * What runs while a message is written may run in a critical section, out of
 * memory or while another error is handled, so nothing here raises, logs, or
 * uses a memory context.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "parser/analyze.h"
#include "port/atomics.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"

#include "apikey.h"
#include "text/redact.h"

static emit_log_hook_type previous_emit_log = NULL;
static post_parse_analyze_hook_type previous_post_parse_analyze = NULL;
static ExecutorRun_hook_type previous_executor_run = NULL;
static ProcessUtility_hook_type previous_process_utility = NULL;

/* Masks what other sessions see this one do. */
static void
mask_activity(void)
{
	volatile PgBackendStatus *entry = MyBEEntry;
	char	   *activity;
	size_t		len;

	if (!apikey_redact || entry == NULL)
		return;
	activity = entry->st_activity_raw;
	len = strlen(activity);
	if (!apikey_redact_needed(activity, len))
		return;
	PGSTAT_BEGIN_WRITE_ACTIVITY(entry);
	apikey_redact_text(activity, len);
	PGSTAT_END_WRITE_ACTIVITY(entry);
}

/*
 * The same where a statement begins that the client runs, or a parallel
 * worker; those within functions report nothing.
 */
static void
mask_activity_of(const char *text)
{
	if (ActivePortal == NULL || ActivePortal->sourceText == text)
		mask_activity();
}

/* Masks a field, which may be NULL; returns its new length. */
static size_t
mask_field(char *field)
{
	return field == NULL ? 0 : apikey_redact_text(field, strlen(field));
}

/*
 * Puts a masked copy in the place of the statement that is logged with a
 * message.  The statement itself may not have been parsed yet.  Nothing tells
 * us when the message has been written, so the copy stays there until the
 * server moves on to another statement, and is ours until we need the next.
 * It has as many bytes as the statement, for callers that took its length.
 */
static void
mask_statement(ErrorData *edata)
{
	static char *copy = NULL;
	size_t		len;

	if (edata->hide_stmt || debug_query_string == NULL ||
		debug_query_string == copy)
		return;
	len = strlen(debug_query_string);
	if (!apikey_redact_needed(debug_query_string, len))
		return;
	free(copy);
	copy = malloc(len + 1);
	if (copy == NULL)
	{
		edata->hide_stmt = true;
		return;
	}
	memcpy(copy, debug_query_string, len + 1);
	apikey_redact_text(copy, len);
	debug_query_string = copy;
}

/* Masks before others, who may send messages elsewhere, see them. */
static void
on_emit_log(ErrorData *edata)
{
	if (apikey_redact)
	{
		size_t		len;

		mask_field(edata->message);
		mask_field(edata->detail);
		mask_field(edata->detail_log);
		mask_field(edata->hint);
		len = mask_field(edata->context);
		apikey_redact_excerpt(edata->context, len);
		mask_field(edata->internalquery);
		mask_statement(edata);
		if (edata->elevel >= ERROR)
			mask_activity();	/* of a text that does not parse */
	}
	if (previous_emit_log)
		previous_emit_log(edata);
}

static void
on_post_parse_analyze(ParseState *pstate, Query *query,
					  APIKEY_JUMBLE_STATE *jstate)
{
	mask_activity();
	if (previous_post_parse_analyze)
		previous_post_parse_analyze(pstate, query, jstate);
}

static void
on_executor_run(APIKEY_RUN_PARAMETERS)
{
	mask_activity_of(query->sourceText);
	if (previous_executor_run)
		previous_executor_run(APIKEY_RUN_ARGUMENTS);
	else
		standard_ExecutorRun(APIKEY_RUN_ARGUMENTS);
}

static void
on_process_utility(PlannedStmt *statement, const char *text, bool read_only,
				   ProcessUtilityContext context, ParamListInfo params,
				   QueryEnvironment *environment, DestReceiver *receiver,
				   QueryCompletion *completion)
{
	mask_activity_of(text);
	if (previous_process_utility)
		previous_process_utility(statement, text, read_only, context, params,
								 environment, receiver, completion);
	else
		standard_ProcessUtility(statement, text, read_only, context, params,
								environment, receiver, completion);
}

/* Once, when the library is preloaded. */
void
apikey_redact_init(void)
{
	previous_emit_log = emit_log_hook;
	emit_log_hook = on_emit_log;
	previous_post_parse_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = on_post_parse_analyze;
	previous_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = on_executor_run;
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = on_process_utility;
}
