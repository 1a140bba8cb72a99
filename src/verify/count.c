/*
 * count.c
 *		Counting verdicts and uses, where there is shared memory; else the last use.
 */
#include "postgres.h"

#include "utils/inval.h"

#include "store/store.h"
#include "memory/memory.h"
#include "usage/usage.h"
#include "verify/verify_internal.h"

/* Is it time to write the last use of a key? */
static bool
last_use_due(const void *credential, TimestampTz now, TimestampTz before)
{
	return apikey_cache_last_use_due(credential, now, before);
}

/*
 * Whose a key is that was read just now; not known where that may be old
 * already, or be rolled back.
 */
static uint32
whose_now(const ApikeyVerdict *verdict)
{
	AcceptInvalidationMessages();
	return apikey_changes_none_since(verdict->begun) ?
		apikey_history_whose(verdict->key) : 0;
}

/* Counts a verdict, and remembers the use of a key. */
void
apikey_verify_count(const ApikeyCredential *credential,
					const ApikeyRequirements *required,
					const ApikeyVerdict *verdict)
{
	if (apikey_usage_shared())
	{
		bool		read = verdict->known && verdict->entry == NULL;
		uint32		whose = read ? whose_now(verdict) : 0;

		apikey_usage_note(verdict->code,
						  verdict->known ? &credential->id : NULL,
						  verdict->known ? verdict->hint : NULL,
						  read ? &whose : NULL, !verdict->state.personal,
						  required->client_addr, required->cost > 0,
						  verdict->at);
	}
	else if (verdict->code == APIKEY_CODE_VALID && required->cost > 0)
		apikey_last_use_write(&credential->id, required->client_addr,
							  last_use_due,
							  credential);
}
