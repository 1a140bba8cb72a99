-- The API that the examples protect: invoices of the projects of one
-- organization.  For a superuser, in a database of its own.
\set ON_ERROR_STOP on

-- Keys and their functions in one schema, what the web may see in another.
CREATE SCHEMA auth;
CREATE EXTENSION apikey SCHEMA auth CASCADE;
CREATE SCHEMA api;

CREATE TABLE api.invoice (
	id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	project text NOT NULL DEFAULT auth.apikey_current_project(),
	customer text NOT NULL CHECK (length(customer) BETWEEN 1 AND 200),
	amount numeric(12, 2) NOT NULL
);

-- Each policy asks for a scope in our own organization: anybody who may run SQL
-- can make a key of his own with every scope, but not one of acme's projects.
ALTER TABLE api.invoice ENABLE ROW LEVEL SECURITY;
CREATE POLICY read ON api.invoice FOR SELECT
	USING (auth.apikey_has_scope('invoices:read', 'acme') AND project = auth.apikey_current_project());
CREATE POLICY write ON api.invoice FOR INSERT
	WITH CHECK (auth.apikey_has_scope('invoices:write', 'acme') AND project = auth.apikey_current_project());

-- What the server connects as.  It owns nothing, so the policies hold for it.
CREATE ROLE web LOGIN;
GRANT USAGE ON SCHEMA auth, api TO web;
GRANT SELECT, INSERT ON api.invoice TO web;

-- Two customers, and a row of each.
SELECT auth.apikey_organization_create('acme') \g /dev/null
SELECT auth.apikey_project_create('acme/payments'), auth.apikey_project_create('acme/website') \g /dev/null
INSERT INTO api.invoice (project, customer, amount) VALUES
	('acme/payments', 'Ada', 99.50),
	('acme/payments', 'Grace', 12.00),
	('acme/website', 'Linus', 7.00);
