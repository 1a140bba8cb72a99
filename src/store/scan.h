/*
 * scan.h
 *		Scans of our tables, of which their caller sees no count.
 */
#ifndef APIKEY_SCAN_H
#define APIKEY_SCAN_H

#include "access/htup.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

#include "compat.h"

struct ApikeyRowHint;

struct SysScanDescData;

typedef struct ApikeyScan
{
	Relation	rel;
	Relation	index;			/* NULL: the whole table */
	struct SysScanDescData *scan;
} ApikeyScan;

/* scan.c */
extern bool apikey_scan_fits(Relation index, const ScanKeyData *keys,
							 int nkeys);
extern void apikey_scan_require(Relation index, const ScanKeyData *keys,
								int nkeys);
extern void apikey_scan_begin(ApikeyScan *scan, Relation rel, Relation index,
							  Snapshot snapshot, const ScanKeyData *keys,
							  int nkeys);
pg_noreturn extern void apikey_scan_refuse(Relation index);
extern void apikey_scan_begin_entries(ApikeyScan *scan, Relation rel,
									  Relation index, Snapshot snapshot,
									  const ScanKeyData *keys, int nkeys);
extern HeapTuple apikey_scan_next(ApikeyScan *scan, ScanDirection direction);
extern HeapTuple apikey_scan_next_among(ApikeyScan *scan, int *entries);
extern bool apikey_scan_any(Relation rel, Relation index, Snapshot snapshot,
							int most, bool *own);
extern void apikey_scan_again(ApikeyScan *scan, const ScanKeyData *keys);
extern void apikey_scan_end(ApikeyScan *scan);
extern void apikey_scan_prepare_copy(Relation rel);
extern HeapTuple apikey_scan_copy(Relation rel, HeapTuple tuple);
extern void apikey_scan_hint(const ApikeyScan *scan, HeapTuple tuple,
							 struct ApikeyRowHint *hint);
extern HeapTuple apikey_scan_hinted(Relation rel, const pg_uuid_t *id,
									Snapshot snapshot,
									struct ApikeyRowHint *hint);

#endif							/* APIKEY_SCAN_H */
