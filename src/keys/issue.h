/*
 * issue.h
 *		How a key is made for its creator.
 */
#ifndef APIKEY_ISSUE_H
#define APIKEY_ISSUE_H

#include "store/store.h"

/* What a creator asks for beside a key's attributes; NULL for the default. */
typedef struct ApikeyIssue
{
	text	   *name;
	text	   *project;
	text	   *subject;
	text	   *prefix;
	text	   *accept_terms;
	ApikeyRole	role;
} ApikeyIssue;

/* issue.c */
extern text *apikey_issue(ApikeyRow *key, const ApikeyIssue *issue);

#endif							/* APIKEY_ISSUE_H */
