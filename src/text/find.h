/*
 * find.h
 *		Finding keys and tokens in a text, free of any server header.
 */
#ifndef APIKEY_FIND_H
#define APIKEY_FIND_H

#include <stdbool.h>
#include <stddef.h>

/* Where a key or a token stands, or its beginning. */
typedef struct ApikeyFound
{
	size_t		start;			/* of the prefix; only where it is whole */
	size_t		body;			/* of what comes after the prefix's "_" or mark */
	size_t		end;
	bool		token;
	bool		whole;			/* else what follows has been cut off */
} ApikeyFound;

/* A text that is being searched. */
typedef struct ApikeyFinder
{
	const char *text;
	size_t		len;
	bool		cut;			/* finds what has been cut off, too */
	bool		ready[2];		/* the next key, and the next token, are known */
	ApikeyFound next[2];
} ApikeyFinder;

extern void apikey_find_begin(ApikeyFinder *finder, const char *text,
							  size_t len, bool cut);
extern bool apikey_find_next(ApikeyFinder *finder, size_t from,
							 ApikeyFound *found);
extern bool apikey_find_ellipsis(const char *text, size_t len, size_t at);

#endif							/* APIKEY_FIND_H */
