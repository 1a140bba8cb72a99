/*
 * issue.c
 *		Issuing a key: what it takes from its creator and from its project.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "text/text.h"
#include "store/store.h"
#include "secrets/secrets.h"
#include "rows/rows.h"
#include "events/events.h"
#include "access/access.h"
#include "keys/keys_internal.h"

/* The role of a new key: its creator's own, or a lower one that he asks for. */
static ApikeyRole
new_key_role(ApikeyRole member_role, ApikeyRole wanted)
{
	if (wanted > member_role)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for \"role\""),
				 errdetail("A key's role is at most that of its creator.")));
	return wanted == APIKEY_ROLE_NONE ? member_role : wanted;
}

/* What a project has a part in. */
static void
issue_in_project(ApikeyRow *key, const ApikeyIssue *issue,
				 ApikeyTenant *tenant)
{
	apikey_tenant_open_for_keys(issue->project, tenant);
	apikey_row_set_pointer(key, APIKEY_KEY_PROJECT,
						   apikey_tenant_project(tenant));
	apikey_row_set(key, APIKEY_KEY_ROLE,
				   apikey_role_datum(new_key_role(apikey_tenant_role(tenant),
												  issue->role)));
	apikey_rule_terms(issue->accept_terms, &tenant->project);
	apikey_row_set_pointer(key, APIKEY_KEY_ACCEPTED_TERMS,
						   issue->accept_terms);
}

/*
 * Raises where a project's new key would be of a subject that is nothing
 * there: it would be forbidden from birth.
 */
static void
require_member(const ApikeyRow *key, const ApikeyTenant *tenant)
{
	if (apikey_member_role(apikey_key_owner(key),
						   apikey_row_text(key, APIKEY_KEY_SUBJECT),
						   apikey_tenant_organization(tenant),
						   apikey_tenant_project(tenant)) == APIKEY_ROLE_NONE)
		apikey_refuse_by("apikey_subject_member", "subject",
						 "The key's subject must be a member of its project.");
}

static void
refuse_project_arguments(const ApikeyIssue *issue)
{
	if (issue->role != APIKEY_ROLE_NONE)
		apikey_refuse("role", "A personal key has no role.");
	apikey_rule_terms(issue->accept_terms, NULL);
}

/*
 * Fills in what a new key takes from its creator, who may make it, and from
 * its project, whose row it returns; NULL for a personal key.
 */
const ApikeyRow *
apikey_issue_prepare(ApikeyRow *key, const ApikeyIssue *issue,
					 ApikeyTenant *tenant)
{
	bool		in_project = issue->project != NULL;
	const ApikeyRow *project = in_project ? &tenant->project : NULL;
	text	   *prefix = issue->prefix != NULL ? issue->prefix :
		cstring_to_text(apikey_prefix);

	apikey_pepper_require();
	apikey_rule_prefix(VARDATA_ANY(prefix), VARSIZE_ANY_EXHDR(prefix));
	if (in_project)
		issue_in_project(key, issue, tenant);
	else
		refuse_project_arguments(issue);
	apikey_row_set_pointer(key, APIKEY_KEY_NAME,
						   apikey_rule_name("name", issue->name, project));
	apikey_row_set_pointer(key, APIKEY_KEY_SUBJECT,
						   apikey_principal_new_subject(issue->subject,
														in_project));
	apikey_row_set(key, APIKEY_KEY_CREATED_AT,
				   TimestampTzGetDatum(GetCurrentTimestamp()));
	apikey_rule_attributes(key, project);
	apikey_rule_metadata(key);
	apikey_rule_dates(key, project);
	apikey_rule_limit_held(key);
	apikey_row_set_pointer(key, APIKEY_KEY_PREFIX, prefix);
	apikey_key_set_owner(key, GetUserId());
	if (in_project)
		require_member(key, tenant);
	apikey_row_set(key, APIKEY_KEY_DISABLED, BoolGetDatum(false));
	return project;
}

/* Makes the text of a key whose prefix is set, and what follows from it. */
text *
apikey_issue_text(ApikeyRow *key, uint8 *digest)
{
	text	   *prefix = apikey_row_text(key, APIKEY_KEY_PREFIX);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	text	   *plaintext = apikey_generate(VARDATA_ANY(prefix),
											VARSIZE_ANY_EXHDR(prefix),
											id, digest);
	int			len = VARSIZE_ANY_EXHDR(plaintext);

	apikey_row_set_pointer(key, APIKEY_KEY_ID, id);
	apikey_row_set_pointer(key, APIKEY_KEY_LAST_FOUR,
						   cstring_to_text_with_len(VARDATA_ANY(plaintext) + len - 4, 4));
	return plaintext;
}

/*
 * Issues a key whose attributes are set in a row, and returns its text, which
 * is stored nowhere but where its project says so.
 */
text *
apikey_issue(ApikeyRow *key, const ApikeyIssue *issue)
{
	ApikeyTenant tenant;
	const ApikeyRow *project = apikey_issue_prepare(key, issue, &tenant);
	uint8		digest[APIKEY_DIGEST_BYTES];
	text	   *plaintext;

	apikey_rule_not_ended(key);
	plaintext = apikey_issue_text(key, digest);
	apikey_key_insert(key, digest, APIKEY_EVENT_CREATED,
					  key->nulls[APIKEY_KEY_ACCEPTED_TERMS] ? NULL :
					  apikey_json_text("accepted_terms",
									   apikey_row_text(key, APIKEY_KEY_ACCEPTED_TERMS)));
	apikey_live_require_room(key, project == NULL ? NULL : &tenant);
	apikey_reveal_keep(key, project, plaintext);
	return plaintext;
}
