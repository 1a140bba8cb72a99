/*
 * rows_internal.h
 *		What stays within rows/.
 */
#ifndef APIKEY_ROWS_INTERNAL_H
#define APIKEY_ROWS_INTERNAL_H

#include "rows/rows.h"

/* name.c */
extern void apikey_rule_name_pattern(text *pattern);

/* name_pattern.c */
#define APIKEY_NAME_PATTERN_RULE \
	"A name pattern is a regular expression of 1 to 200 characters, without embedded options."
extern const char *apikey_name_pattern_fault(const text *pattern);
extern bool apikey_name_pattern_matches(const text *pattern, text *name);
extern void apikey_name_pattern_compile(text *pattern);

#endif							/* APIKEY_ROWS_INTERNAL_H */
