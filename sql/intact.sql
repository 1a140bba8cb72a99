-- Tables that are not as the extension makes them: nothing is written to them,
-- and nothing is verified that cannot be decided.
\set own 'owner => CURRENT_USER::text::regrole'
DELETE FROM apikey_revocation;	-- of keys that are gone
SELECT apikey_create('one') AS key \gset
SELECT apikey_import('old', 'sha256', encode(sha256('from elsewhere'), 'hex')) IS NOT NULL AS imported;
SELECT code FROM apikey_verify(:'key', :own);

-- Without an index: what could not be revoked is not verified
BEGIN;
DROP INDEX apikey_member_who;
SELECT code FROM apikey_verify(:'key', :own);
SELECT code FROM apikey_verify('from elsewhere', :own);
SELECT code FROM apikey_verify('no key', :own);
SELECT apikey_check(:'key', :own);
SELECT apikey_organization_create('acme');
ROLLBACK;
SELECT code FROM apikey_verify(:'key', :own);
-- One that only rules need is missed, too
BEGIN;
DROP INDEX apikey_key_name;
SELECT code FROM apikey_verify(:'key', :own);
SAVEPOINT s;
SELECT apikey_create('one');
ROLLBACK TO s;
SELECT apikey_revoke(apikey_id(:'key'));
ROLLBACK;
-- With another of its name
BEGIN;
DROP INDEX apikey_key_project_name;
CREATE TABLE another (project uuid, name text);
CREATE INDEX apikey_key_project_name ON another (project, name);
SELECT apikey_create('two');
ROLLBACK;
SELECT apikey_create('two') IS NOT NULL AS created;
-- The same where somebody has made many names like ours
CREATE SCHEMA regress_apikey_names;
DO $$ BEGIN FOR i IN 1 .. 400 LOOP EXECUTE format('CREATE TYPE regress_apikey_names.apikey_%s AS ()', i); END LOOP; END $$;
\c -
SELECT code FROM apikey_verify(:'key', :own);
BEGIN;
DROP INDEX apikey_member_who;
SELECT code FROM apikey_verify(:'key', :own);
SELECT apikey_organization_create('acme');
ROLLBACK;
BEGIN;
DROP INDEX apikey_key_project_name;
CREATE TABLE another (project uuid, name text);
CREATE INDEX apikey_key_project_name ON another (project, name);
SELECT code FROM apikey_verify(:'key', :own);
ROLLBACK;
SELECT code FROM apikey_verify(:'key', :own);
SET client_min_messages = warning;
DROP SCHEMA regress_apikey_names CASCADE;
RESET client_min_messages;

-- A role is dropped all the same: that its keys have ended needs no index.
CREATE ROLE regress_apikey_leaver;
SET ROLE regress_apikey_leaver;
SELECT apikey_create('leavers') AS leavers \gset
RESET ROLE;
BEGIN;
DROP INDEX apikey_key_owner, apikey_key_name, apikey_key_rotated_to, apikey_event_key;
DROP ROLE regress_apikey_leaver;
COMMIT;
SELECT code FROM apikey_verify(:'leavers', :own);
CREATE UNIQUE INDEX apikey_key_name ON apikey_key (owner, subject, name) NULLS NOT DISTINCT
	WHERE revoked_at IS NULL AND rotated_to IS NULL AND project IS NULL;
CREATE INDEX apikey_key_owner ON apikey_key (owner, created_at, id);
CREATE UNIQUE INDEX apikey_key_rotated_to ON apikey_key (rotated_to) WHERE rotated_to IS NOT NULL;
CREATE INDEX apikey_event_key ON apikey_event (key_id, id) WHERE key_id IS NOT NULL;
SELECT code FROM apikey_verify(:'leavers', :own);

-- As pg_restore --data-only --disable-triggers leaves triggers
ALTER TABLE apikey_key DISABLE TRIGGER ALL;
ALTER TABLE apikey_key ENABLE TRIGGER ALL;
SELECT apikey_revoke(apikey_id(:'key'));
SELECT apikey_create('three');
SELECT code FROM apikey_verify(:'key', :own);
SELECT code FROM apikey_verify(:'key', :own);
-- nobody would tell of what an apply worker changes, so nobody remembers
SET session_replication_role = replica;
UPDATE apikey_key SET disabled = true WHERE name = 'one';
SELECT code FROM apikey_verify(:'key', :own);
UPDATE apikey_key SET disabled = false WHERE name = 'one';
SELECT code FROM apikey_verify(:'key', :own);
-- nor settle whose it is by the number that it has elsewhere, be that a renamed role's
CREATE ROLE regress_apikey_other;
ALTER ROLE regress_apikey_other RENAME TO regress_apikey_renamed;
UPDATE apikey_key SET owner = 'regress_apikey_renamed' WHERE name = 'one';
SELECT code FROM apikey_verify(:'key', owner => 'regress_apikey_renamed');
UPDATE apikey_key SET owner = CURRENT_USER::text::regrole WHERE name = 'one';
DROP ROLE regress_apikey_renamed;
RESET session_replication_role;
ALTER TABLE apikey_key ENABLE REPLICA TRIGGER apikey_key_arrived, ENABLE ALWAYS TRIGGER apikey_key_changed, ENABLE ALWAYS TRIGGER apikey_key_named;
SELECT apikey_disable(apikey_id(:'key'));
SELECT code FROM apikey_verify(:'key', :own);
SELECT apikey_enable(apikey_id(:'key'));
-- nor that there is no revocation
TRUNCATE apikey_revocation;
ALTER TABLE apikey_revocation DISABLE TRIGGER apikey_revocation_changed;
SELECT code FROM apikey_verify(:'key', :own);
INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled)
	VALUES (gen_random_uuid(), apikey_id(:'key'), now(), 'another', false, false);
SELECT code FROM apikey_verify(:'key', :own);
DELETE FROM apikey_revocation;
SELECT code FROM apikey_verify(:'key', :own);
ALTER TABLE apikey_revocation ENABLE ALWAYS TRIGGER apikey_revocation_changed;
ALTER TABLE apikey_event DISABLE TRIGGER apikey_event_kept;
SELECT apikey_revoke(apikey_id(:'key'));
ALTER TABLE apikey_event ENABLE ALWAYS TRIGGER apikey_event_kept;
-- each one that is missing is found, and made by what the check says
CREATE TEMP TABLE triggers AS
	SELECT tgrelid::regclass AS relation, tgname, tgenabled, pg_get_triggerdef(t.oid) AS definition
	FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
	WHERE NOT tgisinternal AND c.relname LIKE 'apikey\_%' AND c.relkind = 'r';
DO $$
DECLARE
	trigger record;
	found record;
BEGIN
	FOR trigger IN TABLE triggers ORDER BY tgname LOOP
		EXECUTE format('DROP TRIGGER %I ON %s', trigger.tgname, trigger.relation);
		SELECT severity, hint INTO found FROM apikey_health() WHERE name = 'triggers';
		IF found.severity <> 'critical' THEN
			RAISE '% is not missed', trigger.tgname;
		END IF;
		EXECUTE replace(found.hint, 'Run, as a superuser:', '');
	END LOOP;
END $$;
SELECT count(*) AS triggers, count(t.oid) AS made_again
	FROM triggers r LEFT JOIN pg_trigger t ON t.tgrelid = r.relation AND t.tgname = r.tgname AND t.tgenabled = r.tgenabled
		AND pg_get_triggerdef(t.oid) = r.definition;
-- while one is, nothing is changed, and nothing remembered
SELECT code FROM apikey_verify(:'key', :own);
DROP TRIGGER apikey_key_changed ON apikey_key;
SELECT apikey_disable(apikey_id(:'key'));
UPDATE apikey_key SET disabled = true WHERE name = 'one';
SELECT code FROM apikey_verify(:'key', :own);
UPDATE apikey_key SET disabled = false WHERE name = 'one';
SELECT code FROM apikey_verify(:'key', :own);
CREATE TRIGGER apikey_key_changed AFTER UPDATE OR DELETE ON apikey_key FOR EACH ROW EXECUTE FUNCTION _apikey_changed();
ALTER TABLE apikey_key ENABLE ALWAYS TRIGGER apikey_key_changed;
-- a trigger of somebody else's may be as it likes
CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER counted AFTER UPDATE ON apikey_key FOR EACH ROW EXECUTE FUNCTION counted();
SELECT apikey_disable(apikey_id(:'key'));
SELECT apikey_enable(apikey_id(:'key'));
DROP TRIGGER counted ON apikey_key;

-- Columns that are others: what is in a row would not be what it is taken for, so
-- none is read, in the same transaction either
BEGIN;
ALTER TABLE apikey_digest ALTER digest DROP NOT NULL, DISABLE TRIGGER apikey_digest_changed;
UPDATE apikey_digest SET digest = NULL;
SELECT code FROM apikey_verify(:'key', :own);
ALTER TABLE apikey_digest ENABLE ALWAYS TRIGGER apikey_digest_changed;
SELECT apikey_create('four');
ROLLBACK;
SELECT code FROM apikey_verify(:'key', :own);
BEGIN;
ALTER TABLE apikey_key ALTER id TYPE text;
SELECT code FROM apikey_verify(:'key', :own);
SELECT count(*) FROM apikeys;
ROLLBACK;
BEGIN;
ALTER TABLE apikey_key DROP CONSTRAINT apikey_key_pkey, ALTER id DROP NOT NULL;
UPDATE apikey_key SET id = NULL;
ROLLBACK;
-- An index of its name that is another is no better than none
BEGIN;
ALTER TABLE apikey_digest DROP CONSTRAINT apikey_digest_pkey;
CREATE INDEX apikey_digest_pkey ON apikey_digest USING hash (id);
SELECT code FROM apikey_verify(:'key', :own);
SELECT apikey_delete(apikey_id(:'key'), 'one');
ROLLBACK;
BEGIN;
DROP INDEX apikey_member_who;
CREATE INDEX apikey_member_who ON apikey_member (subject);
SELECT apikey_organization_create('another');
ROLLBACK;
-- each column of each table, by a call that reads it
SELECT apikey_organization_create('broken') IS NOT NULL AS created;
SELECT apikey_project_create('broken/pay');
SELECT apikey_create('in-a-project', 'broken/pay', credits => 10) AS pay \gset
INSERT INTO apikey_limit (id, key, unit, kind, amount, shared, overdraft, starts_at, created_at, created_by)
	VALUES (gen_random_uuid(), gen_random_uuid(), 'words', 'quota', 1, false, 0, now(), now(), 'another');
INSERT INTO apikey_revocation (id, key_id, revoked_at, revoked_by, removed, disabled)
	VALUES (gen_random_uuid(), gen_random_uuid(), now(), 'another', false, false);
CREATE FUNCTION tried(change text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer text;
BEGIN
	BEGIN
		EXECUTE change;
		BEGIN
			EXECUTE call INTO answer;
		EXCEPTION WHEN OTHERS THEN
			answer := SQLSTATE;
		END;
		RAISE SQLSTATE 'UNDO1';
	EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
		RETURN answer;
	END;
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;		-- of a primary key, for one
END $$;
SET client_min_messages = warning;
SELECT relation, count(answer) > 3 AS tried,
	string_agg(DISTINCT answer, ' ' ORDER BY answer) FILTER (WHERE kind <> 'null' OR attnotnull) AS refused,
	string_agg(DISTINCT answer, ' ' ORDER BY answer) FILTER (WHERE kind = 'null' AND NOT attnotnull) AS not_refused
FROM (VALUES ('apikey_key', format('SELECT code FROM apikey_verify(%L, %s)', :'key', :'own')),
		('apikey_digest', format('SELECT code FROM apikey_verify(%L, %s)', :'key', :'own')),
		('apikey_project', format('SELECT code FROM apikey_verify(%L, project => ''broken/pay'')', :'pay')),
		('apikey_member', 'SELECT count(role) > 0 FROM apikey_members'),
		('apikey_limit', format('SELECT code FROM apikey_verify(%L, project => ''broken/pay'')', :'pay')),
		('apikey_import', 'SELECT code FROM apikey_verify(''from elsewhere'', ' || :'own' || ')'),
		('apikey_credit', format('SELECT apikey_credits_add(apikey_id(%L), 1) > 0', :'pay')),
		('apikey_revocation', format('SELECT code FROM apikey_verify(%L, %s)', :'key', :'own')),
		('apikey_usage', 'SELECT count(use_count) > 0 FROM apikeys'),
		('apikey_organization', 'SELECT apikey_organization_create(''more'') IS NOT NULL'),
		('apikey_event', 'SELECT apikey_create(''more'') IS NOT NULL'),
		('apikey_administrator', 'SELECT apikey_grant(''administer'', ''pg_monitor'')'),
		('apikey_name_hold', 'SELECT apikey_organization_create(''more'') IS NOT NULL'),
		('apikey_history', 'SELECT count(spent) >= 0 FROM apikey_usage_history'),
		('apikey_server', 'SELECT count(name) >= 0 FROM apikey_servers')) reading (relation, call)
	JOIN pg_attribute ON attrelid = relation::regclass AND attnum > 0 AND NOT attisdropped,
	LATERAL (VALUES ('null', format('ALTER TABLE %I ALTER %I DROP NOT NULL', relation, attname)),
		('name', format('ALTER TABLE %I RENAME %I TO another', relation, attname)),
		('type', format('ALTER TABLE %I ALTER %I DROP DEFAULT, ALTER %I TYPE %s USING %L', relation, attname, attname,
			CASE atttypid WHEN 'text'::regtype THEN 'bytea' ELSE 'text' END, ''))) changed (kind, change),
	tried(change, call) answer
GROUP BY relation ORDER BY relation;
RESET client_min_messages;
DROP FUNCTION tried;
DELETE FROM apikey_revocation;
DELETE FROM apikey_limit;
SELECT apikey_project_drop('broken/pay', 'broken/pay');
SELECT apikey_organization_drop('broken', 'broken');
DELETE FROM apikey_name_hold;
SELECT code FROM apikey_verify(:'key', :own);

-- Published by what is not in the primary key
SET client_min_messages = error;
CREATE PUBLICATION regress_apikey FOR TABLE apikey_key WHERE (owner_name = 'anna');
RESET client_min_messages;
SELECT apikey_revoke(apikey_id(:'key'));
SELECT apikey_delete(apikey_id(:'key'), 'one');
ALTER TABLE apikey_key REPLICA IDENTITY FULL;
SELECT apikey_revoke(apikey_id(:'key'));
SELECT code FROM apikey_verify(:'key', :own);
DROP PUBLICATION regress_apikey;
ALTER TABLE apikey_key REPLICA IDENTITY DEFAULT;

-- A table that is another's is not written to: its triggers would run with our rights
CREATE ROLE regress_apikey_mallory;
ALTER TABLE apikey_event OWNER TO regress_apikey_mallory;
SELECT apikey_create('one');
CREATE ROLE regress_apikey_super SUPERUSER;
ALTER TABLE apikey_event OWNER TO regress_apikey_super;
SELECT apikey_create('one') IS NOT NULL AS created;
ALTER TABLE apikey_event OWNER TO CURRENT_USER;
DROP ROLE regress_apikey_mallory, regress_apikey_super;

-- The tables are heaps, whatever the default
CREATE DATABASE regress_apikey_heap;
\c regress_apikey_heap
CREATE ACCESS METHOD regress_apikey_heap TYPE TABLE HANDLER heap_tableam_handler;
SET default_table_access_method = regress_apikey_heap;
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;
SELECT count(*) > 8 AS tables, count(*) FILTER (WHERE amname <> 'heap') AS others
	FROM pg_class c JOIN pg_am a ON a.oid = relam
	WHERE relname LIKE 'apikey%' AND relkind = 'r';
DROP EXTENSION apikey;
CREATE EXTENSION apikey VERSION '0.1.0';
ALTER EXTENSION apikey UPDATE;
SELECT count(*) > 8 AS tables, count(*) FILTER (WHERE amname <> 'heap') AS others
	FROM pg_class c JOIN pg_am a ON a.oid = relam
	WHERE relname LIKE 'apikey%' AND relkind = 'r';
-- fail
ALTER TABLE apikey_key SET ACCESS METHOD regress_apikey_heap;
SELECT apikey_create('one');
\c contrib_regression
DROP DATABASE regress_apikey_heap;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_import;
