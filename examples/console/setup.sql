-- What the console needs, for a superuser, in any database.  Makes what is
-- missing and leaves what is there.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- Functions below run as a superuser: what they name has to be where nobody else
-- can put or move anything, so nobody may have made these schemas before.
DO $$
DECLARE
	schema name;
BEGIN
	FOR schema IN SELECT nspname FROM pg_catalog.pg_namespace n WHERE nspname IN ('auth', 'console') AND EXISTS (
		SELECT FROM pg_catalog.pg_roles r WHERE NOT rolsuper AND (r.oid = nspowner
			OR pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE')
			OR r.oid IN (SELECT relowner FROM pg_catalog.pg_class WHERE relnamespace = n.oid AND nspname = 'console')
			OR r.oid IN (SELECT proowner FROM pg_catalog.pg_proc WHERE pronamespace = n.oid)))
	LOOP
		RAISE EXCEPTION 'schema "%" is not a superuser''s alone', schema
			USING HINT = 'Use a database in which nobody else has made it, or may create in it.';
	END LOOP;
END;
$$;

CREATE SCHEMA IF NOT EXISTS auth;
CREATE EXTENSION IF NOT EXISTS apikey SCHEMA auth CASCADE;
CREATE SCHEMA IF NOT EXISTS console;

-- Whom a transaction acts for, in the whole database: who verifies keys has to
-- know too that members are subjects, or a demotion would pass it by.
SELECT format('ALTER DATABASE %I SET apikey.subject_setting = ''console.subject''', current_database()) \gexec

-- What the console connects as, for all of its users.  Only the console says who
-- they are: they do not reach SQL.
SELECT 'CREATE ROLE console LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'console') \gexec
SELECT format('ALTER ROLE console IN DATABASE %I SET %s', current_database(), setting)
	FROM (VALUES ('search_path = auth, pg_temp'),
		('timezone = ''UTC'''), ('statement_timeout = ''15s'''),
		('idle_in_transaction_session_timeout = ''30s''')) AS settings (setting) \gexec
GRANT USAGE ON SCHEMA auth, console TO console;
SELECT auth.apikey_grant('organizations', 'console') \g /dev/null

-- Your users.  A person's id is the subject, so it is never given to another.
-- Whoever is deleted leaves the id alone, for the keys and the audit log.
CREATE TABLE IF NOT EXISTS console.person (
	id text PRIMARY KEY,
	email text UNIQUE,
	name text,
	deleted_at timestamptz
);
GRANT SELECT ON console.person TO console;

-- Forms that were sent, so that each is carried out once.
CREATE TABLE IF NOT EXISTS console.sent (
	form text PRIMARY KEY,
	location text,
	at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON console.sent TO console;

-- Who runs the service: the page of a fleet's servers is theirs.  Nobody is one
-- until a superuser says so, as in INSERT INTO console.operator VALUES ('u1').
CREATE TABLE IF NOT EXISTS console.operator (person text PRIMARY KEY REFERENCES console.person);
GRANT SELECT ON console.operator TO console;
CREATE OR REPLACE FUNCTION console.operates() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM console.operator WHERE person = current_setting('console.subject', true)) $$;

-- What that page shows and does.  The console's role acts for everybody, so it
-- is given none of it: these run as their owner, a superuser, for an operator.
CREATE OR REPLACE FUNCTION console.servers() RETURNS TABLE (name text, role text, version text, first_seen_at timestamptz,
	last_report_at timestamptz, uses bigint, leased jsonb, lag interval, silent boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT s.name, s.role, s.version, s.first_seen_at, s.last_report_at, s.uses, s.leased, s.lag, s.role <> 'primary'
			AND coalesce(s.last_report_at, s.first_seen_at) < now() - current_setting('apikey.server_timeout')::interval
		FROM auth.apikey_servers s WHERE console.operates();
$$;

-- Among the last 100,000 events: a page does not look further back.
CREATE OR REPLACE FUNCTION console.server_events() RETURNS TABLE (id bigint, at timestamptz, event text, actor name,
	actor_subject text, detail jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	last bigint := (SELECT e.id FROM auth.apikey_events e ORDER BY e.id DESC LIMIT 1);
BEGIN
	RETURN QUERY SELECT e.id, e.at, e.event, e.actor, e.actor_subject, e.detail FROM auth.apikey_events e
		WHERE console.operates() AND e.id > last - 100000
			AND e.event IN ('server_joined', 'server_lost', 'server_forgotten')
		ORDER BY e.id DESC LIMIT 30;
END;
$$;

CREATE OR REPLACE FUNCTION console.forget_server(name text) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT auth.apikey_server_forget($1) WHERE console.operates() $$;

REVOKE ALL ON FUNCTION console.servers(), console.server_events(), console.forget_server(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION console.servers(), console.server_events(), console.forget_server(text) TO console;

-- Deletes a person: ends every membership, and with them the keys, and forgets
-- name and address.  It runs as its owner, a superuser, since a person does not
-- remove itself from a project; it fails while there is an organization that
-- would be left without an owner (55000).
CREATE OR REPLACE FUNCTION console.delete_person(who text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	paths text[] := ARRAY(SELECT path FROM auth.apikey_members
		WHERE subject = who AND member::text = 'console' ORDER BY path);
	ids uuid[] := ARRAY(SELECT id FROM auth.apikeys
		WHERE subject = who AND owner = 'console' AND project IS NULL AND status <> 'revoked');
BEGIN
	PERFORM auth.apikey_member_remove(path, 'console', who) FROM unnest(paths) AS path;
	PERFORM auth.apikey_revoke(id, 'user deleted') FROM unnest(ids) AS id;
	DELETE FROM console.operator WHERE person = who;
	UPDATE console.person SET email = NULL, name = NULL, deleted_at = now() WHERE id = who;
END;
$$;
REVOKE ALL ON FUNCTION console.delete_person(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION console.delete_person(text) TO console;

RESET client_min_messages;
