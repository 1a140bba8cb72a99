/*
 * changes.h
 *		Whether what a process remembers of our tables still holds.
 */
#ifndef APIKEY_CHANGES_H
#define APIKEY_CHANGES_H

#include "utils/uuid.h"

#include "store/transaction.h"

/* Of what most databases have nothing. */
typedef enum ApikeyFact
{
	APIKEY_FACT_IMPORTS,
	APIKEY_FACT_REVOCATIONS,
	APIKEY_FACT_LIMITS,
	APIKEY_FACTS
} ApikeyFact;

/* The OID that stands for a key in a message: of an id's random end. */
static inline Oid
apikey_changes_token(const pg_uuid_t *id)
{
	Oid			token;

	memcpy(&token, id->data + UUID_LEN - sizeof(token), sizeof(token));
	return token | 0x80000000;
}

/* Told of what an OID stands for, or that all may have changed. */
typedef void (*ApikeyChangesListener) (Oid token, bool all);

/* changes.c */
extern ApikeyTransactionPart apikey_changes_transaction;
extern void apikey_changes_init(void);
extern void apikey_changes_listen(ApikeyChangesListener told);
extern void apikey_changes_forget(void);
extern void apikey_changes_key(const pg_uuid_t *id);
extern void apikey_changes_all(void);
extern void apikey_changes_fact(ApikeyFact fact);
extern uint64 apikey_changes_begin(void);
extern uint64 apikey_changes_of_roles(void);
extern bool apikey_changes_made(void);
extern bool apikey_changes_none_since(uint64 begun);
extern bool apikey_fact_known(ApikeyFact fact, bool *any);
extern void apikey_fact_store(ApikeyFact fact, uint64 begun, bool any);

#endif							/* APIKEY_CHANGES_H */
