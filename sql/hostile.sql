-- A user who plants what she can, wherever she can, before the owner acts.
CREATE ROLE regress_apikey_owner;
CREATE ROLE regress_apikey_mallory;
CREATE DATABASE regress_apikey_hostile;
\c regress_apikey_hostile
CREATE SCHEMA "key schema";
CREATE SCHEMA trap AUTHORIZATION regress_apikey_mallory;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SET client_min_messages = warning;
CREATE EXTENSION pgcrypto;
CREATE EXTENSION apikey SCHEMA "key schema";
RESET client_min_messages;
GRANT USAGE ON SCHEMA "key schema" TO PUBLIC;

SET ROLE regress_apikey_mallory;
CREATE TABLE trap.caught (who name, what text);
GRANT INSERT ON trap.caught TO PUBLIC;
CREATE FUNCTION trap.spring(what text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO trap.caught VALUES (current_user, what) $$;
CREATE FUNCTION trap.equal(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN PERFORM trap.spring('uuid = uuid'); RETURN true; END $$;
CREATE OPERATOR trap.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = trap.equal);
CREATE FUNCTION trap.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN PERFORM trap.spring('text = text'); RETURN true; END $$;
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.equal);
CREATE FUNCTION trap.concat(text, text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN PERFORM trap.spring('text || text'); RETURN ''; END $$;
CREATE OPERATOR trap.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.concat);
CREATE FUNCTION trap.octet_length(bytea) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN PERFORM trap.spring('octet_length'); RETURN 32; END $$;
CREATE FUNCTION trap._apikey_visible(regrole, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE FUNCTION trap._apikey_status(regrole, boolean, timestamptz, timestamptz, timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT 'active' $$;
CREATE TABLE trap.apikey_key (id uuid, owner regrole);
CREATE TABLE trap.apikey_digest (id uuid, digest bytea, pepper int);
CREATE VIEW trap.apikeys AS SELECT gen_random_uuid() AS id;
CREATE TYPE trap.apikey_role AS ENUM ('nobody');
CREATE TABLE trap.apikey_member AS SELECT 'owner'::text AS role;
CREATE FUNCTION trap._apikey_standing(uuid, uuid) RETURNS text LANGUAGE sql AS $$ SELECT 'owner' $$;
CREATE DOMAIN trap.uuid AS text;
CREATE DOMAIN trap.timestamptz AS text;
GRANT USAGE ON SCHEMA trap TO PUBLIC;

-- The owner works with her path in front.
SET ROLE regress_apikey_owner;
SET search_path = trap, pg_catalog, "key schema";
SELECT "key schema".apikey_create('secret-one', description => 'for the owner''s eyes', scopes => '{a}') AS key \gset
SELECT code FROM "key schema".apikey_verify(:'key', scopes => '{a}');
SELECT name FROM "key schema".apikeys;
UPDATE "key schema".apikeys SET scopes = '{b}';
SELECT code FROM "key schema".apikey_verify(:'key', scopes => '{a}');
SELECT "key schema".apikey_rename("key schema".apikey_id(:'key'), 'secret-two');
SELECT "key schema".apikey_disable("key schema".apikey_id(:'key'));
SELECT "key schema".apikey_enable("key schema".apikey_id(:'key'));
RESET ROLE;
GRANT EXECUTE ON FUNCTION "key schema".apikey_organization_create TO regress_apikey_owner;
SET ROLE regress_apikey_owner;
SELECT "key schema".apikey_organization_create('acme') IS NOT NULL AS created;
SELECT "key schema".apikey_project_create('acme/pay', default_key => true) IS NOT NULL AS created;
SELECT "key schema".apikey_member_add('acme/pay', 'regress_apikey_mallory', 'developer');
UPDATE "key schema".apikey_projects SET name_pattern = '[a-z]+', max_keys = 9, terms = 't';
SELECT code FROM "key schema".apikey_verify("key schema".apikey_create('hers', 'acme/pay', accept_terms => 't'), project => 'acme');
SELECT "key schema".apikey_transfer(id, 'regress_apikey_mallory') FROM "key schema".apikeys WHERE name OPERATOR(pg_catalog.=) 'hers';
SELECT path, role FROM "key schema".apikey_projects;
SELECT event FROM "key schema".apikey_events ORDER BY id DESC LIMIT 1;
SELECT "key schema".apikey_organization_drop('acme', 'acme');
SET search_path = pg_catalog;
RESET ROLE;
SELECT * FROM trap.caught;

-- Temporary objects of our names come first in nobody's eyes but their owner's.
SET ROLE regress_apikey_mallory;
SET search_path = pg_temp, trap, "key schema", pg_catalog;
CREATE TEMP TABLE apikey_key AS SELECT * FROM "key schema".apikeys;
CREATE TEMP TABLE apikey_digest (id uuid, digest bytea, pepper int);
CREATE FUNCTION pg_temp.uuid_eq(uuid, uuid) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
SELECT code, name FROM "key schema".apikey_verify(:'key', owner => 'regress_apikey_owner');
SELECT code FROM "key schema".apikey_verify("key schema".apikey_create('hers'));
SELECT name FROM "key schema".apikeys;

-- A cheap function that tells what it sees gets to see nothing of others'.
CREATE FUNCTION trap.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN RAISE NOTICE 'seen: %', $1; RETURN true; END $$;
SELECT name FROM "key schema".apikeys WHERE trap.leak(name);
SELECT name FROM "key schema".apikeys WHERE trap.leak(description) IS NOT NULL AND trap.leak(owner::text);
UPDATE "key schema".apikeys SET description = 'hers' WHERE trap.leak(name);
SET row_security = off;
SELECT name FROM "key schema".apikeys;
RESET row_security;
-- neither do joins and sub-selects
SET search_path = pg_catalog;
SELECT count(*) FROM "key schema".apikeys a, "key schema".apikeys b WHERE trap.leak(a.name || b.name);
SELECT EXISTS (SELECT FROM "key schema".apikeys WHERE name = 'secret-two');

-- Casts and parameters that raise say nothing of the key.
PREPARE cast_key AS SELECT "key schema".apikey_verify($1::text);
SELECT code FROM "key schema".apikey_verify(:'key'::varchar, owner => 'regress_apikey_owner');
SELECT code FROM "key schema".apikey_verify(:'key'::char(64), owner => 'regress_apikey_owner');
SELECT code FROM "key schema".apikey_verify(rpad(:'key', 600));

-- A cursor shows what whoever fetches may see.
RESET ROLE;
BEGIN;
SET LOCAL ROLE regress_apikey_owner;
DECLARE c CURSOR FOR SELECT name FROM "key schema".apikeys;
SET LOCAL ROLE regress_apikey_mallory;
FETCH ALL FROM c;
ROLLBACK;
-- A statement prepared as another works for who runs it.
PREPARE list AS SELECT name FROM "key schema".apikeys ORDER BY 1;
SET ROLE regress_apikey_owner;
EXECUTE list;
SET ROLE regress_apikey_mallory;
EXECUTE list;

DROP TABLE pg_temp.apikey_key, pg_temp.apikey_digest;
-- After DROP EXTENSION nothing of it answers; made anew it knows no old key.
RESET ROLE;
PREPARE verify AS SELECT code FROM "key schema".apikey_verify($1, owner => 'regress_apikey_owner');
EXECUTE verify(:'key');
DROP EXTENSION apikey;
\set VERBOSITY sqlstate
EXECUTE verify(:'key');
\set VERBOSITY default
CREATE EXTENSION apikey SCHEMA "key schema";
EXECUTE verify(:'key');

-- The schema's owner can drop an index, and have his own of that name.
BEGIN;
SELECT "key schema".apikey_organization_create('acme') IS NOT NULL AS created;
DROP INDEX "key schema".apikey_member_member;
CREATE TABLE "key schema".planted (member regrole);
CREATE INDEX apikey_member_member ON "key schema".planted (member);
SAVEPOINT s;
SET LOCAL ROLE regress_apikey_owner;
SELECT count(*) FROM "key schema".apikey_organizations;
ROLLBACK TO s;
DROP TABLE "key schema".planted;
CREATE TABLE "key schema".apikey_member_member (member regrole);
SET LOCAL ROLE regress_apikey_owner;
SELECT count(*) FROM "key schema".apikey_organizations;
ROLLBACK;

-- A user's error in the middle leaves the caller who he was.
SET ROLE regress_apikey_owner;
DO $$
BEGIN
	PERFORM "key schema".apikey_create('twice');
	PERFORM "key schema".apikey_create('twice');
EXCEPTION WHEN unique_violation THEN
	RAISE NOTICE 'now %, path %', current_user, current_setting('search_path');
END $$;
SELECT current_user, current_setting('search_path');

\c contrib_regression
DROP DATABASE regress_apikey_hostile;
DROP ROLE regress_apikey_owner, regress_apikey_mallory;
