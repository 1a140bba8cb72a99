/*
 * server_arguments.h
 *		Arguments of the functions that other servers call.
 */
#ifndef APIKEY_SERVER_ARGUMENTS_H
#define APIKEY_SERVER_ARGUMENTS_H

#include "fmgr.h"
#include "utils/uuid.h"

#define APIKEY_SERVER_BATCH	1000	/* elements of an array */

/* An array's elements. */
typedef struct ApikeyList
{
	const char *argument;
	int			count;
	Datum	   *values;
	bool	   *nulls;
} ApikeyList;

/* server_arguments.c */
extern const pg_uuid_t *apikey_server_argument(FunctionCallInfo fcinfo,
											   int64 *epoch);
extern void apikey_list_argument(FunctionCallInfo fcinfo, int number,
								 const char *argument, ApikeyList *list);
extern void apikey_list_like(const ApikeyList *list, const ApikeyList *like);
extern void apikey_list_no_nulls(const ApikeyList *list);
extern int64 apikey_list_number(const ApikeyList *list, int element,
								int64 least);
extern text *apikey_server_label(FunctionCallInfo fcinfo, int number,
								 const char *argument);

#endif							/* APIKEY_SERVER_ARGUMENTS_H */
