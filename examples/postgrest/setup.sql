-- After examples/schema.sql, as a superuser; may be run again.
\set ON_ERROR_STOP on

-- PostgREST connects as this role and becomes another one for each request.
SELECT 'CREATE ROLE authenticator LOGIN NOINHERIT'
	WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticator') \gexec
GRANT web TO authenticator;

-- A key has to be of a project of acme.
SELECT format('ALTER DATABASE %I SET apikey.request_project = %L', current_database(), 'acme') \gexec
