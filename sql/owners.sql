-- Whose key it is: roles, groups, and roles that are gone.
CREATE ROLE regress_apikey_team;
CREATE ROLE regress_apikey_alice IN ROLE regress_apikey_team;
CREATE ROLE regress_apikey_guest NOINHERIT IN ROLE regress_apikey_team;
CREATE ROLE regress_apikey_mallory;
SET ROLE regress_apikey_alice;
SELECT apikey_create('mine') AS mine \gset
SET ROLE regress_apikey_team;
SELECT apikey_create('ours') AS ours \gset
SELECT name FROM apikeys ORDER BY name;
-- a member has what the group has
SET ROLE regress_apikey_alice;
SELECT name, owner FROM apikeys ORDER BY name;
SELECT apikey_disable(apikey_id(:'ours')), apikey_enable(apikey_id(:'ours'));
UPDATE apikeys SET description = 'by a member' WHERE name = 'ours';
-- one that does not inherit has to ask for it
SET ROLE regress_apikey_guest;
SELECT name FROM apikeys;
SET ROLE regress_apikey_team;
SELECT name, description FROM apikeys;
-- owners differ, so may names not
SET ROLE regress_apikey_alice;
SELECT code, owner FROM apikey_verify(apikey_create('ours'));

-- A stranger is told the same of a key that is and one that is not.
RESET ROLE;
CREATE FUNCTION regress_attempt(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || regexp_replace(SQLERRM, '[0-9a-f-]{36}', 'ID');
END $$;
SET ROLE regress_apikey_mallory;
SELECT count(*) FROM apikeys;
SELECT call, regress_attempt(format(call, apikey_id(:'mine'))) AS existing,
	   regress_attempt(format(call, '00000000-0000-0000-0000-000000000000')) AS invented
	FROM (VALUES ('SELECT apikey_revoke(%L)'), ('SELECT apikey_disable(%L)'), ('SELECT apikey_enable(%L)'),
		('SELECT apikey_rename(%L, ''taken'')'), ('SELECT apikey_delete(%L, ''mine'')'),
		('UPDATE apikeys SET description = ''x'' WHERE id = %L')) AS c (call);
-- but may verify what she holds, if she says whose it is, and take no name from anybody
SELECT code, owner FROM apikey_verify(:'mine');
SELECT code, owner FROM apikey_verify(:'mine', owner => 'regress_apikey_alice');
SELECT code FROM apikey_verify(apikey_create('mine'));

-- In a function of another's, that one acts.
RESET ROLE;
CREATE FUNCTION regress_apikey_make() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
	AS $$ SELECT apikey_create('made-for-me') $$;
ALTER FUNCTION regress_apikey_make OWNER TO regress_apikey_alice;
SET ROLE regress_apikey_mallory;
SELECT owner FROM apikey_verify(regress_apikey_make());
SELECT name FROM apikeys ORDER BY name;
RESET ROLE;
DROP FUNCTION regress_apikey_make;

-- A superuser sees and manages all; BYPASSRLS sees.
CREATE ROLE regress_apikey_root SUPERUSER;
SET ROLE regress_apikey_root;
SELECT name, owner FROM apikeys ORDER BY owner, name;
UPDATE apikeys SET description = 'by a superuser' WHERE name = 'mine' AND owner = 'regress_apikey_alice';
RESET ROLE;
DROP ROLE regress_apikey_root;

-- A new name of the role changes nothing.
ALTER ROLE regress_apikey_alice RENAME TO regress_apikey_alicia;
SELECT code, owner FROM apikey_verify(:'mine', owner => 'regress_apikey_alicia');
SET ROLE regress_apikey_alicia;
SELECT name, owner, status FROM apikeys ORDER BY name, owner COLLATE "C";
RESET ROLE;

-- Dropping the role revokes, at once and for good.
BEGIN;
DROP ROLE regress_apikey_alicia;
SELECT code FROM apikey_verify(:'mine');
ROLLBACK;
SELECT code FROM apikey_verify(:'mine', owner => 'regress_apikey_alicia');
DROP ROLE regress_apikey_alicia;
SELECT valid, code, name FROM apikey_verify(:'mine');
SELECT apikey_check(:'mine'), apikey_self_revoke(:'mine');
CREATE ROLE regress_apikey_alicia;
CREATE ROLE regress_apikey_alice;
SELECT code FROM apikey_verify(:'mine');
SELECT code FROM apikey_verify(:'mine', owner => 'regress_apikey_alice');
SET ROLE regress_apikey_alicia;
SELECT name FROM apikeys;
SELECT code FROM apikey_verify(apikey_create('mine'));
RESET ROLE;
-- a superuser still sees it for what it is, and cannot bring it back
SELECT name, status, owner FROM apikeys WHERE id = apikey_id(:'mine');
\set VERBOSITY sqlstate
SELECT apikey_enable(apikey_id(:'mine'));
UPDATE apikeys SET description = 'x' WHERE id = apikey_id(:'mine');
\set VERBOSITY default
SELECT apikey_delete(apikey_id(:'mine'), 'mine');

DROP FUNCTION regress_attempt;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP ROLE regress_apikey_team, regress_apikey_alice, regress_apikey_alicia, regress_apikey_guest, regress_apikey_mallory;
