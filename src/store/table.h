/*
 * table.h
 *		The rows of our tables, read and written by direct work on relations.
 */
#ifndef APIKEY_TABLE_H
#define APIKEY_TABLE_H

#include "access/htup.h"
#include "access/skey.h"
#include "access/tupdesc.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "storage/block.h"
#include "storage/buf.h"
#include "storage/lockdefs.h"
#include "storage/off.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"
#include "store/relations.h"
#include "store/transaction.h"

#define APIKEY_COLUMNS_MAX	48

/* What a member, or a key, may do; the SQL type apikey_role, and none. */
typedef enum ApikeyRole
{
	APIKEY_ROLE_NONE,
	APIKEY_ROLE_DEVELOPER,
	APIKEY_ROLE_ADMIN,
	APIKEY_ROLE_OWNER,
	APIKEY_ROLES
} ApikeyRole;

typedef struct ApikeyCatalog
{
	uint64		generation;		/* another one: objects may be others */
	Oid			schema;
	Oid			tables_owner;
	bool		first_script;	/* that of 0.1.0 has not been updated */
	Oid			relations[APIKEY_RELATIONS];	/* found so far */
} ApikeyCatalog;

/* catalog.c */
extern const ApikeyCatalog *apikey_catalog(void);
extern Oid	apikey_extension_find(const char *name, Oid *schema,
								  char **version);
extern Oid	apikey_catalog_relation(ApikeyRelation relation);
extern bool apikey_catalog_is_table(ApikeyRelation relation);
extern bool apikey_catalog_lacks(ApikeyRelation relation);
extern void apikey_catalog_require(Relation rel);

/* member_type.c */
extern ApikeyRole apikey_role_from_datum(Datum value);
extern Datum apikey_role_datum(ApikeyRole role);
extern const char *apikey_role_label(ApikeyRole role);

typedef enum ApikeyLock
{
	APIKEY_LOCK_KEEP,			/* the row stays, while others change it */
	APIKEY_LOCK_CHANGE,			/* it stays, and nobody else changes it */
	APIKEY_LOCK_CHANGE_SKIP,	/* the same; a row that is locked is not there */
	APIKEY_LOCK_UPDATE,
	APIKEY_LOCK_UPDATE_SKIP
} ApikeyLock;

/* How to get back what there is not. */
#define APIKEY_MISSING_HINT \
	"Run \"ALTER EXTENSION apikey UPDATE\" where the library is newer; " \
	"a superuser can make a dropped index as the extension's script does."


/* owner.c */
extern int	apikey_owner_fix_path(void);
extern void apikey_owner_restore_path(int level);

/* Something that may as well be left undone. */
typedef void (*ApikeyWork) (void *work);

/* The same on items, each of which it may be run on alone. */
typedef void (*ApikeyWorkOnItems) (List *items, void *state);

/* Something that is done with one of them. */
typedef void (*ApikeyWorkOnItem) (void *item, void *state);

/* What raises, about something, that it cannot be. */
typedef void (*ApikeyRefusal) (const void *about);

/* lenient.c */
extern ApikeyTransactionPart apikey_verification_transaction;
extern void apikey_verification_begin(void);
extern void apikey_verification_end(void);
extern TimestampTz apikey_verification_until(void);
extern bool apikey_lenient_missed(void);
extern const char *apikey_lenient_read(ApikeyWork run, void *work, bool *locked);
extern bool apikey_lenient_try(ApikeyWork run, void *work);

/* attempt.c */
extern bool apikey_attempt(ApikeyWork run, void *work);
extern bool apikey_attempt_alone(ApikeyWork run, void *work);
extern void apikey_attempt_undone(ApikeyWork run, void *work);
extern bool apikey_attempt_told(ApikeyWork run, void *work,
								ErrorData **error);
extern List *apikey_attempt_each(ApikeyWorkOnItems run, List *items,
								 void *state);

struct TupleTableSlot;

/* A table that is open to be written. */
typedef struct ApikeyWriter ApikeyWriter;

/* sequence.c */
extern int64 apikey_sequence_next(Oid sequence);
extern void apikey_sequence_pass(Oid sequence, int64 number);

typedef struct ApikeyColumn
{
	const char *name;
	Oid			type;			/* InvalidOid for apikey_role */
	bool		writable;		/* by UPDATE of the table's view */
	bool		required;		/* is never null */
} ApikeyColumn;

/* A row; what values point to lives in the context it was made in. */
typedef struct ApikeyRow
{
	bool		nulls[APIKEY_COLUMNS_MAX];
	Datum		values[APIKEY_COLUMNS_MAX];
} ApikeyRow;

/* A table whose first column is its primary key, mostly a uuid. */
typedef struct ApikeyTable
{
	const char *name;
	const char *noun;			/* what a row is called in an error */
	const char *taken;			/* without one: the error of a duplicate */
	int			label;			/* the column that names a row there */
	const char *argument;		/* where functions take it, or what is taken */
	const char *relabel;		/* the same where they change it */
	ApikeyRelation relation;
	ApikeyRelation pkey;
	const ApikeyColumn *columns;	/* in their order in the table */
	int			count;
	int			later;			/* last ones that an older script may lack */
	int			derived;		/* columns after those, of rows, not of the table */
} ApikeyTable;

/*
 * Where a row was, for whoever looks for it again; zeroed at first.  By now it
 * may be elsewhere, and another row there.
 */
typedef struct ApikeyRowHint
{
	BlockNumber block;
	Buffer		buffer;			/* in which the block was */
	OffsetNumber offset;		/* 0: not known */
} ApikeyRowHint;

/* Is called with each row of a scan; false ends it. */
typedef bool (*ApikeyVisit) (const ApikeyRow *row, void *state);

#define APIKEY_WALK_KEYS		1
#define APIKEY_PLACE_COLUMNS	2

/* The last entry that a way through an index has come to; zeroed at first. */
typedef struct ApikeyPlace
{
	bool		set;
	ItemPointerData row;		/* where its row is */
	char		values[APIKEY_PLACE_COLUMNS][UUID_LEN]; /* its columns after the way's keys */
} ApikeyPlace;

/* A worker's way through an index: see walk.c. */
typedef struct ApikeyWalk
{
	const ApikeyTable *table;
	ApikeyRelation index;
	const ScanKeyData *keys;	/* what its first columns equal */
	int			fixed;			/* so many are they */
	int			order[APIKEY_PLACE_COLUMNS];	/* and all others */
	int			columns;
	const ScanKeyData *until;	/* of the first of these; or NULL */
	Snapshot	snapshot;
	bool		copied;			/* rows are, as by apikey_table_scan */
	ApikeyVisit visit;			/* false: this row is for another step, or none */
	void	   *state;
} ApikeyWalk;

/* Visits in turns: see apikey_turns_visit. */
typedef struct ApikeyTurns
{
	ApikeyVisit visit;
	void	   *state;
	MemoryContext context;
} ApikeyTurns;

/* intact.c */
extern bool apikey_intact_to_remember(Relation rel, ApikeyRelation table);
extern char *apikey_intact_repairs(ApikeyRelation table);
extern const char *apikey_intact_problem(void);
extern void apikey_intact_require_columns(Relation rel,
										  const ApikeyTable *table);

/* lock.c */
extern bool apikey_system_lock(const char *name, Oid relid, bool wait);
extern void apikey_system_unlock(Oid relid);

/* What is looked up in the server's catalogs: see lookup.c. */
typedef enum ApikeyLookup
{
	APIKEY_LOOKUP_ROLE,
	APIKEY_LOOKUP_ROLE_NAME,	/* a role by its name */
	APIKEY_LOOKUP_MEMBERSHIP,	/* what a role is a member of */
	APIKEY_LOOKUP_ENUM,
	APIKEY_LOOKUP_EXTENSION,
	APIKEY_LOOKUP_SEQUENCE,
	APIKEY_LOOKUP_DEPENDENCY,	/* what an object depends on */
	APIKEY_LOOKUP_DEPENDENTS,	/* what depends on one */
	APIKEY_LOOKUP_TRIGGER
} ApikeyLookup;

/* lookup.c */
extern bool apikey_lookup_begin(ApikeyLookup what);
extern bool apikey_lookup_try(ApikeyLookup what);
extern void apikey_lookup_end(ApikeyLookup what);

/* index.c */
extern Relation apikey_index_open(Relation rel, ApikeyRelation index);

/* table.c */
extern bool apikey_latest_hidden(void);
extern Snapshot apikey_latest_snapshot(void);
extern Relation apikey_table_relation(const ApikeyTable *table, LOCKMODE mode);
extern bool apikey_table_blank(const ApikeyTable *table);
extern Relation apikey_table_index(const ApikeyTable *table, Relation rel,
								   ApikeyRelation index);
extern void apikey_table_close_index(Relation index);
extern void apikey_table_keep(const ApikeyTable *table, ApikeyRelation index);
extern void apikey_table_keep_long(const ApikeyTable *table);
extern int	apikey_table_column(const ApikeyTable *table, const char *name);
extern void apikey_table_key(ScanKey key, const pg_uuid_t *id);
extern void apikey_table_walk(const ApikeyTable *table, ApikeyRelation index,
							  const ScanKeyData *keys, int nkeys,
							  Snapshot snapshot, ApikeyVisit visit,
							  void *state);
extern void apikey_table_walk_among(const ApikeyTable *table,
									ApikeyRelation index,
									const ScanKeyData *keys, int nkeys,
									Snapshot snapshot, int *entries,
									ApikeyVisit visit, void *state);
extern void apikey_table_walk_back(const ApikeyTable *table,
								   ApikeyRelation index,
								   const ScanKeyData *keys, int nkeys,
								   Snapshot snapshot, ApikeyVisit visit,
								   void *state);
extern void apikey_table_scan(const ApikeyTable *table, ApikeyRelation index,
							  const ScanKeyData *keys, int nkeys,
							  Snapshot snapshot, ApikeyVisit visit,
							  void *state);
extern bool apikey_table_any(const ApikeyTable *table, ApikeyRelation index,
							 Snapshot snapshot, int most);
extern bool apikey_table_find(const ApikeyTable *table, ApikeyRelation index,
							  const ScanKeyData *keys, int nkeys,
							  ApikeyRow *row);
extern bool apikey_table_fetch(const ApikeyTable *table, const pg_uuid_t *id,
							   Snapshot snapshot, ApikeyRow *row);
extern bool apikey_table_fetch_hinted(const ApikeyTable *table,
									  const pg_uuid_t *id, Snapshot snapshot,
									  ApikeyRowHint *hint, ApikeyRow *row);
extern bool apikey_table_fetch_latest(const ApikeyTable *table,
									  const pg_uuid_t *id, ApikeyRow *row);

/* first.c */
extern void apikey_table_visit_first(const ApikeyTable *table,
									 ApikeyRelation index,
									 const ScanKeyData *keys, int nkeys,
									 Snapshot snapshot, int *entries,
									 ApikeyVisit visit, void *state);

/* walk.c */
extern void apikey_place_begin(ApikeyPlace *place, Datum first);
extern bool apikey_walk_step(const ApikeyWalk *walk, ApikeyPlace *place);

/* written.c */
extern void apikey_table_walk_written(const ApikeyTable *table,
									  ApikeyRelation index,
									  const ScanKeyData *keys, int nkeys,
									  const List *writers, ApikeyVisit visit,
									  void *state);

/* turns.c */
extern void apikey_turns_begin(ApikeyTurns *turns, ApikeyVisit visit,
							   void *state);
extern bool apikey_turns_visit(const ApikeyRow *row, void *turns);
extern void apikey_turns_end(ApikeyTurns *turns);
extern void apikey_turns_each(const List *items, ApikeyWorkOnItem work,
							  void *state);

/* catalog_row.c */
extern HeapTuple apikey_catalog_row_lock(Relation rel, Oid index,
										 AttrNumber column, Oid object);

/* wait.c */
extern void apikey_wait_briefly(void);
extern bool apikey_wait_moment(long milliseconds);
extern void apikey_wait_else(ApikeyWork run, void *work, ApikeyRefusal refuse,
							 const void *about);
extern void apikey_wait_bounded(const char *table, ApikeyWork run, void *work);
extern void apikey_wait(const char *table, TransactionId other);

/* claim.c */
extern void apikey_claim(const ApikeyTable *table, Oid number, uint16 part);
extern void apikey_claim_end(const ApikeyTable *table, Oid number,
							 uint16 part);
extern void apikey_claim_shared(const ApikeyTable *table, Oid number,
								uint16 part);
extern void apikey_claim_shared_end(const ApikeyTable *table, Oid number,
									uint16 part);
extern bool apikey_claimed(const ApikeyTable *table, Oid number, uint16 part);
extern List *apikey_claimants(const ApikeyTable *table, Oid number,
							  uint16 part);

/* write.c */
extern bool apikey_table_lock(const ApikeyTable *table, const pg_uuid_t *id,
							  ApikeyLock lock, ApikeyRow *row);
extern bool apikey_table_row_free(const ApikeyTable *table,
								  const pg_uuid_t *id);
extern bool apikey_table_write_free(const ApikeyTable *table,
									const pg_uuid_t *id);
pg_noreturn extern void apikey_table_refuse_taken(const ApikeyTable *table,
												  const ApikeyRow *row,
												  const char *argument);
extern void apikey_table_insert(const ApikeyTable *table,
								const ApikeyRow *row);
extern void apikey_table_update(const ApikeyTable *table,
								const ApikeyRow *row);
extern void apikey_table_delete(const ApikeyTable *table, const pg_uuid_t *id,
								bool must_exist);
extern void apikey_table_delete_by(const ApikeyTable *table,
								   const pg_uuid_t *id, ApikeyLock lock,
								   bool must_exist);
extern void apikey_table_delete_found(const ApikeyTable *table,
									  const pg_uuid_t *id);
extern void apikey_table_require_seen(const ApikeyTable *table,
									  const pg_uuid_t *id);
extern bool apikey_table_changing(const ApikeyTable *table, const pg_uuid_t *id);

/* Many rows of a table, one after the other. */
extern bool apikey_table_free(const ApikeyTable *table);
extern ApikeyWriter *apikey_table_open(const ApikeyTable *table);
extern void apikey_table_close(ApikeyWriter *writer);
extern bool apikey_table_take(ApikeyWriter *writer, const ApikeyTable *table,
							  const ScanKeyData *key, ApikeyLock lock,
							  ApikeyRow *row);
extern bool apikey_table_absent(ApikeyWriter *writer, const ApikeyTable *table,
								const ScanKeyData *key);
extern void apikey_table_put(ApikeyWriter *writer, const ApikeyTable *table,
							 const ApikeyRow *row);
extern bool apikey_table_see(ApikeyWriter *writer, const ApikeyTable *table,
							 const ScanKeyData *key, ApikeyRow *row);
extern bool apikey_table_see_free(ApikeyWriter *writer,
								  const ApikeyTable *table,
								  const ScanKeyData *key, ApikeyRow *row,
								  bool *found);
extern bool apikey_table_change(ApikeyWriter *writer, const ApikeyTable *table,
								const ApikeyRow *row);
extern void apikey_table_remove(ApikeyWriter *writer,
								const ApikeyTable *table);
extern void apikey_table_add(ApikeyWriter *writer, const ApikeyTable *table,
							 const ApikeyRow *row);

/* row.c */
extern void apikey_table_deform(const ApikeyTable *table, HeapTuple tuple,
								TupleDesc desc, ApikeyRow *row);
extern void apikey_table_take_apart(const ApikeyTable *table, HeapTuple tuple,
									TupleDesc desc, ApikeyRow *row);
extern void apikey_row_copy(const ApikeyTable *table, const ApikeyRow *row,
							ApikeyRow *copy);
extern const pg_uuid_t *apikey_row_id(const ApikeyRow *row);
extern char *apikey_id_string(const pg_uuid_t *id);
extern void apikey_id_list(StringInfo list, const pg_uuid_t *id);
extern const pg_uuid_t *apikey_row_uuid(const ApikeyRow *row, int column);
extern text *apikey_row_text(const ApikeyRow *row, int column);
extern bool apikey_row_bool(const ApikeyRow *row, int column);
extern ApikeyRole apikey_row_role(const ApikeyRow *row, int column);
extern void apikey_row_clear(ApikeyRow *row);
extern void apikey_row_set(ApikeyRow *row, int column, Datum value);
extern void apikey_row_set_pointer(ApikeyRow *row, int column,
								   const void *value);
extern bool apikey_same_text(const text *one, const text *two);

#endif							/* APIKEY_TABLE_H */
