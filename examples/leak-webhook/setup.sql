-- For a superuser, after schema.sql: what the receiver connects as, and where
-- the owners of leaked keys read of them.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
SELECT 'CREATE ROLE leaks LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'leaks') \gexec
CREATE TABLE IF NOT EXISTS api.leak (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT now(),
	key_id uuid NOT NULL,
	name text NOT NULL,
	owner name NOT NULL,
	subject text,
	project text,
	source text NOT NULL,
	revoked boolean NOT NULL
);
ALTER TABLE api.leak ADD COLUMN IF NOT EXISTS owner_id oid;
ALTER TABLE api.leak ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS owner ON api.leak;
-- By name and number: the role may be dropped, and another made under its name; and
-- where this is restored elsewhere the number may be another role's.
CREATE POLICY owner ON api.leak FOR SELECT USING (EXISTS (
	SELECT FROM pg_roles r WHERE r.oid = owner_id AND r.rolname = owner AND pg_has_role(r.oid, 'USAGE')));
DROP POLICY IF EXISTS receiver ON api.leak;
CREATE POLICY receiver ON api.leak FOR INSERT TO leaks WITH CHECK (true);
GRANT USAGE ON SCHEMA auth, api TO leaks;
GRANT INSERT ON api.leak TO leaks;
GRANT SELECT ON api.leak TO PUBLIC;
RESET client_min_messages;
