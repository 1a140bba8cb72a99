/*
 * apikey.c
 *		Loading the library: its settings.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "apikey.h"
#include "verify.h"

PG_MODULE_MAGIC;

int			apikey_cache_entries = 10000;
char	   *apikey_prefix = NULL;
char	   *apikey_subject_setting = NULL;

void		_PG_init(void);

static bool
check_prefix(char **newval, void **extra pg_attribute_unused(),
			 GucSource source pg_attribute_unused())
{
	if (apikey_text_prefix_valid(*newval, strlen(*newval)))
		return true;
	GUC_check_errdetail("A prefix has 1 to 20 characters a-z, 0-9 and \"_\", starting with a letter.");
	return false;
}

/* Whether subjects count decides what keys may do. */
static void
assign_subject_setting(const char *newval pg_attribute_unused(),
					   void *extra pg_attribute_unused())
{
	apikey_cache_drop();
}

void
_PG_init(void)
{
	DefineCustomIntVariable("apikey.cache_entries",
							"Most keys that a session remembers to have verified.",
							"0 remembers none.",
							&apikey_cache_entries, 10000, 0, 1000000,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("apikey.prefix",
							   "Prefix of keys created without one of their own.",
							   NULL, &apikey_prefix, "ak",
							   PGC_USERSET, 0, check_prefix, NULL, NULL);
	DefineCustomStringVariable("apikey.subject_setting",
							   "Setting that carries the application's user.",
							   "The name of a setting, or setting:member for a member of a JSON object; empty: only roles count.",
							   &apikey_subject_setting, "",
							   PGC_SUSET, 0, NULL, assign_subject_setting,
							   NULL);
	MarkGUCPrefixReserved("apikey");
	apikey_cache_init();
}
