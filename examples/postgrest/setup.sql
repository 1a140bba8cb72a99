-- After examples/schema.sql, as a superuser.
\set ON_ERROR_STOP on

-- PostgREST connects as this role and becomes another one for each request.
CREATE ROLE authenticator LOGIN NOINHERIT;
GRANT web TO authenticator;

-- A key has to be of a project of acme.
SELECT format('ALTER DATABASE %I SET apikey.request_project = %L', current_database(), 'acme') \gexec
