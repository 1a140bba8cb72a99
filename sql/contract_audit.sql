-- The contract, sections 5 to 7, by a program that knows only that: who reads
-- and keeps the trail, what is removed, and who may give what.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE ROLE regress_apikey_dba;
CREATE DATABASE regress_apikey_contract OWNER regress_apikey_dba;
\c regress_apikey_contract
SET client_min_messages = warning;
SET ROLE regress_apikey_dba;
-- a database's owner may install it, into any schema
CREATE SCHEMA auth;
CREATE EXTENSION apikey SCHEMA auth CASCADE;
GRANT USAGE ON SCHEMA auth TO PUBLIC;
RESET ROLE;
ALTER DATABASE regress_apikey_contract SET search_path = auth, public;
SET search_path = auth, public;
CREATE ROLE regress_apikey_olga;
CREATE ROLE regress_apikey_paul;
CREATE ROLE regress_apikey_ann;
CREATE ROLE regress_apikey_sue;
CREATE ROLE regress_apikey_reader BYPASSRLS;
CREATE ROLE regress_apikey_watch IN ROLE pg_monitor;
CREATE FUNCTION public.regress_try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	col text;
BEGIN
	EXECUTE query INTO result;
	RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS col = COLUMN_NAME;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(col, ''));
END $$;

-- What the installer may do, and gives on; it owns no table of ours
SET ROLE regress_apikey_dba;
SELECT n, regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_organization_create('one') IS NOT NULL$$),
	(2, $$SELECT apikey_import('one', 'md5', md5('one')) IS NOT NULL$$),
	(3, $$SELECT count(*) FROM apikey_stats$$),
	(4, $$SELECT apikey_grant('organizations', 'regress_apikey_olga')$$),
	(5, $$SELECT apikey_grant('servers', 'regress_apikey_olga')$$),
	(6, $$SELECT apikey_grant('administer', 'regress_apikey_olga')$$),
	(7, $$SELECT count(*) FROM apikey_key$$),
	(8, $$DELETE FROM apikey_event$$),
	(9, $$SELECT apikey_events_purge('0')$$)
	) AS q (n, query) ORDER BY n;
SELECT apikey_organization_drop('one', 'one');
SELECT apikey_revoke(id) FROM apikeys;
SET ROLE regress_apikey_ann;
SELECT n, regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_organization_create('two')$$),
	(2, $$SELECT apikey_import('one', 'md5', md5('one'))$$),
	(3, $$SELECT count(*) FROM apikey_stats$$),
	(4, $$SELECT apikey_grant('organizations', 'regress_apikey_ann')$$),
	(5, $$SELECT apikey_ungrant('organizations', 'regress_apikey_olga')$$),
	(6, $$SELECT apikey_events_purge('0')$$),
	(7, $$SELECT apikey_create('mine') IS NOT NULL$$)
	) AS q (n, query) ORDER BY n;
SET ROLE regress_apikey_watch;
SELECT count(*), (SELECT array_agg(jsonb_typeof(v) ORDER BY 1) FROM (VALUES (max(verifications::text)::jsonb), (max(peppers::text)::jsonb)) AS s (v)) AS types FROM apikey_stats;
RESET ROLE;
SELECT peppers FROM apikey_stats;

-- Whom an event is shown to
SET ROLE regress_apikey_olga;
SELECT apikey_organization_create('corp') IS NOT NULL AS created, apikey_project_create('corp/pay');
SELECT apikey_member_add('corp/pay', 'regress_apikey_paul', 'owner');
SELECT apikey_member_add('corp/pay', 'regress_apikey_ann', 'admin', 'u1');
SELECT apikey_member_add('corp/pay', 'regress_apikey_ann', 'developer', 'u1');
SELECT apikey_member_remove('corp/pay', 'regress_apikey_ann', 'u1');
SELECT apikey_member_add('corp/pay', 'regress_apikey_ann', 'admin');
UPDATE apikey_projects SET terms = 'v1' WHERE path = 'corp/pay';
SELECT apikey_project_apply('corp/pay');
SET ROLE regress_apikey_ann;
SELECT apikey_create('anns', 'corp/pay', accept_terms => 'v1') AS anns \gset
UPDATE apikeys SET scopes = '{a}' WHERE name = 'anns';
SELECT apikey_rename(apikey_id(:'anns'), 'annas');
SELECT apikey_disable(apikey_id(:'anns')), apikey_enable(apikey_id(:'anns'));
SELECT apikey_rotate(apikey_id(:'anns'), '1 hour') AS anns2 \gset
SELECT apikey_transfer(apikey_id(:'anns2'), 'regress_apikey_paul');
SELECT apikey_revoke(apikey_id(:'anns2'), 'done');
SELECT event, key_name, project, actor, detail ? 'columns' AS columns FROM apikey_events WHERE key_id IS NOT NULL ORDER BY id;
SET ROLE regress_apikey_paul;
SELECT event, key_name, project, actor, key_id = apikey_id(:'anns') AS old FROM apikey_events ORDER BY id;
SELECT event, detail FROM apikey_events WHERE event ~ 'member' ORDER BY id;
SET ROLE regress_apikey_sue;
SELECT count(*) FROM apikey_events;
-- the id rises with at
RESET ROLE;
SELECT bool_and(id > before AND at >= earlier) AS rises FROM (SELECT id, at, lag(id) OVER w AS before, lag(at) OVER w AS earlier FROM apikey_events WINDOW w AS (ORDER BY id)) e WHERE before IS NOT NULL;
-- after its drop, to the organization's owners; after that to superusers
SET ROLE regress_apikey_paul;
SELECT apikey_project_drop('corp/pay', 'corp/pay');
SELECT count(*) FROM apikey_events WHERE key_name IS NULL;
SET ROLE regress_apikey_olga;
SELECT string_agg(DISTINCT event, ' ' ORDER BY event) FROM apikey_events WHERE project LIKE 'corp%';
SELECT apikey_organization_drop('corp', 'corp');
SELECT count(*) FROM apikey_events;
SET ROLE regress_apikey_reader;
SELECT count(*) > 20 AS all_of_it FROM apikey_events;
RESET ROLE;
SELECT count(*) > 20 AS all_of_it FROM apikey_events;

-- Nobody below superuser changes or removes one
SET ROLE regress_apikey_ann;
SELECT n, regress_try(query) FROM (VALUES
	(1, $$UPDATE apikey_events SET event = 'x'$$),
	(2, $$DELETE FROM apikey_events$$),
	(3, $$INSERT INTO apikey_events (event) VALUES ('x')$$),
	(4, $$UPDATE apikey_event SET event = 'x'$$),
	(5, $$TRUNCATE apikey_event$$),
	(6, $$SELECT apikey_purge(NULL)$$),
	(7, $$SELECT apikey_purge('-1 second')$$),
	(8, $$SELECT apikey_purge('0')$$)
	) AS q (n, query) ORDER BY n;
RESET ROLE;
SELECT n, regress_try(query) FROM (VALUES
	(1, $$SELECT apikey_events_purge(NULL)$$),
	(2, $$SELECT apikey_events_purge('-1 second')$$),
	(3, $$SELECT apikey_events_purge('1 day')$$),
	(4, $$SELECT apikey_purge('1 day')$$),
	(5, $$SELECT apikey_purge('0')$$)
	) AS q (n, query) ORDER BY n;

-- An administrator sees all, disables and revokes, and no more
SELECT apikey_grant('administer', 'regress_apikey_sue');
SELECT event, actor = current_user AS me, detail FROM apikey_events WHERE event ~ 'granted' ORDER BY id;
SET ROLE regress_apikey_ann;
SELECT apikey_create('seen') AS seen \gset
SET ROLE regress_apikey_sue;
SELECT n, regress_try(format(query, id)) FROM (VALUES
	(1, $$SELECT name FROM apikeys WHERE id = %L$$),
	(2, $$SELECT event FROM apikey_events WHERE key_id = %L$$),
	(3, $$SELECT apikey_disable(%L)$$),
	(4, $$SELECT left(regress_try($q$SELECT apikey_enable(%L)$q$), 5)$$),
	(5, $$SELECT left(regress_try($q$SELECT apikey_rename(%L, 'other')$q$), 5)$$),
	(6, $$SELECT left(regress_try($q$SELECT apikey_rotate(%L)$q$), 5)$$),
	(7, $$SELECT left(regress_try($q$SELECT apikey_delete(%L, 'seen')$q$), 5)$$),
	(8, $$SELECT left(regress_try($q$SELECT apikey_transfer(%L, 'regress_apikey_sue')$q$), 5)$$),
	(9, $$SELECT apikey_revoke(%L)$$)
	) AS q (n, query), (SELECT apikey_id(:'seen') AS id) AS k ORDER BY n;
RESET ROLE;
DROP ROLE regress_apikey_sue;
CREATE ROLE regress_apikey_sue;
SET ROLE regress_apikey_sue;
SELECT count(*) FROM apikeys;
RESET ROLE;

-- In a schema in which others may create, CREATE EXTENSION warns
DROP EXTENSION apikey;
GRANT CREATE ON SCHEMA auth TO PUBLIC;
SET client_min_messages = warning;
SET ROLE regress_apikey_dba;
CREATE EXTENSION apikey SCHEMA auth;
RESET ROLE;
\c contrib_regression
DROP DATABASE regress_apikey_contract;
DROP ROLE regress_apikey_dba, regress_apikey_olga, regress_apikey_paul, regress_apikey_ann, regress_apikey_sue, regress_apikey_reader, regress_apikey_watch;
