/*
 * use.c
 *		What a slot has gathered of the use of a key.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "access/htup_details.h"

#include "memory/memory.h"

/* Copies out what a slot has gathered; its mutex is held, or nobody is there. */
void
apikey_use_copy(ApikeySlot *slot, ApikeyUse *use)
{
	use->database = slot->key.database;
	use->id = slot->key.id;
	use->uses = pg_atomic_read_u64(&slot->uses);
	use->denials = pg_atomic_read_u64(&slot->denials);
	use->last_used_at = (TimestampTz) pg_atomic_read_u64(&slot->last_used_at);
	use->arrival = pg_atomic_read_u64(&slot->arrival);
	use->has_addr = slot->has_addr;
	use->addr = slot->addr;
}

/* An address that was kept, as an inet. */
inet *
apikey_use_inet(const inet_struct *addr)
{
	inet	   *result = palloc0(sizeof(inet));

	result->inet_data = *addr;
	SET_INET_VARSIZE(result);
	return result;
}
