-- A stranger cannot count out of what the server counts whether there is what a
-- function is called with: the rows and pages that are read, by table, index
-- and TOAST table, the buffers of EXPLAIN, and the locks, are the same for an
-- organization, project, key or text that exists and for one that does not.
SET client_min_messages = warning;
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_stranger;
CREATE SCHEMA regress_try;
GRANT ALL ON SCHEMA regress_try TO regress_apikey_stranger;
GRANT EXECUTE ON FUNCTION apikey_organization_create, apikey_import, apikey_events_purge TO regress_apikey_anna;
GRANT EXECUTE ON FUNCTION apikey_import TO regress_apikey_stranger;
SET SESSION AUTHORIZATION regress_apikey_anna;
SELECT apikey_organization_create('acme') \g /dev/null
SELECT apikey_project_create('acme/pay') \g /dev/null
SELECT apikey_create('one', 'acme/pay', metadata => json_build_object('long', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i))::jsonb) AS key \gset
SELECT apikey_create('mine', credits => 5) AS personal \gset
SELECT apikey_create('two', 'acme/pay') AS deleted \gset
SELECT apikey_delete(apikey_id(:'deleted'), 'two') \g /dev/null
SELECT apikey_import('theirs', 'crypt', '$2a$04$abcdefghijklmnopqrstuu5Hx8SRZ5n4FcvV3AVHDhTDMVFKfuBHO', lookup => 'theirs-1234') \g /dev/null
SELECT apikey_import('hashed', 'md5', md5('a key of another system')) \g /dev/null
RESET SESSION AUTHORIZATION;
DO $$
BEGIN
	FOR i IN 1 .. 40 LOOP
		EXECUTE format('CREATE ROLE regress_apikey_member_%s', i);
		PERFORM apikey_member_add(CASE i % 2 WHEN 0 THEN 'acme' ELSE 'acme/pay' END, format('regress_apikey_member_%s', i)::regrole, 'developer');
	END LOOP;
	-- more than are looked through one by one
	FOR i IN 1 .. 70 LOOP
		PERFORM apikey_member_add('acme', 'regress_apikey_member_1', 'developer', i::text), apikey_member_add('acme/pay', 'regress_apikey_member_1', 'developer', i::text);
	END LOOP;
END $$;
SELECT apikey_grant('administer', 'regress_apikey_member_3') \g /dev/null
-- what stands beside the tables is read too
UPDATE apikey_project SET terms = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i);
-- limits are not set without the library, but may be there
INSERT INTO apikey_limit (id, organization, project, key, subject, unit, kind, amount, period, shared, overdraft, starts_at, created_at, created_by)
	SELECT gen_random_uuid(), v.organization, v.project, v.key, v.subject, 'requests', 'rate', 1, '1 day', false, 0, now(), now(), 'anna'
	FROM (SELECT organization, id, NULL::uuid, NULL FROM apikey_project UNION ALL SELECT organization, id, NULL, 'somebody' FROM apikey_project
		UNION ALL SELECT NULL, NULL, id, NULL FROM apikey_key WHERE name = 'one') v (organization, project, key, subject);
-- a member that has been removed beside its row, and an event that does not say whose key it was
INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled)
	SELECT gen_random_uuid(), id, now(), 'anna', true, false FROM apikey_member WHERE member = 'regress_apikey_member_40'::regrole;
UPDATE apikey_event SET key_owner_name = NULL WHERE event = 'deleted';

CREATE TABLE regress_try.probes (statement text, known text, unknown text);
GRANT SELECT ON regress_try.probes TO PUBLIC;
INSERT INTO regress_try.probes
	SELECT trim(s, E'\n\t'), w.known, w.unknown
	FROM (VALUES ('acme', 'ecma'), ('acme/pay', 'acme/buy')) w (known, unknown),
		string_to_table($$SELECT apikey_create('new', %1$L);
			SELECT apikey_import('new', 'md5', md5('new'), project => %1$L);
			SELECT apikey_project_create(%1$L || '/new');
			SELECT apikey_member_add(%1$L, 'regress_apikey_anna', 'developer');
			SELECT apikey_member_remove(%1$L, 'regress_apikey_anna');
			SELECT apikey_organization_drop(%1$L, %1$L);
			SELECT apikey_project_drop(%1$L, %1$L);
			SELECT apikey_project_apply(%1$L);
			SELECT apikey_limit_set('requests', 1, '1 day', path => %1$L);
			SELECT apikey_limit_set('requests', 1, '1 day', path => %1$L, subject => 'anybody');
			SELECT * FROM apikeys WHERE project = %1$L;
			SELECT * FROM apikey_projects WHERE path = %1$L;
			SELECT * FROM apikey_organizations WHERE name = %1$L;
			SELECT * FROM apikey_members WHERE path = %1$L;
			SELECT * FROM apikey_events WHERE project = %1$L;
			SELECT * FROM apikey_limits WHERE path = %1$L;
			SELECT * FROM apikey_usage_history WHERE project = %1$L;
			UPDATE apikey_projects SET max_keys = 1 WHERE path = %1$L$$, ';') s;
INSERT INTO regress_try.probes
	SELECT trim(s, E'\n\t'), k.id::text, overlay(k.id::text PLACING '018f3a5c' FROM 1 FOR 8)
	FROM apikey_key k,
		string_to_table($$SELECT apikey_rename(%1$L, 'new');
			SELECT apikey_disable(%1$L);
			SELECT apikey_enable(%1$L);
			SELECT apikey_revoke(%1$L);
			SELECT apikey_delete(%1$L, 'one');
			SELECT apikey_rotate(%1$L);
			SELECT apikey_reveal(%1$L);
			SELECT apikey_transfer(%1$L, 'regress_apikey_stranger');
			SELECT apikey_credits_add(%1$L, 1);
			SELECT apikey_limit_set('requests', 1, '1 day', key => %1$L);
			SELECT apikey_charge(%1$L, '{"tokens": 1}');
			SELECT apikey_charge(%1$L, '{"tokens": 1}', project => 'acme');
			SELECT * FROM apikeys WHERE id = %1$L;
			SELECT * FROM apikeys WHERE id = %1$L AND owner = 'regress_apikey_anna';
			SELECT * FROM apikey_events WHERE key_id = %1$L;
			SELECT * FROM apikey_usage_history WHERE key_id = %1$L;
			UPDATE apikeys SET description = 'new' WHERE id = %1$L$$, ';') s
	WHERE k.name IN ('one', 'mine');
-- a project's, an organization's, a limit's and an event's id, and that of a deleted key
CREATE FUNCTION regress_try.other(id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT overlay(id::text PLACING '018f3a5c' FROM 1 FOR 8)
$$;
INSERT INTO regress_try.probes
	SELECT trim(s, E'\n\t'), p.id::text, regress_try.other(p.id)
	FROM apikey_project p,
		string_to_table($$SELECT * FROM apikey_projects WHERE id = %1$L;
			SELECT _apikey_visible('regress_apikey_stranger', NULL, %1$L, 'regress_apikey_stranger', NULL);
			SELECT _apikey_visible('regress_apikey_anna', NULL, %1$L, 'regress_apikey_anna', NULL);
			SELECT _apikey_standing(%1$L, %1$L);
			SELECT _apikey_event_visible('regress_apikey_anna', 'regress_apikey_anna', NULL, NULL, NULL, %1$L);
			UPDATE apikey_projects SET max_keys = 1 WHERE id = %1$L$$, ';') s;
INSERT INTO regress_try.probes
	SELECT trim(s, E'\n\t'), o.id::text, regress_try.other(o.id)
	FROM apikey_organization o,
		string_to_table($$SELECT * FROM apikey_organizations WHERE id = %1$L;
			SELECT _apikey_standing(%1$L, NULL);
			SELECT _apikey_event_visible(NULL, NULL, NULL, NULL, %1$L, NULL)$$, ';') s;
INSERT INTO regress_try.probes
	SELECT trim(s, E'\n\t'), l.id::text, regress_try.other(l.id)
	FROM apikey_limit l,
		string_to_table($$SELECT * FROM apikey_limits WHERE id = %1$L;
			SELECT apikey_limit_add(%1$L, 1);
			SELECT apikey_limit_drop(%1$L);
			UPDATE apikey_limits SET amount = 1 WHERE id = %1$L$$, ';') s;
INSERT INTO regress_try.probes
	SELECT trim(s, E'\n\t'), i.id::text, regress_try.other(i.id)
	FROM (SELECT apikey_id(:'deleted') UNION ALL SELECT k.id FROM apikey_key k WHERE k.name IN ('one', 'mine')) i (id),
		string_to_table($$SELECT * FROM apikey_events WHERE key_id = %1$L;
			SELECT * FROM apikey_limits WHERE key_id = %1$L;
			SELECT apikey_charge(%1$L, '{"tokens": 1}');
			SELECT _apikey_event_visible('regress_apikey_anna', NULL, NULL, %1$L, NULL, NULL);
			SELECT _apikey_event_visible('regress_apikey_stranger', NULL, NULL, %1$L, NULL, NULL)$$, ';') s;
INSERT INTO regress_try.probes
	SELECT $$SELECT * FROM apikey_events WHERE id = %1$L$$, min(e.id)::text, (SELECT max(m.id) + 1000 FROM apikey_event m)::text
	FROM apikey_event e GROUP BY e.event, e.project IS NULL;
-- texts: a key's but for its secret, of an id that there is and of one that there was
CREATE FUNCTION regress_try.guessed(key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	guess text := left(key, -39) || repeat('0', 33);
	crc bigint := 4294967295;
	checksum text := '';
BEGIN
	FOR i IN 1 .. length(guess) LOOP
		crc := crc # ascii(substr(guess, i, 1));
		FOR j IN 1 .. 8 LOOP
			crc := CASE WHEN crc & 1 = 1 THEN (crc >> 1) # 3988292384 ELSE crc >> 1 END;
		END LOOP;
	END LOOP;
	crc := crc # 4294967295;
	FOR i IN 1 .. 6 LOOP
		checksum := substr('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz', (crc % 62)::int + 1, 1) || checksum;
		crc := crc / 62;
	END LOOP;
	RETURN guess || checksum;
END $$;
SELECT apikey_create('gone') AS gone \gset
DELETE FROM apikey_key WHERE id = apikey_id(:'gone');
SELECT (apikey_parse(regress_try.guessed(:'key'))).checksum_ok;
INSERT INTO regress_try.probes
	SELECT trim(s, E'\n\t'), regress_try.guessed(k), regress_try.guessed(:'gone')
	FROM unnest(ARRAY[:'key', :'personal']) k,
		string_to_table($$SELECT apikey_verify(%1$L);
			SELECT apikey_verify(%1$L, project => 'acme');
			SELECT apikey_check(%1$L);
			SELECT apikey_verify_digest(left(%1$L, -39), sha256('x'));
			SELECT apikey_authenticate(%1$L);
			SELECT apikey_authenticate_digest(left(%1$L, -39), sha256('x'));
			SELECT apikey_self_revoke(%1$L);
			SELECT apikey_token_create(%1$L);
			SELECT apikey_scan(%1$L)$$, ';') s;
SELECT count(*) > 80 AS many FROM regress_try.probes;

-- What is counted, of ours, in this transaction.
CREATE TABLE regress_try.relations AS
	SELECT c.oid AS relid, c.relname FROM pg_class c
	WHERE c.relkind IN ('r', 'i', 't') AND (c.relname LIKE 'apikey\_%' OR EXISTS (SELECT FROM pg_class t LEFT JOIN pg_index i ON i.indrelid = t.reltoastrelid
			WHERE t.relname LIKE 'apikey\_%' AND c.oid IN (t.reltoastrelid, i.indexrelid)));
GRANT SELECT ON regress_try.relations TO PUBLIC;
CREATE FUNCTION regress_try.counted() RETURNS text LANGUAGE sql AS $$
	SELECT COALESCE(string_agg(relname || ' ' || n.counts, ', ' ORDER BY relid), '')
	FROM regress_try.relations
	CROSS JOIN LATERAL (SELECT concat_ws(' ', pg_stat_get_xact_numscans(relid), pg_stat_get_xact_tuples_returned(relid),
		pg_stat_get_xact_tuples_fetched(relid), pg_stat_get_xact_blocks_fetched(relid), pg_stat_get_xact_blocks_hit(relid)) AS counts) n
	WHERE n.counts <> '0 0 0 0 0'
$$;
CREATE FUNCTION regress_try.run(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RAISE 'undo';				-- and keep no lock
EXCEPTION WHEN others THEN
END $$;
CREATE FUNCTION regress_try.buffers(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE format('EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT regress_try.run(%L)', statement) INTO plan;
	RETURN (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks') || ' ' || (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks');
END $$;
-- What is locked, when it has succeeded, by what pg_locks tells everybody.
CREATE FUNCTION regress_try.locks(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	locked text := 'error';
BEGIN
	BEGIN
		EXECUTE statement;
		locked := (SELECT COALESCE(string_agg(DISTINCT r.relname || ' ' || l.mode, ', '), '') FROM pg_locks l JOIN regress_try.relations r ON r.relid = l.relation
			WHERE l.pid = pg_backend_pid());
		RAISE 'undo';
	EXCEPTION WHEN others THEN
	END;
	RETURN locked;
END $$;
-- This session's caches of roles, memberships, the type apikey_role, and our tables with what stands beside them, are emptied.
CREATE FUNCTION regress_try.forget() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	UPDATE pg_authid SET rolconnlimit = rolconnlimit;
	UPDATE pg_auth_members SET admin_option = admin_option;
	UPDATE pg_enum SET enumlabel = enumlabel WHERE enumtypid = 'apikey_role'::regtype;
	UPDATE pg_class SET relpages = relpages WHERE oid IN (SELECT relid FROM regress_try.relations);
	RAISE 'undo';
EXCEPTION WHEN others THEN
END $$;
-- What of that they hold: to look up what they do not takes buffers.
CREATE TABLE regress_try.look_ups AS
	SELECT unnest(ARRAY[format('SELECT count(pg_get_userbyid(oid)) FROM unnest(%L::oid[]) oid', (SELECT array_agg(oid) FROM pg_roles)),
		format('SELECT sum(pg_relation_size(oid)) FROM unnest(%L::oid[]) oid', (SELECT array_agg(relid) FROM regress_try.relations)),
		'SELECT ''owner''::text::apikey_role, ''admin''::text::apikey_role, ''developer''::text::apikey_role']) AS statement;
GRANT SELECT ON regress_try.look_ups TO PUBLIC;
CREATE FUNCTION regress_try.looked_up(warm text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	read text;
BEGIN
	PERFORM regress_try.forget();
	PERFORM regress_try.run(warm);
	read := regress_try.buffers(statement);
	RETURN read || (SELECT string_agg(', ' || regress_try.buffers(l.statement), '') FROM regress_try.look_ups l);
END $$;
-- Twice, that what is cached is so for both; and once as of caches that are empty, but for what another one that is not there has filled.
CREATE FUNCTION regress_try.compare() RETURNS TABLE (statement text, what text, known text, unknown text) LANGUAGE plpgsql AS $$
DECLARE
	probe record;
BEGIN
	FOR probe IN SELECT DISTINCT format(p.statement, p.known) AS known, format(p.statement, p.unknown) AS unknown FROM regress_try.probes p ORDER BY 1 LOOP
		statement := probe.known;
		PERFORM regress_try.buffers(probe.known), regress_try.buffers(probe.unknown);
		-- once more where others have just emptied a cache, here and below
		FOR attempt IN 1 .. 3 LOOP
			what := 'buffers'; known := regress_try.buffers(probe.known); unknown := regress_try.buffers(probe.unknown);
			EXIT WHEN known = unknown;
		END LOOP;
		IF known <> unknown THEN RETURN NEXT; END IF;
		FOR attempt IN 1 .. 3 LOOP
			what := 'looked up'; known := regress_try.looked_up(probe.unknown, probe.known); unknown := regress_try.looked_up(probe.unknown, probe.unknown);
			EXIT WHEN known = unknown;
		END LOOP;
		IF known <> unknown THEN RETURN NEXT; END IF;
		FOR attempt IN 1 .. 3 LOOP
			what := 'locks'; known := regress_try.locks(probe.known); unknown := regress_try.locks(probe.unknown);
			EXIT WHEN known = unknown;
		END LOOP;
		IF known <> unknown THEN RETURN NEXT; END IF;
		what := 'counted'; unknown := regress_try.counted();
		PERFORM regress_try.run(probe.known);
		known := regress_try.counted();
		IF known <> unknown OR known <> '' THEN RETURN NEXT; END IF;
	END LOOP;
END $$;
-- The planner looks at an index again that autovacuum has been at: nothing is left to it.
SELECT pg_stat_force_next_flush() \g /dev/null
VACUUM (ANALYZE);
SELECT pg_stat_force_next_flush();
SET SESSION AUTHORIZATION regress_apikey_stranger;
SELECT * FROM regress_try.compare();
-- nor is what a superuser's function reads for somebody else
RESET SESSION AUTHORIZATION;
ALTER FUNCTION regress_try.run SECURITY DEFINER;
SET SESSION AUTHORIZATION regress_apikey_stranger;
SELECT regress_try.run(format(statement, known)), regress_try.counted() FROM regress_try.probes WHERE statement LIKE '%apikey_verify(%' LIMIT 1;
-- nor of what stands beside the keys of a role's other subjects, of which it is owner or voucher
RESET SESSION AUTHORIZATION;
ALTER FUNCTION regress_try.run SECURITY INVOKER;
ALTER TABLE apikey_key SET (toast_tuple_target = 128);
SELECT apikey_member_add('acme/pay', 'regress_apikey_stranger', 'admin') \g /dev/null
UPDATE apikey_projects SET members_can_view = false, terms = NULL WHERE path = 'acme/pay';
SET apikey.subject_setting = 'app.me';
SET SESSION AUTHORIZATION regress_apikey_stranger;
SELECT set_config('app.me', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 7) i), false) \g /dev/null
SELECT count(apikey_create(name, 'acme/pay', metadata => json_build_object('long', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i))::jsonb))
	FROM unnest('{kept,given}'::text[]) name;
RESET SESSION AUTHORIZATION;
UPDATE apikey_key SET owner = 'regress_apikey_anna', owner_name = 'regress_apikey_anna', subject = NULL WHERE name = 'given';
SELECT apikey_member_add('acme/pay', 'regress_apikey_stranger', 'developer') \g /dev/null
SELECT name, owner, vouched_by, length(vouched_by_subject) FROM apikey_key WHERE name IN ('kept', 'given') ORDER BY name;
SELECT pg_stat_force_next_flush();
SET SESSION AUTHORIZATION regress_apikey_stranger;
SET app.me = 'another';
SELECT regress_try.run('SELECT * FROM apikey_limits'), regress_try.counted();
RESET SESSION AUTHORIZATION;
RESET apikey.subject_setting;
ALTER TABLE apikey_key RESET (toast_tuple_target);
DELETE FROM apikey_key WHERE name IN ('kept', 'given');
SET SESSION AUTHORIZATION regress_apikey_stranger;
-- what is written counts for who writes it, and vacuum goes by it
BEGIN;
SELECT apikey_create('mine') \g /dev/null
SELECT pg_stat_get_xact_tuples_inserted(c.oid) FROM pg_class c WHERE relname = 'apikey_key';
ROLLBACK;
-- the test can fail: it is all told in a superuser's session
RESET SESSION AUTHORIZATION;
BEGIN;
SELECT regress_try.run($$SELECT * FROM apikeys WHERE project = 'acme/pay'$$), regress_try.counted() <> '' AS counted;
ROLLBACK;

SELECT apikey_ungrant('administer', 'regress_apikey_member_3') \g /dev/null
DROP SCHEMA regress_try CASCADE;
SELECT apikey_organization_drop('acme', 'acme');
DELETE FROM apikey_key;
DELETE FROM apikey_event;
DO $$
BEGIN
	FOR i IN 1 .. 40 LOOP
		EXECUTE format('DROP ROLE regress_apikey_member_%s', i);
	END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION apikey_organization_create, apikey_import, apikey_events_purge FROM regress_apikey_anna, regress_apikey_stranger;
DROP ROLE regress_apikey_anna, regress_apikey_stranger;
