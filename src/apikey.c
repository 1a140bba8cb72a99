/*
 * apikey.c
 *		Loading the library: its settings.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/guc.h"

#include "apikey.h"

PG_MODULE_MAGIC;

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

void
_PG_init(void)
{
	DefineCustomStringVariable("apikey.prefix",
							   "Prefix of keys created without one of their own.",
							   NULL, &apikey_prefix, "ak",
							   PGC_USERSET, 0, check_prefix, NULL, NULL);
	DefineCustomStringVariable("apikey.subject_setting",
							   "Setting that carries the application's user.",
							   "The name of a setting, or setting:member for a member of a JSON object; empty: only roles count.",
							   &apikey_subject_setting, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("apikey");
}
