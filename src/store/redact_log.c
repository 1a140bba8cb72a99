/*
 * redact_log.c
 *		Keeping keys out of the server's log and of pg_stat_activity.
 *
 * A message is masked in place before it is written: in its own fields, which
 * the client is sent too, and in a copy of the statement; pieces of what stands
 * in the statement are masked in its fields, too: see piece.c.  The session's
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
#include "tcop/utility.h"
#include "utils/backend_status.h"

#include "compat.h"
#include "text/text.h"
#include "store/store.h"

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

/* The pieces of a field, which may be NULL. */
static void
collect(ApikeyPieces *of, const char *field)
{
	if (field != NULL)
		apikey_piece_collect(of, field, strlen(field));
}

/* Masks, in what a message tells, pieces of what it is about. */
static void
mask_pieces(const ApikeyPieces *of, ErrorData *edata)
{
	char	   *fields[] = {
		edata->message, edata->detail, edata->detail_log, edata->hint,
		edata->context
	};

	for (size_t i = 0; i < lengthof(fields); i++)
	{
		if (fields[i] != NULL)
			apikey_piece_mask(of, fields[i], strlen(fields[i]));
	}
}

/*
 * Puts a masked copy in the place of the statement that is logged with a
 * message.  The statement itself may not have been parsed yet.  Nothing tells
 * us when the message has been written, so the copy stays there until the
 * server moves on to another statement, and is ours until we need the next.
 * It has as many bytes as the statement, for callers that took its length.
 *
 * Returns the pieces of what was masked in it, for this message and later ones
 * of the same statement.
 */
static const ApikeyPieces *
mask_statement(ErrorData *edata)
{
	static char *copy = NULL;
	static ApikeyPieces pieces = {0};
	static const ApikeyPieces none = {0};
	size_t		len;

	if (debug_query_string != NULL && debug_query_string == copy)
		return &pieces;
	if (edata->hide_stmt || debug_query_string == NULL)
		return &none;
	len = strlen(debug_query_string);
	if (!apikey_redact_needed(debug_query_string, len))
		return &none;
	free(copy);
	copy = malloc(len + 1);
	apikey_piece_collect(&pieces, debug_query_string, len);
	if (copy == NULL)
	{
		edata->hide_stmt = true;
		return &pieces;
	}
	memcpy(copy, debug_query_string, len + 1);
	apikey_redact_text(copy, len);
	debug_query_string = copy;
	return &pieces;
}

/* Masks the fields of a message, each by itself. */
static void
mask_fields(ErrorData *edata)
{
	size_t		len = mask_field(edata->context);

	apikey_redact_excerpt(edata->context, len);
	mask_field(edata->message);
	mask_field(edata->detail);
	mask_field(edata->detail_log);
	mask_field(edata->hint);
	mask_field(edata->internalquery);
}

/* Masks what a message tells, and the statement that it is about. */
static void
mask_message(ErrorData *edata)
{
	const ApikeyPieces *of_statement = mask_statement(edata);
	ApikeyPieces of_context = {0};
	ApikeyPieces of_query = {0};

	/* What is only logged shows all of a statement, or nothing. */
	if (edata->elevel == LOG || edata->elevel == LOG_SERVER_ONLY)
	{
		mask_fields(edata);
		return;
	}
	/* A statement within a function stands in one of these, or in both. */
	collect(&of_context, edata->context);
	collect(&of_query, edata->internalquery);
	mask_fields(edata);
	mask_pieces(of_statement, edata);
	mask_pieces(&of_context, edata);
	mask_pieces(&of_query, edata);
	apikey_piece_forget(&of_context);
	apikey_piece_forget(&of_query);
}

/* Masks before others, who may send messages elsewhere, see them. */
static void
on_emit_log(ErrorData *edata)
{
	if (apikey_redact)
	{
		mask_message(edata);
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
