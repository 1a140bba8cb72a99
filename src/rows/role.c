/*
 * role.c
 *		Roles, and who is a member of which, as the server's catalogs have them.
 *
 * Anybody can keep us from these catalogs, which no statement has to read for
 * the roles that keys are of (see lookup.c).  What this process has read it finds
 * in the server's caches until roles change, and asks for no lock then.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_auth_members.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/syscache.h"

#include "store/store.h"
#include "rows/rows.h"

#define SEEN_MOST	512			/* of each kind */

/* What is read of a role. */
typedef enum Kind
{
	ITSELF,
	PRIVILEGES,					/* whose it has */
	MEMBERSHIPS,				/* of what it is a member */
	GROUPS_BY_PRIVILEGES,		/* the roles that it is */
	GROUPS_BY_MEMBERSHIPS
} Kind;

/* The roles of which that was read since roles have changed last. */
typedef struct Seen
{
	uint64		changes;
	Oid			roles[GROUPS_BY_MEMBERSHIPS + 1][SEEN_MOST];
} Seen;

static Seen seen;

/* Is one role, in some sense, another one? */
typedef bool (*IsRole) (Oid member, Oid role);

/* The place of a role among those that were seen. */
static Oid *
place_of(Kind kind, Oid role)
{
	return &seen.roles[kind][role % SEEN_MOST];
}

/* Was that read already, so that it is in the server's caches? */
static bool
was_seen(Kind kind, Oid role)
{
	return seen.changes == apikey_changes_of_roles() && OidIsValid(role) &&
		*place_of(kind, role) == role;
}

/* It is there now, if no roles have changed since it was begun. */
static void
note_seen(Kind kind, Oid role, uint64 begun)
{
	if (begun != apikey_changes_of_roles())
		return;
	if (seen.changes != begun)
		memset(&seen, 0, sizeof(seen));
	seen.changes = begun;
	*place_of(kind, role) = role;
}

static ApikeyLookup
lookup_of(Kind kind)
{
	return kind == ITSELF ? APIKEY_LOOKUP_ROLE : APIKEY_LOOKUP_MEMBERSHIP;
}

/* A reading of a role, from its begin to its end. */
typedef struct Reading
{
	Kind		kind;
	Oid			role;
	bool		locked;
	uint64		begun;
} Reading;

/*
 * Begins to read of a role; false, for whoever reads leniently, where somebody
 * keeps us from that.
 */
static bool
begin(Reading *reading, Kind kind, Oid role)
{
	reading->kind = kind;
	reading->role = role;
	reading->locked = !was_seen(kind, role);
	if (reading->locked && !apikey_lookup_begin(lookup_of(kind)))
		return false;
	reading->begun = apikey_changes_of_roles();
	return true;
}

static void
end(const Reading *reading)
{
	if (!reading->locked)
		return;
	note_seen(reading->kind, reading->role, reading->begun);
	apikey_lookup_end(lookup_of(reading->kind));
}

/*
 * A role's row, to be released; NULL where there is none or, for whoever reads
 * leniently, where somebody keeps us from it.
 */
static HeapTuple
find_role(Oid role)
{
	Reading		reading;
	HeapTuple	tuple;

	if (!OidIsValid(role) || !begin(&reading, ITSELF, role))
		return NULL;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	end(&reading);
	return tuple;
}

bool
apikey_role_exists(Oid role)
{
	HeapTuple	tuple = find_role(role);

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return HeapTupleIsValid(tuple);
}

/* Raises 42704 where a role does not exist. */
void
apikey_role_require(Oid role)
{
	if (!apikey_role_exists(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", role)));
}

static const char *
tuple_name(HeapTuple tuple)
{
	return NameStr(((Form_pg_authid) GETSTRUCT(tuple))->rolname);
}

/* What a role is called, in the current context; NULL where there is none. */
char *
apikey_role_called(Oid role)
{
	HeapTuple	tuple = find_role(role);
	char	   *name = NULL;

	if (HeapTupleIsValid(tuple))
	{
		name = pstrdup(tuple_name(tuple));
		ReleaseSysCache(tuple);
	}
	return name;
}

/* The role that is called so; invalid for none. */
Oid
apikey_role_named(const char *name)
{
	Oid			role;

	if (!apikey_lookup_begin(APIKEY_LOOKUP_ROLE_NAME))
		return InvalidOid;
	role = get_role_oid(name, true);
	apikey_lookup_end(APIKEY_LOOKUP_ROLE_NAME);
	return role;
}

static bool
same_name(const char *now, const text *name)
{
	return strlen(now) == VARSIZE_ANY_EXHDR(name) &&
		memcmp(now, VARDATA_ANY(name), strlen(now)) == 0;
}

/*
 * Is a role, stored by its OID, the one whose name was stored beside it?  Both
 * have to fit; after ALTER ROLE RENAME they do not.
 */
bool
apikey_role_is(Oid role, const text *name)
{
	char	   *now = apikey_role_called(role);

	return now != NULL && name != NULL && same_name(now, name);
}

/*
 * May a row tell of a role by its number, where that has another name?  Not while
 * what arrives by replication is not settled, as its numbers are those of
 * elsewhere: then the name alone tells.
 */
static bool
numbers_tell(void)
{
	return apikey_intact_to_remember(NULL, APIKEY_REL_KEY) &&
		apikey_intact_to_remember(NULL, APIKEY_REL_MEMBER);
}

/* The rule of apikey_role_stands, of a role's row. */
static bool
tuple_stands(HeapTuple tuple, const text *name)
{
	return name == NULL || same_name(tuple_name(tuple), name) ||
		((tuple->t_data->t_infomask & HEAP_UPDATED) != 0 && numbers_tell());
}

/*
 * Is a role the one that a row means, which keeps the name beside the number?
 * Where a number comes again after a drop that nobody has marked, the name is
 * another.  So it is after a rename, but then the role's own row was updated,
 * and one that was never updated since it was made was not renamed.
 */
bool
apikey_role_stands(Oid role, const text *name)
{
	HeapTuple	tuple = find_role(role);
	bool		stands;

	if (!HeapTupleIsValid(tuple))
		return false;
	stands = tuple_stands(tuple, name);
	ReleaseSysCache(tuple);
	return stands;
}

/* The name in a role's row, or NULL, which is released; or the last one known. */
static text *
current_name(HeapTuple tuple, Oid role, const text *last_known)
{
	text	   *name = NULL;

	if (HeapTupleIsValid(tuple))
	{
		if (tuple_stands(tuple, last_known))
			name = cstring_to_text(tuple_name(tuple));
		ReleaseSysCache(tuple);
	}
	if (name != NULL)
		return name;
	return cstring_to_text(last_known != NULL ? text_to_cstring(last_known) :
						   psprintf("%u", role));
}

/*
 * The name of the role that a row means or, where that has been dropped, the
 * last one known, if any, or else its number.
 */
text *
apikey_role_name_text(Oid role, const text *last_known)
{
	return current_name(find_role(role), role, last_known);
}

/* A name that is asked for, and found. */
typedef struct Named
{
	Oid			role;
	const text *last_known;
	text	   *name;
} Named;

static void
read_name(void *work)
{
	Named	   *named = work;

	named->name = apikey_role_name_text(named->role, named->last_known);
}

/*
 * The same for a verification, which tells it: the last name known, too, where
 * somebody keeps us from the role.
 */
text *
apikey_role_name_told(Oid role, const text *last_known)
{
	Named		named = {.role = role,.last_known = last_known};

	(void) apikey_lenient_try(read_name, &named);
	return named.name;
}

/* Is a role a superuser? */
bool
apikey_role_superuser(Oid role)
{
	Reading		reading;
	bool		answer;

	if (!begin(&reading, ITSELF, role))
		return false;
	answer = superuser_arg(role);
	end(&reading);
	return answer;
}

/* Is a role another, as the server tells it by memberships? */
static bool
is_role(Kind kind, Oid member, Oid role, IsRole by_server)
{
	Reading		reading;
	bool		answer;

	if (member == role)
		return true;
	if (!begin(&reading, kind, member))
		return false;
	answer = by_server(member, role);
	end(&reading);
	return answer;
}

/* Has a role the privileges of another?  A superuser has those of each. */
bool
apikey_role_has(Oid member, Oid role)
{
	return is_role(PRIVILEGES, member, role, has_privs_of_role);
}

/* Is a role another, or a member of it, whether or not it is a superuser? */
bool
apikey_role_within(Oid member, Oid role)
{
	return is_role(MEMBERSHIPS, member, role, is_member_of_role_nosuper);
}

/* Adds those roles of which a member is one that a role is as well. */
static List *
add_groups(List *roles, Oid member, Oid role, IsRole by_server)
{
	CatCList   *groups = SearchSysCacheList1(AUTHMEMMEMROLE,
											 ObjectIdGetDatum(member));

	for (int i = 0; i < groups->n_members; i++)
	{
		HeapTuple	tuple = &groups->members[i]->tuple;
		Oid			group = ((Form_pg_auth_members) GETSTRUCT(tuple))->roleid;

		if (by_server(role, group))
			roles = list_append_unique_oid(roles, group);
	}
	ReleaseSysCacheList(groups);
	return roles;
}

/*
 * The roles whose privileges a role has, itself among them; or those of which it
 * is a member, whether or not it is a superuser.
 */
List *
apikey_roles_of(Oid role, bool by_memberships)
{
	IsRole by_server = by_memberships ? is_member_of_role_nosuper :
		has_privs_of_role;
	List	   *roles = list_make1_oid(role);
	Reading		reading;

	if (!begin(&reading, by_memberships ? GROUPS_BY_MEMBERSHIPS :
			   GROUPS_BY_PRIVILEGES, role))
		return roles;
	for (int i = 0; i < list_length(roles); i++)
		roles = add_groups(roles, list_nth_oid(roles, i), role, by_server);
	/* No row says who is a member of that, and it is a member of none. */
	if (by_server(role, ROLE_PG_DATABASE_OWNER))
		roles = list_append_unique_oid(roles, ROLE_PG_DATABASE_OWNER);
	end(&reading);
	return roles;
}
