/*
 * place.c
 *		Organizations and projects: finding, making and dropping them.
 *
 * A place is an organization (acme) or a project of one (acme/payments).
 *
 * Who changes an organization's members locks its row, so that such changes
 * come one after the other, and one owner is left.  Who makes a project in it,
 * or changes a project's members or keys, only keeps the row that it hangs on
 * from being removed; who changes a project's settings, that anybody else does.
 * So nobody who makes keys holds up its project's owners in settings and
 * members, nor a project's owner those of its organization.  To drop a place
 * waits for all of them.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access_internal.h"

#define PART_MAX	64			/* characters of a name in a path */

/* Is this a name: ^[a-z0-9][a-z0-9-]{0,63}$ ? */
static bool
part_valid(const char *part, int len)
{
	if (len < 1 || len > PART_MAX || part[0] == '-')
		return false;
	for (int i = 0; i < len; i++)
	{
		char		c = part[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
			return false;
	}
	return true;
}

/* Finds the row of a table by a text. */
static bool
find_by_text(const ApikeyTable *table, ApikeyRelation index, int column,
			 const char *value, ApikeyRow *row)
{
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, column + 1, BTEqualStrategyNumber,
						   InvalidOid, C_COLLATION_OID, F_TEXTEQ,
						   CStringGetTextDatum(value));
	return apikey_table_find(table, index, &key, 1, row);
}

static bool
find_organization(const char *name, ApikeyRow *row)
{
	return find_by_text(&apikey_organization_table,
						APIKEY_REL_ORGANIZATION_NAME,
						APIKEY_ORGANIZATION_NAME, name, row);
}

static bool
find_place(const text *path, ApikeyPlace *place)
{
	place->path = text_to_cstring(path);
	place->is_project = strchr(place->path, '/') != NULL;
	if (!place->is_project)
		return find_organization(place->path, &place->organization);
	return find_by_text(&apikey_project_table, APIKEY_REL_PROJECT_PATH,
						APIKEY_PROJECT_PATH, place->path, &place->project);
}

/* What the caller is in a place. */
ApikeyRole
apikey_place_standing(const ApikeyPlace *place)
{
	return apikey_member_standing(GetUserId(), apikey_principal_subject(),
								  apikey_place_organization(place),
								  apikey_place_project(place));
}

/*
 * There is no such place for the caller.  A key that was given for a path by
 * mistake is masked.
 */
void
apikey_place_refuse_unknown(const char *path, bool is_project)
{
	char	   *masked = pstrdup(path);

	apikey_redact_text(masked, strlen(masked));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 is_project ?
			 errmsg("project \"%s\" does not exist", masked) :
			 errmsg("organization \"%s\" does not exist", masked)));
}

/*
 * Raises where there is no such place for the caller (42704), or he is less
 * than a role there (42501).
 */
static void
authorize(const ApikeyPlace *place, bool found, ApikeyRole needed)
{
	ApikeyRole	standing = found ? apikey_place_standing(place) :
		APIKEY_ROLE_NONE;

	if (standing >= needed)
		return;
	if (standing == APIKEY_ROLE_NONE &&
		!(found && (has_bypassrls_privilege(GetUserId()) ||
					apikey_administers())))
		apikey_place_refuse_unknown(place->path, place->is_project);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 place->is_project ?
			 errmsg("permission denied for project \"%s\"", place->path) :
			 errmsg("permission denied for organization \"%s\"",
					place->path)));
}

/* Opens a place for its owners, its row locked. */
void
apikey_place_open_with(const text *path, ApikeyLock lock, ApikeyPlace *place)
{
	bool		found = find_place(path, place);

	authorize(place, found, APIKEY_ROLE_OWNER);
	found = place->is_project ?
		apikey_table_lock(&apikey_project_table, apikey_place_project(place),
						  lock, &place->project) :
		apikey_table_lock(&apikey_organization_table,
						  apikey_place_organization(place), lock,
						  &place->organization);
	authorize(place, found, APIKEY_ROLE_OWNER);
}

/* Opens a place for its members to be changed, by its owners. */
void
apikey_place_open(const text *path, ApikeyPlace *place)
{
	bool		is_project = memchr(VARDATA_ANY(path), '/',
									VARSIZE_ANY_EXHDR(path)) != NULL;

	apikey_place_open_with(path, is_project ? APIKEY_LOCK_KEEP :
						   APIKEY_LOCK_CHANGE, place);
}

/* Opens the project whose row has an id for a change, by its owners. */
void
apikey_place_open_project(const pg_uuid_t *id, ApikeyPlace *place)
{
	if (!apikey_table_fetch_latest(&apikey_project_table, id, &place->project))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not change project due to a concurrent change")));
	apikey_place_open_with(apikey_row_text(&place->project,
										   APIKEY_PROJECT_PATH),
						   APIKEY_LOCK_CHANGE, place);
}

/* Locks an opened project to the end of the transaction. */
void
apikey_place_lock(ApikeyPlace *place, ApikeyLock lock)
{
	if (!apikey_table_lock(&apikey_project_table, apikey_place_project(place),
						   lock, &place->project))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not use project \"%s\" due to a concurrent change",
						place->path)));
}

/*
 * Opens a project for keys to be made in it, by its admins: it cannot be
 * dropped before the transaction ends.
 */
void
apikey_place_open_for_keys(const text *path, ApikeyPlace *place)
{
	bool		found = find_place(path, place) && place->is_project;

	place->is_project = true;
	authorize(place, found, APIKEY_ROLE_ADMIN);
	apikey_place_lock(place, APIKEY_LOCK_KEEP);
	authorize(place, true, APIKEY_ROLE_ADMIN);
}

/* Keeps a project from being dropped to the end of the transaction. */
void
apikey_place_hold(ApikeyPlace *place)
{
	apikey_place_lock(place, APIKEY_LOCK_KEEP);
}

#define PART_RULE	"A name has 1 to 64 characters a-z, 0-9 and \"-\", starting with a letter or digit."

/* Makes an organization, whose owner the caller becomes. */
void
apikey_place_create_organization(const text *name, ApikeyPlace *place)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	place->path = text_to_cstring(name);
	place->is_project = false;
	if (!part_valid(place->path, strlen(place->path)))
		apikey_refuse_by("apikey_organization_name", "name", PART_RULE);

	apikey_generate_id(id);
	apikey_row_clear(&place->organization);
	apikey_row_set_pointer(&place->organization, APIKEY_ORGANIZATION_ID, id);
	apikey_row_set_pointer(&place->organization, APIKEY_ORGANIZATION_NAME,
						   cstring_to_text(place->path));
	apikey_row_set(&place->organization, APIKEY_ORGANIZATION_CREATED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_table_insert(&apikey_organization_table, &place->organization);
	if (!apikey_hold_take(place))
		apikey_table_refuse_taken(&apikey_organization_table,
								  &place->organization,
								  apikey_organization_table.argument);
	apikey_event_place(place, APIKEY_EVENT_ORGANIZATION_CREATED, NULL);
	apikey_member_put(place, GetUserId(), apikey_principal_new_subject(NULL, false),
					  APIKEY_ROLE_OWNER);
}

/* Makes a project, for an owner of its organization. */
void
apikey_place_create_project(const text *path, ApikeyPlace *place)
{
	char	   *whole = text_to_cstring(path);
	char	   *slash = strchr(whole, '/');
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	if (slash == NULL || !part_valid(whole, slash - whole) ||
		!part_valid(slash + 1, strlen(slash + 1)))
		apikey_refuse_by("apikey_project_path", "path", "A path is \"organization/project\". " PART_RULE);

	apikey_place_open_with(cstring_to_text_with_len(whole, slash - whole),
						   APIKEY_LOCK_KEEP, place);
	apikey_generate_id(id);
	apikey_row_clear(&place->project);
	apikey_row_set_pointer(&place->project, APIKEY_PROJECT_ID, id);
	apikey_row_set_pointer(&place->project, APIKEY_PROJECT_ORGANIZATION,
						   apikey_place_organization(place));
	place->path = whole;
	place->is_project = true;
	apikey_row_set_pointer(&place->project, APIKEY_PROJECT_PATH, path);
	apikey_row_set(&place->project, APIKEY_PROJECT_CREATED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_row_set(&place->project, APIKEY_PROJECT_MEMBERS_CAN_VIEW,
				   BoolGetDatum(false));
	apikey_row_set(&place->project, APIKEY_PROJECT_REVEALABLE,
				   BoolGetDatum(false));
	apikey_table_insert(&apikey_project_table, &place->project);
	apikey_event_place(place, APIKEY_EVENT_PROJECT_CREATED, NULL);
}

