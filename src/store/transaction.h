/*
 * transaction.h
 *		What a transaction does that its end makes final, or undoes.
 */
#ifndef APIKEY_TRANSACTION_H
#define APIKEY_TRANSACTION_H

/* How a transaction has ended; a subtransaction is rolled back, or goes on. */
typedef enum ApikeyEnd
{
	APIKEY_END_COMMIT,
	APIKEY_END_PREPARE,
	APIKEY_END_ROLLBACK
} ApikeyEnd;

/* What each thing that is noted begins with. */
typedef struct ApikeyNoted
{
	int			level;			/* of the subtransaction */
} ApikeyNoted;

/*
 * One of those who have something to do at the end.  What they note is a list
 * in which levels rise: what a subtransaction has noted stands at its end.
 */
typedef struct ApikeyTransactionPart
{
	size_t		size;			/* of what is noted; 0 for nothing */
	void		(*settle) (void *noted, ApikeyEnd end); /* one, or NULL */
	void		(*sub_end) (int level, bool committed); /* or NULL */
	void		(*end) (ApikeyEnd end); /* after all that is noted; or NULL */
	char	   *noted;			/* in TopTransactionContext */
	int			count;
	int			room;
} ApikeyTransactionPart;

/* transaction.c */
extern void apikey_transaction_init(ApikeyTransactionPart *const *parts,
									int count);
extern void apikey_transaction_reserve(ApikeyTransactionPart *part);
extern void *apikey_transaction_note(ApikeyTransactionPart *part);

#endif							/* APIKEY_TRANSACTION_H */
