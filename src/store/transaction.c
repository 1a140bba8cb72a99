/*
 * transaction.c
 *		What a transaction does that its end makes final, or undoes.
 *
 * The server calls us once for each end; who has something to do then is a
 * part, and all parts are called in the order in which apikey.c lists them.
 * Nothing that is done there may fail.  Who may have to keep a transaction from
 * its commit, or has to write for it, is called right before it, when all else
 * has been done.  Of what becomes of a transaction that is prepared nobody tells
 * us: with that it ends here.
 *
 * A part can note things, each with the subtransaction that did it.  They are
 * settled in the order in which they were noted when the transaction ends.
 * With the rollback of a subtransaction its own are settled, the last first;
 * with its commit they become its parent's.
 *
 * A parallel worker's transaction ends like any other.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "store/store.h"

static ApikeyTransactionPart *const *all = NULL;
static int	all_count = 0;

static ApikeyNoted *
noted_at(const ApikeyTransactionPart *part, int number)
{
	return (ApikeyNoted *) (part->noted + (Size) number * part->size);
}

/* Makes room for another, so that noting it cannot fail. */
void
apikey_transaction_reserve(ApikeyTransactionPart *part)
{
	if (part->noted == NULL)
	{
		part->room = 16;
		part->noted = MemoryContextAlloc(TopTransactionContext,
										 part->room * part->size);
	}
	else if (part->count == part->room)
	{
		part->noted = repalloc_huge(part->noted,
									(Size) part->room * 2 * part->size);
		part->room *= 2;
	}
}

/* Notes something that this subtransaction has done; all of it is zero. */
void *
apikey_transaction_note(ApikeyTransactionPart *part)
{
	ApikeyNoted *noted;

	if (part->noted == NULL || part->count == part->room)
		apikey_transaction_reserve(part);
	noted = noted_at(part, part->count++);
	memset(noted, 0, part->size);
	noted->level = GetCurrentTransactionNestLevel();
	return noted;
}

static void
end_part(ApikeyTransactionPart *part, ApikeyEnd end)
{
	for (int i = 0; i < part->count && part->settle != NULL; i++)
		part->settle(noted_at(part, i), end);
	if (part->end != NULL)
		part->end(end);
	part->noted = NULL;
	part->count = 0;
}

static void
end_all(ApikeyEnd end)
{
	for (int i = 0; i < all_count; i++)
		end_part(all[i], end);
}

static void
before_all(bool prepare)
{
	for (int i = 0; i < all_count; i++)
	{
		if (all[i]->before != NULL)
			all[i]->before(prepare);
	}
}

static void
on_transaction_end(XactEvent event, void *arg pg_attribute_unused())
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_all(false);
			break;
		case XACT_EVENT_PRE_PREPARE:
			before_all(true);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			end_all(APIKEY_END_COMMIT);
			break;
		case XACT_EVENT_PREPARE:
			end_all(APIKEY_END_PREPARE);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
			end_all(APIKEY_END_ROLLBACK);
			break;
		default:
			break;				/* a parallel worker writes nothing */
	}
}

static void
sub_end_part(ApikeyTransactionPart *part, int level, bool committed)
{
	if (!committed)
	{
		while (part->count > 0 && noted_at(part, part->count - 1)->level >= level)
		{
			part->count--;
			if (part->leave != NULL)
				part->leave(noted_at(part, part->count));
			if (part->settle != NULL)
				part->settle(noted_at(part, part->count), APIKEY_END_ROLLBACK);
		}
	}
	else
	{
		for (int i = part->count - 1;
			 i >= 0 && noted_at(part, i)->level >= level; i--)
			noted_at(part, i)->level = level - 1;
	}
	if (part->sub_end != NULL)
		part->sub_end(level, committed);
}

static void
on_subtransaction_end(SubXactEvent event,
					  SubTransactionId subid pg_attribute_unused(),
					  SubTransactionId parent pg_attribute_unused(),
					  void *arg pg_attribute_unused())
{
	int			level = GetCurrentTransactionNestLevel();

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (int i = 0; i < all_count; i++)
		sub_end_part(all[i], level, event == SUBXACT_EVENT_COMMIT_SUB);
}

/* Once, when the library is loaded: the parts, in the order of their calls. */
void
apikey_transaction_init(ApikeyTransactionPart *const *parts, int count)
{
	all = parts;
	all_count = count;
	RegisterXactCallback(on_transaction_end, NULL);
	RegisterSubXactCallback(on_subtransaction_end, NULL);
}
