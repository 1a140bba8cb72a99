/*
 * store_internal.h
 *		What stays within store/.
 */
#ifndef APIKEY_STORE_INTERNAL_H
#define APIKEY_STORE_INTERNAL_H

#include "access/skey.h"
#include "lib/stringinfo.h"
#include "storage/lock.h"
#include "utils/relcache.h"

#include "store/store.h"

/* changes.c */
extern void apikey_changes_not_final(void);

/* What a look at the system catalogs fills in. */
typedef void (*ApikeyCatalogLook) (void *result, int which);

/* catalog.c */
extern void apikey_catalog_look(ApikeyCatalogLook look, void *result,
								int which);
extern bool apikey_extension_usable(void);
extern const char *apikey_catalog_schema(void);
extern bool apikey_catalog_owned(ApikeyRelation relation, Oid extension,
								 Oid owner);
extern void apikey_catalog_found(ApikeyRelation relation, Oid relid,
								 uint64 generation);
extern const char *apikey_catalog_name(ApikeyRelation relation);
extern ApikeyRelation apikey_catalog_table(ApikeyRelation relation);
extern ApikeyRelation apikey_catalog_missing(ApikeyRelation table);

/* citus.c */
extern void apikey_catalog_require_local(Oid relid);

/* Our triggers' names begin so. */
#define APIKEY_TRIGGER_PREFIX	"apikey_"

/* triggers.c */
struct ResultRelInfo;
struct Trigger;
struct TriggerDesc;
extern bool apikey_trigger_fires(const struct Trigger *trigger);
extern bool apikey_triggers_on_update(const struct TriggerDesc *there);
extern void apikey_triggers_prepare(struct ResultRelInfo *target);
extern struct TriggerDesc *apikey_triggers_read(Oid relid);
extern bool apikey_triggers_missing(const struct TriggerDesc *there,
									ApikeyRelation table);
extern void apikey_triggers_repair(Relation rel, ApikeyRelation table,
								   struct StringInfoData *sql);

/* survey.c */
extern ApikeyRelation apikey_survey_missing(void);

/* intact.c */
extern void apikey_intact_require(Relation rel, ApikeyRelation table);
extern bool apikey_intact_columns(Relation rel, const ApikeyTable *table);

/* columns.c */
extern const char *apikey_columns_problem(Relation rel,
										  const ApikeyTable *table);

/* lenient.c */
extern bool apikey_lenient_miss(const char *name);
extern bool apikey_lenient_miss_held(const char *name);
extern bool apikey_verifying(void);

/* lock.c */
extern bool apikey_relation_lock(const char *name, Oid relid, LOCKMODE mode);

/* lookup.c */
extern bool apikey_extension_of(Oid catalog, Oid object, Oid *extension);

/* Who it was before the tables' owner. */
typedef struct ApikeyOwnerScope
{
	Oid			user;
	int			security;
	int			guc_level;
} ApikeyOwnerScope;

/* owner.c */
extern void apikey_owner_begin(ApikeyOwnerScope *before);
extern void apikey_owner_end(const ApikeyOwnerScope *before);

/* What it takes to put a row into the indexes of a table. */
typedef struct ApikeyIndexes ApikeyIndexes;

/* indexes.c */
extern ApikeyIndexes *apikey_indexes_open(struct ResultRelInfo *target,
										  ApikeyRelation table);
extern void apikey_indexes_close(struct ResultRelInfo *target,
								 ApikeyRelation table, ApikeyIndexes *indexes);

/* wait.c */
extern int	apikey_wait_begin(void);
extern void apikey_wait_again(void);
extern void apikey_wait_end(int before);
extern bool apikey_wait_row(Relation rel, const ItemPointerData *where,
							LockTupleMode mode);
extern bool apikey_wait_failed(int before);
pg_noreturn extern void apikey_wait_refuse(const char *table);

/* holder.c */
extern int	apikey_holder(void);
extern void apikey_holder_note(TransactionId other);
extern TransactionId apikey_row_holder(Relation rel,
									   const ItemPointerData *where,
									   LockTupleMode mode);
extern void apikey_holder_note_lock(const LOCKTAG *tag, LOCKMODE mode);
extern void apikey_holder_wait(TransactionId other);
extern bool apikey_row_held(Relation rel, const ItemPointerData *where,
							CommandId cid);

/* encoding.c */
extern void apikey_encoding_see(ApikeyRelation table,
								const struct TupleTableSlot *before,
								struct TupleTableSlot *row, int count);

/* row.c */
extern void apikey_table_see_row(HeapTuple tuple);
extern bool apikey_table_visit_row(const ApikeyTable *table, Relation rel,
								   HeapTuple tuple, MemoryContext copies,
								   ApikeyVisit visit, void *state);

/* storage.c */
extern bool apikey_storage_lock(Relation rel, Relation index,
								const ScanKeyData *keys, int nkeys,
								ApikeyLock lock, struct TupleTableSlot *slot);
extern bool apikey_storage_absent(Relation rel, Relation index,
								  const ScanKeyData *keys, int nkeys);
extern bool apikey_storage_changing(Relation rel, Relation index,
									const ScanKeyData *keys, int nkeys);
extern ApikeyWriter *apikey_storage_open(Relation rel,
										 ApikeyRelation table);
extern void apikey_storage_close(ApikeyWriter *writer);
extern Relation apikey_storage_relation(const ApikeyWriter *writer);
extern struct TupleTableSlot *apikey_storage_locked(const ApikeyWriter *writer);
extern void apikey_storage_insert(ApikeyWriter *writer, const Datum *values,
								  const bool *nulls, int count);
extern bool apikey_storage_update(ApikeyWriter *writer, const Datum *values,
								  const bool *nulls, int count);
extern bool apikey_storage_see(ApikeyWriter *writer, ApikeyRelation index,
							   const ScanKeyData *keys, int nkeys);
extern bool apikey_storage_seen_held(const ApikeyWriter *writer);
extern bool apikey_storage_change(ApikeyWriter *writer, const Datum *values,
								  const bool *nulls, int count);
extern void apikey_storage_delete(ApikeyWriter *writer);

#endif							/* APIKEY_STORE_INTERNAL_H */
