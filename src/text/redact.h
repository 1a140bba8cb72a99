/*
 * redact.h
 *		Masking the keys in a text, free of any server header.
 */
#ifndef APIKEY_REDACT_H
#define APIKEY_REDACT_H

#include <stdbool.h>
#include <stddef.h>

extern bool apikey_redact_needed(const char *text, size_t len);
extern size_t apikey_redact_text(char *text, size_t len);
extern void apikey_redact_excerpt(char *text, size_t len);

#endif							/* APIKEY_REDACT_H */
