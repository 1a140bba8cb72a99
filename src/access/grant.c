/*
 * grant.c
 *		Who may do what is not everybody's, given and taken.
 *
 * Functions and views that are not everybody's have their privileges in the
 * server's catalogs, as all have, so that GRANT, REVOKE, dumps and \dp know of
 * them.  They belong to the owner of the tables, whom nobody can ask, and the
 * role that installed us, which has the grant option, may be gone: so whoever
 * has the privileges of the extension's owner gives and takes them here.
 *
 * The objects are found among the extension's members, by their OIDs, and
 * their privileges changed there: no name is resolved that the schema's owner
 * could move.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "store/store.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access_internal.h"

/* What can be given, and by whom. */
typedef struct Privilege
{
	const char *what;
	Oid			class;			/* functions, or relations */
	const char *prefix;			/* of the objects' names, or a whole one */
	bool		superusers;		/* is theirs to give */
} Privilege;

static const Privilege privileges[] = {
	{"organizations", ProcedureRelationId, "apikey_organization_create", false},
	{"import", ProcedureRelationId, "apikey_import", false},
	{"stats", RelationRelationId, "apikey_stats", false},
	{"stats", RelationRelationId, "apikey_stats_codes", false},
	{"stats", RelationRelationId, "apikey_peppers", false},
	{"stats", RelationRelationId, "apikey_servers", false},
	{"stats", ProcedureRelationId, "apikey_health", false},
	{"servers", ProcedureRelationId, "apikey_server_", true},
	{"servers", ProcedureRelationId, "apikey_flush", true},
	{"administer", InvalidOid, NULL, true}	/* see administrator.c */
};

/* The first of the rows of a name. */
static const Privilege *
find_privilege(const text *what)
{
	for (size_t i = 0; i < lengthof(privileges); i++)
	{
		if (apikey_same_text(what, cstring_to_text(privileges[i].what)))
			return &privileges[i];
	}
	apikey_refuse("what", "It is \"organizations\", \"import\", \"stats\", \"servers\" or \"administer\".");
}

/*
 * The role that owns the extension, as a snapshot has it.  A hook comes before
 * the change can be seen but by SnapshotSelf: NULL, the catalog's, has the one
 * before.
 */
static Oid
extension_owner(Snapshot snapshot)
{
	Relation	rel;
	Oid			owner = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	/* It is small, and read without an index, as in apikey_extension_find. */
	if (!apikey_system_lock("pg_extension", ExtensionRelationId, true))
		return InvalidOid;
	rel = table_open(ExtensionRelationId, NoLock);
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("apikey"));
	scan = systable_beginscan(rel, InvalidOid, false, snapshot, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

/* Raises where the caller may not give or take this. */
static void
authorize(const Privilege *privilege)
{
	if (superuser() ||
		(!privilege->superusers &&
		 apikey_role_has(GetUserId(), extension_owner(SnapshotSelf))))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to grant or revoke \"%s\"",
					privilege->what),
			 privilege->superusers ? errdetail("Only superusers may.") :
			 errdetail("Whoever has the privileges of the extension's owner may.")));
}

/* Adds a role's right to what an object's privileges are. */
static Acl *
add_right(const Acl *acl, Oid owner, Oid role, AclMode mode, bool option)
{
	AclItem		item = {.ai_grantee = role, .ai_grantor = owner};

	ACLITEM_SET_PRIVS_GOPTIONS(item, mode, option ? mode : ACL_NO_RIGHTS);
	return aclupdate(acl, &item, ACL_MODECHG_ADD, owner, DROP_RESTRICT);
}

/* Takes it away, whoever gave it, and what the role gave on. */
static Acl *
remove_right(Acl *acl, Oid owner, Oid role, AclMode mode)
{
	bool		found;

	do
	{
		const AclItem *items = ACL_DAT(acl);

		found = false;
		for (int i = 0; i < ACL_NUM(acl) && !found; i++)
		{
			AclItem		item = items[i];

			if (item.ai_grantee != role || !(ACLITEM_GET_PRIVS(item) & mode))
				continue;
			ACLITEM_SET_PRIVS_GOPTIONS(item, mode, mode);
			acl = aclupdate(acl, &item, ACL_MODECHG_DEL, owner, DROP_CASCADE);
			found = true;
		}
	} while (found);
	return acl;
}

/* How an object's privileges change. */
typedef struct RightChange
{
	Oid			role;
	bool		grant;
	bool		option;			/* to give it on, too */
	Oid			as;				/* only where this role has it, and as it has it */
} RightChange;

/* Has a role a right itself, and may it give it on? */
static bool
has_right(const Acl *acl, Oid role, AclMode mode, bool *option)
{
	bool		found = false;

	*option = false;
	for (int i = 0; i < ACL_NUM(acl); i++)
	{
		const AclItem *item = &ACL_DAT(acl)[i];

		if (item->ai_grantee != role || !(ACLITEM_GET_PRIVS(*item) & mode))
			continue;
		found = true;
		*option |= (ACLITEM_GET_GOPTIONS(*item) & mode) != 0;
	}
	return found;
}

/* What an object's privileges come to. */
static Acl *
changed_rights(Acl *before, Oid owner, const RightChange *change, AclMode mode)
{
	bool		option = change->option;

	if (!change->grant)
		return remove_right(before, owner, change->role, mode);
	if (OidIsValid(change->as) &&
		!has_right(before, change->as, mode, &option))
		return before;
	return add_right(before, owner, change->role, mode, option);
}

/* An object whose privileges change. */
typedef struct ObjectChange
{
	Oid			class;
	Oid			object;
	const RightChange *change;
	bool		differs;		/* did they? */
} ObjectChange;

/* Writes an object's changed privileges. */
static void
change_object(void *work)
{
	ObjectChange *changing = work;
	const RightChange *change = changing->change;
	Oid			class = changing->class;
	bool		function = class == ProcedureRelationId;
	AclMode		mode = function ? ACL_EXECUTE : ACL_SELECT;
	Relation	rel = table_open(class, RowExclusiveLock);
	HeapTuple	tuple = apikey_catalog_row_lock(rel, get_object_oid_index(class),
												get_object_attnum_oid(class),
												changing->object);
	ItemPointerData locked;
	int			column = get_object_attnum_acl(class);
	bool		isnull = false;
	Oid			owner;
	Datum		value;
	Acl		   *before;
	Acl		   *after;

	if (!HeapTupleIsValid(tuple))
		apikey_refuse_gone();
	locked = tuple->t_self;
	owner = DatumGetObjectId(heap_getattr(tuple, get_object_attnum_owner(class),
										  RelationGetDescr(rel), &isnull));
	value = heap_getattr(tuple, column, RelationGetDescr(rel), &isnull);
	before = isnull ?
		acldefault(function ? OBJECT_FUNCTION : OBJECT_TABLE, owner) :
		DatumGetAclPCopy(value);
	after = changed_rights(before, owner, change, mode);
	changing->differs = !aclequal(before, after);
	if (changing->differs)
	{
		Oid		   *old_members;
		Oid		   *new_members;
		int			old_count = aclmembers(before, &old_members);
		int			new_count = aclmembers(after, &new_members);

		value = PointerGetDatum(after);
		isnull = false;
		tuple = heap_modify_tuple_by_cols(tuple, RelationGetDescr(rel), 1,
										  &column, &value, &isnull);
		CatalogTupleUpdate(rel, &locked, tuple);
		updateAclDependencies(class, changing->object, 0, owner, old_count,
							  old_members, new_count, new_members);
	}
	UnlockTuple(rel, &locked, ExclusiveLock);
	table_close(rel, RowExclusiveLock);
	if (changing->differs)
		CommandCounterIncrement();
}

static bool
named_by(const Privilege *privilege, Oid object)
{
	char	   *name = privilege->class == ProcedureRelationId ? get_func_name(object) :
		get_rel_name(object);
	size_t		len = strlen(privilege->prefix);

	return name != NULL && strncmp(name, privilege->prefix, len) == 0 &&
		(name[len] == '\0' || privilege->prefix[len - 1] == '_');
}

/* Of the extension's members, those of a privilege. */
static List *
find_objects(const Privilege *privilege)
{
	Oid			schema;
	Oid			extension = apikey_extension_find("apikey", &schema, NULL);
	Relation	rel;
	List	   *found = NIL;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	if (!apikey_lookup_begin(APIKEY_LOOKUP_DEPENDENTS))
		return NIL;
	rel = table_open(DependRelationId, NoLock);
	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend row = (Form_pg_depend) GETSTRUCT(tuple);

		if (row->deptype == DEPENDENCY_EXTENSION &&
			row->classid == privilege->class &&
			named_by(privilege, row->objid))
			found = lappend_oid(found, row->objid);
	}
	systable_endscan(scan);
	table_close(rel, NoLock);
	apikey_lookup_end(APIKEY_LOOKUP_DEPENDENTS);
	return found;
}

static bool
change_right(const Privilege *privilege, const RightChange *change)
{
	bool		differs = false;
	ListCell   *cell;

	if (privilege->prefix == NULL)
		return change->grant ? apikey_administrator_add(change->role) :
			apikey_administrator_remove(change->role);
	for (const Privilege *each = privilege;
		 each < privileges + lengthof(privileges) &&
		 strcmp(each->what, privilege->what) == 0; each++)
	{
		foreach(cell, find_objects(each))
		{
			ObjectChange changing = {
				.class = each->class,.object = lfirst_oid(cell),.change = change
			};

			apikey_wait_bounded(each->class == ProcedureRelationId ? "pg_proc" : "pg_class",
								change_object, &changing);
			differs |= changing.differs;
		}
	}
	return differs;
}

/* Gives a role what is called so, or takes it away, with an event. */
void
apikey_grant_change(const text *what, Oid role, bool grant)
{
	const Privilege *privilege = find_privilege(what);
	RightChange change = {.role = role, .grant = grant};
	StringInfoData json;

	authorize(privilege);
	if (grant)
		apikey_role_require(role);
	if (!change_right(privilege, &change))
		return;
	apikey_detail_begin(&json);
	apikey_detail_string(&json, "what", privilege->what);
	apikey_detail_text(&json, "role", apikey_role_name_text(role, NULL));
	apikey_event_change(grant ? APIKEY_EVENT_GRANTED : APIKEY_EVENT_UNGRANTED,
						apikey_detail_end(&json));
}

/*
 * The extension has got another owner, by REASSIGN OWNED: who owns it may do
 * what who installed it might.  What is a superuser's to give goes over as the
 * owner before had it, so that it stays taken where it was.
 */
void
apikey_grant_follow_owner(void)
{
	Oid			before = extension_owner(NULL);
	Oid			owner = extension_owner(SnapshotSelf);

	for (size_t i = 0; i < lengthof(privileges); i++)
	{
		RightChange change = {
			.role = owner,.grant = true,.option = true,
			.as = privileges[i].superusers ? before : InvalidOid
		};

		if (privileges[i].prefix != NULL &&
			!(privileges[i].superusers && (before == owner || !OidIsValid(before))))
			(void) change_right(&privileges[i], &change);
	}
}

/* May a role do all that a privilege lets it, whoever has let it? */
static bool
lets(const Privilege *privilege, Oid role)
{
	ListCell   *cell;

	foreach(cell, find_objects(privilege))
	{
		if ((privilege->class == ProcedureRelationId ?
			 apikey_function_aclcheck(lfirst_oid(cell), role, ACL_EXECUTE) :
			 pg_class_aclcheck(lfirst_oid(cell), role, ACL_SELECT)) != ACLCHECK_OK)
			return false;
	}
	return true;
}

/*
 * What the extension's owner may not do and should, by the names of the
 * privileges; and who it is.  It has become so where nothing of ours was loaded.
 */
List *
apikey_grant_lacking(Oid *owner)
{
	const char *last = NULL;
	List	   *lacking = NIL;

	*owner = extension_owner(SnapshotSelf);
	for (size_t i = 0; i < lengthof(privileges); i++)
	{
		const Privilege *privilege = &privileges[i];

		if (privilege->superusers || lets(privilege, *owner) ||
			(last != NULL && strcmp(last, privilege->what) == 0))
			continue;
		last = privilege->what;
		lacking = lappend(lacking, pstrdup(last));
	}
	return lacking;
}
