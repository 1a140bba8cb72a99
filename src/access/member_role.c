/*
 * member_role.c
 *		What a principal is in an organization or project, whose members may be
 *		any number.
 *
 * Whoever has a project can make as many roles and subjects members of it as it
 * likes, and whoever verifies a key of it, or lists one, reads what the key's
 * owner is there.  So no more of the members are looked through than are few.
 * Where there are others, each role that the principal is, or whose privileges it
 * has, is looked for by itself.
 *
 * What was removed since an old snapshot is passed by one by one, however much
 * it is.  So whoever lists many keys remembers what it has been told.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "text/text.h"
#include "store/store.h"
#include "rows/rows.h"
#include "access/access_internal.h"

/* Entries of the index; so many cost about what looking for a few roles does. */
#define WALKED_MOST	64

/* Answers; a list that has more forgets them all, so that they stay few. */
#define REMEMBERED_MOST	4096

/* What the search for a principal's role in a tenant has come to. */
typedef struct RoleSearch
{
	Oid			role;
	const text *subject;
	bool		is_superuser;	/* and not to be one for that */
	ApikeyRole	enough;			/* more is not looked for */
	bool		subject_only;	/* what all subjects are is known */
	bool		removals;		/* some may have been removed beside their rows */
	Snapshot	snapshot;
	List	   *roles;			/* that the principal is, once needed */
	ApikeyRole	highest;
} RoleSearch;

/* Does a row make the principal a member, whether or not it is a superuser? */
static bool
covers(const RoleSearch *search, const ApikeyRow *row)
{
	/* A superuser has the privileges of every role, and is none of them. */
	return apikey_member_covers(row, search->role, search->subject) &&
		(!search->is_superuser ||
		 apikey_role_within(search->role, apikey_member_oid(row)));
}

/* Takes a row that makes the principal more than it is; false for another. */
static bool
take(RoleSearch *search, const ApikeyRow *row)
{
	ApikeyRole	role;

	/* What a role is called is looked up, and for no row of others: see member.c. */
	if (!covers(search, row))
		return false;
	role = apikey_row_role(row, APIKEY_MEMBER_ROLE);
	if (role <= search->highest ||
		(search->removals &&
		 apikey_revocation_member_removed(apikey_row_id(row), search->snapshot)))
		return false;
	search->highest = role;
	return true;
}

static bool
visit_row(const ApikeyRow *row, void *state)
{
	RoleSearch *search = state;

	(void) take(search, row);
	return search->highest < search->enough;
}

/* The same of rows that begin with the highest: none after it makes it more. */
static bool
visit_descending(const ApikeyRow *row, void *state)
{
	RoleSearch *search = state;

	return apikey_row_role(row, APIKEY_MEMBER_ROLE) > search->highest &&
		!take(search, row);
}

/* Looks through the first members; false where there may be others that count. */
static bool
walk(RoleSearch *search, const pg_uuid_t *organization,
	 const pg_uuid_t *project, int entries)
{
	ScanKeyData keys[2];

	apikey_member_keys(keys, organization, project);
	apikey_table_walk_among(&apikey_member_table, APIKEY_REL_MEMBER_WHO, keys,
							lengthof(keys), search->snapshot, &entries,
							visit_row, search);
	return entries > 0 || search->highest >= search->enough;
}

/* Looks for the rows of a role; while subjects are not in use, of any subject. */
static void
probe(RoleSearch *search, const pg_uuid_t *organization,
	  const pg_uuid_t *project, Oid member)
{
	ScanKeyData keys[3];

	if (!apikey_principal_subjects_in_use())
	{
		apikey_member_keys(keys, organization, project);
		ScanKeyInit(&keys[2], APIKEY_MEMBER_MEMBER + 1, BTEqualStrategyNumber,
					F_OIDEQ, ObjectIdGetDatum(member));
		apikey_table_walk_back(&apikey_member_table, APIKEY_REL_MEMBER_PLACE,
							   keys, lengthof(keys), search->snapshot,
							   visit_descending, search);
		return;
	}
	if (!search->subject_only)
		apikey_member_scan_one(organization, project, member, NULL,
							   search->snapshot, visit_row, search);
	if (search->subject != NULL)
		apikey_member_scan_one(organization, project, member, search->subject,
							   search->snapshot, visit_row, search);
}

/*
 * Looks for the principal in an organization itself, or in one of its projects.
 * Who is very many roles is looked for among as many members before, and in the
 * tables of 0.1.0, which lack the index, among all.
 */
static void
look_in(RoleSearch *search, const pg_uuid_t *organization,
		const pg_uuid_t *project)
{
	int			entries;
	ListCell   *cell;

	if (walk(search, organization, project, WALKED_MOST))
		return;
	if (search->roles == NIL)
		search->roles = apikey_roles_of(search->role, search->is_superuser);
	entries = apikey_principal_subjects_in_use() || apikey_member_place_read() ?
		list_length(search->roles) : INT_MAX;
	if (entries > WALKED_MOST && walk(search, organization, project, entries))
		return;
	foreach(cell, search->roles)
	{
		if (search->highest < search->enough)
			probe(search, organization, project, lfirst_oid(cell));
	}
}

/*
 * The higher of both, in one snapshot, so that who is moved from the one to the
 * other is at no time in neither.
 */
static ApikeyRole
look(RoleSearch *search, const pg_uuid_t *organization,
	 const pg_uuid_t *project)
{
	search->removals = apikey_revocation_any();
	search->snapshot = apikey_latest_snapshot();
	look_in(search, organization, NULL);
	if (project != NULL && search->highest < search->enough)
		look_in(search, organization, project);
	UnregisterSnapshot(search->snapshot);
	list_free(search->roles);
	return search->highest;
}

/*
 * What a principal is in an organization or, where one is given, in a project
 * of it.  A superuser is an owner everywhere.
 */
ApikeyRole
apikey_member_role(Oid role, const text *subject,
				   const pg_uuid_t *organization, const pg_uuid_t *project)
{
	RoleSearch	search = {
		.role = role,
		.subject = subject,
		.enough = APIKEY_ROLE_OWNER
	};

	return apikey_role_superuser(role) ? APIKEY_ROLE_OWNER :
		look(&search, organization, project);
}

/* Begins to remember; it lives as long as the current context. */
void
apikey_known_roles_begin(ApikeyKnownRoles *known)
{
	known->context = CurrentMemoryContext;
	known->snapshot = NULL;
	known->answers = NULL;
}

void
apikey_known_roles_end(ApikeyKnownRoles *known)
{
	if (known->snapshot != NULL)
		UnregisterSnapshot(known->snapshot);
	known->snapshot = NULL;
}

/* What was asked: nothing of it is so long as a subject may be. */
typedef struct Question
{
	pg_uuid_t	tenant;
	uint8		subject[APIKEY_DIGEST_BYTES];	/* zeros: of all subjects */
	Oid			role;
} Question;

typedef struct Answer
{
	Question	question;		/* hash key */
	ApikeyRole	role;
} Answer;

static void
make_question(Question *question, const RoleSearch *search,
			  const pg_uuid_t *tenant)
{
	memset(question, 0, sizeof(*question));
	question->tenant = *tenant;
	question->role = search->role;
	if (search->subject != NULL)
		apikey_digest_text(VARDATA_ANY(search->subject),
						   VARSIZE_ANY_EXHDR(search->subject),
						   question->subject);
}

static void
remember(ApikeyKnownRoles *known, const Question *question, ApikeyRole role)
{
	HASHCTL		control = {
		.keysize = sizeof(Question),
		.entrysize = sizeof(Answer),
		.hcxt = known->context
	};
	Answer	   *answer;

	if (known->answers != NULL &&
		hash_get_num_entries(known->answers) >= REMEMBERED_MOST)
	{
		hash_destroy(known->answers);
		known->answers = NULL;
	}
	if (known->answers == NULL)
		known->answers = hash_create("apikey known roles", 64, &control,
									 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	answer = hash_search(known->answers, question, HASH_ENTER, NULL);
	answer->role = role;
}

/*
 * What the principal is in an organization itself, or in one of its projects,
 * where it is this at least whatever is found there.
 */
static ApikeyRole
look_once(ApikeyKnownRoles *known, RoleSearch *search,
		  const pg_uuid_t *organization, const pg_uuid_t *project,
		  ApikeyRole least)
{
	Question	question;
	const Answer *answer;

	if (least >= search->enough)
		return least;
	make_question(&question, search, project == NULL ? organization : project);
	answer = known->answers == NULL ? NULL :
		hash_search(known->answers, &question, HASH_FIND, NULL);
	if (answer != NULL)
		return answer->role;
	search->highest = least;
	look_in(search, organization, project);
	remember(known, &question, search->highest);
	return search->highest;
}

/*
 * The same as apikey_member_role for who asks it often in one call, all of it in
 * the snapshot of the first question.  Each tenant is remembered by itself, and
 * so are the rows of no subject: there may be very many projects of one
 * organization, or subjects of one role.
 */
ApikeyRole
apikey_known_role(ApikeyKnownRoles *known, Oid role, const text *subject,
				  const pg_uuid_t *organization, const pg_uuid_t *project)
{
	RoleSearch	search = {.role = role,.enough = APIKEY_ROLE_OWNER};
	ApikeyRole	around;
	ApikeyRole	within;

	if (apikey_role_superuser(role))
		return APIKEY_ROLE_OWNER;
	if (known->snapshot == NULL)
	{
		known->removals = apikey_revocation_any();
		known->snapshot = apikey_latest_snapshot();
	}
	search.removals = known->removals;
	search.snapshot = known->snapshot;
	around = look_once(known, &search, organization, NULL, APIKEY_ROLE_NONE);
	within = look_once(known, &search, organization, project, around);
	if (subject != NULL && apikey_principal_subjects_in_use())
	{
		search.subject = subject;
		search.subject_only = true;
		around = look_once(known, &search, organization, NULL, around);
		within = look_once(known, &search, organization, project,
						   Max(around, within));
	}
	list_free(search.roles);
	return within;
}

/*
 * Has somebody made a principal a member of a project or of its organization?
 * Of a superuser, which is an owner everywhere, that is asked too.
 */
bool
apikey_member_named(Oid role, const text *subject, const ApikeyTenant *tenant)
{
	RoleSearch	search = {
		.role = role,
		.subject = subject,
		.is_superuser = apikey_role_superuser(role),
		.enough = APIKEY_ROLE_DEVELOPER
	};

	return look(&search, apikey_tenant_organization(tenant),
				apikey_tenant_project(tenant)) != APIKEY_ROLE_NONE;
}
