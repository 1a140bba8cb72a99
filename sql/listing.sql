-- What a view shows, however it is asked: the same as a copy of it does.
DELETE FROM apikey_key;
DELETE FROM apikey_event;
CREATE ROLE regress_apikey_app;
CREATE ROLE regress_apikey_admin;
CREATE ROLE regress_apikey_dev;
CREATE ROLE regress_apikey_group;
CREATE ROLE regress_apikey_inside IN ROLE regress_apikey_group;
CREATE ROLE regress_apikey_outside NOINHERIT IN ROLE regress_apikey_group;
CREATE ROLE regress_apikey_auditor BYPASSRLS;
CREATE ROLE regress_apikey_gone;
SELECT apikey_organization_create('acme') IS NOT NULL AS made;
SELECT apikey_project_create('acme/' || p) FROM unnest('{one,two,three}'::text[]) p;
SELECT apikey_member_add('acme', 'regress_apikey_app', 'owner'), apikey_member_add('acme/one', 'regress_apikey_admin', 'admin'),
	apikey_member_add('acme/two', 'regress_apikey_admin', 'owner'), apikey_member_add('acme/one', 'regress_apikey_dev', 'developer'),
	apikey_member_add('acme/three', 'regress_apikey_gone', 'admin'), apikey_member_add('acme/two', 'regress_apikey_dev', 'developer');
UPDATE apikey_projects SET members_can_view = true WHERE path = 'acme/two';
CREATE FUNCTION regress_make(caller text, keys integer, project text, subjects integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', caller, true);
	PERFORM apikey_create(format('k-%s-%s-%s', right(caller, 3), coalesce(right(project, 3), 'own'), i), project,
		subject => 's' || i % subjects) FROM generate_series(1, keys) i;
	PERFORM set_config('role', 'none', true);
END $$;
SELECT regress_make('regress_apikey_app', 12, NULL, 4), regress_make('regress_apikey_app', 6, 'acme/one', 3),
	regress_make('regress_apikey_admin', 6, 'acme/one', 3), regress_make('regress_apikey_admin', 5, 'acme/two', 2),
	regress_make('regress_apikey_gone', 3, 'acme/three', 2), regress_make('regress_apikey_group', 4, NULL, 2),
	regress_make('regress_apikey_dev', 3, NULL, 2);
-- handed on, and vouched for by whoever did
SELECT count(apikey_transfer(id, 'regress_apikey_dev', 's0')) FROM apikeys WHERE name LIKE 'k-app-one-%' AND name < 'k-app-one-4';
-- some of one time
UPDATE apikey_key SET created_at = date_trunc('day', created_at) WHERE name ~ '[2468]$';
UPDATE apikey_event SET at = date_trunc('day', at) WHERE id % 2 = 0;
DROP OWNED BY regress_apikey_gone;
DROP ROLE regress_apikey_gone;
-- of a key whose owner is not known where a dump was restored
INSERT INTO apikey_event (at, event, key_id, key_name, key_owner, key_owner_name, key_subject, actor)
	VALUES (now(), 'revoked', gen_random_uuid(), 'k', '54321'::regrole, 'gone', 's1', 'gone');

-- Each shape is asked of the view and of a copy of what it shows.  Rows of one
-- time may come in any order where nothing else is said.
CREATE FUNCTION regress_shapes(OUT shapes bigint, OUT differing bigint, OUT example text) LANGUAGE plpgsql AS $$
DECLARE
	shape record;
	query text;
	got text[];
	expected text[];
BEGIN
	shapes := 0;
	differing := 0;
	FOR shape IN
		SELECT v.name AS view, c.condition, o.first, o.rest, l.limits
			FROM (VALUES ('apikeys'), ('apikey_events')) v (name)
			CROSS JOIN LATERAL unnest(CASE v.name WHEN 'apikeys' THEN ARRAY['true', 'subject = ''s1''', 'subject = ''nobody''',
					'owner = ''regress_apikey_app''', 'owner = ''regress_apikey_app''::text', 'owner = ''regress_apikey_gone''',
					'owner = current_user', 'owner = ''regress_apikey_app'' AND subject = ''s1''', 'project = ''acme/one''',
					'project IS NULL', 'project IS NULL AND subject = ''s1''', 'owner = ''regress_apikey_app'' AND project IS NULL',
					'project IS NULL AND project = ''acme/one''', 'project = ''''', 'project IS NOT NULL', 'subject IS NULL', 'project = ''acme/three''', 'project = ''acme/none''', 'project = ''acme/one'' AND subject = ''s1''',
					'subject = ''s1'' AND subject = ''s2''', 'subject = ''s1'' AND owner = project',
					'created_at < date_trunc(''day'', now()) + interval ''1 us''', 'created_at < now() AND subject = ''s2''',
					'now() > created_at AND created_at >= date_trunc(''day'', now())', 'created_at > ''-infinity''',
					'name ~ ''1$''', 'subject = ''s1'' AND name ~ ''1$''', 'status = ''active'' AND owner = ''regress_apikey_dev''',
					'id = (SELECT min(id::text)::uuid FROM apikeys)', 'id IN (SELECT id FROM apikeys WHERE subject = ''s1'')',
					'subject IN (''s1'', ''s2'')', 'subject = ''s1'' OR project = ''acme/one''', 'NOT subject = ''s1''',
					'subject COLLATE "POSIX" = ''s1''', 'vouched_by = ''regress_apikey_app''', 'use_count = 0',
					'subject = NULL', 'id = ''018f3a5c-7e1b-7c3d-8e4f-5a6b7c8d9e0f''', 'NULL']
				ELSE ARRAY['true', 'key_subject = ''s1''', 'key_subject = ''nobody''', 'project = ''acme/one''', 'project = ''acme''',
					'project = ''acme/three'' AND key_subject = ''s1''', 'id < (SELECT max(id) - 9 FROM apikey_events)', 'id >= (SELECT min(id) + 5 FROM apikey_events) AND id < 2147483647', 'id = (SELECT min(id) FROM apikey_events)', '100000000000 > id',
					'key_id = (SELECT max(id::text)::uuid FROM apikeys WHERE subject = ''s0'')', 'event = ''created'' AND project = ''acme/one''',
					'actor = ''postgres''', 'key_subject = ''s1'' AND at < now()'] END) c (condition)
			CROSS JOIN LATERAL unnest(CASE v.name WHEN 'apikeys' THEN ARRAY['created_at DESC', 'created_at DESC', 'created_at DESC', 'name']
					ELSE ARRAY['id DESC', 'at DESC', 'id', 'at'] END,
				ARRAY['', ', id DESC', ', id', ', id']) o (first, rest)
			CROSS JOIN unnest(ARRAY['', 'LIMIT 1', 'LIMIT 5', 'LIMIT 3 OFFSET 2', 'LIMIT (SELECT 2)', 'FETCH FIRST 2 ROWS WITH TIES']) l (limits)
	LOOP
		query := format('WITH %%s SELECT array_agg(%s::text) FROM (SELECT * FROM %%s WHERE %s ORDER BY %s%s %s) s',
			split_part(shape.first, ' ', 1), shape.condition, shape.first, shape.rest, shape.limits);
		EXECUTE format(query, 'nothing AS (SELECT)', shape.view) INTO got;
		EXECUTE format(query, format('copy AS MATERIALIZED (SELECT * FROM %I)', shape.view), 'copy') INTO expected;
		shapes := shapes + 1;
		IF got IS DISTINCT FROM expected THEN
			differing := differing + 1;
			example := format(query, '', shape.view);
		END IF;
	END LOOP;
END $$;
CREATE FUNCTION regress_shapes_as(caller text, who text DEFAULT NULL)
	RETURNS TABLE (keys bigint, events bigint, projects bigint, members bigint, shapes bigint, differing bigint, example text)
	LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', caller, true), set_config('my.user', coalesce(who, ''), true);
	RETURN QUERY SELECT (SELECT count(*) FROM apikeys), (SELECT count(*) FROM apikey_events),
		(SELECT count(*) FROM apikey_projects), (SELECT count(*) FROM apikey_members), s.* FROM regress_shapes() s;
	PERFORM set_config('role', 'none', true);
END $$;
SELECT caller, s.* FROM unnest('{regress_apikey_app,regress_apikey_admin,regress_apikey_dev,regress_apikey_inside,regress_apikey_outside,regress_apikey_auditor,none}'::text[])
	WITH ORDINALITY AS c (caller, n), regress_shapes_as(caller) s ORDER BY n;
-- the views show what the policies do
CREATE FUNCTION regress_by_policy(caller text, OUT keys bigint, OUT events bigint) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', caller, true);
	SELECT count(*) FROM apikey_key INTO keys;
	SELECT count(*) FROM apikey_event INTO events;
	PERFORM set_config('role', 'none', true);
END $$;
GRANT SELECT ON apikey_key, apikey_event TO PUBLIC;
SELECT caller, s.* FROM unnest('{regress_apikey_app,regress_apikey_admin,regress_apikey_dev,regress_apikey_inside,regress_apikey_outside}'::text[])
	WITH ORDINALITY AS c (caller, n), regress_by_policy(caller) s ORDER BY n;
REVOKE SELECT ON apikey_key, apikey_event FROM PUBLIC;
-- with subjects in use
SET apikey.subject_setting = 'my.user';
SELECT caller, who, s.* FROM (VALUES (1, 'regress_apikey_app', 's1'), (2, 'regress_apikey_app', NULL), (3, 'regress_apikey_dev', 's0'),
	(4, 'regress_apikey_inside', 's1'), (5, 'none', 's1')) c (n, caller, who), regress_shapes_as(caller, who) s ORDER BY n;
RESET apikey.subject_setting;
DELETE FROM apikey_event WHERE actor = 'gone';


-- what is handed down, and what is not
CREATE FUNCTION regress_call(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF, VERBOSE) ' || query LOOP
		IF line ~ 'Function Call: ' THEN
			RETURN regexp_replace(regexp_replace(line, '.*Function Call: ', ''), '::[a-z ]+', '', 'g');
		END IF;
	END LOOP;
END $$;
SELECT q AS query, regress_call('SELECT id FROM ' || q) FROM unnest(ARRAY[
	'apikeys ORDER BY created_at DESC LIMIT 20',
	'apikeys WHERE subject = ''s1'' ORDER BY created_at DESC LIMIT 20 OFFSET 5',
	'apikeys WHERE owner = ''x'' AND subject = ''s1'' ORDER BY created_at DESC, id DESC LIMIT 20',
	'apikeys WHERE project = ''acme/one'' AND created_at < ''2020-01-01'' ORDER BY created_at DESC LIMIT 20',
	'apikeys WHERE project IS NULL AND subject = ''s1'' ORDER BY created_at DESC LIMIT 20',
	'apikeys WHERE project IS NOT NULL ORDER BY created_at DESC LIMIT 20',
	'apikeys WHERE name ~ ''x'' ORDER BY created_at DESC LIMIT 20',
	'apikeys WHERE name = ''x'' ORDER BY created_at DESC LIMIT 20',
	'apikeys ORDER BY created_at LIMIT 20',
	'apikeys ORDER BY created_at DESC FETCH FIRST 2 ROWS WITH TIES',
	'apikeys FOR UPDATE LIMIT 2',
	'apikey_events WHERE key_subject = ''s1'' ORDER BY id DESC LIMIT 20',
	'apikey_events WHERE key_id = ''018f3a5c-7e1b-7c3d-8e4f-5a6b7c8d9e0f'' AND id < 7 LIMIT 20',
	'apikey_projects WHERE path = ''acme/one''',
	'(SELECT * FROM apikeys WHERE subject = ''s1'') s ORDER BY created_at DESC LIMIT 20',
	'(SELECT * FROM apikeys ORDER BY created_at DESC LIMIT 3) s WHERE subject = ''s1''']) q;
SET ROLE regress_apikey_app;
SET plan_cache_mode = force_generic_plan;
PREPARE listed(text, integer) AS SELECT name FROM apikeys WHERE subject = $1 ORDER BY created_at DESC, id DESC LIMIT $2;
SELECT regress_call('EXECUTE listed(''s3'', 2)');
EXECUTE listed('s3', 1);
EXECUTE listed('s3', NULL);
EXECUTE listed(NULL, 2);
RESET plan_cache_mode;

-- cursors, both ways, and held
BEGIN;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT name FROM apikeys WHERE owner = 'regress_apikey_app' AND project IS NULL ORDER BY name;
FETCH 2 FROM c;
SELECT apikey_rename(id, 'renamed') FROM apikeys WHERE name = 'k-app-own-1';
FETCH BACKWARD 1 FROM c;
COMMIT;
FETCH LAST FROM c;
CLOSE c;
-- own changes, and what a savepoint takes back
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM apikeys WHERE name LIKE 'mine%';
SELECT count(apikey_create('mine')) AS made;
SELECT name, status FROM apikeys WHERE name LIKE 'mine%';
SAVEPOINT s;
SELECT count(apikey_create('mine-too')) AS made;
SELECT apikey_disable(id) FROM apikeys WHERE name = 'mine';
SELECT name, status FROM apikeys ORDER BY created_at DESC, id DESC LIMIT 2;
ROLLBACK TO s;
SELECT name, status FROM apikeys WHERE name LIKE 'mine%';
ROLLBACK;
-- joined, grouped, locked, and in a lateral
SELECT project, count(*), count(DISTINCT owner) FROM apikeys GROUP BY project ORDER BY project;
SELECT count(*) FROM apikeys a JOIN apikeys b USING (id) JOIN apikey_events e ON e.key_id = a.id WHERE a.subject = 's1';
SELECT p.path, k.name FROM apikey_projects p, LATERAL (SELECT * FROM apikeys k WHERE k.project = p.path ORDER BY name LIMIT 1) k ORDER BY 1;
SELECT p.path, (SELECT count(*) FROM apikeys k WHERE k.project = p.path) FROM apikey_projects p ORDER BY 1;
RESET ROLE;
BEGIN;
SELECT count(*) FROM (SELECT FROM apikeys WHERE subject = 's1' FOR UPDATE) s;
SELECT mode FROM pg_locks WHERE relation = 'apikey_key'::regclass AND pid = pg_backend_pid();
ROLLBACK;
-- two forms
SET ROLE regress_apikey_app;
SELECT id, updated_at AS seen FROM apikeys WHERE name = 'k-app-own-3' \gset
UPDATE apikeys SET description = 'first' WHERE id = :'id' AND updated_at = :'seen' RETURNING description;
UPDATE apikeys SET description = 'second' WHERE id = :'id' AND updated_at = :'seen' RETURNING description;
-- what an update returns is what the next one compares
UPDATE apikeys SET description = 'third' WHERE id = :'id' RETURNING updated_at AS seen \gset
UPDATE apikeys SET description = 'fourth' WHERE id = :'id' AND updated_at = :'seen' RETURNING description;
SELECT description, updated_at > created_at AS later, created_by, created_by_subject, vouched_by, revealable FROM apikeys WHERE id = :'id';
RESET ROLE;
-- a member of many projects is not looked for among the members of each
CREATE ROLE regress_apikey_many;
SELECT count(apikey_project_create('acme/many-' || i)) FROM generate_series(1, 100) i;
SELECT count(*) FROM (SELECT apikey_member_add('acme/many-' || i, 'regress_apikey_many', 'admin') FROM generate_series(1, 100) i) m;
SET ROLE regress_apikey_many;
BEGIN;
SELECT pg_stat_get_xact_numscans('apikey_member_who'::regclass) + pg_stat_get_xact_numscans('apikey_member_member'::regclass) AS scans \gset
SELECT count(*) AS keys, count(DISTINCT project) AS projects FROM apikeys;
SELECT count(*) AS projects, min(role) AS role FROM apikey_projects;
SELECT pg_stat_get_xact_numscans('apikey_member_who'::regclass) + pg_stat_get_xact_numscans('apikey_member_member'::regclass) - :scans < 20 AS few_scans;
ROLLBACK;
-- what one is in a project is the higher of both, and only while the role's name is its own
RESET ROLE;
SELECT apikey_member_add('acme', 'regress_apikey_many', 'developer'), apikey_member_add('acme/many-1', 'regress_apikey_many', 'owner'),
	apikey_member_add('acme/many-2', 'regress_apikey_many', 'developer', 'somebody');
UPDATE apikey_member SET member_name = 'another' WHERE member = 'regress_apikey_many'::regrole AND project = (SELECT id FROM apikey_project WHERE path = 'acme/many-3');
SET ROLE regress_apikey_many;
SELECT role, count(*) FROM apikey_projects WHERE path LIKE 'acme/many-%' GROUP BY role ORDER BY role;
SELECT role FROM apikey_projects WHERE path = 'acme/many-3';
RESET ROLE;
SELECT count(*) FROM (SELECT apikey_member_remove(path, 'regress_apikey_many') FROM apikey_projects) r;
SELECT apikey_member_remove('acme', 'regress_apikey_many');
-- the events of one project, and of one subject, are found by an index: of very
-- many, no more are read than are listed
INSERT INTO apikey_event (at, event, key_name, key_owner, key_owner_name, key_subject, organization, place, actor)
	SELECT now(), 'created', 'many', 'regress_apikey_app'::regrole, 'regress_apikey_app', 'u' || i % 100, o.id, 'acme/many-' || i % 100 + 1, 'regress_apikey_app'
	FROM generate_series(1, 5000) i, apikey_organization o WHERE o.name = 'acme';
CREATE FUNCTION regress_read(caller text, query text, OUT listed bigint, OUT through text, OUT few boolean) LANGUAGE plpgsql AS $$
DECLARE
	before jsonb;
	after jsonb;
	counted text := 'SELECT jsonb_object_agg(indexrelid::regclass, pg_stat_get_xact_tuples_returned(indexrelid))
		|| jsonb_build_object(''none'', pg_stat_get_xact_tuples_returned(''apikey_event''::regclass))
		FROM pg_index WHERE indrelid = ''apikey_event''::regclass';
BEGIN
	EXECUTE counted INTO before;
	PERFORM set_config('role', caller, true);
	EXECUTE format('SELECT count(*) FROM (SELECT * FROM apikey_events WHERE %s ORDER BY id DESC LIMIT 20) e', query) INTO listed;
	PERFORM set_config('role', 'none', true);
	EXECUTE counted INTO after;
	SELECT string_agg(a.key, ', ' ORDER BY a.key), sum(a.value::bigint - b.value::bigint) <= 100
		FROM jsonb_each_text(after) a JOIN jsonb_each_text(before) b USING (key) WHERE a.value <> b.value INTO through, few;
END $$;
SELECT caller, query, r.* FROM (VALUES (1, 'regress_apikey_app', 'project = ''acme/many-7'''), (2, 'regress_apikey_app', 'key_subject = ''u7'''),
	(3, 'regress_apikey_app', 'project = ''acme/many-7'' AND key_subject = ''u6'''), (4, 'regress_apikey_admin', 'project = ''acme/two'''),
	(5, 'regress_apikey_app', 'key_id = (SELECT id FROM apikeys WHERE name = ''k-app-own-2'')')) c (n, caller, query),
	regress_read(caller, query) r ORDER BY n;
DROP FUNCTION regress_read;
-- every column says what it is
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.oid IN ('apikeys'::regclass, 'apikey_events'::regclass, 'apikey_projects'::regclass,
			'apikey_organizations'::regclass, 'apikey_members'::regclass)
	  AND col_description(c.oid, a.attnum) IS NULL;

DROP FUNCTION regress_call, regress_by_policy, regress_shapes_as, regress_shapes, regress_make;
SELECT apikey_organization_drop('acme', 'acme');
DELETE FROM apikey_key;
DROP ROLE regress_apikey_app, regress_apikey_admin, regress_apikey_dev, regress_apikey_group, regress_apikey_inside,
	regress_apikey_outside, regress_apikey_auditor, regress_apikey_many;
