/*
 * worker_internal.h
 *		What stays within worker/.
 */
#ifndef APIKEY_WORKER_INTERNAL_H
#define APIKEY_WORKER_INTERNAL_H

#include "nodes/pg_list.h"

#include "worker/worker.h"

/*
 * A stage of the work: a step of it, the first or a later one, says whether
 * there may be more.
 */
typedef struct ApikeyStage
{
	const char *doing;
	bool		(*step) (bool first);
	bool		older;			/* with the SQL of 0.1.0, too */
	bool		primary;		/* of a member its primary does it */
	bool		dynamic;		/* without the library preloaded, too */
} ApikeyStage;

#define APIKEY_STAGES	15

/* Milliseconds between looks around, where something is waited for. */
#define APIKEY_LOOK_AROUND	50

/* due.c */
extern void apikey_due_add(Oid database);
extern int	apikey_due_count(void);
extern Oid	apikey_due_first(void);
extern void apikey_due_remove_first(void);
extern List *apikey_due_databases(void);
extern void apikey_due_find(void);
extern void apikey_due_list_again(void);
extern void apikey_due_add_many(void);
extern void apikey_due_add_requests(void);

/* keeper.c */
extern PGDLLEXPORT void apikey_keeper_main(Datum arg);

/* launcher.c */
extern PGDLLEXPORT void apikey_launcher_main(Datum arg);

/* stage.c */
extern const ApikeyStage apikey_stages[APIKEY_STAGES];
extern void apikey_stage_enter(bool older);
extern bool apikey_stage_runs(int number);
extern void apikey_stage_begin(bool on_request);
extern void apikey_stage_begin_dynamic(bool all);
extern bool apikey_stage_step(const ApikeyStage *stage, bool first);
extern void apikey_stage_adopt(void);
extern void apikey_stage_be_prompt(void);

/* resident.c */
extern PGDLLEXPORT void apikey_resident_main(Datum arg);

/* worker.c */
extern void apikey_worker_set_defaults(void);
extern bool apikey_worker_extension_here(void);
extern bool apikey_worker_database_wanted(void);
extern void apikey_worker_forget_this(void);
extern PGDLLEXPORT void apikey_flush_main(Datum arg);

#endif							/* APIKEY_WORKER_INTERNAL_H */
