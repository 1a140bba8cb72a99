-- Organizations, projects and members.
CREATE ROLE regress_apikey_olga;
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_dora;
CREATE ROLE regress_apikey_mallory;
-- fail: making organizations is not for everybody
SET ROLE regress_apikey_olga;
SELECT apikey_organization_create('acme');
RESET ROLE;
GRANT EXECUTE ON FUNCTION apikey_organization_create TO regress_apikey_olga;
SET ROLE regress_apikey_olga;
SELECT apikey_organization_create('acme') AS acme \gset
SELECT id = :'acme' AS id, name, role, created_at <= clock_timestamp() AS created FROM apikey_organizations;
SELECT path, member, subject, role, created_by FROM apikey_members;

-- fail: names
SELECT apikey_organization_create('acme');
SELECT apikey_organization_create(NULL);
SELECT apikey_organization_create('');
SELECT apikey_organization_create('-a');
SELECT apikey_organization_create('Acme');
SELECT apikey_organization_create('a_b');
SELECT apikey_organization_create('a/b');
SELECT apikey_organization_create('é');
SELECT apikey_organization_create(repeat('a', 65));
SELECT apikey_organization_create(repeat('a', 64)) IS NOT NULL AS longest;
SELECT apikey_organization_drop(repeat('a', 64), repeat('a', 64));
SELECT apikey_project_create('acme');
SELECT apikey_project_create('acme/');
SELECT apikey_project_create('/pay');
SELECT apikey_project_create('acme/pay/more');
SELECT apikey_project_create('acme/Pay');
SELECT apikey_project_create('none/pay');
SELECT apikey_project_create(NULL);
SELECT apikey_project_create('acme/pay', NULL);

-- A project, and one that comes with a key.
SELECT apikey_project_create('acme/pay');
SELECT apikey_project_create('acme/shop', default_key => true) AS shop \gset
SELECT code, name, project, owner, role FROM apikey_verify(:'shop', project => 'acme/shop');
-- fail: taken
SELECT apikey_project_create('acme/pay');
SELECT path, role, members_can_view, name_pattern, max_ttl, max_keys, terms, revealable FROM apikey_projects ORDER BY path;

-- Members.
SELECT apikey_member_add('acme', 'regress_apikey_anna', 'admin');
SELECT apikey_member_add('acme/pay', 'regress_apikey_dora', 'owner');
SELECT apikey_member_add('acme/pay', 'regress_apikey_dora', 'developer');
SELECT path, member, role FROM apikey_members ORDER BY path, member::text;
-- fail: who and what must exist
SELECT apikey_member_add('acme', 0, 'admin');
SELECT apikey_member_add('acme', '999999', 'admin');
SELECT apikey_member_add('acme', '-', 'admin');
SELECT apikey_member_add('acme/none', 'regress_apikey_dora', 'admin');
SELECT apikey_member_add('none', 'regress_apikey_dora', 'admin');
SELECT apikey_member_add('', 'regress_apikey_dora', 'admin');
SELECT apikey_member_add('acme', 'regress_apikey_dora', NULL);
SELECT apikey_member_add('acme', NULL, 'admin');
SELECT apikey_member_add(NULL, 'regress_apikey_dora', 'admin');
SELECT apikey_member_add('acme', 'regress_apikey_dora', 'admin', '');
SELECT apikey_member_remove('acme', 'regress_apikey_dora'), apikey_member_remove('acme', '999999');
SELECT apikey_member_remove('none', 'regress_apikey_dora');

-- A key's role is the lower of its own and its creator's present one.
SET ROLE regress_apikey_anna;
SELECT apikey_create('deploy', 'acme/pay') AS deploy, apikey_create('small', 'acme/pay', role => 'developer') AS small \gset
-- fail: above her own; where she is not; a place that is no project
SELECT apikey_create('big', 'acme/pay', role => 'owner');
SELECT apikey_create('other', 'acme/none');
SELECT apikey_create('other', 'acme');
SELECT apikey_create('other', '');
SELECT apikey_create('deploy', 'acme/pay');
-- the same name elsewhere
SELECT code, project, role FROM apikey_verify(apikey_create('deploy', 'acme/shop'), project => 'acme/shop');
PREPARE verify AS SELECT code, project, role FROM apikey_verify(:'deploy', project => 'acme', min_role => 'admin');
EXECUTE verify;
SELECT code, project, role FROM apikey_verify(:'small', project => 'acme', min_role => 'developer');
SELECT code, role FROM apikey_verify(:'small', project => 'acme', min_role => 'admin');
SELECT p, code FROM (VALUES ('acme/pay'), ('acme'), ('acme/'), ('acme/shop'), ('ac'), (''), ('acme/pa'), ('acme/payments')) AS ps (p),
	apikey_verify(:'deploy', project => p);
SELECT apikey_check(:'deploy', project => 'acme'), apikey_check(:'deploy', project => 'acme/shop');
SET ROLE regress_apikey_olga;
SELECT apikey_member_add('acme', 'regress_apikey_anna', 'developer');
EXECUTE verify;
SELECT code, role FROM apikey_verify(:'deploy', project => 'acme');
SELECT apikey_member_add('acme/pay', 'regress_apikey_anna', 'owner');
EXECUTE verify;
SELECT code, role FROM apikey_verify(:'deploy', project => 'acme', min_role => 'owner');
SELECT apikey_member_remove('acme', 'regress_apikey_anna'), apikey_member_remove('acme/pay', 'regress_apikey_anna');
EXECUTE verify;
SELECT code, valid, name, owner FROM apikey_verify(:'deploy', project => 'other');
SELECT apikey_member_add('acme/pay', 'regress_apikey_anna', 'admin');
EXECUTE verify;
-- a rolled back change holds for nobody
BEGIN;
SELECT apikey_member_remove('acme/pay', 'regress_apikey_anna');
EXECUTE verify;
ROLLBACK;
EXECUTE verify;

-- The creator may list and revoke what is hers, no more, even when she has gone.
SELECT apikey_member_remove('acme/pay', 'regress_apikey_anna');
SET ROLE regress_apikey_anna;
SELECT name, project, role, status FROM apikeys ORDER BY project, name;
\set VERBOSITY sqlstate
SELECT apikey_rename(apikey_id(:'deploy'), 'mine');
SELECT apikey_delete(apikey_id(:'small'), 'small');
\set VERBOSITY default
SELECT apikey_revoke(apikey_id(:'small'), 'gone');
SELECT path FROM apikey_projects;

-- Transfer, for keys of people who leave.
SET ROLE regress_apikey_olga;
SELECT apikey_transfer(apikey_id(:'deploy'), 'regress_apikey_dora');
SELECT code, owner, role FROM apikey_verify(:'deploy', project => 'acme');
SET ROLE regress_apikey_dora;
SELECT name, owner, role FROM apikeys;
SET ROLE regress_apikey_anna;
SELECT name FROM apikeys WHERE name = 'deploy' AND project = 'acme/pay';
SET ROLE regress_apikey_olga;
-- fail: to a stranger, to nobody
SELECT apikey_transfer(apikey_id(:'deploy'), 'regress_apikey_mallory');
SELECT apikey_transfer(apikey_id(:'deploy'), '999999');
SELECT apikey_transfer(apikey_id(:'deploy'), NULL);
SELECT apikey_transfer(NULL, 'regress_apikey_dora');
\set VERBOSITY sqlstate
SELECT apikey_transfer(apikey_id(:'small'), 'regress_apikey_dora');
\set VERBOSITY default
SELECT apikey_create('personal') AS personal \gset
SELECT apikey_transfer(apikey_id(:'personal'), 'regress_apikey_dora');
RESET ROLE;
SELECT apikey_transfer(apikey_id(:'personal'), 'regress_apikey_dora');
SELECT owner FROM apikey_verify(:'personal');

-- The settings of a project.
SET ROLE regress_apikey_olga;
UPDATE apikey_projects SET name_pattern = '[a-z]+(-[a-z]+)*', max_ttl = '90 days', max_keys = 3, terms = 'v1: be nice',
	members_can_view = true, revealable = true WHERE path = 'acme/shop';
SELECT path, members_can_view, name_pattern, max_ttl, max_keys, terms, revealable FROM apikey_projects ORDER BY path;
-- existing keys stay; new ones obey
SELECT name, expires_at FROM apikeys WHERE project = 'acme/shop' ORDER BY name;
SELECT apikey_create('bad_name', 'acme/shop', accept_terms => 'v1: be nice', expires_at => now() + interval '1 day');
SELECT apikey_create('no-terms', 'acme/shop', expires_at => now() + interval '1 day');
SELECT apikey_create('other-terms', 'acme/shop', accept_terms => 'v2', expires_at => now() + interval '1 day');
SELECT apikey_create('for-ever', 'acme/shop', accept_terms => 'v1: be nice');
SELECT apikey_create('too-long', 'acme/shop', accept_terms => 'v1: be nice', expires_at => now() + interval '91 days');
SELECT apikey_create('endless', 'acme/shop', accept_terms => 'v1: be nice', expires_at => 'infinity');
SELECT apikey_create('right', 'acme/shop', accept_terms => 'v1: be nice', expires_at => now() + interval '89 days') AS "right" \gset
SELECT code FROM apikey_verify(:'right', project => 'acme');
SELECT apikey_create('one-more', 'acme/shop', accept_terms => 'v1: be nice', expires_at => now() + interval '1 day');
UPDATE apikeys SET expires_at = NULL WHERE id = apikey_id(:'right');
UPDATE apikeys SET expires_at = now() + interval '91 days' WHERE id = apikey_id(:'right');
UPDATE apikeys SET description = 'x', expires_at = now() + interval '1 day' WHERE id = apikey_id(:'right');
SELECT apikey_rename(apikey_id(:'right'), 'Wrong');
SELECT apikey_rename(apikey_id(:'right'), 'a');
-- a disabled key keeps its place, a revoked one does not
SELECT apikey_disable(apikey_id(:'right'));
SELECT apikey_create('one-more', 'acme/shop', accept_terms => 'v1: be nice', expires_at => now() + interval '1 day');
SELECT apikey_revoke(apikey_id(:'right'));
SELECT code FROM apikey_verify(apikey_create('one-more', 'acme/shop', accept_terms => 'v1: be nice', expires_at => now() + interval '1 day'), project => 'acme/shop');
RESET ROLE;
SELECT name, accepted_terms FROM apikey_key WHERE accepted_terms IS NOT NULL ORDER BY name;
SET ROLE regress_apikey_olga;
-- fail: what a setting cannot be, and nothing changed
UPDATE apikey_projects SET members_can_view = NULL WHERE path = 'acme/shop';
UPDATE apikey_projects SET revealable = NULL WHERE path = 'acme/shop';
UPDATE apikey_projects SET name_pattern = '' WHERE path = 'acme/shop';
UPDATE apikey_projects SET name_pattern = '(' WHERE path = 'acme/shop';
UPDATE apikey_projects SET name_pattern = 'a)|(b' WHERE path = 'acme/shop';
UPDATE apikey_projects SET name_pattern = '(?i)abc' WHERE path = 'acme/shop';
UPDATE apikey_projects SET name_pattern = '***=abc' WHERE path = 'acme/shop';
UPDATE apikey_projects SET name_pattern = repeat('a', 201) WHERE path = 'acme/shop';
UPDATE apikey_projects SET max_ttl = '0' WHERE path = 'acme/shop';
UPDATE apikey_projects SET max_ttl = '-1 day' WHERE path = 'acme/shop';
UPDATE apikey_projects SET max_ttl = '1000000 years' WHERE path = 'acme/shop';
UPDATE apikey_projects SET max_ttl = '1000000 months -29999990 days' WHERE path = 'acme/shop';
UPDATE apikey_projects SET max_keys = -1 WHERE path = 'acme/shop';
UPDATE apikey_projects SET terms = '' WHERE path = 'acme/shop';
UPDATE apikey_projects SET terms = repeat('x', 10001) WHERE path = 'acme/shop';
UPDATE apikey_projects SET path = 'acme/store' WHERE path = 'acme/shop';
UPDATE apikey_projects SET role = NULL WHERE path = 'acme/shop';
UPDATE apikey_projects SET created_at = now() WHERE path = 'acme/shop';
UPDATE apikey_projects SET id = gen_random_uuid() WHERE path = 'acme/shop';
INSERT INTO apikey_projects (path) VALUES ('acme/more');
DELETE FROM apikey_projects;
SELECT path, members_can_view, name_pattern, max_ttl, max_keys, terms, revealable FROM apikey_projects ORDER BY path;
-- a pattern matches the whole name, and nothing invisible
UPDATE apikey_projects SET max_ttl = NULL, max_keys = NULL, terms = NULL, name_pattern = 'a|b.*|c c' WHERE path = 'acme/shop';
SELECT code FROM apikey_verify(apikey_create('a', 'acme/shop'), project => 'acme/shop');
SELECT code FROM apikey_verify(apikey_create('b.$é', 'acme/shop'), project => 'acme/shop');
SELECT apikey_create('ab', 'acme/shop');
SELECT apikey_create('c c', 'acme/shop');
SELECT apikey_create(U&'b\200B', 'acme/shop');
SELECT apikey_create('b' || repeat('x', 64), 'acme/shop');
-- a pattern may let in what the rule does not
BEGIN;
SELECT code FROM apikey_verify(apikey_create(U&'b\2764\FE0F', 'acme/shop'), project => 'acme/shop'), apikey_create(U&'b\3164\E000\0378', 'acme/shop');
ROLLBACK;
SELECT apikey_create('c', 'acme/shop', accept_terms => 'v1');
SELECT apikey_create('personal-terms', accept_terms => 'v1');

-- The last owner stays, for a superuser too.
SELECT apikey_member_remove('acme', 'regress_apikey_olga');
SELECT apikey_member_add('acme', 'regress_apikey_olga', 'admin');
RESET ROLE;
SELECT apikey_member_remove('acme', 'regress_apikey_olga');
SELECT apikey_member_add('acme', 'regress_apikey_anna', 'owner');
SELECT apikey_member_remove('acme', 'regress_apikey_olga');
SELECT apikey_member_add('acme', 'regress_apikey_anna', 'developer');
-- a project may be without
SELECT apikey_member_add('acme/pay', 'regress_apikey_mallory', 'owner');
SELECT apikey_member_remove('acme/pay', 'regress_apikey_mallory');
-- an owner who is no more does not count, and superusers appoint another
DROP ROLE regress_apikey_anna;
SELECT apikey_member_add('acme', 'regress_apikey_olga', 'owner');
SELECT path, role FROM apikey_members WHERE member = 'regress_apikey_olga'::regrole;
SET ROLE regress_apikey_olga;
SELECT apikey_member_remove('acme', 'regress_apikey_olga');
SELECT apikey_member_remove(path, member) FROM apikey_members WHERE member::text ~ '^\d+$';

-- The key of a dropped role is revoked and leaves its name.
SELECT name, project, status, revoke_reason FROM apikeys WHERE project = 'acme/shop' AND name = 'deploy';
UPDATE apikey_projects SET name_pattern = NULL WHERE path = 'acme/shop';
SELECT code FROM apikey_verify(apikey_create('deploy', 'acme/shop'), project => 'acme/shop');
SELECT name, status, revoke_reason FROM apikeys WHERE project = 'acme/shop' AND name = 'deploy' ORDER BY status;

-- A stranger knows of nothing.
SET ROLE regress_apikey_mallory;
SELECT (SELECT count(*) FROM apikey_organizations) + (SELECT count(*) FROM apikey_projects) + (SELECT count(*) FROM apikey_members)
	+ (SELECT count(*) FROM apikeys) + (SELECT count(*) FROM apikey_events) AS seen;
SELECT apikey_create('spy', 'acme/pay');
SELECT apikey_create('spy', 'acme/none');
SELECT apikey_project_drop('acme/pay', 'acme/pay');
SELECT apikey_project_drop('acme/none', 'acme/none');
SELECT apikey_organization_drop('acme', 'acme');

-- So many members are added or changed in a transaction, also by what is rolled
-- back in it, and no more: whoever removes who has done so is to be done soon.
SET ROLE regress_apikey_olga;
BEGIN;
SELECT apikey_organization_create('many') IS NOT NULL AS made;
CREATE FUNCTION pg_temp.add_many(project text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	PERFORM apikey_project_create(project || '-' || p) FROM generate_series(1, 50) AS p;
	FOR p IN 1 .. 50 LOOP
		PERFORM apikey_member_add(project || '-' || p, 'regress_apikey_dora', 'developer', 'user-' || s) FROM generate_series(1, 100) AS s;
	END LOOP;
END $$;
SAVEPOINT one;
SELECT pg_temp.add_many('many/a');
ROLLBACK TO one;
SELECT pg_temp.add_many('many/b');
SAVEPOINT two;
SELECT apikey_member_add('many/b-1', 'regress_apikey_dora', 'developer', 'another');
ROLLBACK TO two;
SELECT apikey_member_add('many/b-1', 'regress_apikey_dora', 'admin', 'user-1');
ROLLBACK TO two;
SELECT apikey_member_add('many/b-1', 'regress_apikey_dora', 'developer', 'user-1');
SELECT apikey_member_remove('many/b-1', 'regress_apikey_dora', 'user-1');
RESET ROLE;
SELECT apikey_member_add('many/b-1', 'regress_apikey_dora', 'developer', 'another');
ROLLBACK;
SET ROLE regress_apikey_olga;
BEGIN;
SELECT apikey_member_add('acme/pay', 'regress_apikey_dora', 'developer', 'another');
ROLLBACK;
RESET ROLE;
-- Dropping asks for the name, takes all that is below, and keeps the trail.
SET ROLE regress_apikey_olga;
SELECT apikey_project_drop('acme/pay', 'pay');
SELECT apikey_project_drop('acme/pay', NULL);
SELECT apikey_project_drop('acme', 'acme');
SELECT apikey_organization_drop('acme/pay', 'acme/pay');
SELECT code FROM apikey_verify(:'deploy', project => 'acme');
SELECT apikey_project_drop('acme/pay', 'acme/pay');
SELECT code FROM apikey_verify(:'deploy', project => 'acme');
SELECT path FROM apikey_projects;
SELECT event, key_name, project, CASE WHEN actor ~ '^regress' THEN actor END AS actor, detail FROM apikey_events WHERE project = 'acme/pay' ORDER BY id;
SELECT bool_and(at >= before) AS rising FROM (SELECT at, lag(at) OVER (ORDER BY id) AS before FROM apikey_events) AS e;
-- a project made anew knows nothing of the old one's keys
SELECT apikey_project_create('acme/pay');
SELECT name FROM apikeys WHERE project = 'acme/pay';
SELECT apikey_organization_drop('acme', 'ACME');
SELECT apikey_organization_drop('acme', 'acme');
SELECT count(*) FROM apikey_organizations;
SELECT apikey_organization_drop('acme', 'acme');
-- what is left to see is about keys of one's own
SELECT DISTINCT event, key_name, project FROM apikey_events WHERE project IS NULL ORDER BY 1, 2;
RESET ROLE;
SELECT event, project FROM apikey_events WHERE event LIKE 'organization%' ORDER BY id;
SELECT (SELECT count(*) FROM apikey_project) + (SELECT count(*) FROM apikey_member) + (SELECT count(*) FROM apikey_key WHERE project IS NOT NULL) AS rows_left;

DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
REVOKE EXECUTE ON FUNCTION apikey_organization_create FROM regress_apikey_olga;
DROP ROLE regress_apikey_olga, regress_apikey_dora, regress_apikey_mallory;
