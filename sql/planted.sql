-- What somebody has put into the schema before us stops the installation where
-- it has a name of ours, and is not used where it has a name of PostgreSQL's.
CREATE ROLE regress_apikey_mallory;
CREATE DATABASE regress_apikey_planted;
\c regress_apikey_planted
CREATE SCHEMA shared;
GRANT CREATE, USAGE ON SCHEMA shared TO regress_apikey_mallory;
SET client_min_messages = error;
CREATE EXTENSION pgcrypto;

-- Each object of ours in turn, as she would make it.
CREATE FUNCTION regress_install(planted text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	SET LOCAL ROLE regress_apikey_mallory;
	EXECUTE planted;
	RESET ROLE;
	CREATE EXTENSION apikey SCHEMA shared;
	RAISE SQLSTATE 'RB000';
EXCEPTION
	WHEN SQLSTATE 'RB000' THEN RETURN 'installed';	-- rolled back
	WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
SELECT planted, regress_install(planted) FROM (VALUES
	('CREATE TYPE shared.apikey_role AS ENUM (''owner'')'),
	('CREATE TABLE shared.apikey_key (id uuid)'),
	('CREATE TABLE shared.apikey_digest (id uuid, digest bytea, pepper integer)'),
	('CREATE VIEW shared.apikeys AS SELECT 1 AS id'),
	('CREATE SEQUENCE shared.apikey_event_id_seq'),
	('CREATE TABLE shared.apikey_event (id bigint)'),
	('CREATE FUNCTION shared.apikey_id(text) RETURNS uuid LANGUAGE sql AS ''SELECT NULL::uuid'''),
	('CREATE FUNCTION shared.apikey_check(text, text[], text, regrole, inet) RETURNS boolean LANGUAGE sql AS ''SELECT true'''),
	('CREATE FUNCTION shared._apikey_visible(regrole, text, uuid, regrole, text) RETURNS boolean LANGUAGE sql AS ''SELECT true'''),
	('CREATE FUNCTION shared._apikey_changed() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END'''),
	('SELECT ''nothing''')) AS p (planted);

-- With names of PostgreSQL's, wherever she may write; the caller's path leads to
-- them first.
SET ROLE regress_apikey_mallory;
CREATE TABLE shared.caught (who name);
GRANT INSERT ON shared.caught TO PUBLIC;
CREATE FUNCTION shared.trap() RETURNS void LANGUAGE sql AS $$ INSERT INTO shared.caught VALUES (current_user) $$;
CREATE FUNCTION shared.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM shared.trap(); RETURN 'SELECT 1'; END $$;
CREATE FUNCTION shared.format(text, name) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM shared.trap(); RETURN 'SELECT 1'; END $$;
CREATE FUNCTION shared.octet_length(bytea) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM shared.trap(); RETURN 32; END $$;
CREATE FUNCTION shared.pg_get_userbyid(oid) RETURNS name LANGUAGE plpgsql AS $$ BEGIN PERFORM shared.trap(); RETURN 'x'; END $$;
CREATE FUNCTION shared.equal(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM shared.trap(); RETURN true; END $$;
CREATE OPERATOR shared.= (LEFTARG = name, RIGHTARG = text, FUNCTION = shared.equal);
CREATE FUNCTION shared.equal(oid, oid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM shared.trap(); RETURN true; END $$;
CREATE OPERATOR shared.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = shared.equal);
CREATE FUNCTION shared.concat(text, text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM shared.trap(); RETURN ''; END $$;
CREATE OPERATOR shared.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = shared.concat);
CREATE FUNCTION shared.coalesced(bigint, bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM shared.trap(); RETURN 0; END $$;
CREATE OPERATOR shared.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = shared.coalesced);
CREATE TABLE shared.pg_extension AS SELECT * FROM pg_catalog.pg_extension;
CREATE TABLE shared.pg_roles (oid oid, rolname name, rolsuper boolean);
CREATE VIEW shared.pg_depend AS SELECT * FROM pg_catalog.pg_depend WHERE shared.trap() IS NOT NULL;
CREATE DOMAIN shared.uuid AS text;
CREATE DOMAIN shared.regrole AS text;
CREATE TYPE shared.text AS ENUM ('a');
CREATE DOMAIN shared."boolean" AS integer;
RESET ROLE;
GRANT SELECT ON ALL TABLES IN SCHEMA shared TO PUBLIC;
CREATE TEMP TABLE pg_extension AS SELECT * FROM pg_catalog.pg_extension;
CREATE TEMP TABLE apikey_key (id uuid);
SET search_path = shared, pg_temp, pg_catalog;
CREATE EXTENSION apikey SCHEMA shared;
SELECT shared.apikey_create('one'::pg_catalog.text) AS key \gset
SELECT code FROM shared.apikey_verify(:'key'::pg_catalog.text);
SELECT count(*) FROM shared.apikeys;
SELECT name, masked_key ~ '^ak_...' AS masked, use_count FROM shared.apikeys;
UPDATE shared.apikeys SET description = 'd'::pg_catalog.text;
SELECT event FROM shared.apikey_events ORDER BY id;
DROP EXTENSION apikey;
SET search_path = pg_catalog;
SELECT count(*) FROM shared.caught;
-- They do catch who goes that way.
SET search_path = shared, pg_catalog;
SELECT 'a'::pg_catalog.text || 'b'::pg_catalog.text AS concatenated;
SELECT count(*) FROM shared.caught;
\c contrib_regression
DROP DATABASE regress_apikey_planted;
DROP ROLE regress_apikey_mallory;
