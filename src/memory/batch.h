/*
 * batch.h
 *		What a member reports to its primary, and as whom.
 */
#ifndef APIKEY_BATCH_H
#define APIKEY_BATCH_H

#include "nodes/pg_list.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "memory/code.h"
#include "memory/part.h"
#include "memory/slot.h"

#define APIKEY_BATCH_USES		500
#define APIKEY_BATCH_COUNTS		200
#define APIKEY_BATCH_DENIALS	100
#define APIKEY_BATCH_MARKS		100
#define APIKEY_TOKENS_MAX		8
#define APIKEY_COUNT_MOST		(INT64CONST(1) << 53)	/* of anything, at once */

typedef struct ApikeyBatchUse
{
	pg_uuid_t	key;
	uint64		uses;
	uint64		denials;
	TimestampTz last_used_at;	/* 0: not since the counting began */
	bool		has_addr;
	inet_struct addr;
} ApikeyBatchUse;

/* Of the history: a refusal's code, or a unit. */
typedef struct ApikeyBatchCount
{
	pg_uuid_t	key;
	Oid			role;			/* the key is charged to it */
	bool		of_unit;
	char		name[APIKEY_UNIT_MAX + 1];
	int64		count;
} ApikeyBatchCount;

typedef struct ApikeyBatchDenial
{
	pg_uuid_t	key;
	ApikeyDenial denial;
} ApikeyBatchDenial;

/* What is to be told of a limit; see mark.c. */
typedef enum ApikeyMarkKind
{
	APIKEY_MARK_LOW,
	APIKEY_MARK_EXHAUSTED,
	APIKEY_MARK_OVERDRAWN
} ApikeyMarkKind;

typedef struct ApikeyMark
{
	Oid			database;
	ApikeyMarkKind kind;
	pg_uuid_t	limit;			/* or the account of a key's credits */
	pg_uuid_t	key;
	int64		amount;			/* left, or dropped */
} ApikeyMark;

/* What the primary has not acknowledged yet. */
typedef struct ApikeyBatch
{
	Oid			database;		/* invalid: free */
	int64		sequence;
	int			use_count;
	int			count_count;
	int			denial_count;
	int			mark_count;
	ApikeyBatchUse uses[APIKEY_BATCH_USES];
	ApikeyBatchCount counts[APIKEY_BATCH_COUNTS];
	ApikeyBatchDenial denials[APIKEY_BATCH_DENIALS];
	ApikeyMark	marks[APIKEY_BATCH_MARKS];
} ApikeyBatch;

/* As whom this server stands with the primary's database. */
typedef struct ApikeyMembership
{
	Oid			database;		/* invalid: free */
	int64		epoch;			/* 0: it has not joined since its start */
	int64		sequence;		/* the last that was acknowledged */
	bool		from_file;		/* what came with it is to be settled yet */
	bool		joining;		/* with the new token, unless it was answered */
	int			token_count;
	pg_uuid_t	tokens[APIKEY_TOKENS_MAX];	/* the newest first */
	pg_uuid_t	new_token;
} ApikeyMembership;

/* batch.c */
extern const ApikeyMemoryPart apikey_batch_memory;
extern void apikey_batch_lock(bool exclusive);
extern void apikey_batch_unlock(void);
extern ApikeyMembership *apikey_membership(Oid database, bool make);
extern int64 apikey_membership_epoch(Oid database);
extern ApikeyMembership *apikey_membership_at(int number);
extern void apikey_membership_end(Oid database);
extern ApikeyBatch *apikey_batch_of(Oid database);
extern ApikeyBatch *apikey_batch_begin(const ApikeyMembership *membership,
									   int64 sequence);
extern void apikey_batch_end(ApikeyBatch *batch);
extern uint64 apikey_batch_sum(const ApikeyBatch *batch);
extern List *apikey_batch_databases(void);
extern bool apikey_batch_pending(Oid database, const pg_uuid_t *key,
								 uint64 *uses, uint64 *denials);

#endif							/* APIKEY_BATCH_H */
