/*
 * reveal_event.c
 *		That each reveal of a key is told of.
 *
 * The event is written in the transaction that reveals.  Where that is rolled
 * back, or a subtransaction of it, the key has been shown all the same: then the
 * worker writes the event, of what stands in shared memory (see reveals.c).
 * Without the library preloaded there is neither: the server's log tells of each
 * reveal, at once.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "events/events.h"
#include "keys/keys_internal.h"

/* A place that this transaction keeps. */
typedef struct Kept
{
	ApikeyNoted noted;
	int			place;
} Kept;

static void
settle(void *noted, ApikeyEnd end)
{
	const Kept *kept = noted;

	apikey_reveals_settle(kept->place,
						  end == APIKEY_END_COMMIT ? APIKEY_REVEALED_FREE :
						  end == APIKEY_END_PREPARE ? APIKEY_REVEALED_PREPARED :
						  APIKEY_REVEALED_UNDONE);
}

ApikeyTransactionPart apikey_reveal_transaction = {
	.size = sizeof(Kept),
	.settle = settle
};

/* Who is calling, from where, for a key to be shown. */
static void
describe(const ApikeyRow *key, ApikeyRevealed *what)
{
	inet	   *addr = apikey_event_client_addr();
	text	   *subject = apikey_principal_subject_if_known();

	memset(what, 0, sizeof(*what));
	what->state = APIKEY_REVEALED_OPEN;
	what->database = MyDatabaseId;
	what->actor = GetUserId();
	strlcpy(what->actor_name, GetUserNameFromId(GetUserId(), false), NAMEDATALEN);
	what->has_addr = addr != NULL;
	if (addr != NULL)
		memcpy(&what->addr, VARDATA_ANY(addr), VARSIZE_ANY_EXHDR(addr));
	if (subject != NULL)
	{
		apikey_rule_subject(subject);
		what->subject_len = VARSIZE_ANY_EXHDR(subject);
		memcpy(what->subject, VARDATA_ANY(subject), what->subject_len);
	}
	what->count = 1;
	what->keys[0].id = *apikey_row_id(key);
	what->keys[0].at = GetCurrentTimestamp();
}

/* Does this subtransaction keep a place that the key finds room in, too? */
static bool
join_last(const ApikeyRevealed *what)
{
	const ApikeyTransactionPart *part = &apikey_reveal_transaction;
	const Kept *last = (const Kept *) part->noted + part->count - 1;

	return part->count > 0 &&
		last->noted.level == GetCurrentTransactionNestLevel() &&
		apikey_reveals_add(last->place, what);
}

/* Keeps a place for the event of a key that is about to be shown. */
static void
keep_place(const ApikeyRow *key)
{
	ApikeyRevealed *what = palloc(sizeof(ApikeyRevealed));
	int			place;

	describe(key, what);
	apikey_transaction_reserve(&apikey_reveal_transaction);
	if (!join_last(what))
	{
		place = apikey_reveals_keep(what);
		if (place < 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("too many API keys are being revealed"),
					 errdetail("Each is told of, whatever becomes of its transaction, and there is room for so many until their transactions end."),
					 errhint("Reveal fewer in a transaction.")));
		((Kept *) apikey_transaction_note(&apikey_reveal_transaction))->place = place;
	}
	pfree(what);
}

static void
tell_log(const ApikeyRow *key)
{
	inet	   *addr = apikey_event_client_addr();

	ereport(LOG_SERVER_ONLY,
			(errmsg("API key \"%s\" is revealed to role \"%s\"",
					apikey_id_string(apikey_row_id(key)),
					GetUserNameFromId(GetUserId(), false)),
			 addr == NULL ? 0 :
			 errdetail("Its address is %s.",
					   DatumGetCString(DirectFunctionCall1(inet_out, InetPGetDatum(addr))))));
}

/* The last that is done before a key is shown: it raises where it cannot be told. */
void
apikey_reveal_tell(const ApikeyRow *key)
{
	apikey_event_key(key, APIKEY_EVENT_REVEALED, NULL);
	if (apikey_preloaded())
		keep_place(key);
	else
		tell_log(key);
}

static void
write_event(const ApikeyRevealed *what, const ApikeyRevealedKey *key)
{
	StringInfoData json;

	apikey_detail_begin(&json);
	apikey_detail_json(&json, what->state == APIKEY_REVEALED_PREPARED ?
					   "prepared" : "rolled_back", "true");
	apikey_detail_json(&json, "revealed_at", apikey_json_time(key->at));
	apikey_event_revealed(&key->id, what->actor,
						  cstring_to_text(what->actor_name),
						  what->subject_len == 0 ? NULL :
						  cstring_to_text_with_len(what->subject, what->subject_len),
						  what->has_addr ? apikey_use_inet(&what->addr) : NULL,
						  apikey_detail_end(&json));
}

/*
 * For the worker: writes the events of a place, in a transaction; true while
 * there may be more.  After one that cannot be written the next step goes on
 * behind it.
 */
bool
apikey_reveal_write(int *next)
{
	ApikeyRevealed *what = palloc(sizeof(ApikeyRevealed));

	if (!apikey_reveals_next(MyDatabaseId, next, what))
		return false;
	if (apikey_step_begin())
	{
		for (int i = 0; i < what->count; i++)
			write_event(what, &what->keys[i]);
		apikey_step_commit();
	}
	apikey_reveals_settle(*next - 1, APIKEY_REVEALED_FREE);
	return true;
}
