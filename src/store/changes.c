/*
 * changes.c
 *		Whether what this process remembers of our tables still holds.
 *
 * PostgreSQL's own invalidation says so: a row trigger on our tables, which
 * fires for every kind of change and in every kind of process, sends a message
 * with the change's commit, to the standbys too.  A message can name a relation
 * only, so we name relations that do not exist: the OID is the end of the key's
 * id with its highest bit set.  Another relation that has that OID after all is
 * looked up anew, which does no harm.
 *
 * A row read while a message came in may be older than the message, and what a
 * transaction has written itself may yet be rolled back: neither is remembered.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "store/store_internal.h"

#define ALL_KEYS		((Oid) 0xFFFFFFFF)
#define KEYS_TOLD_MAX	256		/* in a subtransaction, more than a step's; then all keys are */
#define FACT(fact)		((Oid) 0xFFFFFFFE - (fact))	/* APIKEY_FACT_ ... */

static bool wrote_in_transaction = false;

/* What is known of whether there is something of a kind at all. */
typedef struct Fact
{
	bool		known;
	bool		any;
	SubTransactionId told;		/* in which a message was sent last */
} Fact;

static Fact facts[APIKEY_FACTS];
static SubTransactionId told_in = InvalidSubTransactionId;
static int	told_keys = 0;		/* in that subtransaction */
static SubTransactionId told_all = InvalidSubTransactionId;
static uint64 messages = 0;		/* counts what makes a row read before old */

static uint64 role_changes = 1;	/* or who is in which */

static ApikeyChangesListener listener = NULL;

/*
 * Has somebody told whenever what he remembers may be old: of what an OID
 * stands for, or all.  That may be at any time: he only marks it.
 */
void
apikey_changes_listen(ApikeyChangesListener told)
{
	listener = told;
}

static void
on_relation(Datum arg pg_attribute_unused(), Oid relid)
{
	bool		all = !OidIsValid(relid) || relid == ALL_KEYS;

	messages++;
	for (int fact = 0; fact < APIKEY_FACTS; fact++)
	{
		if (all || relid == FACT(fact))
			facts[fact].known = false;
	}
	if (listener != NULL)
		listener(relid, all);
}

/* Roles, and who is in which, decide about every key. */
static void
on_role(Datum arg pg_attribute_unused(), int cacheid pg_attribute_unused(),
		uint32 hashvalue pg_attribute_unused())
{
	role_changes++;
	apikey_changes_forget();
}

/* How often roles may have changed: what was read of them before may be old. */
uint64
apikey_changes_of_roles(void)
{
	return role_changes;
}

static void
on_transaction_end(ApikeyEnd end pg_attribute_unused())
{
	wrote_in_transaction = false;
	for (int fact = 0; fact < APIKEY_FACTS; fact++)
		facts[fact].told = InvalidSubTransactionId;
	told_in = told_all = InvalidSubTransactionId;
}

ApikeyTransactionPart apikey_changes_transaction = {.end = on_transaction_end};

/* Once, when the library is loaded. */
void
apikey_changes_init(void)
{
	CacheRegisterRelcacheCallback(on_relation, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, on_role, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_role, (Datum) 0);
	/* Who owns the database is a member of pg_database_owner. */
	CacheRegisterSyscacheCallback(DATABASEOID, on_role, (Datum) 0);
}

/* Whatever is stored, or about to be, is old. */
void
apikey_changes_forget(void)
{
	on_relation((Datum) 0, InvalidOid);
}

static void
send_message(Oid token)
{
	union
	{
		HeapTupleHeaderData header;
		char		bytes[MAXALIGN(SizeofHeapTupleHeader) + sizeof(FormData_pg_class)];
	}			row;
	HeapTupleData tuple = {.t_data = &row.header};
	Form_pg_class class;

	memset(&row, 0, sizeof(row));
	row.header.t_hoff = MAXALIGN(SizeofHeapTupleHeader);
	class = (Form_pg_class) GETSTRUCT(&tuple);
	class->oid = token;
	CacheInvalidateRelcacheByTuple(&tuple);
	wrote_in_transaction = true;
}

/*
 * This transaction has changed something on which many keys depend.  Once in each of
 * its subtransactions is enough, as it remembers nothing from then on.
 */
void
apikey_changes_all(void)
{
	if (told_all == GetCurrentSubTransactionId())
		return;
	send_message(ALL_KEYS);
	told_all = GetCurrentSubTransactionId();
}

/*
 * This transaction has changed a key; with its commit all processes know.  The
 * server compares each message of a command with all before, so that what is
 * changed in great numbers is told at once, for all keys.
 */
void
apikey_changes_key(const pg_uuid_t *id)
{
	if (told_in != GetCurrentSubTransactionId())
		told_keys = 0;
	told_in = GetCurrentSubTransactionId();
	if (told_keys < KEYS_TOLD_MAX)
		send_message(apikey_changes_token(id));
	else
		apikey_changes_all();
	told_keys += told_keys < KEYS_TOLD_MAX;
}

/*
 * This transaction has added something of a kind, or removed it; once in each
 * of its subtransactions is enough.
 */
void
apikey_changes_fact(ApikeyFact fact)
{
	facts[fact].known = false;
	if (facts[fact].told == GetCurrentSubTransactionId())
		return;
	send_message(FACT(fact));
	facts[fact].told = GetCurrentSubTransactionId();
}

/* Is it known whether there is something of a kind? */
bool
apikey_fact_known(ApikeyFact fact, bool *any)
{
	*any = facts[fact].any;
	return facts[fact].known;
}

/* Remembers what was found since apikey_changes_begin, if it still holds. */
void
apikey_fact_store(ApikeyFact fact, uint64 begun, bool any)
{
	facts[fact].any = any;
	facts[fact].known = begun == messages;
}

/* May what was read since then be remembered? */
bool
apikey_changes_none_since(uint64 begun)
{
	return begun == messages && !wrote_in_transaction;
}

/*
 * Has this transaction changed something?  What it reads may yet be rolled back then;
 * a parallel process does not know.
 */
bool
apikey_changes_made(void)
{
	return wrote_in_transaction || IsInParallelMode();
}

/* To be called before the snapshot is taken of what is to be stored. */
uint64
apikey_changes_begin(void)
{
	return messages;
}

/*
 * What is being read is not to be remembered: this transaction has written it,
 * or may have, as a parallel query does not know.
 */
void
apikey_changes_not_final(void)
{
	messages++;
}
