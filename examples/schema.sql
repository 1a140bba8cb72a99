-- The API that the examples protect: invoices of the projects of one
-- organization.  For a superuser, in any database.  Makes what is missing and
-- leaves what is there, so it may be run again, for one example after the other.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

-- Keys and their functions in one schema, what the web may see in another.
CREATE SCHEMA IF NOT EXISTS auth;
CREATE EXTENSION IF NOT EXISTS apikey SCHEMA auth CASCADE;
CREATE SCHEMA IF NOT EXISTS api;

CREATE TABLE IF NOT EXISTS api.invoice (
	id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	project text NOT NULL DEFAULT auth.apikey_current_project(),
	customer text NOT NULL CHECK (length(customer) BETWEEN 1 AND 200),
	amount numeric(12, 2) NOT NULL
);

-- Each policy asks for a scope in our own organization: anybody who may run SQL
-- can make a key of its own with every scope, but not one of acme's projects.
ALTER TABLE api.invoice ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS read ON api.invoice;
CREATE POLICY read ON api.invoice FOR SELECT
	USING (auth.apikey_has_scope('invoices:read', 'acme') AND project = auth.apikey_current_project());
DROP POLICY IF EXISTS write ON api.invoice;
CREATE POLICY write ON api.invoice FOR INSERT
	WITH CHECK (auth.apikey_has_scope('invoices:write', 'acme') AND project = auth.apikey_current_project());

-- What the server connects as.  It owns nothing, so the policies hold for it.
SELECT 'CREATE ROLE web LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'web') \gexec
GRANT USAGE ON SCHEMA auth, api TO web;
GRANT SELECT, INSERT ON api.invoice TO web;

-- Two customers, and rows of each.
SELECT auth.apikey_organization_create('acme')
	WHERE NOT EXISTS (SELECT FROM auth.apikey_organizations WHERE name = 'acme') \g /dev/null
SELECT auth.apikey_project_create(path)
	FROM (VALUES ('acme/payments'), ('acme/website')) AS wanted (path)
	WHERE path NOT IN (SELECT p.path FROM auth.apikey_projects p) \g /dev/null
INSERT INTO api.invoice (project, customer, amount)
	SELECT * FROM (VALUES
		('acme/payments', 'Ada', 99.50),
		('acme/payments', 'Grace', 12.00),
		('acme/website', 'Linus', 7.00)) AS rows
	WHERE NOT EXISTS (SELECT FROM api.invoice);
RESET client_min_messages;
