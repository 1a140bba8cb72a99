/*
 * source.h
 *		Where secrets come from: the lines of a file, or what a command prints.
 */
#ifndef APIKEY_SOURCE_H
#define APIKEY_SOURCE_H

#define APIKEY_SOURCE_MAX	65536

/* What was read.  Wipe it. */
typedef struct ApikeySource
{
	char		problem[MAXPGPATH + 256];	/* why it cannot be used; or empty */
	bool		passing;		/* that may be right the next time */
	char		subject[MAXPGPATH + 16];	/* what an error is about */
	size_t		len;
	char		content[APIKEY_SOURCE_MAX + 1]; /* with a byte to spare */
} ApikeySource;

/* Takes a line; what is wrong with it, or NULL. */
typedef const char *(*ApikeyTakeLine) (const char *line, size_t len,
									   int number);

/* source.c */
extern ApikeySource *apikey_source_new(void);
extern void apikey_source_free(ApikeySource *source);
extern void apikey_source_read(ApikeySource *source, const char *path);
extern void apikey_source_run(ApikeySource *source, const char *command);
extern void apikey_source_lines(ApikeySource *source, ApikeyTakeLine take);

/* vault.c */
extern void apikey_vault_fill(const char *command);
extern uint64 apikey_vault_generation(void);
extern bool apikey_vault_copy(ApikeySource *source, const char *command);

#endif							/* APIKEY_SOURCE_H */
