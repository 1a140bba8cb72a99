-- Who gives what is not everybody's, and an administrator below superuser.
CREATE ROLE regress_apikey_dba;
CREATE DATABASE regress_apikey_grants OWNER regress_apikey_dba;
\c regress_apikey_grants
SET client_min_messages = warning;
SET ROLE regress_apikey_dba;
CREATE EXTENSION apikey CASCADE;
RESET ROLE;
CREATE ROLE regress_apikey_next;
CREATE ROLE regress_apikey_deputy IN ROLE regress_apikey_dba;
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_bob;
CREATE ROLE regress_apikey_carol;
CREATE ROLE regress_apikey_watch IN ROLE pg_monitor;
CREATE FUNCTION regress_try(as_role name, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', as_role);
	EXECUTE query INTO result;
	RESET ROLE;
	RETURN coalesce(result, 'done');
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
CREATE FUNCTION regress_may(role name) RETURNS TABLE (organizations text, import text, stats text) LANGUAGE sql AS $$
	SELECT regress_try(role, format('SELECT left(apikey_organization_create(%L)::text, 0)', 'o-' || txid_current() || '-' || substr(md5(random()::text), 1, 8))),
		regress_try(role, format('SELECT left(apikey_import(%L, ''md5'', %L)::text, 0)', 'k-' || substr(md5(random()::text), 1, 8), md5(random()::text))),
		regress_try(role, 'SELECT count(*) FROM apikey_stats');
$$;
CREATE FUNCTION regress_servers(role name) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(DISTINCT regress_try(role, query), ',') FROM unnest(ARRAY['SELECT left(apikey_flush()::text, 0)', 'SELECT apikey_server_forget(''zz'')']) query;
$$;

-- At first: the installer, who is in it, and monitoring.
SELECT r, m.* FROM unnest('{regress_apikey_dba,regress_apikey_deputy,regress_apikey_anna,regress_apikey_watch}'::name[]) r, regress_may(r) m;
SELECT r, regress_servers(r) FROM unnest('{regress_apikey_dba,regress_apikey_deputy,regress_apikey_anna,regress_apikey_watch}'::name[]) r;
-- The extension's owner gives and takes, and whoever is in it.
SELECT regress_try('regress_apikey_dba', format('SELECT apikey_grant(%L, ''regress_apikey_anna'')', what)) FROM unnest('{organizations,import,stats}'::text[]) what;
SELECT * FROM regress_may('regress_apikey_anna');
SELECT regress_try('regress_apikey_deputy', 'SELECT apikey_ungrant(''import'', ''regress_apikey_anna'')');
SELECT * FROM regress_may('regress_apikey_anna');
-- what was given by GRANT, too, and what was given on
SET ROLE regress_apikey_dba;
GRANT EXECUTE ON FUNCTION apikey_import TO regress_apikey_anna WITH GRANT OPTION;
SET ROLE regress_apikey_anna;
GRANT EXECUTE ON FUNCTION apikey_import TO regress_apikey_bob;
RESET ROLE;
SELECT regress_try('regress_apikey_dba', 'SELECT apikey_ungrant(''import'', ''regress_apikey_anna'')');
SELECT r, import FROM unnest('{regress_apikey_dba,regress_apikey_anna,regress_apikey_bob}'::name[]) r, regress_may(r) m;
-- only those objects: the table below import is none of them
SELECT count(*) FROM pg_class c, aclexplode(relacl) a WHERE relname ~ '^apikey' AND relkind = 'r' AND a.grantee <> relowner;
-- fail: not theirs to give, or nothing that there is
SELECT what, regress_try('regress_apikey_anna', format('SELECT apikey_grant(%L, ''regress_apikey_bob'')', what)) AS outsider,
	regress_try('regress_apikey_dba', format('SELECT apikey_grant(%L, ''regress_apikey_bob'')', what)) AS owner
	FROM unnest('{organizations,servers,administer,everything,NULL}'::text[]) what;
SELECT apikey_grant('everything', 'regress_apikey_bob');
SELECT apikey_grant('import', NULL);
SELECT apikey_grant('import', '-');
SELECT apikey_ungrant('everything', 'regress_apikey_bob');
SELECT apikey_grant('servers', 'regress_apikey_bob'), apikey_ungrant('servers', 'regress_apikey_bob');
-- The installer leaves: who gets the extension may do the same, and gives it on.
REASSIGN OWNED BY regress_apikey_dba TO regress_apikey_next;
DROP OWNED BY regress_apikey_dba;
SELECT r, m.* FROM unnest('{regress_apikey_next,regress_apikey_deputy}'::name[]) r, regress_may(r) m;
SELECT regress_try('regress_apikey_next', 'SELECT apikey_grant(''import'', ''regress_apikey_bob'')');
SELECT regress_try('regress_apikey_deputy', 'SELECT apikey_grant(''import'', ''regress_apikey_bob'')');
SELECT import FROM regress_may('regress_apikey_bob');
-- what is superusers' to give, too, where the owner before had it
SELECT r, regress_servers(r) FROM unnest('{regress_apikey_next,regress_apikey_deputy}'::name[]) r;
SELECT regress_try('regress_apikey_next', 'SELECT apikey_grant(''servers'', ''regress_apikey_bob'')');
SELECT apikey_ungrant('servers', 'regress_apikey_next');
REASSIGN OWNED BY regress_apikey_next TO regress_apikey_anna;
SELECT r, regress_servers(r) FROM unnest('{regress_apikey_next,regress_apikey_anna}'::name[]) r;
SELECT * FROM regress_may('regress_apikey_anna');
SELECT name, severity, value, hint FROM apikey_health() WHERE name = 'owner';
-- Where nothing of ours is loaded the new owner gets nothing by itself; health tells.
SELECT apikey_ungrant(what, 'regress_apikey_next') FROM unnest('{organizations,import,stats}'::text[]) what;
\c -
REASSIGN OWNED BY regress_apikey_anna TO regress_apikey_next;
SELECT * FROM regress_may('regress_apikey_next');
SELECT name, severity, value, hint FROM apikey_health() WHERE name = 'owner';
SELECT substring(hint FROM 'SELECT .*$') AS statement FROM apikey_health() WHERE name = 'owner' \gset
SET ROLE regress_apikey_next;
:statement;
RESET ROLE;
SELECT * FROM regress_may('regress_apikey_next');
SELECT name, severity, value, hint FROM apikey_health() WHERE name = 'owner';
SELECT apikey_ungrant(what, 'regress_apikey_anna') FROM unnest('{organizations,import,stats}'::text[]) what;
-- and a role that was given something may be dropped when it was taken back
SELECT apikey_ungrant(what, 'regress_apikey_bob') FROM unnest('{organizations,import}'::text[]) what;
DROP ROLE regress_apikey_bob;

-- An administrator sees every key and event, disables and revokes, no more.
SET ROLE regress_apikey_next;
SELECT left(apikey_organization_create('acme')::text, 0), apikey_project_create('acme/pay');
SELECT apikey_create('of-acme', 'acme/pay') AS acmes \gset
SET ROLE regress_apikey_anna;
SELECT apikey_create('annas') AS annas, apikey_create('annas-2', subject => 'user-1') AS annas_2 \gset
RESET ROLE;
SELECT count(*) AS seen, (SELECT count(*) FROM apikey_events) AS events FROM apikeys \gset
SELECT apikey_grant('administer', 'regress_apikey_carol');
SELECT apikey_grant('administer', 'regress_apikey_carol');	-- no second event
SET ROLE regress_apikey_carol;
SELECT count(*) = :seen AS all_keys, (SELECT count(*) FROM apikey_events) = :events + 1 AS all_events FROM apikeys;
SELECT name, project, owner FROM apikeys WHERE name ~ '^(annas|of-acme)' ORDER BY name;
SELECT apikey_disable(apikey_id(:'annas')), apikey_revoke(apikey_id(:'annas_2'), 'leaked'), apikey_revoke(apikey_id(:'acmes'), 'leaked');
\set VERBOSITY sqlstate
SELECT apikey_enable(apikey_id(:'annas'));
SELECT apikey_rename(apikey_id(:'annas'), 'carols');
SELECT apikey_delete(apikey_id(:'annas'), 'annas');
SELECT apikey_rotate(apikey_id(:'annas'));
SELECT apikey_reveal(apikey_id(:'annas'));
SELECT apikey_transfer(apikey_id(:'acmes'), 'regress_apikey_carol');
UPDATE apikeys SET description = 'x' WHERE name = 'annas';
SELECT apikey_purge('0');
SELECT apikey_create('carols', 'acme/pay');
SELECT apikey_grant('administer', 'regress_apikey_anna');
SELECT FROM apikey_administrator;
\set VERBOSITY default
RESET ROLE;
SELECT event, key_name, actor, detail FROM apikey_events WHERE actor = 'regress_apikey_carol' ORDER BY id;
SELECT event, CASE WHEN actor ~ '^regress' THEN actor END AS actor, detail FROM apikey_events WHERE event ~ 'granted' ORDER BY id;
-- who is in the role is one too
GRANT regress_apikey_carol TO regress_apikey_watch;
SELECT regress_try('regress_apikey_watch', 'SELECT count(*) > 3 FROM apikeys');
SELECT regress_try('regress_apikey_anna', 'SELECT count(*) FROM apikeys WHERE owner = ''regress_apikey_next''');
-- It is kept by the role's name, and ends with the role.
ALTER ROLE regress_apikey_carol RENAME TO regress_apikey_caro;
SELECT regress_try('regress_apikey_caro', 'SELECT count(*) FROM apikeys');
ALTER ROLE regress_apikey_caro RENAME TO regress_apikey_carol;
SELECT regress_try('regress_apikey_carol', 'SELECT count(*) > 3 FROM apikeys');
DROP ROLE regress_apikey_carol;
CREATE ROLE regress_apikey_carol;
SELECT regress_try('regress_apikey_carol', 'SELECT count(*) FROM apikeys');
SELECT apikey_grant('administer', 'regress_apikey_carol');
SELECT regress_try('regress_apikey_carol', 'SELECT count(*) > 3 FROM apikeys');
SELECT apikey_ungrant('administer', 'regress_apikey_carol');
SELECT regress_try('regress_apikey_carol', 'SELECT count(*) FROM apikeys');

\c contrib_regression
DROP DATABASE regress_apikey_grants;
DROP ROLE regress_apikey_dba, regress_apikey_next, regress_apikey_deputy, regress_apikey_anna, regress_apikey_carol, regress_apikey_watch;
