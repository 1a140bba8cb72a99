/*
 * secrets.h
 *		The door of secrets/: peppers and other secrets, and where they come from.
 */
#ifndef APIKEY_SECRETS_H
#define APIKEY_SECRETS_H

#include "compat.h"
#include "text/text.h"
#include "memory/memory.h"

/* pepper.c */
extern void apikey_pepper_forget(void);
extern bool apikey_pepper_configured(void);
extern bool apikey_pepper_usable(void);
extern void apikey_pepper_complain(void);
extern void apikey_pepper_look(void);
pg_noreturn extern void apikey_pepper_refuse(void);
extern void apikey_pepper_require(void);
extern const ApikeyPepper *apikey_pepper_current(void);
extern const ApikeyPepper *apikey_pepper_find(int32 fingerprint);
extern const ApikeyPepper *apikey_pepper_nth(int n);
extern bool apikey_pepper_find_for(const pg_uuid_t *id, int32 fingerprint,
								   const ApikeyPepper **pepper);
extern const ApikeyMemoryPart apikey_pepper_memory;

/* A secret by which another system has made HMACs of its keys. */
typedef struct ApikeySecret
{
	char	   *bytes;
	size_t		len;
} ApikeySecret;

/* secret.c */
extern char *apikey_import_secret_file;
extern void apikey_secret_forget(void);
extern const char *apikey_secret_problem(void);
extern const ApikeySecret *apikey_secret_nth(int n);
extern void apikey_secret_require(void);

/* vault.c */
extern const ApikeyMemoryPart apikey_vault_memory;

#endif							/* APIKEY_SECRETS_H */
