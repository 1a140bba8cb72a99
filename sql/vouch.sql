-- Leaving means leaving: a project's key stands no higher than its owner does
-- now, nor than whoever last decided whose it is.
CREATE ROLE regress_apikey_olga;
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_dora;
CREATE ROLE regress_apikey_ops;
CREATE ROLE regress_apikey_emil IN ROLE regress_apikey_ops;
CREATE ROLE regress_apikey_root SUPERUSER;
GRANT EXECUTE ON FUNCTION apikey_organization_create, apikey_import TO regress_apikey_olga, regress_apikey_anna;
SET ROLE regress_apikey_olga;
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay');
DO $$
BEGIN
	PERFORM apikey_member_add('acme/pay', 'regress_apikey_anna', 'admin');
	PERFORM apikey_member_add('acme/pay', 'regress_apikey_dora', 'owner');
	PERFORM apikey_member_add('acme', 'regress_apikey_ops', 'admin');
END $$;
-- What is asked each time: what each key is, and for whom.
RESET ROLE;
CREATE TABLE regress_held (n serial, name text, key text);
GRANT ALL ON regress_held, regress_held_n_seq TO PUBLIC;
CREATE VIEW regress_asked AS SELECT h.n, h.name, v.code, v.role, v.owner FROM regress_held h, apikey_verify(h.key, project => 'acme') v;
GRANT SELECT ON regress_asked TO PUBLIC;
SET ROLE regress_apikey_anna;
INSERT INTO regress_held (name, key) SELECT n, apikey_create(n, 'acme/pay') FROM unnest('{kept,handed,to-group,rotated,taken,renamed,old}'::text[]) AS n;
SELECT apikey_import('imported', 'sha256', encode(sha256('regress-imported-key'), 'hex'), project => 'acme/pay') IS NOT NULL AS imported;
INSERT INTO regress_held (name, key) VALUES ('imported', 'regress-imported-key');

-- A key goes to members alone; a superuser is one where somebody made it one.
-- fail
SELECT apikey_transfer(id, 'regress_apikey_root') FROM apikeys WHERE name = 'handed';
SELECT apikey_transfer(id, 'regress_apikey_root', 'anna') FROM apikeys WHERE name = 'handed';
SELECT apikey_transfer(id, 'pg_monitor') FROM apikeys WHERE name = 'handed';
SELECT apikey_transfer(id, 'regress_apikey_ops') FROM apikeys WHERE name = 'to-group';
SELECT apikey_transfer(id, 'regress_apikey_emil') FROM apikeys WHERE name = 'to-group';
SET ROLE regress_apikey_olga;
SELECT apikey_member_add('acme', 'regress_apikey_root', 'developer');
SET ROLE regress_apikey_anna;
SELECT apikey_transfer(id, 'regress_apikey_root') FROM apikeys WHERE name = 'handed';
-- What anna decides she vouches for; changes decide nothing of that.
SELECT apikey_disable(id), apikey_enable(id), apikey_rename(id, 'other') FROM apikeys WHERE name = 'renamed';
SET ROLE regress_apikey_olga;
UPDATE apikeys SET description = 'by an owner' WHERE name = 'other';
-- What olga decides she vouches for.
INSERT INTO regress_held (name, key) SELECT 'successor', apikey_rotate(id, '1 hour') FROM apikeys WHERE name = 'rotated';
SELECT apikey_transfer(id, 'regress_apikey_dora') FROM apikeys WHERE name = 'taken';
RESET ROLE;
SELECT name, owner, vouched_by, vouched_by_name, created_by, updated_at IS NOT NULL AS updated, enabled_at IS NOT NULL AS enabled
	FROM apikey_key ORDER BY name COLLATE "C", created_at;
-- A row of 0.1.0 names nobody: its owner vouches.
UPDATE apikey_key SET vouched_by = NULL, vouched_by_name = NULL, created_by = NULL WHERE name = 'old';
SELECT * FROM regress_asked ORDER BY n;

-- Demoted: nothing of hers is more than she is, whoever owns it.
SET ROLE regress_apikey_olga;
SELECT apikey_member_add('acme/pay', 'regress_apikey_anna', 'developer');
SELECT * FROM regress_asked ORDER BY n;
-- Removed: it is forbidden.
SELECT apikey_member_remove('acme/pay', 'regress_apikey_anna');
SELECT * FROM regress_asked ORDER BY n;
-- She sees and may revoke what she owns or vouches for, and no more.
SET ROLE regress_apikey_anna;
SELECT name FROM apikeys ORDER BY name COLLATE "C";
\set VERBOSITY sqlstate
-- fail: known, and not hers to change
SELECT apikey_rename(apikey_id(key), 'x') FROM regress_held WHERE name = 'handed';
-- fail: not known any more
SELECT apikey_revoke(apikey_id(key)) FROM regress_held WHERE name = 'taken';
\set VERBOSITY default
SELECT apikey_revoke(apikey_id(key)) FROM regress_held WHERE name = 'handed';
-- Back again, it stands as she does.
SET ROLE regress_apikey_olga;
SELECT apikey_member_add('acme/pay', 'regress_apikey_anna', 'admin');
SELECT * FROM regress_asked ORDER BY n;

-- A superuser stands as an owner, as long as it is one.
RESET ROLE;
SET ROLE regress_apikey_root;
INSERT INTO regress_held (name, key) VALUES ('roots', apikey_create('roots', 'acme/pay'));
RESET ROLE;
SELECT * FROM regress_asked WHERE name = 'roots';
SELECT apikey_member_remove('acme', 'regress_apikey_root');
SELECT * FROM regress_asked WHERE name = 'roots';
ALTER ROLE regress_apikey_root NOSUPERUSER;
SELECT * FROM regress_asked WHERE name = 'roots';

-- The voucher's role dropped: forbidden.  The owner's: revoked.
SET ROLE regress_apikey_anna;
SELECT apikey_transfer(id, 'regress_apikey_dora') FROM apikeys WHERE name = 'kept';
SELECT * FROM regress_asked WHERE name = 'kept';
RESET ROLE;
SELECT apikey_member_remove('acme/pay', 'regress_apikey_anna');
REVOKE EXECUTE ON FUNCTION apikey_organization_create, apikey_import FROM regress_apikey_anna;
DROP OWNED BY regress_apikey_anna;
DROP ROLE regress_apikey_anna;
SELECT * FROM regress_asked ORDER BY n;

-- A personal key has no voucher: it is its owner's, whoever handed it over or
-- rotates it.
SET ROLE regress_apikey_dora;
SELECT apikey_create('mine') AS mine \gset
RESET ROLE;
SELECT apikey_transfer(apikey_id(:'mine'), 'regress_apikey_emil');
SELECT apikey_rotate(apikey_id(:'mine')) AS mine \gset
SELECT owner, vouched_by, created_by = current_user AS made_by_rotating FROM apikey_key WHERE id = apikey_id(:'mine');
SELECT code, owner FROM apikey_verify(:'mine', owner => 'regress_apikey_emil');

-- Where subjects tell users apart: a key for another subject is vouched for by
-- whoever makes it, and nobody makes one for a subject that is no member.
SET apikey.subject_setting = 'request.jwt.claim.sub';
SET ROLE regress_apikey_olga;
SELECT apikey_member_add('acme/pay', 'regress_apikey_dora', 'admin', 'ann'), apikey_member_add('acme/pay', 'regress_apikey_dora', 'developer', 'ben');
SELECT apikey_member_remove('acme/pay', 'regress_apikey_dora');
DELETE FROM regress_held;
SET ROLE regress_apikey_dora;
SET request.jwt.claim.sub = 'ann';
-- fail
SELECT apikey_create('for-nobody', 'acme/pay', subject => 'eve');
INSERT INTO regress_held (name, key) VALUES ('for-ben', apikey_create('for-ben', 'acme/pay', subject => 'ben')), ('anns', apikey_create('anns', 'acme/pay'));
INSERT INTO regress_held (name, key) SELECT 'ben-rotated', apikey_create('ben-rotated', 'acme/pay', subject => 'ben');
SELECT * FROM regress_asked ORDER BY n;
-- rotated, a key is the rotator's, subject included
INSERT INTO regress_held (name, key) SELECT 'successor', apikey_rotate(apikey_id(key)) FROM regress_held WHERE name = 'ben-rotated';
RESET ROLE;
SELECT name, subject, vouched_by, vouched_by_subject, created_by, created_by_subject FROM apikey_key
	WHERE vouched_by_subject IS NOT NULL AND revoked_at IS NULL ORDER BY name;
SET ROLE regress_apikey_dora;
SET request.jwt.claim.sub = 'ben';
SELECT name, subject FROM apikeys ORDER BY name;
SET ROLE regress_apikey_olga;
SET request.jwt.claim.sub = '';
SELECT apikey_member_remove('acme/pay', 'regress_apikey_dora', 'ann');
SELECT * FROM regress_asked ORDER BY n;
SELECT apikey_organization_drop('acme', 'acme');
RESET ROLE;
RESET apikey.subject_setting;
-- While they only label keys, a successor has its predecessor's.
SET ROLE regress_apikey_olga;
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay');
SELECT apikey_create('customer', 'acme/pay', subject => 'cust_7') AS customer \gset
SELECT code, subject FROM apikey_verify(apikey_rotate(apikey_id(:'customer')), project => 'acme');
SELECT apikey_organization_drop('acme', 'acme');

RESET ROLE;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_import;
DELETE FROM apikey_event;
DROP VIEW regress_asked;
DROP TABLE regress_held;
REVOKE EXECUTE ON FUNCTION apikey_organization_create, apikey_import FROM regress_apikey_olga;
DROP ROLE regress_apikey_olga, regress_apikey_dora, regress_apikey_emil, regress_apikey_ops, regress_apikey_root;
