/*
 * pgcrypto.c
 *		Calling functions of the extension pgcrypto.
 *
 * Found by name and exact arguments in that extension's own schema, and only
 * where they belong to it, so that nothing planted beside them is called.
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "store/store_internal.h"

/*
 * The function of a name and argument types; 55000 where there is none.  Invalid
 * for whoever reads leniently where somebody keeps us from telling.
 */
Oid
apikey_pgcrypto_function(const char *name, const Oid *types, int count)
{
	Oid			schema;
	Oid			extension = apikey_extension_find("pgcrypto", &schema, NULL);
	oidvector  *arguments = buildoidvector(types, count);
	Oid			function = InvalidOid;
	Oid			its_own;

	if (OidIsValid(extension))
		function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
								   CStringGetDatum(name),
								   PointerGetDatum(arguments),
								   ObjectIdGetDatum(schema));
	if (OidIsValid(function) &&
		apikey_extension_of(ProcedureRelationId, function, &its_own) &&
		its_own == extension)
		return function;
	if (!apikey_lenient_missed())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function \"%s\" of extension \"pgcrypto\" does not exist",
						name)));
	return InvalidOid;
}
