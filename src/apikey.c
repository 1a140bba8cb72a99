/*
 * apikey.c
 *		Loading the library: what it hooks into, and in which order.
 */
#include "postgres.h"

#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"

#include "store/store.h"
#include "memory/memory.h"
#include "secrets/secrets.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys.h"
#include "usage/usage.h"
#include "credits/credits.h"
#include "limits/limits.h"
#include "verify/verify.h"
#include "servers/servers.h"
#include "fleet/fleet.h"
#include "sql/sql.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;


static object_access_hook_type previous_object_access = NULL;

/* Who has something to do at the end of a transaction, in this order. */
static ApikeyTransactionPart *const transaction_parts[] = {
	&apikey_fresh_transaction,
	&apikey_identity_transaction,
	&apikey_ended_transaction,
	&apikey_notify_transaction,
	&apikey_idle_transaction,
	&apikey_expiry_transaction,
	&apikey_revocation_transaction,
	&apikey_orphan_transaction,
	&apikey_member_transaction,
	&apikey_standing_transaction,
	&apikey_reveal_transaction,
	&apikey_tally_transaction,
	&apikey_credit_transaction,
	&apikey_spend_transaction,
	&apikey_account_transaction,
	&apikey_changes_transaction,
	&apikey_verification_transaction
};

/* Who has something in shared memory. */
static const ApikeyMemoryPart *const memory_parts[] = {
	&apikey_seed_memory,
	&apikey_complaint_memory,
	&apikey_dynamic_memory,
	&apikey_verdicts_memory,
	&apikey_stats_memory,
	&apikey_pass_memory,
	&apikey_lease_memory,
	&apikey_called_back_memory,
	&apikey_lease_asked_memory,
	&apikey_notify_memory,
	&apikey_share_memory,
	&apikey_seat_memory,
	&apikey_mark_memory,
	&apikey_reveals_memory,
	&apikey_history_memory,
	&apikey_tally_memory,
	&apikey_server_id_memory,
	&apikey_batch_memory,
	&apikey_asker_memory,
	&apikey_fleet_memory,
	&apikey_subscription_memory,
	&apikey_fresh_memory,
	&apikey_lifetime_memory,
	&apikey_rehash_memory,
	&apikey_pepper_count_memory,
	&apikey_vault_memory,
	&apikey_slot_memory,
	&apikey_slot_file_memory,
	&apikey_pepper_memory
};

/* Who has something of a key beside its rows. */
static const ApikeyKeyPart *const key_parts[] = {
	&apikey_account_of_key,
	&apikey_limit_of_key
};

void		_PG_init(void);

/*
 * What is dropped has nothing in shared memory any more, and what is new is to
 * be looked into.  The hook comes before it is known whether it may be, so it
 * only notes which.
 */
static void
on_database_or_extension(ObjectAccessType access, Oid classId, Oid objectId)
{
	if (apikey_slot_count() == 0)
		return;
	if (access == OAT_DROP && classId == DatabaseRelationId)
		apikey_ended_database(objectId);
	else if (access == OAT_POST_CREATE && classId == DatabaseRelationId)
		apikey_begun_extension(objectId);
	else if (access == OAT_DROP && classId == ExtensionRelationId &&
			 objectId == get_extension_oid("apikey", true))
		apikey_ended_extension();
	/* Which one is not to be seen yet: any is worth a look. */
	else if (access == OAT_POST_CREATE && classId == ExtensionRelationId)
		apikey_begun_extension(MyDatabaseId);
}

/* Keys of a role that is dropped end with it. */
static void
on_object_access(ObjectAccessType access, Oid classId, Oid objectId, int subId,
				 void *arg)
{
	if (previous_object_access)
		previous_object_access(access, classId, objectId, subId, arg);
	if (subId == 0)
		on_database_or_extension(access, classId, objectId);
	if (access == OAT_POST_ALTER && classId == ExtensionRelationId &&
		objectId == get_extension_oid("apikey", true))
		apikey_grant_follow_owner();
	if (access == OAT_DROP && classId == AuthIdRelationId)
		apikey_orphan_role_dropped();
}

void
_PG_init(void)
{
	apikey_define_settings();
	apikey_complaint_init();
	apikey_changes_init();
	apikey_cache_init();
	apikey_key_init(key_parts, lengthof(key_parts));
	apikey_transaction_init(transaction_parts, lengthof(transaction_parts));
	apikey_instead_init();
	apikey_memory_init(memory_parts, lengthof(memory_parts));
	if (process_shared_preload_libraries_in_progress)
	{
		apikey_redact_init();
		apikey_keeper_init();
		apikey_launcher_init();
		apikey_fleet_init();
	}
	previous_object_access = object_access_hook;
	object_access_hook = on_object_access;
}
