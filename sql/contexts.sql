-- Our functions where nobody would call them: the caller stays who she is,
-- nothing of others' is told or changed, and nothing breaks.
CREATE ROLE regress_apikey_owner;
CREATE ROLE regress_apikey_mallory LOGIN CREATEROLE;
CREATE DATABASE regress_apikey_contexts;
\set superuser :USER
\c regress_apikey_contexts
CREATE SCHEMA hers AUTHORIZATION regress_apikey_mallory;
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;
RESET client_min_messages;
GRANT EXECUTE ON FUNCTION apikey_organization_create TO regress_apikey_owner;
SET ROLE regress_apikey_owner;
SELECT apikey_create('owners', scopes => '{a}') AS key \gset
SELECT apikey_organization_create('acme') AS organization \gset
SELECT apikey_project_create('acme/pay', default_key => true) AS project_key \gset
SET ROLE regress_apikey_mallory;
SET search_path = hers, public;

-- Internal functions with odd arguments.
SELECT _apikey_visible(NULL, NULL, NULL, NULL, NULL), _apikey_visible(0, '', NULL, 0, ''),
	_apikey_visible(4294967295, NULL, gen_random_uuid(), NULL, NULL),
	_apikey_visible('regress_apikey_owner', NULL, NULL, NULL, NULL),
	_apikey_visible('regress_apikey_mallory', NULL, NULL, NULL, NULL) AS hers,
	_apikey_visible('regress_apikey_mallory', NULL, gen_random_uuid(), NULL, NULL) AS in_no_project;
SELECT _apikey_standing(NULL, NULL), _apikey_standing(:'organization', NULL),
	_apikey_standing(gen_random_uuid(), gen_random_uuid()), _apikey_standing(NULL, :'organization');
SELECT _apikey_event_visible(NULL, NULL, NULL, NULL, NULL, NULL),
	_apikey_event_visible('regress_apikey_owner'::regrole, NULL, NULL, NULL, :'organization', NULL),
	_apikey_event_visible(0, '', '', gen_random_uuid(), gen_random_uuid(), gen_random_uuid());
SELECT name FROM _apikey_keys(apikey_id(:'key'), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT name FROM _apikey_keys(NULL, 'regress_apikey_owner', '', 'acme/pay', '-infinity', 'infinity', -1, 9223372036854775807, -1);
SELECT name, status FROM _apikey_keys(NULL, repeat('x', 63)::name, repeat('x', 9999), repeat('x', 9999), 'infinity', '-infinity', 0, 0, 0);
SELECT id FROM _apikey_events(1, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT id FROM _apikey_events(NULL, apikey_id(:'key'), NULL, 'acme/pay', 0, 9223372036854775807, 9223372036854775807, 9223372036854775807);
SELECT path FROM _apikey_projects(NULL, 'acme/pay');
SELECT path FROM _apikey_members();
SELECT name FROM _apikey_organizations();
-- what the planner calls, nobody else can: by its type, or by itself
DO $$
BEGIN
	PERFORM _apikey_list_support(NULL);
EXCEPTION WHEN feature_not_supported OR undefined_function THEN
	RAISE NOTICE 'refused';
END $$;
\set VERBOSITY sqlstate
-- fail
SELECT _apikey_stats();
SELECT _apikey_changed();
SELECT _apikey_arrived();
SELECT _apikey_key_write();
CREATE TABLE t (id int);
CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION _apikey_changed();
CREATE VIEW v AS SELECT * FROM apikeys;
CREATE TRIGGER t INSTEAD OF UPDATE ON v FOR EACH ROW EXECUTE FUNCTION _apikey_key_write();
-- ids of others', and of nothing
SELECT apikey_revoke(apikey_id(:'key'));
SELECT apikey_delete(apikey_id(:'key'), 'owners');
SELECT apikey_disable(gen_random_uuid());
SELECT apikey_transfer(apikey_id(:'key'), 'regress_apikey_mallory');
SELECT apikey_rename(NULL, 'x');
SELECT apikey_revoke(NULL);
SELECT apikey_delete(NULL, NULL);
SELECT apikey_member_add('acme', 'regress_apikey_mallory', 'owner');
SELECT apikey_member_add(NULL, NULL, NULL);
SELECT apikey_project_drop(NULL, NULL);
-- as a superuser, on tables that are not ours
RESET ROLE;
CREATE TABLE apikey_project (id int);
CREATE TRIGGER t AFTER INSERT ON apikey_project FOR EACH ROW EXECUTE FUNCTION public._apikey_changed();
INSERT INTO apikey_project VALUES (1);
DROP TABLE apikey_project;
CREATE TABLE apikey_key (id int);
CREATE TRIGGER t AFTER INSERT ON apikey_key FOR EACH ROW EXECUTE FUNCTION public._apikey_changed();
INSERT INTO apikey_key VALUES (1);
DROP TABLE apikey_key;
CREATE VIEW odd AS SELECT 1 AS id;
CREATE TRIGGER t INSTEAD OF UPDATE ON odd FOR EACH ROW EXECUTE FUNCTION public._apikey_key_write();
UPDATE odd SET id = 2;
DROP VIEW odd;
\set VERBOSITY default
SET ROLE regress_apikey_mallory;
DROP VIEW v;
DROP TABLE t;

-- Functions of hers that call ours, told to be what they are not.
CREATE FUNCTION hers.make(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
	AS $$ SELECT public.apikey_create(name) $$;
CREATE FUNCTION hers.code(key text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
	AS $$ SELECT code FROM public.apikey_verify(key, owner => 'regress_apikey_owner') $$;
CREATE FUNCTION hers.own_code(key text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
	AS $$ SELECT code FROM public.apikey_verify(key) $$;
-- in an index, by whoever analyzes and rebuilds it
CREATE TABLE hers.t (key text, n int);
INSERT INTO hers.t VALUES (:'key', 1), ('nonsense', 2);
CREATE INDEX t_code ON hers.t (hers.code(key));
CREATE INDEX t_made ON hers.t (hers.make('in-index-' || n));
RESET ROLE;
REINDEX INDEX hers.t_code;
ANALYZE hers.t;
CREATE STATISTICS hers.s ON (hers.code(key)), n FROM hers.t;
ANALYZE hers.t;
SET ROLE regress_apikey_mallory;
SELECT name, owner FROM apikeys ORDER BY 1;
SELECT hers.code(key) FROM hers.t ORDER BY n;
-- in a generated column, a default, a check, a rule
CREATE TABLE hers.g (key text DEFAULT hers.make('by-default'), code text GENERATED ALWAYS AS (hers.own_code(key)) STORED,
	CHECK (public.apikey_check(key)));
INSERT INTO hers.g DEFAULT VALUES;
SELECT code, length(key) FROM hers.g;
CREATE RULE r AS ON INSERT TO hers.g DO ALSO SELECT hers.make('by-rule') IS NOT NULL AS made;
INSERT INTO hers.g VALUES ((SELECT key FROM hers.g));
SELECT code FROM hers.g;
-- in a materialized view that a superuser refreshes
CREATE MATERIALIZED VIEW hers.m AS SELECT current_user AS who, name, hers.make('in-view-' || name) IS NOT NULL AS made FROM apikeys WITH NO DATA;
RESET ROLE;
REFRESH MATERIALIZED VIEW hers.m;
SELECT DISTINCT who FROM hers.m;
SELECT DISTINCT owner FROM apikeys WHERE name ~ '^(in|by)-';
SET ROLE regress_apikey_mallory;
SELECT count(*) FROM hers.m WHERE name IN ('owners', 'default');
-- in parallel workers
SET ROLE regress_apikey_mallory;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
ALTER TABLE hers.t SET (parallel_workers = 2);
SET parallel_leader_participation = off;
SELECT hers.code(key) FROM hers.t WHERE hers.code(key) <> 'x' ORDER BY n;
\set VERBOSITY sqlstate
SELECT hers.make('parallel-' || n) IS NOT NULL FROM hers.t;
\set VERBOSITY default
SELECT count(*) FROM apikeys WHERE name ~ '^parallel';
RESET parallel_leader_participation;

-- A subtransaction that ends in between takes what was done with it.
DO $$
DECLARE
	made text;
	who name := current_user;
	path text := current_setting('search_path');
BEGIN
	FOR i IN 1..3 LOOP
		BEGIN
			made := public.apikey_create('undone');
			IF (SELECT code FROM public.apikey_verify(made)) <> 'valid' THEN
				RAISE WARNING 'not valid within';
			END IF;
			PERFORM public.apikey_rename(public.apikey_id(made), '');
		EXCEPTION WHEN OTHERS THEN
			RAISE NOTICE '%: %, %, %', SQLSTATE, (SELECT code FROM public.apikey_verify(made)),
				who = current_user, path = current_setting('search_path');
		END;
	END LOOP;
END $$;

-- What she has listed stays as it was listed; what she asks is answered now.
RESET ROLE;
SET ROLE regress_apikey_owner;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT name, status FROM apikeys WHERE name = 'owners';
DECLARE asked CURSOR WITH HOLD FOR SELECT code FROM apikey_verify(:'key', owner => 'regress_apikey_owner');
DECLARE asks CURSOR FOR SELECT code FROM apikey_verify(:'key');
SELECT apikey_revoke(apikey_id(:'key'));
FETCH asks;
COMMIT;
SET ROLE regress_apikey_mallory;
FETCH held;
FETCH asked;
SELECT code FROM apikey_verify(:'key');
CLOSE ALL;

-- She cannot leave the triggers out, nor load what is ours otherwise, nor be
-- somebody else.
\c - regress_apikey_mallory
\set VERBOSITY sqlstate
SET session_replication_role = replica;
SET apikey.subject_setting = 'hers';
SET apikey.pepper_file = '/dev/null';
SET SESSION AUTHORIZATION regress_apikey_owner;
SET ROLE regress_apikey_owner;
LOAD 'apikey';
CREATE FUNCTION hers.own(uuid) RETURNS boolean LANGUAGE c AS '$libdir/apikey', 'apikey_revoke';
CREATE EVENT TRIGGER hers ON ddl_command_end EXECUTE FUNCTION hers.make();
ALTER EXTENSION apikey SET SCHEMA hers;
ALTER EXTENSION apikey ADD FUNCTION hers.make(text);
COMMENT ON FUNCTION apikey_create IS 'hers';
CREATE POLICY hers ON apikey_key USING (true);
ALTER VIEW apikeys SET (security_barrier = false);
-- She may make roles, but no digest is for any of them.
DO $$
BEGIN
	CREATE ROLE regress_apikey_reader IN ROLE pg_read_all_data;
	GRANT regress_apikey_reader TO regress_apikey_mallory;
EXCEPTION WHEN insufficient_privilege THEN
	NULL;	-- since 16
END $$;
CREATE ROLE regress_apikey_bypass BYPASSRLS;
\set VERBOSITY default
DO $$
BEGIN
	RAISE NOTICE '% digests', (SELECT count(*) FROM public.apikey_digest);
EXCEPTION WHEN insufficient_privilege THEN
	RAISE NOTICE '0 digests';
END $$;
SELECT name FROM apikeys WHERE owner <> current_user;

\c contrib_regression :superuser
DROP DATABASE regress_apikey_contexts;
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_apikey_reader;
RESET client_min_messages;
DROP ROLE regress_apikey_owner, regress_apikey_mallory;
