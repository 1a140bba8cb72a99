/*
 * limits.h
 *		The door of limits/: what keys are bound by, and what they spend of it.
 */
#ifndef APIKEY_LIMITS_H
#define APIKEY_LIMITS_H

#include "nodes/pg_list.h"

#include "store/store.h"
#include "memory/memory.h"
#include "rows/rows.h"
#include "limits/bound.h"
#include "limits/limit.h"
#include "limits/shared_rate.h"
#include "limits/verdict.h"

/* What has come of writing the event of a mark. */
typedef enum ApikeyMarkEnd
{
	APIKEY_MARK_TOLD,			/* now or before */
	APIKEY_MARK_NOT_SO,			/* any more */
	APIKEY_MARK_LATER			/* somebody has the account */
} ApikeyMarkEnd;

/* mark.c */
extern const ApikeyMemoryPart apikey_mark_memory;
extern List *apikey_mark_databases(void);
extern bool apikey_mark_move(ApikeyBatch *batch);
extern void apikey_mark_later(const ApikeyMark *mark);

/* mark_tell.c */
extern bool apikey_mark_tell(bool first, int *left);
extern void apikey_mark_move_back(const ApikeyMark *mark);
extern ApikeyMarkEnd apikey_mark_write(const ApikeyMark *mark);

/* tally.c */
extern const ApikeyMemoryPart apikey_tally_memory;

/* done.c */
extern ApikeyTransactionPart apikey_tally_transaction;

/* tenant_drop.c */
extern void apikey_tenant_drop(ApikeyTenant *tenant);

#endif							/* APIKEY_LIMITS_H */
