/*
 * rows_internal.h
 *		What stays within rows/.
 */
#ifndef APIKEY_ROWS_INTERNAL_H
#define APIKEY_ROWS_INTERNAL_H

#include "rows/rows.h"

/* name.c */
extern void apikey_rule_name_pattern(text *pattern);

#endif							/* APIKEY_ROWS_INTERNAL_H */
