-- Who may do what: every role, every function and view, on organization and
-- project.  The expected answers are the table below, as data.
SET client_min_messages = warning;
CREATE ROLE regress_apikey_org_owner;
CREATE ROLE regress_apikey_org_admin;
CREATE ROLE regress_apikey_org_dev;
CREATE ROLE regress_apikey_owner;
CREATE ROLE regress_apikey_admin;
CREATE ROLE regress_apikey_dev;
CREATE ROLE regress_apikey_creator;
CREATE ROLE regress_apikey_group;
CREATE ROLE regress_apikey_in_group IN ROLE regress_apikey_group;
CREATE ROLE regress_apikey_outsider;
CREATE ROLE regress_apikey_auditor BYPASSRLS;
CREATE ROLE regress_apikey_super SUPERUSER;
GRANT EXECUTE ON FUNCTION apikey_organization_create TO regress_apikey_org_owner;

SET ROLE regress_apikey_org_owner;
SELECT apikey_organization_create('acme') IS NOT NULL AS created;
SELECT apikey_project_create('acme/pay'), apikey_project_create('acme/other');
DO $$
BEGIN
	PERFORM apikey_member_add('acme', 'regress_apikey_org_admin', 'admin');
	PERFORM apikey_member_add('acme', 'regress_apikey_org_dev', 'developer');
	PERFORM apikey_member_add('acme/pay', 'regress_apikey_owner', 'owner');
	PERFORM apikey_member_add('acme/pay', 'regress_apikey_admin', 'admin');
	PERFORM apikey_member_add('acme/pay', 'regress_apikey_dev', 'developer');
	PERFORM apikey_member_add('acme/pay', 'regress_apikey_creator', 'admin');
	PERFORM apikey_member_add('acme/pay', 'regress_apikey_group', 'admin');
END $$;
-- Three keys: of the creator, since demoted; of an admin; of an owner.
SELECT apikey_create('by-owner', 'acme/pay') AS by_owner \gset
SET ROLE regress_apikey_admin;
SELECT apikey_create('by-admin', 'acme/pay') AS by_admin \gset
SET ROLE regress_apikey_creator;
SELECT apikey_create('by-creator', 'acme/pay') AS by_creator \gset
SET ROLE regress_apikey_org_owner;
SELECT apikey_member_add('acme/pay', 'regress_apikey_creator', 'developer');
RESET ROLE;
SELECT name, owner, role FROM apikeys ORDER BY name;

-- Limits, and an hour of use, as rows: they are made by a library that is not
-- preloaded here.
INSERT INTO apikey_limit (id, key, organization, project, subject, unit, kind, amount, period, shared, overdraft, starts_at, created_at, created_by)
	SELECT gen_random_uuid(), key, CASE WHEN key IS NULL THEN p.organization END, CASE WHEN in_project THEN p.id END,
		subject, 'tokens', 'rate', 10, '1 hour', false, 0, now(), now(), current_user
	FROM apikey_project p, (VALUES (NULL, false, NULL), (NULL, true, NULL), (NULL, true, 'carl'), (apikey_id(:'by_admin'), false, NULL))
		AS limits (key, in_project, subject)
	WHERE p.path = 'acme/pay';
INSERT INTO apikey_history (id, key_id, key_name, key_owner, key_owner_name, place, organization, project, starts_at, step, use_count, denied, spent)
	SELECT gen_random_uuid(), k.id, k.name, k.owner, k.owner_name, 'acme/pay', p.organization, p.id, date_trunc('hour', now()), '1 hour', 1, '{}', '{}'
	FROM apikey_key k JOIN apikey_project p ON p.id = k.project WHERE k.id = apikey_id(:'by_admin');

-- What is tried, each in a transaction that is rolled back.
CREATE TABLE regress_calls (n serial, call text, query text);
INSERT INTO regress_calls (call, query) VALUES
	('see organization', 'SELECT FROM apikey_organizations'),
	('see project', 'SELECT FROM apikey_projects WHERE path = ''acme/pay'''),
	('see its members', 'SELECT FROM apikey_members WHERE path = ''acme/pay'''),
	('see organization''s members', 'SELECT FROM apikey_members WHERE path = ''acme'''),
	('list the keys', 'SELECT FROM apikeys WHERE project = ''acme/pay'''),
	('see organization''s limit', 'SELECT FROM apikey_limits WHERE path = ''acme'''),
	('see project''s limit', 'SELECT FROM apikey_limits WHERE path = ''acme/pay'' AND subject IS NULL'),
	('see limit of a subject there', 'SELECT FROM apikey_limits WHERE path = ''acme/pay'' AND subject IS NOT NULL'),
	('see key''s limit', 'SELECT FROM apikey_limits WHERE key_id = apikey_id(%2$L)'),
	('see key''s use', 'SELECT FROM apikey_usage_history WHERE key_id = apikey_id(%2$L)'),
	('see events of the project', 'SELECT FROM apikey_events WHERE project = ''acme/pay'' AND event = ''project_created'''),
	('create project', 'SELECT apikey_project_create(''acme/new'')'),
	('add organization member', 'SELECT apikey_member_add(''acme'', ''regress_apikey_outsider'', ''developer'')'),
	('remove organization member', 'SELECT apikey_member_remove(''acme'', ''regress_apikey_org_dev'')'),
	('drop organization', 'SELECT apikey_organization_drop(''acme'', ''acme'')'),
	('add member', 'SELECT apikey_member_add(''acme/pay'', ''regress_apikey_outsider'', ''developer'')'),
	('remove member', 'SELECT apikey_member_remove(''acme/pay'', ''regress_apikey_dev'')'),
	('change settings', 'UPDATE apikey_projects SET max_keys = 100 WHERE path = ''acme/pay'''),
	('drop project', 'SELECT apikey_project_drop(''acme/pay'', ''acme/pay'')'),
	('create key', 'SELECT apikey_create(''new'', ''acme/pay'')'),
	('create owner''s key', 'SELECT apikey_create(''new'', ''acme/pay'', role => ''owner'')'),
	('update', 'UPDATE apikeys SET description = ''x'' WHERE id = apikey_id(%2$L)'),
	('raise role', 'UPDATE apikeys SET role = ''owner'' WHERE id = apikey_id(%1$L)'),
	('rename', 'SELECT apikey_rename(apikey_id(%2$L), ''other'')'),
	('rotate', 'SELECT apikey_rotate(apikey_id(%2$L))'),
	('reveal', 'SELECT apikey_reveal(apikey_id(%2$L))'),
	('transfer', 'SELECT apikey_transfer(apikey_id(%2$L), ''regress_apikey_dev'')'),
	('disable', 'SELECT apikey_disable(apikey_id(%2$L))'),
	('enable', 'SELECT apikey_enable(apikey_id(%2$L))'),
	('revoke', 'SELECT apikey_revoke(apikey_id(%2$L))'),
	('delete', 'SELECT apikey_delete(apikey_id(%2$L), ''by-admin'')'),
	('update owner''s', 'UPDATE apikeys SET description = ''x'' WHERE id = apikey_id(%3$L)'),
	('rename owner''s', 'SELECT apikey_rename(apikey_id(%3$L), ''other'')'),
	('rotate owner''s', 'SELECT apikey_rotate(apikey_id(%3$L), ''1 hour'')'),
	('reveal owner''s', 'SELECT apikey_reveal(apikey_id(%3$L))'),
	('transfer owner''s', 'SELECT apikey_transfer(apikey_id(%3$L), ''regress_apikey_dev'')'),
	('disable owner''s', 'SELECT apikey_disable(apikey_id(%3$L))'),
	('enable owner''s', 'SELECT apikey_enable(apikey_id(%3$L))'),
	('revoke owner''s', 'SELECT apikey_revoke(apikey_id(%3$L))'),
	('delete owner''s', 'SELECT apikey_delete(apikey_id(%3$L), ''by-owner'')'),
	('update creator''s', 'UPDATE apikeys SET description = ''x'' WHERE id = apikey_id(%1$L)'),
	('rotate creator''s', 'SELECT apikey_rotate(apikey_id(%1$L))'),
	('reveal creator''s', 'SELECT apikey_reveal(apikey_id(%1$L))'),
	('disable creator''s', 'SELECT apikey_disable(apikey_id(%1$L))'),
	('delete creator''s', 'SELECT apikey_delete(apikey_id(%1$L), ''by-creator'')'),
	('revoke creator''s', 'SELECT apikey_revoke(apikey_id(%1$L))');
-- no: 42704, not known; 42501: known, not allowed; 55000: allowed, but nothing
-- to reveal without a pepper; 0, 1, ...: rows.
CREATE TABLE regress_matrix (call text, org_owner text, org_admin text, org_dev text, owner text, admin text,
	dev text, creator text, in_group text, outsider text, auditor text, super text);
COPY regress_matrix FROM stdin (DELIMITER ';');
see organization;1;1;1;0;0;0;0;0;0;1;1
see project;1;1;1;1;1;1;1;1;0;1;1
see its members;5;5;5;5;5;5;5;5;0;5;5
see organization's members;3;3;3;0;0;0;0;0;0;3;3
list the keys;3;3;0;3;3;0;1;3;0;3;3
see organization's limit;1;1;1;0;0;0;0;0;0;1;1
see project's limit;1;1;1;1;1;1;1;1;0;1;1
see limit of a subject there;1;1;0;1;1;0;0;1;0;1;1
see key's limit;1;1;0;1;1;0;0;1;0;1;1
see key's use;1;0;0;1;1;0;0;0;0;1;1
see events of the project;1;0;0;1;0;0;0;0;0;1;1
create project;ok;42501;42501;no;no;no;no;no;no;42501;ok
add organization member;ok;42501;42501;no;no;no;no;no;no;42501;ok
remove organization member;ok;42501;42501;no;no;no;no;no;no;42501;ok
drop organization;ok;42501;42501;no;no;no;no;no;no;42501;ok
add member;ok;42501;42501;ok;42501;42501;42501;42501;no;42501;ok
remove member;ok;42501;42501;ok;42501;42501;42501;42501;no;42501;ok
change settings;1;42501;42501;1;42501;42501;42501;42501;0;42501;1
drop project;ok;42501;42501;ok;42501;42501;42501;42501;no;42501;ok
create key;ok;ok;42501;ok;ok;42501;42501;ok;no;42501;ok
create owner's key;ok;42501;42501;ok;42501;42501;42501;42501;no;42501;ok
update;1;1;0;1;1;0;0;1;0;42501;1
raise role;1;42501;0;1;42501;0;42501;42501;0;42501;1
rename;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
rotate;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
reveal;55000;55000;no;55000;55000;no;no;55000;no;42501;55000
transfer;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
disable;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
enable;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
revoke;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
delete;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
update owner's;1;42501;0;1;42501;0;0;42501;0;42501;1
rename owner's;ok;42501;no;ok;42501;no;no;42501;no;42501;ok
rotate owner's;ok;42501;no;ok;42501;no;no;42501;no;42501;ok
reveal owner's;55000;42501;no;55000;42501;no;no;42501;no;42501;55000
transfer owner's;ok;42501;no;ok;42501;no;no;42501;no;42501;ok
disable owner's;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
enable owner's;ok;42501;no;ok;42501;no;no;42501;no;42501;ok
revoke owner's;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
delete owner's;ok;ok;no;ok;ok;no;no;ok;no;42501;ok
update creator's;1;1;0;1;1;0;42501;1;0;42501;1
rotate creator's;ok;ok;no;ok;ok;no;42501;ok;no;42501;ok
reveal creator's;55000;55000;no;55000;55000;no;42501;55000;no;42501;55000
disable creator's;ok;ok;no;ok;ok;no;42501;ok;no;42501;ok
delete creator's;ok;ok;no;ok;ok;no;42501;ok;no;42501;ok
revoke creator's;ok;ok;no;ok;ok;no;ok;ok;no;42501;ok
\.
CREATE FUNCTION regress_attempt(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE query;
	GET DIAGNOSTICS n = ROW_COUNT;
	RAISE SQLSTATE 'RB000';
EXCEPTION
	WHEN SQLSTATE 'RB000' THEN RETURN CASE WHEN query ~ '^SELECT apikey' THEN 'ok' ELSE n::text END;
	WHEN undefined_object THEN RETURN 'no';
	WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
CREATE FUNCTION regress_walk(by_creator text, by_admin text, by_owner text)
	RETURNS TABLE (n int, call text, who text, result text) LANGUAGE plpgsql AS $$
BEGIN
	FOR n, call, who IN
		SELECT c.n, c.call, w FROM regress_calls c,
			unnest('{org_owner,org_admin,org_dev,owner,admin,dev,creator,in_group,outsider,auditor,super}'::text[]) AS w
	LOOP
		EXECUTE 'SET ROLE regress_apikey_' || who;
		result := regress_attempt((SELECT format(c.query, by_creator, by_admin, by_owner) FROM regress_calls c WHERE c.n = regress_walk.n));
		RESET ROLE;
		RETURN NEXT;
	END LOOP;
END $$;
GRANT SELECT ON regress_calls TO PUBLIC;
CREATE TABLE regress_results AS SELECT * FROM regress_walk(:'by_creator', :'by_admin', :'by_owner');
-- Where the answers differ from the matrix: nowhere.
SELECT r.call, r.who, to_jsonb(m) ->> r.who AS expected, r.result
	FROM regress_results r LEFT JOIN regress_matrix m USING (call)
	WHERE to_jsonb(m) ->> r.who IS DISTINCT FROM r.result ORDER BY n, who;
SELECT count(*) AS tried, count(DISTINCT call) AS calls, count(DISTINCT who) AS roles FROM regress_results;

-- With members_can_view, developers see the keys, and no more than that.
UPDATE apikey_projects SET members_can_view = true WHERE path = 'acme/pay';
SELECT r.call, string_agg(r.who, ', ' ORDER BY r.who) AS who, m.dev AS was, min(r.result) AS "is"
	FROM regress_walk(:'by_creator', :'by_admin', :'by_owner') r JOIN regress_matrix m USING (call)
	WHERE to_jsonb(m) ->> r.who IS DISTINCT FROM r.result GROUP BY n, call, m.dev, r.result ORDER BY n;
UPDATE apikey_projects SET members_can_view = false WHERE path = 'acme/pay';

-- Nothing of all that stayed.
SELECT name, status, owner, role, description FROM apikeys ORDER BY name;
SELECT path, member, role FROM apikey_members ORDER BY path, member::text;

-- Raw tables, for who may read tables at all, show the same rows as the views.
CREATE ROLE regress_apikey_reader IN ROLE pg_read_all_data;
SET ROLE regress_apikey_org_owner;
SELECT apikey_member_add('acme/pay', 'regress_apikey_reader', 'admin');
SET ROLE regress_apikey_reader;
SELECT (SELECT count(*) FROM apikey_organization) AS organizations, (SELECT count(*) FROM apikey_project) AS projects,
	(SELECT count(*) FROM apikey_member) AS members, (SELECT count(*) FROM apikey_key) AS keys,
	(SELECT count(*) FROM apikey_event) AS events, (SELECT count(*) FROM apikey_digest) AS digests;
SELECT (SELECT count(*) FROM apikey_organizations) AS organizations, (SELECT count(*) FROM apikey_projects) AS projects,
	(SELECT count(*) FROM apikey_members) AS members, (SELECT count(*) FROM apikeys) AS keys,
	(SELECT count(*) FROM apikey_events) AS events;

SET ROLE regress_apikey_org_owner;
SELECT apikey_organization_drop('acme', 'acme');
RESET ROLE;
SELECT (SELECT count(*) FROM apikey_organization) + (SELECT count(*) FROM apikey_project) + (SELECT count(*) FROM apikey_member)
	+ (SELECT count(*) FROM apikey_key) + (SELECT count(*) FROM apikey_digest) AS rows_left;
SELECT count(*) AS limits_left FROM apikey_limit;
DELETE FROM apikey_event;
DELETE FROM apikey_history;
DROP FUNCTION regress_walk, regress_attempt;
DROP TABLE regress_calls, regress_matrix, regress_results;
REVOKE EXECUTE ON FUNCTION apikey_organization_create FROM regress_apikey_org_owner;
DROP ROLE regress_apikey_org_owner, regress_apikey_org_admin, regress_apikey_org_dev, regress_apikey_owner, regress_apikey_admin,
	regress_apikey_dev, regress_apikey_creator, regress_apikey_in_group, regress_apikey_group, regress_apikey_outsider,
	regress_apikey_auditor, regress_apikey_super, regress_apikey_reader;
