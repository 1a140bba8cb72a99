/*
 * owner.c
 *		Working as the tables' owner, under a fixed search path.
 *
 * Both return to what they were when the work is done or, after an error, when the
 * (sub)transaction aborts.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "miscadmin.h"

#include "store/store_internal.h"

#define SEARCH_PATH	"pg_catalog, pg_temp"

/*
 * Fixes the search path, unless it is so already.  Returns what
 * apikey_owner_restore_path is to be given.
 */
int
apikey_owner_fix_path(void)
{
	int			level;

	if (strcmp(namespace_search_path, SEARCH_PATH) == 0)
		return 0;
	level = NewGUCNestLevel();
	(void) set_config_option("search_path", SEARCH_PATH,
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
	return level;
}

void
apikey_owner_restore_path(int level)
{
	if (level != 0)
		AtEOXact_GUC(false, level);
}

/* Takes the tables' owner's place, under the fixed path. */
void
apikey_owner_begin(ApikeyOwnerScope *before)
{
	GetUserIdAndSecContext(&before->user, &before->security);
	SetUserIdAndSecContext(apikey_catalog()->tables_owner,
						   before->security |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	before->guc_level = apikey_owner_fix_path();
}

void
apikey_owner_end(const ApikeyOwnerScope *before)
{
	apikey_owner_restore_path(before->guc_level);
	SetUserIdAndSecContext(before->user, before->security);
}
