/*
 * piece.h
 *		Pieces of the keys and tokens of a text, shown elsewhere; free of any
 *		server header.
 */
#ifndef APIKEY_PIECE_H
#define APIKEY_PIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define APIKEY_PIECE_CHARS	8	/* the least that is one */

/* What the keys and tokens of a text are made of; all zero for none. */
typedef struct ApikeyPieces
{
	uint64_t   *pieces;			/* a hash table; 0: free */
	size_t		room;			/* a power of two */
	bool		lost;			/* no memory: any word may be one */
} ApikeyPieces;

extern void apikey_piece_collect(ApikeyPieces *of, const char *text,
								 size_t len);
extern void apikey_piece_forget(ApikeyPieces *of);
extern size_t apikey_piece_mask(const ApikeyPieces *of, char *text,
								size_t len);

#endif							/* APIKEY_PIECE_H */
