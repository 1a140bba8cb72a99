/*
 * trigger_role.h
 *		The roles of a row, for the triggers that are given their columns.
 */
#ifndef APIKEY_TRIGGER_ROLE_H
#define APIKEY_TRIGGER_ROLE_H

#include "access/htup.h"
#include "commands/trigger.h"
#include "utils/relcache.h"

/* The two columns by which a row names a role; name is NULL for none. */
typedef struct ApikeyTriggerRole
{
	Oid			role;
	const char *name;
} ApikeyTriggerRole;

/* trigger_role.c */
extern ApikeyTriggerRole apikey_trigger_role(const TriggerData *trigger,
											 int pair, HeapTuple tuple);
extern HeapTuple apikey_trigger_with_column(Relation rel, HeapTuple tuple,
											const char *name, Datum value,
											bool isnull);

#endif							/* APIKEY_TRIGGER_ROLE_H */
