-- a database's owner may install it, and pgcrypto comes along
CREATE ROLE regress_apikey_dba;
CREATE DATABASE regress_apikey_install OWNER regress_apikey_dba;
\c regress_apikey_install
SET ROLE regress_apikey_dba;
SET client_min_messages = warning;
CREATE EXTENSION apikey CASCADE;
SELECT extname FROM pg_extension ORDER BY 1;
-- and hands on what is not for everybody
SELECT proname FROM pg_proc WHERE proname ~ '^_?apikey' AND has_function_privilege(oid, 'EXECUTE WITH GRANT OPTION') ORDER BY 1;
DROP EXTENSION apikey;
-- who else may create in the schema is named
RESET ROLE;
CREATE ROLE regress_apikey_other;
GRANT CREATE ON SCHEMA public TO PUBLIC, regress_apikey_other;
SET ROLE regress_apikey_dba;
CREATE EXTENSION apikey CASCADE;
DROP EXTENSION apikey;
RESET ROLE;
REVOKE CREATE ON SCHEMA public FROM PUBLIC, regress_apikey_other;
CREATE EXTENSION apikey;
DROP EXTENSION apikey;
-- into a schema of its own, with a name that needs quotes
CREATE SCHEMA "api keys";
CREATE EXTENSION apikey SCHEMA "api keys";
SELECT code FROM "api keys".apikey_verify("api keys".apikey_create('first'));
-- fail: it stays where it is
ALTER EXTENSION apikey SET SCHEMA public;
-- not for one session: some minor releases of PostgreSQL refuse that themselves
CREATE TEMP TABLE temporary (i integer);
DROP EXTENSION apikey;
DO $$
BEGIN
	EXECUTE format('CREATE EXTENSION apikey SCHEMA %I', (SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()));
	RAISE WARNING 'created';
EXCEPTION WHEN OTHERS THEN
	RAISE WARNING 'refused for its schema: %', SQLERRM ~ '(temporary schema|schema name)';
END $$;
CREATE EXTENSION apikey SCHEMA "api keys";
SELECT code FROM "api keys".apikey_verify("api keys".apikey_create('first'));
-- but its schema may be renamed
ALTER SCHEMA "api keys" RENAME TO auth;
SELECT code FROM auth.apikey_verify(auth.apikey_create('second'));
SELECT name, status FROM auth.apikeys ORDER BY name;
-- made anew in the same session
DROP EXTENSION apikey;
CREATE EXTENSION apikey SCHEMA auth;
SELECT code FROM auth.apikey_verify(auth.apikey_create('first'));
SELECT name, status FROM auth.apikeys ORDER BY name;
\c contrib_regression
DROP DATABASE regress_apikey_install;
DROP ROLE regress_apikey_dba, regress_apikey_other;

CREATE EXTENSION apikey CASCADE;
-- every object that a user may meet says what it is
SELECT pg_describe_object(classid, objid, 0) AS undocumented
	FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass
	  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'apikey')
	  AND deptype = 'e'
	  AND (classid <> 'pg_type'::regclass OR objid IN (SELECT oid FROM pg_type WHERE typtype = 'e'))
	  AND obj_description(objid, classid::regclass::name) IS NULL
	ORDER BY 1;
-- every function tells the truth about itself
SELECT proname, provolatile, proparallel, proisstrict, proretset, prosecdef
	FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.classid = 'pg_proc'::regclass AND e.extname = 'apikey'
	ORDER BY 1;
-- no condition kept for dumps names an object but pg_catalog's, whole
SELECT conrelid, condition FROM pg_extension, unnest(extconfig::regclass[], extcondition) AS c (conrelid, condition)
	WHERE extname = 'apikey' AND condition <> '' ORDER BY conrelid::text;
