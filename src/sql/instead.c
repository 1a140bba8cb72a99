/*
 * instead.c
 *		What is told of a command that a view does not take.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_extension.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "store/store.h"
#include "sql/sql_internal.h"

/* Which function does what a view does not let be done. */
typedef struct Instead
{
	const char *view;
	const char *change;			/* a command, or the column of an UPDATE */
	const char *function;
} Instead;

static const Instead instead[] = {
	{"apikeys", "INSERT", "apikey_create"},
	{"apikeys", "DELETE", "apikey_delete"},
	{"apikeys", "name", "apikey_rename"},
	{"apikeys", "owner", "apikey_transfer"},
	{"apikeys", "subject", "apikey_transfer"},
	{"apikeys", "status", "apikey_disable(), apikey_enable() or apikey_revoke"},
	{"apikeys", "revoked_at", "apikey_revoke"},
	{"apikeys", "revoke_reason", "apikey_revoke"},
	{"apikeys", "rotated_to", "apikey_rotate"},
	{"apikeys", "vouched_by", "apikey_transfer"},
	{"apikeys", "vouched_by_subject", "apikey_transfer"},
	{"apikey_projects", "INSERT", "apikey_project_create"},
	{"apikey_projects", "DELETE", "apikey_project_drop"},
	{"apikey_projects", "role", "apikey_member_add"},
	{"apikey_organizations", "INSERT", "apikey_organization_create"},
	{"apikey_organizations", "UPDATE", "apikey_member_add"},
	{"apikey_organizations", "DELETE", "apikey_organization_drop"},
	{"apikey_members", "INSERT", "apikey_member_add"},
	{"apikey_members", "UPDATE", "apikey_member_add"},
	{"apikey_members", "DELETE", "apikey_member_remove"},
	{"apikey_events", "DELETE", "apikey_events_purge"},
	{"apikey_limits", "INSERT", "apikey_limit_set"},
	{"apikey_limits", "DELETE", "apikey_limit_drop"},
	{"apikey_limits", "remaining", "apikey_limit_add"}
};

/* For errhint: what to call; nothing where no function does it. */
static int
instead_hint(const char *view, const char *change)
{
	for (size_t i = 0; i < lengthof(instead); i++)
	{
		if (strcmp(instead[i].view, view) == 0 &&
			strcmp(instead[i].change, change) == 0)
			return errhint("Call %s().", instead[i].function);
	}
	return 0;
}

/* The table's column of a view's; raises where it cannot be updated. */
int
apikey_instead_writable(const ApikeyTable *table, Relation view,
						const char *name)
{
	int			column = apikey_table_column(table, name);

	if (column < 0 || !table->columns[column].writable)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("column \"%s\" of view \"%s\" cannot be updated",
						name, RelationGetRelationName(view)),
				 instead_hint(RelationGetRelationName(view), name),
				 apikey_error_about(name, "apikey_read_only")));
	return column;
}

/* Rows are made and removed by functions alone. */
void
apikey_instead_refuse(const char *view, const char *command)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot %s view \"%s\"",
					strcmp(command, "INSERT") == 0 ? "insert into" :
					strcmp(command, "UPDATE") == 0 ? "update" : "delete from",
					view),
			 instead_hint(view, command)));
}

static post_parse_analyze_hook_type previous_analyze = NULL;

/* The command that a statement carries out on a relation; NULL for another. */
static const char *
command_name(const Query *query)
{
	switch (query->commandType)
	{
		case CMD_INSERT:
			return "INSERT";
		case CMD_UPDATE:
			return "UPDATE";
		case CMD_DELETE:
			return "DELETE";
		default:
			return NULL;
	}
}

/*
 * Is a view one of ours?  PostgreSQL reads neither of these catalogs for a change
 * of a view, so that is not waited for, nor for an index of theirs: of ours the
 * server says enough itself.
 */
static bool
is_ours(Oid view)
{
	bool		ours = false;

	if (!apikey_system_lock("pg_extension", ExtensionRelationId, false))
		return false;
	if (apikey_lookup_try(APIKEY_LOOKUP_DEPENDENCY))
	{
		Oid			schema;
		Oid			extension = apikey_extension_find("apikey", &schema, NULL);

		ours = OidIsValid(extension) &&
			getExtensionOfObject(RelationRelationId, view) == extension;
		apikey_lookup_end(APIKEY_LOOKUP_DEPENDENCY);
	}
	apikey_system_unlock(ExtensionRelationId);
	return ours;
}

/*
 * Says what to call instead of a DELETE from one of our views, or of any change
 * of one that has no trigger, before the server says that permission is denied,
 * and no more.  DELETE cannot be granted for a trigger to say it: that would be
 * a right to LOCK the view.
 */
static void
on_analyze(ParseState *state, Query *query, APIKEY_JUMBLE_STATE *jumble)
{
	const char *command = command_name(query);
	RangeTblEntry *target;
	char	   *view;

	if (previous_analyze)
		previous_analyze(state, query, jumble);
	if (command == NULL || query->resultRelation == 0)
		return;
	target = rt_fetch(query->resultRelation, query->rtable);
	if (target->relkind != RELKIND_VIEW)
		return;
	view = get_rel_name(target->relid);
	if (view != NULL && strncmp(view, "apikey", strlen("apikey")) == 0 &&
		(query->commandType == CMD_DELETE ||
		 (strcmp(view, "apikeys") != 0 && strcmp(view, "apikey_projects") != 0 &&
		  strcmp(view, "apikey_limits") != 0)) &&
		is_ours(target->relid))
		apikey_instead_refuse(view, command);
}

/* Once, when the library is loaded. */
void
apikey_instead_init(void)
{
	previous_analyze = post_parse_analyze_hook;
	post_parse_analyze_hook = on_analyze;
}
