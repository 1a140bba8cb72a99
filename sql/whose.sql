-- Whose key is accepted: where neither project nor owner is named, the
-- caller's own personal one alone; else what is named, and no more.
SET client_min_messages = warning;
CREATE ROLE regress_apikey_group;
CREATE ROLE regress_apikey_alice IN ROLE regress_apikey_group;
CREATE ROLE regress_apikey_bob IN ROLE regress_apikey_alice;		-- has what alice has
CREATE ROLE regress_apikey_root SUPERUSER;
CREATE ROLE regress_apikey_bypass BYPASSRLS;
GRANT EXECUTE ON FUNCTION apikey_organization_create TO regress_apikey_alice;
SET ROLE regress_apikey_alice;
SELECT apikey_organization_create('acme') \g /dev/null
SELECT apikey_project_create('acme/pay'), apikey_project_create('acme/web') \g /dev/null
SELECT apikey_member_add('acme', 'regress_apikey_bob', 'owner'), apikey_member_add('acme', 'regress_apikey_root', 'admin') \g /dev/null
CREATE TEMP TABLE keys (n serial, what text, key text);
GRANT ALL ON keys, keys_n_seq TO PUBLIC;
INSERT INTO keys (what, key) VALUES ('alice', apikey_create('alices')), ('alice, a subject''s', apikey_create('labelled', subject => 'user-1')),
	('alice in pay', apikey_create('hers', 'acme/pay'));
SET ROLE regress_apikey_group;
INSERT INTO keys (what, key) VALUES ('group', apikey_create('ours'));
SET ROLE regress_apikey_bob;
INSERT INTO keys (what, key) VALUES ('bob', apikey_create('mine')), ('bob in pay', apikey_create('his', 'acme/pay')),
	('bob in web', apikey_create('his', 'acme/web'));
SET ROLE regress_apikey_root;
INSERT INTO keys (what, key) VALUES ('root', apikey_create('mine')), ('root in web', apikey_create('its', 'acme/web'));
SET ROLE regress_apikey_bypass;
INSERT INTO keys (what, key) VALUES ('bypass', apikey_create('mine'));
RESET ROLE;
SELECT apikey_import('theirs', 'md5', md5('imported key')) \g /dev/null
ALTER TABLE keys OWNER TO CURRENT_USER;
UPDATE apikey_key SET owner = 'regress_apikey_alice', owner_name = 'regress_apikey_alice' WHERE name = 'theirs';
INSERT INTO keys (what, key) VALUES ('alice, imported', 'imported key');

-- The code that all functions agree upon.
CREATE FUNCTION authenticated(query text, key text, project text, owner regrole) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	code text;
BEGIN
	EXECUTE query USING key, project, owner;
	RETURN 'valid';
EXCEPTION WHEN invalid_authorization_specification THEN
	GET STACKED DIAGNOSTICS code = PG_EXCEPTION_DETAIL;
	RETURN code;
END $$;
CREATE FUNCTION ask(key text, project text, owner regrole) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	codes text[];
	checked boolean := apikey_check(key, project => project, owner => owner);
BEGIN
	codes := ARRAY[(SELECT v.code FROM apikey_verify(key, project => project, owner => owner) v),
		(SELECT v.code FROM apikey_verify(key, '{}', project, NULL, NULL, 0, owner) v),
		authenticated('SELECT apikey_authenticate($1, project => $2, owner => $3)', key, project, owner)];
	IF key ~ '^ak_' THEN
		codes := codes || ARRAY[(SELECT v.code FROM apikey_verify_digest(left(key, -39), sha256(key::bytea), project => project, owner => owner) v),
			authenticated('SELECT apikey_authenticate_digest(left($1, -39), sha256($1::bytea), project => $2, owner => $3)', key, project, owner)];
	END IF;
	IF checked <> (codes[1] = 'valid') OR codes[1] <> ALL (codes) THEN
		RETURN format('%s, %s', checked, codes);
	END IF;
	RETURN codes[1];
END $$;
CREATE VIEW answers AS SELECT n, what, ask(key, NULL, NULL) AS neither, ask(key, NULL, to_regrole('regress_apikey_alice')) AS "owner alice",
	ask(key, NULL, current_user::regrole) AS "owner oneself", ask(key, 'acme', NULL) AS organization, ask(key, 'acme/pay', NULL) AS project,
	ask(key, 'acme/pay', to_regrole('regress_apikey_alice')) AS "project, alice", ask(key, '', NULL) AS "project ''", ask(key, NULL, 0) AS "owner 0" FROM keys;
GRANT SELECT ON answers TO PUBLIC;

SET ROLE regress_apikey_alice;
SELECT * FROM answers ORDER BY n;
-- who has another's privileges is not that other one
SET ROLE regress_apikey_bob;
SELECT * FROM answers ORDER BY n;
SET ROLE regress_apikey_group;
SELECT * FROM answers ORDER BY n;
-- nor is a superuser, nor who sees all
SET ROLE regress_apikey_root;
SELECT * FROM answers ORDER BY n;
SET ROLE regress_apikey_bypass;
SELECT * FROM answers ORDER BY n;

-- What a session remembers is asked anew for each caller.
SET ROLE regress_apikey_alice;
SELECT key AS mine FROM keys WHERE what = 'alice' \gset
PREPARE mine AS SELECT current_user, apikey_check(:'mine'), (SELECT code FROM apikey_verify(:'mine'));
EXECUTE mine;
SET ROLE regress_apikey_bob;
EXECUTE mine;
SET ROLE regress_apikey_alice;
EXECUTE mine;
-- So is it in functions: with SECURITY DEFINER the caller is its owner.
RESET ROLE;
CREATE FUNCTION by_invoker(key text) RETURNS text LANGUAGE sql AS
	$$ SELECT current_user || ': ' || code FROM apikey_verify(key) $$;
CREATE FUNCTION by_alice(key text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS
	$$ SELECT current_user || ': ' || code || ', below: ' || by_invoker(key) FROM apikey_verify(key) $$;
CREATE FUNCTION by_bob(key text) RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS
	$$ SELECT current_user || ': ' || code || ', below: ' || by_alice(key) FROM apikey_verify(key) $$;
ALTER FUNCTION by_alice OWNER TO regress_apikey_alice;
ALTER FUNCTION by_bob OWNER TO regress_apikey_bob;
SELECT session_user = current_user AS superuser, by_invoker(:'mine') ~ ': wrong_owner$' AS invoker, by_alice(:'mine'), by_bob(:'mine');
SET ROLE regress_apikey_group;
SELECT by_invoker(:'mine'), by_alice(:'mine'), by_bob(:'mine');
-- a view's functions run as whoever reads it, a policy's too
RESET ROLE;
CREATE VIEW asked AS SELECT current_user AS who, code FROM keys, apikey_verify(key) WHERE what = 'alice';
ALTER VIEW asked OWNER TO regress_apikey_alice;
GRANT SELECT ON asked TO PUBLIC;
SET ROLE regress_apikey_bob;
SELECT * FROM asked;
-- SET ROLE counts, whoever the session is, and within one transaction
RESET ROLE;
BEGIN;
SET LOCAL ROLE regress_apikey_alice;
SELECT apikey_check(:'mine');
SAVEPOINT s;
SET LOCAL ROLE regress_apikey_bob;
SELECT apikey_check(:'mine');
ROLLBACK TO s;
SELECT apikey_check(:'mine');
COMMIT;

-- Subjects change nothing of it: a key's subject is told, and not asked for.
SET apikey.subject_setting = 'request.jwt.claim.sub';
SET request.jwt.claim.sub = 'user-2';
SET ROLE regress_apikey_alice;
SELECT what, code, subject FROM keys, apikey_verify(key) WHERE what ~ '^alice' ORDER BY n;
SET request.jwt.claim.sub = '';
SELECT what, code, subject FROM keys, apikey_verify(key) WHERE what ~ '^alice' ORDER BY n;
RESET ROLE;
RESET apikey.subject_setting;

-- Whose the transaction is, the owner's name tells of personal keys only.
SET ROLE regress_apikey_bob;
BEGIN;
SELECT apikey_authenticate(key, owner => 'regress_apikey_alice') IS NOT NULL AS authenticated FROM keys WHERE what = 'alice';
SELECT apikey_current_owner(), apikey_current_project();
SELECT apikey_authenticate(key, project => 'acme', owner => 'regress_apikey_alice') IS NOT NULL AS authenticated FROM keys WHERE what = 'alice in pay';
SELECT apikey_current_owner(), apikey_current_project();
COMMIT;

-- Who owns a key is asked of what the tables hold now.
RESET ROLE;
SELECT what, apikey_transfer(apikey_id(key), 'regress_apikey_bob') FROM keys WHERE what IN ('alice in pay', 'alice') ORDER BY n;
SET ROLE regress_apikey_bob;
SELECT what, neither, "owner alice", "owner oneself", project, "project, alice" FROM answers WHERE what IN ('alice in pay', 'alice') ORDER BY n;
-- who handed it on vouches for it, and is not its owner
RESET ROLE;
SELECT v.code, (SELECT w.code FROM apikey_verify(key, project => 'acme', owner => 'regress_apikey_bob') w) AS "of bob" FROM keys, apikey_verify(key, project => 'acme', owner => current_user::regrole) v WHERE what = 'alice in pay';

-- The order of the codes: forbidden before, addresses and the rest after.
RESET ROLE;
REVOKE regress_apikey_alice FROM regress_apikey_bob;
SELECT apikey_member_remove('acme', 'regress_apikey_bob') \g /dev/null
SELECT code FROM keys, apikey_verify(key) WHERE what = 'bob in web';
SET ROLE regress_apikey_alice;
SELECT apikey_create('office', allowed_ips => '{10.0.0.0/8}') AS office \gset
SET ROLE regress_apikey_bob;
SELECT code, detail FROM apikey_verify(:'office', '{none}', min_role => 'admin', client_addr => '192.0.2.1');
SELECT code, detail FROM apikey_verify(:'office', '{none}', min_role => 'admin', client_addr => '192.0.2.1', owner => 'regress_apikey_alice');

RESET ROLE;
DROP VIEW asked, answers;
DROP FUNCTION by_bob, by_alice, by_invoker, ask, authenticated;
DROP TABLE keys CASCADE;
SELECT apikey_organization_drop('acme', 'acme') \g /dev/null
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_import;
DELETE FROM apikey_event;
REVOKE EXECUTE ON FUNCTION apikey_organization_create FROM regress_apikey_alice;
DROP OWNED BY regress_apikey_group;
DROP ROLE regress_apikey_alice, regress_apikey_bob, regress_apikey_group, regress_apikey_root, regress_apikey_bypass;
