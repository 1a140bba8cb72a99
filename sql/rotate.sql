-- A key is replaced by a successor that has its attributes.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
SET ROLE regress_apikey_alice;
SELECT apikey_create('deploy', description => 'for the tests', subject => 'user-1', scopes => '{read,write:*}',
	starts_at => '2020-01-01', expires_at => '2100-01-01', prefix => 'acme_live', allowed_ips => '{10.0.0.0/8}',
	metadata => '{"plan": "pro"}') AS one \gset
SELECT apikey_rotate(apikey_id(:'one'), '1 hour') AS two \gset
SELECT left(:'two', 10) AS prefix, :'one' <> :'two' AS another;
SELECT name, description, status, owner, subject, scopes, starts_at = '2020-01-01' AS starts,
	expires_at = '2100-01-01' AS same_end, expires_at < now() + interval '61 minutes' AS in_grace, allowed_ips, metadata,
	rotated_to = apikey_id(:'two') AS rotated, revoked_at IS NULL AS alive
	FROM apikeys ORDER BY created_at;
-- Both verify; the old one tells what is coming.
SELECT code, name, detail FROM apikey_verify(:'two', client_addr => '10.1.1.1');
SELECT code, name, detail ->> 'rotated_to' = apikey_id(:'two')::text AS successor,
	(detail ->> 'stops_at')::timestamptz = expires_at AS stops,
	expires_at BETWEEN now() + interval '59 minutes' AND now() + interval '61 minutes' AS in_an_hour
	FROM apikey_verify(:'one', client_addr => '10.1.1.1');
SELECT apikey_check(:'one'), detail ->> 'missing_scopes' AS missing, detail ? 'stops_at' AS stops
	FROM apikey_verify(:'one', '{none}', client_addr => '10.1.1.1');
SELECT event, key_id = apikey_id(:'one') AS old, detail ->> 'rotated_to' = apikey_id(:'two')::text AS "to",
	detail ->> 'rotated_from' = apikey_id(:'one')::text AS "from", detail ? 'stops_at' AS stops
	FROM apikey_events ORDER BY id;

-- fail: it can be neither rotated, renamed, enabled, updated nor handed over
SELECT apikey_disable(apikey_id(:'one'));
\set VERBOSITY sqlstate
SELECT apikey_rotate(apikey_id(:'one'));
SELECT apikey_rename(apikey_id(:'one'), 'other');
SELECT apikey_enable(apikey_id(:'one'));
UPDATE apikeys SET description = 'x' WHERE id = apikey_id(:'one');
UPDATE apikeys SET expires_at = '2100-01-01' WHERE id = apikey_id(:'one');
RESET ROLE;
SELECT apikey_transfer(apikey_id(:'one'), 'regress_apikey_bob');
SET ROLE regress_apikey_alice;
\set VERBOSITY default
-- and its name is the successor's, who may be renamed
SELECT apikey_rename(apikey_id(:'two'), 'other'), apikey_rename(apikey_id(:'two'), 'deploy');
-- fail
SELECT apikey_create('deploy', subject => 'user-1');

-- Without a grace it is revoked; and its predecessor with it.
SELECT apikey_rotate(apikey_id(:'two')) AS three \gset
SELECT status, revoke_reason, rotated_to IS NOT NULL AS rotated FROM apikeys ORDER BY created_at;
SELECT code, detail FROM apikey_verify(:'one') UNION ALL SELECT code, detail FROM apikey_verify(:'two')
	UNION ALL SELECT code, detail FROM apikey_verify(:'three', client_addr => '10.1.1.1');
SELECT apikey_revoke(apikey_id(:'three'));
-- fail: revoked
\set VERBOSITY sqlstate
SELECT apikey_rotate(apikey_id(:'three'));
\set VERBOSITY default

-- Ending the successor ends all that it has replaced and is in its grace.
CREATE TEMP TABLE chain (n int, key text);
CREATE FUNCTION pg_temp.make_chain() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM chain;
	INSERT INTO chain VALUES (1, apikey_create('chain'));
	FOR i IN 2 .. 4 LOOP
		INSERT INTO chain SELECT i, apikey_rotate(apikey_id(key), '1 day') FROM chain WHERE n = i - 1;
	END LOOP;
END $$;
SELECT pg_temp.make_chain();
SELECT n, code FROM chain, apikey_verify(key) ORDER BY n;
SELECT apikey_disable(apikey_id(key)) FROM chain WHERE n = 3;
SELECT n, code FROM chain, apikey_verify(key) ORDER BY n;
-- fail: enabling the successor brings nothing back
SELECT apikey_enable(apikey_id(key)) FROM chain WHERE n = 4;
SELECT apikey_revoke(apikey_id(key), 'found on a bus') FROM chain WHERE n = 4;
SELECT n, code, status, revoke_reason FROM chain, apikey_verify(key), apikeys WHERE id = apikey_id(key) ORDER BY n;
SELECT pg_temp.make_chain();
SELECT apikey_self_revoke(key, 'me') FROM chain WHERE n = 4;
SELECT n, code, revoke_reason FROM chain, apikey_verify(key), apikeys WHERE id = apikey_id(key) ORDER BY n;
SELECT pg_temp.make_chain();
SELECT apikey_delete(apikey_id(key), 'chain') FROM chain WHERE n = 3;
SELECT n, code, revoke_reason FROM chain, apikey_verify(key) LEFT JOIN apikeys ON id = key_id ORDER BY n;
-- The old one may end, or go, before.
SELECT apikey_delete(apikey_id(key), 'chain') FROM chain WHERE n = 1;
SELECT apikey_revoke(apikey_id(key)) FROM chain WHERE n = 4;
-- A circle made by hand does no harm.
RESET ROLE;
SELECT pg_temp.make_chain();
UPDATE apikey_key SET rotated_to = (SELECT apikey_id(key) FROM chain WHERE n = 1) WHERE id = (SELECT apikey_id(key) FROM chain WHERE n = 4);
SELECT apikey_revoke(apikey_id(key)) FROM chain WHERE n = 2;
SELECT n, code FROM chain, apikey_verify(key) ORDER BY n;
SET ROLE regress_apikey_alice;

-- A rotation is rolled back as a whole.
SELECT apikey_create('back') AS back \gset
BEGIN;
SELECT apikey_rotate(apikey_id(:'back')) AS forth \gset
SELECT code FROM apikey_verify(:'back') UNION ALL SELECT code FROM apikey_verify(:'forth');
ROLLBACK;
SELECT code FROM apikey_verify(:'back') UNION ALL SELECT code FROM apikey_verify(:'forth');

-- The earlier of both ends holds.
SELECT apikey_create('short', expires_at => now() + interval '1 hour') AS short \gset
SELECT apikey_rotate(apikey_id(:'short'), '1 day') AS longer \gset
SELECT count(DISTINCT expires_at) FROM apikeys WHERE id IN (apikey_id(:'short'), apikey_id(:'longer'));
-- A disabled key's successor is disabled, and may be enabled.
SELECT apikey_create('off') AS off \gset
SELECT apikey_disable(apikey_id(:'off'));
SELECT apikey_rotate(apikey_id(:'off'), '1 day') AS off_two \gset
SELECT code FROM apikey_verify(:'off') UNION ALL SELECT code FROM apikey_verify(:'off_two');
SELECT apikey_enable(apikey_id(:'off_two'));
SELECT code FROM apikey_verify(:'off') UNION ALL SELECT code FROM apikey_verify(:'off_two');
-- fail: a bad grace, none, no key, an expired one, a stranger's
SELECT apikey_rotate(apikey_id(:'back'), '-1 second');
SELECT apikey_rotate(apikey_id(:'back'), '1000000000 days');
SELECT apikey_rotate(apikey_id(:'back'), '-1000000 months 30000010 days');
SELECT apikey_rotate(apikey_id(:'back'), NULL);
SELECT apikey_rotate(NULL);
SELECT apikey_rotate('00000000-0000-7000-8000-000000000000');
SELECT apikey_create('past') AS past \gset
UPDATE apikeys SET expires_at = '2020-01-01' WHERE name = 'past';
\set VERBOSITY sqlstate
SELECT apikey_rotate(apikey_id(:'past'));
SET ROLE regress_apikey_bob;
SELECT apikey_rotate(apikey_id(:'back'));
BEGIN READ ONLY;
SELECT apikey_rotate(apikey_id(:'back'));
ROLLBACK;
\set VERBOSITY default
-- Whoever rotates a personal key, it stays its owner's.
RESET ROLE;
GRANT regress_apikey_alice TO regress_apikey_bob;
SET ROLE regress_apikey_bob;
SELECT apikey_rotate(apikey_id(:'back'), '1 hour') AS forth \gset
SELECT owner, code FROM apikey_verify(:'back', owner => 'regress_apikey_alice') UNION ALL SELECT owner, code FROM apikey_verify(:'forth', owner => 'regress_apikey_alice');
RESET ROLE;
REVOKE regress_apikey_alice FROM regress_apikey_bob;

-- In a project: the role is at most that of who rotates, max_keys is as full
-- as before, and the terms stay accepted.
CREATE ROLE regress_apikey_owner;
GRANT EXECUTE ON FUNCTION apikey_organization_create TO regress_apikey_owner;
SET ROLE regress_apikey_owner;
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay');
SELECT apikey_member_add('acme/pay', 'regress_apikey_alice', 'admin'), apikey_member_add('acme/pay', 'regress_apikey_bob', 'developer');
UPDATE apikey_projects SET terms = 'be nice' WHERE path = 'acme/pay';
SET ROLE regress_apikey_alice;
SELECT apikey_create('billing', 'acme/pay', role => 'developer', accept_terms => 'be nice') AS low,
	apikey_create('admin', 'acme/pay', accept_terms => 'be nice') AS high \gset
SET ROLE regress_apikey_owner;
UPDATE apikey_projects SET max_keys = 1, name_pattern = 'x+', terms = 'be nicer' WHERE path = 'acme/pay';
SELECT apikey_rotate(apikey_id(:'low'), '1 hour') AS low_two, apikey_rotate(apikey_id(:'high')) AS high_two \gset
SELECT code, name, project, owner, role FROM apikey_verify(:'low', project => 'acme/pay') UNION ALL SELECT code, name, project, owner, role FROM apikey_verify(:'low_two', project => 'acme/pay')
	UNION ALL SELECT code, name, project, owner, role FROM apikey_verify(:'high_two', project => 'acme/pay');
RESET ROLE;
SELECT name, accepted_terms FROM apikey_key WHERE id IN (apikey_id(:'low_two'), apikey_id(:'high_two')) ORDER BY name;
-- An owner's key: an admin may not; a developer may not rotate what he sees.
SET ROLE regress_apikey_owner;
UPDATE apikey_projects SET max_keys = NULL, name_pattern = NULL, terms = NULL, members_can_view = true WHERE path = 'acme/pay';
SELECT apikey_create('owner', 'acme/pay') AS top \gset
\set VERBOSITY sqlstate
SET ROLE regress_apikey_alice;
SELECT apikey_rotate(apikey_id(:'top'));
SET ROLE regress_apikey_bob;
SELECT apikey_rotate(apikey_id(:'low_two'));
\set VERBOSITY default
-- The project has a max_ttl since: a successor ends within it, counted from now.
SET ROLE regress_apikey_owner;
UPDATE apikey_projects SET max_ttl = '90 days' WHERE path = 'acme/pay';
SELECT apikey_rotate(apikey_id(:'low_two')) AS low_three \gset
SELECT apikey_rotate(apikey_id(:'low_three'), expires_at => now() + interval '91 days') AS low_four \gset
SELECT role, expires_at - now() BETWEEN '89 days' AND '90 days' AS ends FROM apikey_verify(:'low_four', project => 'acme/pay');
SELECT apikey_rotate(apikey_id(:'low_four'), '1 day', now() + interval '80 days') AS low_five \gset
SELECT name, expires_at - now() BETWEEN '79 days' AND '80 days' AS ends FROM apikeys WHERE id = apikey_id(:'low_five');
-- fail: an end that is none
SELECT apikey_rotate(apikey_id(:'low_five'), '0', now());
SELECT apikey_rotate(apikey_id(:'low_five'), '0', 'infinity');
SELECT apikey_rotate(apikey_id(:'low_five'), '0', '10000-01-02');
-- An expired key may go on under another end.
UPDATE apikeys SET expires_at = now() - interval '1 day' WHERE id = apikey_id(:'low_five');
\set VERBOSITY sqlstate
SELECT apikey_rotate(apikey_id(:'low_five')) IS NULL AS rotated;
\set VERBOSITY default
SELECT code FROM apikey_verify(apikey_rotate(apikey_id(:'low_five'), '0', now() + interval '2 days'), project => 'acme/pay');
-- Keys from before are brought under it when the owners say so.
SET ROLE regress_apikey_alice;
SELECT apikey_create('for-long', 'acme/pay', expires_at => now() + interval '90 days') AS long,
	apikey_create('ended', 'acme/pay', expires_at => now() + interval '60 days') AS ended \gset
SELECT apikey_revoke(apikey_id(:'ended'));
SET ROLE regress_apikey_owner;
UPDATE apikey_projects SET max_ttl = '30 days' WHERE path = 'acme/pay';
\set VERBOSITY sqlstate
SELECT apikey_project_apply('acme');
SELECT apikey_project_apply('acme/none');
SELECT apikey_project_apply(NULL);
SET ROLE regress_apikey_alice;
SELECT apikey_project_apply('acme/pay');
SET ROLE regress_apikey_owner;
\set VERBOSITY default
SELECT apikey_project_apply('acme/pay'), apikey_project_apply('acme/pay');
SELECT name, expires_at IS NULL AS forever, expires_at - now() BETWEEN '29 days' AND '30 days' AS within
	FROM apikeys WHERE project = 'acme/pay' AND rotated_to IS NULL ORDER BY name COLLATE "C";
SELECT event, key_name, detail -> 'keys' AS keys, detail - 'keys' - 'after' - 'before' AS detail FROM apikey_events
	WHERE event = 'project_applied' OR detail -> 'columns' = '["expires_at"]' AND key_name = 'for-long' ORDER BY id;
UPDATE apikey_projects SET max_ttl = NULL WHERE path = 'acme/pay';
SELECT apikey_project_apply('acme/pay');
-- What is replaced stops within it too, and a time zone that is made up moves no end.
SELECT apikey_create('before-it', 'acme/pay') AS before_it \gset
UPDATE apikey_projects SET max_ttl = '30 days' WHERE path = 'acme/pay';
SELECT apikey_rotate(apikey_id(:'before_it'), '99 years') IS NOT NULL AS rotated;
SELECT expires_at - now() BETWEEN '29 days' AND '30 days' AS stops FROM apikeys WHERE id = apikey_id(:'before_it');
SELECT set_config('TimeZone', format('AAA-15BBB15,J%s/0,J%s/0', extract(doy FROM now() + interval '3 days'), extract(doy FROM now() + interval '60 days')), false) IS NOT NULL AS moved;
\set VERBOSITY sqlstate
SELECT apikey_create('moved', 'acme/pay', expires_at => now() + interval '723 hours');
\set VERBOSITY default
SELECT apikey_create('moved', 'acme/pay', expires_at => now() + interval '20 days') IS NOT NULL AS made;
SELECT detail -> 'after' ->> 'expires_at' LIKE '%+00:00' AS in_utc FROM apikey_events WHERE event = 'updated' AND detail -> 'after' ? 'expires_at' ORDER BY id DESC LIMIT 1;
RESET TimeZone;
UPDATE apikey_projects SET max_ttl = NULL WHERE path = 'acme/pay';
-- A superuser rotates what he likes, and owns the successor: the role stays.
UPDATE apikey_projects SET max_ttl = NULL WHERE path = 'acme/pay';
RESET ROLE;
SELECT apikey_rotate(apikey_id(:'top')) AS top_two \gset
SELECT code, role, owner = current_user AS mine FROM apikey_verify(:'top_two', project => 'acme');
-- A key of a dropped role is revoked.
CREATE ROLE regress_apikey_gone;
SET ROLE regress_apikey_gone;
SELECT apikey_create('gone') AS gone \gset
RESET ROLE;
DROP ROLE regress_apikey_gone;
\set VERBOSITY sqlstate
SELECT apikey_rotate(apikey_id(:'gone'));
\set VERBOSITY default

SELECT apikey_organization_drop('acme', 'acme');
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP FUNCTION pg_temp.make_chain;
DROP TABLE chain;
REVOKE EXECUTE ON FUNCTION apikey_organization_create FROM regress_apikey_owner;
DROP ROLE regress_apikey_alice, regress_apikey_bob, regress_apikey_owner;
