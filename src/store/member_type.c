/*
 * member_type.c
 *		The values of the type apikey_role: what somebody is in an organization or
 *		project.
 */
#include "postgres.h"

#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "store/store_internal.h"

static const char *const names[APIKEY_ROLES] = {
	[APIKEY_ROLE_DEVELOPER] = "developer",
	[APIKEY_ROLE_ADMIN] = "admin",
	[APIKEY_ROLE_OWNER] = "owner"
};

/* The values' OIDs, as of a generation of the catalog. */
typedef struct Values
{
	Oid			type;
	Oid			oids[APIKEY_ROLES];
	uint64		generation;		/* 0: that is to be asked */
} Values;

static void
look_for_type(void *result, int which pg_attribute_unused())
{
	*(Oid *) result = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									  CStringGetDatum("apikey_role"),
									  ObjectIdGetDatum(apikey_catalog()->schema));
}

static void
look_for_values(void *result, int which pg_attribute_unused())
{
	Values	   *found = result;

	for (int i = APIKEY_ROLE_DEVELOPER; i < APIKEY_ROLES; i++)
	{
		found->oids[i] = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid,
										 ObjectIdGetDatum(found->type),
										 CStringGetDatum(names[i]));
		if (!OidIsValid(found->oids[i]))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("type \"apikey_role\" has no value \"%s\"",
							names[i])));
	}
}

/*
 * The values' OIDs, which are those of the type as long as that is there.  NULL,
 * for whoever reads leniently, where somebody keeps us from them.
 */
static const Oid *
current_values(void)
{
	static Values known;
	Values		found = {0};
	uint64		generation = apikey_catalog()->generation;

	if (known.generation == generation)
		return known.oids;
	apikey_catalog_look(look_for_type, &found.type, 0);
	if (!OidIsValid(found.type) && apikey_lenient_missed())
		return NULL;
	if (!OidIsValid(found.type) || found.type != known.type)
	{
		if (!apikey_lookup_begin(APIKEY_LOOKUP_ENUM))
			return NULL;
		apikey_catalog_look(look_for_values, &found, 0);
		apikey_lookup_end(APIKEY_LOOKUP_ENUM);
		known = found;
	}
	/* Looking for it may be what invalidates the catalog. */
	known.generation = generation == apikey_catalog()->generation ? generation : 0;
	return known.oids;
}

ApikeyRole
apikey_role_from_datum(Datum value)
{
	const Oid  *oids = current_values();
	int			role;

	if (oids == NULL)
		return APIKEY_ROLE_NONE;
	for (role = APIKEY_ROLE_DEVELOPER; role < APIKEY_ROLES; role++)
	{
		if (oids[role] == DatumGetObjectId(value))
			return (ApikeyRole) role;
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("type \"apikey_role\" has a value that extension \"apikey\" does not know")));
}

Datum
apikey_role_datum(ApikeyRole role)
{
	const Oid  *oids = current_values();

	return ObjectIdGetDatum(oids == NULL ? InvalidOid : oids[role]);
}

const char *
apikey_role_label(ApikeyRole role)
{
	return names[role];
}
