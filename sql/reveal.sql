-- What can be shown again: nothing without a pepper (with one: test/t/key_reveal.pl).
CREATE ROLE regress_apikey_alice;
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay');
SELECT apikey_member_add('acme/pay', 'regress_apikey_alice', 'admin');
UPDATE apikey_projects SET revealable = true WHERE path = 'acme/pay';
SET ROLE regress_apikey_alice;
SELECT apikey_create('personal') AS personal, apikey_create('project', 'acme/pay') AS project \gset
\set VERBOSITY sqlstate
SELECT apikey_reveal(apikey_id(:'personal'));
SELECT apikey_reveal(apikey_id(:'project'));
SELECT apikey_reveal('00000000-0000-7000-8000-000000000000');
SELECT apikey_reveal(NULL);
BEGIN READ ONLY;
SELECT apikey_reveal(apikey_id(:'project'));
ROLLBACK;
\set VERBOSITY default
RESET ROLE;
SELECT count(*) FROM apikey_reveal;
SELECT count(*) FROM apikey_events WHERE event = 'revealed';
SELECT apikey_organization_drop('acme', 'acme');
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP ROLE regress_apikey_alice;
