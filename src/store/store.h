/*
 * store.h
 *		The door of store/: the tables as relations, where they are, reading,
 *		locking and writing them; settings, refusals, a transaction's end, whether
 *		what is remembered still holds.
 */
#ifndef APIKEY_STORE_H
#define APIKEY_STORE_H

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "store/changes.h"
#include "store/refuse.h"
#include "store/relations.h"
#include "store/scan.h"
#include "store/settings.h"
#include "store/step.h"
#include "store/table.h"
#include "store/transaction.h"

/* detail.c */
extern void apikey_detail_begin(StringInfo json);
extern void apikey_detail_json(StringInfo json, const char *name,
							   const char *value);
extern void apikey_detail_string(StringInfo json, const char *name,
								 const char *value);
extern void apikey_detail_text(StringInfo json, const char *name,
							   const text *value);
extern void apikey_detail_value(StringInfo json, const char *name, Oid type,
								Datum value, bool isnull);
extern char *apikey_detail_end(StringInfo json);
extern char *apikey_json_text(const char *name, const text *value);
extern char *apikey_json_time(TimestampTz time);

/* encoding.c */
extern void apikey_encoding_clean(int encoding, char *string, int len);

/* pgcrypto.c */
extern Oid	apikey_pgcrypto_function(const char *name, const Oid *types,
									 int count);

/* redact_log.c */
extern void apikey_redact_init(void);

#endif							/* APIKEY_STORE_H */
