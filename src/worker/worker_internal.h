/*
 * worker_internal.h
 *		What stays within worker/.
 */
#ifndef APIKEY_WORKER_INTERNAL_H
#define APIKEY_WORKER_INTERNAL_H

#include "nodes/pg_list.h"

#include "memory/memory.h"
#include "worker/worker.h"

/* Milliseconds between looks around, where something is waited for. */
#define APIKEY_LOOK_AROUND	50

/* due.c */
extern void apikey_due_add(Oid database);
extern int	apikey_due_count(void);
extern bool apikey_due_first(Oid *database);
extern void apikey_due_remove_first(void);
extern List *apikey_due_databases(void);
extern void apikey_due_find(void);
extern void apikey_due_list_again(void);
extern void apikey_due_add_many(void);
extern void apikey_due_add_requests(void);

/* gathered.c */
extern bool apikey_gathered_step(ApikeyPassOver what,
								 bool (*step) (ApikeyPass *pass, bool first));
extern bool apikey_gathered_uses(void);
extern bool apikey_gathered_denials(void);
extern bool apikey_gathered_marks(void);
extern bool apikey_gathered_reveals(void);
extern bool apikey_gathered_history(void);
extern bool apikey_gathered_leases(void);

/* keeper.c */
extern PGDLLEXPORT void apikey_keeper_main(Datum arg);

/* launcher.c */
extern PGDLLEXPORT void apikey_launcher_main(Datum arg);

/* reach.c */
extern bool apikey_reach_is_locked(Oid database);
extern bool apikey_reach_may(Oid database);
extern void apikey_reach_missed(Oid database);
extern void apikey_reach_forget(Oid database);

/* stage.c */
extern void apikey_stage_enter(bool older);
extern void apikey_stage_look(void);
extern void apikey_stage_begin(void);
extern void apikey_stage_begin_dynamic(void);
extern void apikey_stage_adopt(void);
extern bool apikey_stage_asked(void);
extern void apikey_stage_be_prompt(void);
extern bool apikey_stage_go_round(uint32 from, ApikeyRound *round,
								  bool (*leave) (void));
extern bool apikey_stage_all_through(const ApikeyRound *round);

/* resident.c */
extern PGDLLEXPORT void apikey_resident_main(Datum arg);

/* configuration.c */
extern void apikey_worker_take_configuration(void);
extern bool apikey_worker_configured_anew(void);
extern void apikey_worker_set_defaults(void);
extern void apikey_worker_set_commit(void);

/* worker.c */
extern bool apikey_worker_extension_here(void);
extern bool apikey_worker_database_wanted(void);
extern void apikey_worker_forget_this(void);
extern void apikey_worker_on_interrupt(SIGNAL_ARGS);
extern PGDLLEXPORT void apikey_flush_main(Datum arg);

#endif							/* APIKEY_WORKER_INTERNAL_H */
