-- How many keys: of a project, and of a role.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
SELECT apikey_id('x');
-- fail: not for the role itself to say
SET ROLE regress_apikey_alice;
SET apikey.max_keys_per_role = 100;
RESET ROLE;
SET apikey.max_keys_per_role = 2;
SET ROLE regress_apikey_alice;
SELECT apikey_create('one') AS one, apikey_create('two', subject => 'cust_1') AS two \gset
-- fail
SELECT apikey_create('three');
-- another's do not count, nor do those that are replaced or revoked
SET ROLE regress_apikey_bob;
SELECT apikey_create('one') IS NOT NULL AS made;
SET ROLE regress_apikey_alice;
SELECT apikey_rotate(apikey_id(:'one'), '1 hour') IS NOT NULL AS rotated;
-- fail
SELECT apikey_create('three');
SELECT apikey_self_revoke(:'two');
SELECT apikey_create('three') IS NOT NULL AS made;
-- fail
SELECT apikey_create('four');
-- an expired or disabled key counts, a deleted one does not
SELECT apikey_disable(id) FROM apikeys WHERE name = 'three';
-- fail
SELECT apikey_create('four');
SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'three';
SELECT apikey_create('four') IS NOT NULL AS made;
-- a transaction that changes many of its keys counts each once
BEGIN;
UPDATE apikeys SET description = 'x' WHERE name = 'four';
UPDATE apikeys SET metadata = '{"a": 1}' WHERE name = 'four';
SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'two';
SELECT count(*) FROM apikeys WHERE status = 'active';
ROLLBACK;
-- an imported one counts as well, whatever it is found by
RESET ROLE;
SELECT apikey_grant('import', 'regress_apikey_alice');
SET ROLE regress_apikey_alice;
\set handle ak_02wRkw0VOLV5IXCz2Z5e9v
-- fail
SELECT apikey_import('imported', 'sha256', encode(sha256('x'), 'hex'));
SELECT apikey_import('imported', 'sha256', encode(sha256('x'), 'hex'), :'handle');
SELECT apikey_revoke(id) FROM apikeys WHERE name = 'four';
SELECT apikey_import('imported', 'sha256', encode(sha256('x'), 'hex'), :'handle');
-- fail
SELECT apikey_create('four');
SELECT apikey_delete(id, name) FROM apikeys WHERE name = 'imported';
-- no bound
RESET ROLE;
SELECT apikey_ungrant('import', 'regress_apikey_alice');
RESET apikey.max_keys_per_role;
SET ROLE regress_apikey_alice;
SELECT count(apikey_create('many-' || i)) FROM generate_series(1, 20) i;
RESET ROLE;

-- A project's are counted exactly, whatever has been done to them.
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay');
UPDATE apikey_projects SET max_keys = 3 WHERE path = 'acme/pay';
SELECT apikey_member_add('acme', 'regress_apikey_bob', 'admin');
SET ROLE regress_apikey_bob;
SELECT count(apikey_create('p-' || i, 'acme/pay')) FROM generate_series(1, 3) i;
-- fail
SELECT apikey_create('p-4', 'acme/pay');
SELECT apikey_revoke(id) FROM apikeys WHERE name = 'p-1';
SELECT apikey_create('p-4', 'acme/pay') IS NOT NULL AS made;
-- fail
SELECT apikey_create('p-5', 'acme/pay');
-- nor are any imported beyond it
RESET ROLE;
SELECT apikey_import('p-5', 'sha256', encode(sha256('x'), 'hex'), project => 'acme/pay');
SELECT apikey_import('p-5', 'sha256', encode(sha256('x'), 'hex'), :'handle', project => 'acme/pay');
SET ROLE regress_apikey_bob;
-- the keys of a dropped role are not live
RESET ROLE;
DELETE FROM apikey_key WHERE project IS NULL AND owner = 'regress_apikey_bob'::regrole;
DROP ROLE regress_apikey_bob;
SELECT count(apikey_create('q-' || i, 'acme/pay')) FROM generate_series(1, 3) i;
-- fail
SELECT apikey_create('q-4', 'acme/pay');

-- Many at once: sessions are told of all.
SELECT code FROM apikey_verify(:'one', owner => 'regress_apikey_alice');
UPDATE apikey_key SET description = 'mass';
SELECT count(*) FROM apikeys WHERE description = 'mass';

-- Purging looks at the caller's own alone.
SET ROLE regress_apikey_alice;
SELECT count(apikey_revoke(id)) FROM apikeys WHERE name LIKE 'many-%';
SELECT apikey_purge('0');
SELECT count(*) FROM apikeys WHERE name LIKE 'many-%';
RESET ROLE;
SELECT count(*) FROM apikeys WHERE project = 'acme/pay';
SELECT apikey_organization_drop('acme', 'acme');
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_revocation;
DELETE FROM apikey_event;
DROP ROLE regress_apikey_alice;
