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
	int			before;			/* number of the one before it of the same; 0: none */
} ApikeyNoted;

/*
 * One of those who have something to do at the end.  What they note is a list
 * in which levels rise: what a subtransaction has noted stands at its end.
 */
typedef struct ApikeyTransactionPart
{
	size_t		size;			/* of what is noted; 0 for nothing */
	void		(*before) (bool prepare);	/* it commits; may write, and raise; or NULL */
	void		(*settle) (void *noted, ApikeyEnd end); /* one, or NULL */
	void		(*leave) (const void *noted); /* before that the last one, which
											 * goes with its subtransaction; or NULL */
	void		(*sub_end) (int level, bool committed); /* or NULL */
	void		(*end) (ApikeyEnd end); /* after all that is noted; or NULL */
	char	   *noted;			/* in TopTransactionContext */
	int			count;
	int			room;
} ApikeyTransactionPart;

/*
 * Where the last note is of each thing that a part notes more than once.  The
 * functions are the part's.
 */
typedef struct ApikeyLastNotes
{
	ApikeyTransactionPart *part;
	int			few;			/* are looked through as they are */
	bool		(*sought) (const void *noted);	/* or is it left out?  NULL: none is */
	uint32		(*hash) (const void *like);
	bool		(*same) (const void *noted, const void *like);
	int		   *numbers;		/* from 1 on; in TopTransactionContext, or NULL */
	uint32		mask;
} ApikeyLastNotes;

/* transaction.c */
extern void apikey_transaction_init(ApikeyTransactionPart *const *parts,
									int count);
extern void apikey_transaction_reserve(ApikeyTransactionPart *part);
extern void *apikey_transaction_note(ApikeyTransactionPart *part);

/* last_note.c */
extern void apikey_last_notes_reserve(ApikeyLastNotes *last);
extern int	apikey_last_note(const ApikeyLastNotes *last, const void *like);
extern void apikey_last_notes_put(const ApikeyLastNotes *last, void *noted);
extern void apikey_last_notes_remove(const ApikeyLastNotes *last,
									 const void *noted);

/* A note is the last one of the same, where there are places. */
static inline void
apikey_last_notes_add(const ApikeyLastNotes *last, void *noted)
{
	if (last->numbers != NULL)
		apikey_last_notes_put(last, noted);
}

/* The last note of all goes with its subtransaction. */
static inline void
apikey_last_notes_undo(const ApikeyLastNotes *last, const void *noted)
{
	if (last->numbers != NULL)
		apikey_last_notes_remove(last, noted);
}

#endif							/* APIKEY_TRANSACTION_H */
