/*
 * identity.c
 *		Who is authenticated in the current transaction.
 *
 * An identity is a copy of what a key was when apikey_authenticate found it
 * valid.  It lives in this process's memory, where no SQL reaches it, and
 * ends with the transaction, or with the rollback of the subtransaction it was
 * set in: there is at most one for each open subtransaction, the innermost
 * counts, and a subtransaction that commits hands its own to its parent.
 *
 * Workers of a parallel query have none, so the SQL functions that read it are
 * parallel restricted.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "store/store.h"
#include "rows/rows.h"
#include "limits/limits.h"
#include "verify/verify.h"

typedef struct Frame
{
	struct Frame *outer;		/* of an enclosing subtransaction, or NULL */
	int			level;
	MemoryContext context;		/* holds this frame, and no more */
	ApikeyIdentity identity;
} Frame;

static Frame *innermost = NULL;

/* Drops the frame that a link leads to; its outer one takes its place. */
static void
unlink_frame(Frame **link)
{
	Frame	   *frame = *link;

	*link = frame->outer;
	MemoryContextDelete(frame->context);
}

static void
on_subtransaction_end(int level, bool committed)
{
	if (innermost == NULL || innermost->level != level)
		return;
	if (!committed)
		unlink_frame(&innermost);
	else
	{
		innermost->level = level - 1;
		if (innermost->outer != NULL && innermost->outer->level == level - 1)
			unlink_frame(&innermost->outer);
	}
}

/* The memory goes with the transaction's own. */
static void
on_transaction_end(ApikeyEnd end pg_attribute_unused())
{
	innermost = NULL;
}

ApikeyTransactionPart apikey_identity_transaction = {
	.sub_end = on_subtransaction_end,
	.end = on_transaction_end
};

/* Copies from a verdict, which points into memory of others. */
static void
copy_identity(const ApikeyVerdict *verdict, ApikeyIdentity *identity)
{
	const ApikeyRow *key = verdict->key;
	text	   *owner = apikey_role_name_told(apikey_key_owner(key),
											  apikey_row_text(key, APIKEY_KEY_OWNER_NAME));

	identity->key = *apikey_row_id(key);
	identity->project = verdict->project == NULL ? NULL :
		pstrdup(verdict->project);
	namestrcpy(&identity->owner, text_to_cstring(owner));
	identity->subject = key->nulls[APIKEY_KEY_SUBJECT] ? NULL :
		DatumGetTextPCopy(key->values[APIKEY_KEY_SUBJECT]);
	identity->role = verdict->state.role;
	identity->scopes =
		DatumGetArrayTypePCopy(key->values[APIKEY_KEY_SCOPES]);
	identity->metadata =
		PG_DETOAST_DATUM_COPY(key->values[APIKEY_KEY_METADATA]);
}

/* From here on the transaction is that of a key that was found valid. */
void
apikey_identity_set(ApikeyVerdict *verdict)
{
	MemoryContext context = AllocSetContextCreate(TopTransactionContext,
												  "apikey identity",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Frame	   *frame = palloc0(sizeof(Frame));

	frame->level = GetCurrentTransactionNestLevel();
	frame->context = context;
	apikey_verdict_key(verdict);
	copy_identity(verdict, &frame->identity);
	MemoryContextSwitchTo(caller);

	if (innermost != NULL && innermost->level == frame->level)
		unlink_frame(&innermost);
	frame->outer = innermost;
	innermost = frame;
}

/*
 * Who is authenticated, or NULL for nobody.  Holds no longer than the call
 * that asks: the next one may be somebody else's.
 */
const ApikeyIdentity *
apikey_identity_current(void)
{
	return innermost == NULL ? NULL : &innermost->identity;
}
