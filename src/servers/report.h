/*
 * report.h
 *		What another server has gathered, for the tables.
 */
#ifndef APIKEY_REPORT_H
#define APIKEY_REPORT_H

#include "nodes/pg_list.h"
#include "utils/inet.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "store/store.h"

/* What there is of a key in a report, or of one of its refusals. */
typedef struct ApikeyReported
{
	pg_uuid_t	key;
	uint64		uses;
	uint64		denials;
	TimestampTz last_used_at;	/* 0: not said */
	inet	   *addr;			/* of the last use; NULL: not said */
	List	   *counts;			/* ApikeyHistoryCount */
} ApikeyReported;

typedef struct ApikeyReportedDenial
{
	pg_uuid_t	key;
	const char *code;
	int64		count;
	text	   *actor;			/* NULL: not said */
	inet	   *addr;
} ApikeyReportedDenial;

typedef struct ApikeyReport
{
	int64		sequence;
	Interval   *lag;			/* NULL: not known */
	ApikeyReported *keys;		/* by id, each once */
	int			key_count;
	List	   *denials;
	List	   *marks;
} ApikeyReport;

/* report.c */
extern bool apikey_report_apply(ApikeyRow *server, const ApikeyReport *report);

#endif							/* APIKEY_REPORT_H */
