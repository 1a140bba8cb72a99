/*
 * compat.h
 *		Where the supported server versions differ.
 */
#ifndef APIKEY_COMPAT_H
#define APIKEY_COMPAT_H

#include "utils/guc.h"
#include "utils/guc_tables.h"

#if PG_VERSION_NUM < 150000
#error "apikey needs PostgreSQL 15 or later"
#endif

#ifndef __SIZEOF_INT128__
#error "apikey needs a compiler that has integers of 128 bits, as those for 64-bit machines"
#endif

/* 18 puts this before a prototype, where older servers have an attribute. */
#ifndef pg_noreturn
#define pg_noreturn __attribute__((noreturn))
#endif

/* gcc's name for how format strings are checked, which clang does not know. */
#ifdef __clang__
#undef PG_PRINTF_ATTRIBUTE
#define PG_PRINTF_ATTRIBUTE printf
#endif

/* A setting by its name, of a placeholder too; NULL for none. */
static inline struct config_generic *
apikey_find_setting(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return find_option(name, false, true, ERROR);
#else
	struct config_generic **settings = get_guc_variables();
	int			count = GetNumConfigOptions();

	for (int i = 0; i < count; i++)
	{
		if (pg_strcasecmp(settings[i]->name, name) == 0)
			return settings[i];
	}
	return NULL;
#endif
}

/* May a role do that with a function? */
#if PG_VERSION_NUM >= 160000
#define apikey_function_aclcheck(function, role, mode) \
	object_aclcheck(ProcedureRelationId, function, role, mode)
#else
#define apikey_function_aclcheck(function, role, mode) \
	pg_proc_aclcheck(function, role, mode)
#endif

/* What a row's triggers would recheck a query with, of which there is none. */
#if PG_VERSION_NUM >= 160000
#define apikey_init_epq(epq, estate) \
	EvalPlanQualInit(epq, estate, NULL, NIL, -1, NIL)
#else
#define apikey_init_epq(epq, estate) \
	EvalPlanQualInit(epq, estate, NULL, NIL, -1)
#endif

/* The number of this process, less than MaxBackends, while it is there. */
#if PG_VERSION_NUM >= 170000
#define apikey_process_number()	MyProcNumber
#else
#define apikey_process_number()	(MyBackendId - 1)
#endif

/*
 * Takes a lock until it is released, if that is to be had now; where there is no
 * memory for one, it is not.
 */
#if PG_VERSION_NUM >= 180000
#define apikey_lock_now(tag, mode) \
	LockAcquireExtended(tag, mode, true, true, false, NULL, false)
#else
#define apikey_lock_now(tag, mode) \
	LockAcquireExtended(tag, mode, true, true, false, NULL)
#endif

/* What a relation is stored in. */
#if PG_VERSION_NUM >= 160000
#define apikey_relation_file(rel)	((rel)->rd_locator)
#else
#define apikey_relation_file(rel)	((rel)->rd_node)
#endif

/* A scan of an index by keys, without what 18 and 19 can count and hint. */
#if PG_VERSION_NUM >= 190000
#define apikey_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0, 0)
#elif PG_VERSION_NUM >= 180000
#define apikey_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0)
#else
#define apikey_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, nkeys, 0)
#endif

/* A subscription's tables are copied in text up to 15, whatever its option. */
#define APIKEY_COPIES_IN_BINARY	(PG_VERSION_NUM >= 160000)

/* From 18 on a row may be named that is no conflict with itself. */
#if PG_VERSION_NUM >= 180000
#define apikey_check_index_constraints(target, slot, estate, other, indexes) \
	ExecCheckIndexConstraints(target, slot, estate, other, NULL, indexes)
#else
#define apikey_check_index_constraints(target, slot, estate, other, indexes) \
	ExecCheckIndexConstraints(target, slot, estate, other, indexes)
#endif

/*
 * The interface of tables lets an update not wait for who has the row, and a
 * heap's says so then; but a server with assertions insists that it waits.
 */
#ifdef USE_ASSERT_CHECKING
#define APIKEY_UPDATE_WAITS	true
#else
#define APIKEY_UPDATE_WAITS	false
#endif

/*
 * Changes a row, unless somebody has it, and says which indexes are to know of
 * it; of them, the entries.
 */
#if PG_VERSION_NUM >= 190000
#define apikey_tuple_update(rel, tid, slot, cid, snapshot, failure, mode, left) \
	table_tuple_update(rel, tid, slot, cid, 0, snapshot, InvalidSnapshot, \
					   APIKEY_UPDATE_WAITS, failure, mode, left)
#define apikey_update_indexes(target, slot, estate, left) \
	((void) ExecInsertIndexTuples(target, estate, EIIT_IS_UPDATE | \
								  ((left) == TU_Summarizing ? EIIT_ONLY_SUMMARIZING : 0), \
								  slot, NIL, NULL))
#else
#define apikey_tuple_update(rel, tid, slot, cid, snapshot, failure, mode, left) \
	table_tuple_update(rel, tid, slot, cid, snapshot, InvalidSnapshot, \
					   APIKEY_UPDATE_WAITS, failure, mode, left)
#if PG_VERSION_NUM >= 160000
#define apikey_update_indexes(target, slot, estate, left) \
	((void) ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL, \
								  (left) == TU_Summarizing))
#else
#define TU_UpdateIndexes bool
#define TU_None false
#define apikey_update_indexes(target, slot, estate, left) \
	((void) ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL))
#endif
#endif

/* The process that has, or had, a virtual transaction; what it has now. */
#if PG_VERSION_NUM >= 170000
#define apikey_vxid_proc(xact)	ProcNumberGetProc((xact).procNumber)
#define apikey_proc_lxid(proc)	((proc)->vxid.lxid)
#else
#define apikey_vxid_proc(xact)	BackendIdGetProc((xact).backendId)
#define apikey_proc_lxid(proc)	((proc)->lxid)
#endif

/* The arguments of an ExecutorRun_hook (up to 17: whether it runs once). */
#if PG_VERSION_NUM >= 180000
#define APIKEY_RUN_PARAMETERS	QueryDesc *query, ScanDirection direction, \
	uint64 count
#define APIKEY_RUN_ARGUMENTS	query, direction, count
#else
#define APIKEY_RUN_PARAMETERS	QueryDesc *query, ScanDirection direction, \
	uint64 count, bool once
#define APIKEY_RUN_ARGUMENTS	query, direction, count, once
#endif

/* What a statement's constants are told by is not to be changed from 19 on. */
#if PG_VERSION_NUM >= 190000
#define APIKEY_JUMBLE_STATE	const JumbleState
#else
#define APIKEY_JUMBLE_STATE	JumbleState
#endif

/* A relation's file, by its tablespace and its number there. */
#if PG_VERSION_NUM >= 170000
#define apikey_smgropen(tablespace, number) \
	smgropen((RelFileLocator) {tablespace, MyDatabaseId, number}, \
			 INVALID_PROC_NUMBER)
#else
#define apikey_smgropen(tablespace, number) \
	smgropen((RelFileNode) {tablespace, MyDatabaseId, number}, \
			 InvalidBackendId)
#endif

/* A hash table in shared memory, of a fixed size (up to 18: from, to). */
#if PG_VERSION_NUM >= 190000
#define apikey_shmem_hash(name, size, control, flags) \
	ShmemInitHash(name, size, control, flags)
#else
#define apikey_shmem_hash(name, size, control, flags) \
	ShmemInitHash(name, size, size, control, flags)
#endif

/* A segment of shared memory by its name; before 17 there is none, but NULL. */
#if PG_VERSION_NUM >= 190000
#define APIKEY_SEGMENT_PARAMETERS	void *memory, void *arg pg_attribute_unused()
#define apikey_named_segment(name, size, init, found) \
	GetNamedDSMSegment(name, size, init, found, NULL)
#define apikey_new_tranche(name)	LWLockNewTrancheId(name)
#define apikey_register_tranche(number, name)	((void) 0)
#else
#define APIKEY_SEGMENT_PARAMETERS	void *memory
#if PG_VERSION_NUM >= 170000
#define apikey_named_segment(name, size, init, found) \
	GetNamedDSMSegment(name, size, init, found)
#else
#define apikey_named_segment(name, size, init, found) \
	((void) (size), (void) (init), *(found) = false, NULL)
#endif
#define apikey_new_tranche(name)	LWLockNewTrancheId()
#define apikey_register_tranche(number, name)	LWLockRegisterTranche(number, name)
#endif

/* Can a column of a table not be null?  From 18 on not all rows may say so. */
#if PG_VERSION_NUM >= 180000
#define apikey_column_not_null(desc, i) \
	(TupleDescCompactAttr(desc, i)->attnullability == ATTNULLABLE_VALID)
#else
#define apikey_column_not_null(desc, i) \
	(TupleDescAttr(desc, i)->attnotnull)
#endif

#endif							/* APIKEY_COMPAT_H */
