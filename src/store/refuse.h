/*
 * refuse.h
 *		How a value is refused.
 */
#ifndef APIKEY_REFUSE_H
#define APIKEY_REFUSE_H

#include "fmgr.h"

#include "compat.h"

/* refuse.c */
pg_noreturn extern void apikey_refuse(const char *argument, const char *rule);
pg_noreturn extern void apikey_refuse_by(const char *constraint,
										 const char *argument,
										 const char *rule);
pg_noreturn extern void apikey_refuse_null(const char *argument);
pg_noreturn extern void apikey_refuse_gone(void);
extern int	apikey_error_about(const char *argument, const char *constraint);
extern void apikey_require(FunctionCallInfo fcinfo, int number,
						   const char *argument);
extern text *apikey_required_text(FunctionCallInfo fcinfo, int number,
								  const char *argument);

#endif							/* APIKEY_REFUSE_H */
