-- Default privileges, as hosts of databases set them for roles of the web, open
-- nothing of ours.
CREATE ROLE regress_apikey_web;
CREATE ROLE "regress_apikey_""odd";
CREATE DATABASE regress_apikey_defaults;
\c regress_apikey_defaults
CREATE SCHEMA "odd schema";
GRANT USAGE ON SCHEMA "odd schema" TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_apikey_web WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES IN SCHEMA "odd schema" GRANT ALL ON TABLES TO "regress_apikey_""odd";
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_apikey_web;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_apikey_web;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO regress_apikey_web;
ALTER DEFAULT PRIVILEGES GRANT SELECT, TRUNCATE ON TABLES TO PUBLIC;
SET client_min_messages = warning;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION apikey SCHEMA "odd schema";
SET search_path = "odd schema";
RESET client_min_messages;
SELECT pg_describe_object(classid, objid, 0) COLLATE "C" AS object, privilege_type
	FROM pg_depend, LATERAL (SELECT * FROM aclexplode(CASE classid
			WHEN 'pg_class'::regclass THEN (SELECT relacl FROM pg_class WHERE oid = objid)
			WHEN 'pg_proc'::regclass THEN (SELECT proacl FROM pg_proc WHERE oid = objid)
			WHEN 'pg_type'::regclass THEN (SELECT typacl FROM pg_type WHERE oid = objid) END)) AS a
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'apikey')
	  AND a.grantee IN (SELECT oid FROM pg_roles WHERE rolname ~ '^regress')
	ORDER BY 1, 2;
SELECT relname, privilege_type FROM pg_class, LATERAL aclexplode(relacl) a
	WHERE relname ~ '^apikey' AND a.grantee = 0 ORDER BY 1, 2;
SELECT apikey_create('one') AS key, current_user AS superuser \gset
SET ROLE regress_apikey_web;
\set VERBOSITY sqlstate
-- fail
TRUNCATE apikey_key;
SELECT FROM apikey_digest;
SELECT apikey_organization_create('mine');
SELECT nextval('apikey_event_id_seq');
SELECT _apikey_stats();
CREATE TEMP TABLE t (id uuid);
CREATE TRIGGER t AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION _apikey_changed();
\set VERBOSITY default
-- What is everybody's is the role's too.
SELECT code FROM apikey_verify(:'key', owner => :'superuser');
SELECT count(*) FROM apikeys;
\c contrib_regression
DROP DATABASE regress_apikey_defaults;
DROP ROLE regress_apikey_web, "regress_apikey_""odd";
