/*
 * pass.c
 *		How far the worker is on its ways through rows.
 */
#include "postgres.h"

#include "memory/memory.h"

static ApikeyPass own[APIKEY_PASSES];

/* A pass as it is, for its next step. */
ApikeyPass *
apikey_pass_take(ApikeyPassOver what)
{
	return &own[what];
}

/* It begins, before all rows. */
void
apikey_pass_begin(ApikeyPass *pass)
{
	memset(pass, 0, sizeof(*pass));
	pass->begun = true;
	pass->next = DT_NOEND;
}

/* The next row to be looked at is behind this one. */
void
apikey_pass_looked_at(ApikeyPass *pass, TimestampTz at, const pg_uuid_t *id)
{
	pass->at = at;
	pass->id = *id;
}

/* Something may be due then. */
void
apikey_pass_next_at(ApikeyPass *pass, TimestampTz next)
{
	pass->next = Min(pass->next, next);
}
