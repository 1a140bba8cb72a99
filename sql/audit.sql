-- The trail: what it tells, of what was before and is after, and to whom.
CREATE ROLE regress_apikey_anna;
CREATE ROLE regress_apikey_bob;
CREATE ROLE regress_apikey_olga;
CREATE ROLE regress_apikey_paula;
CREATE FUNCTION regress_trail(reader name, what text) RETURNS TABLE (event text, key_name text, project text, actor name,
		key_subject text, detail jsonb) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', reader);
	RETURN QUERY SELECT e.event, e.key_name, e.project, e.actor, e.key_subject, e.detail FROM apikey_events e
		WHERE e.key_name = what OR e.project LIKE what ORDER BY e.id;
	RESET ROLE;
END $$;
GRANT EXECUTE ON FUNCTION apikey_organization_create TO regress_apikey_olga;

SET timezone = 'UTC';
-- What was before and is after, of each column; a long value by its length.
SET ROLE regress_apikey_anna;
SELECT apikey_create('annas', subject => 'user-1') AS key \gset
UPDATE apikeys SET description = 'a "b"', scopes = '{x,y:*}', starts_at = '2020-01-01 UTC', expires_at = '2100-01-01 UTC',
	allowed_ips = '{10.0.0.0/8}', metadata = '{"plan": "pro"}', rate_window = '1 hour' WHERE name = 'annas';
UPDATE apikeys SET metadata = jsonb_build_object('long', repeat('x', 10000)) WHERE name = 'annas';
SELECT apikey_rename(apikey_id(:'key'), 'annas-2');
SELECT event, key_name, key_subject, detail FROM apikey_events ORDER BY id;

-- Members, roles that change, a project's settings, a key that is handed on.
SET ROLE regress_apikey_olga;
SELECT apikey_organization_create('audited') IS NOT NULL AS created;
SELECT apikey_project_create('audited/one');
SELECT apikey_member_add('audited/one', 'regress_apikey_anna', 'developer', 'user-1');
SELECT apikey_member_add('audited/one', 'regress_apikey_anna', 'admin', 'user-1');
SELECT apikey_member_add('audited/one', 'regress_apikey_anna', 'admin', 'user-1');
SELECT apikey_member_add('audited/one', 'regress_apikey_paula', 'owner');
SELECT apikey_member_add('audited/one', 'regress_apikey_bob', 'admin');
UPDATE apikey_projects SET max_ttl = '90 days', members_can_view = true, terms = 'v1' WHERE path = 'audited/one';
SELECT apikey_create('handed', 'audited/one', role => 'developer', accept_terms => 'v1', expires_at => now() + interval '1 day') AS handed \gset
UPDATE apikeys SET role = 'admin' WHERE name = 'handed';
SELECT apikey_transfer(apikey_id(:'handed'), 'regress_apikey_bob', 'user-2');
RESET ROLE;
SELECT * FROM regress_trail('regress_apikey_paula', 'audited/%');
-- the key's owner reads what was done since it is his
SELECT * FROM regress_trail('regress_apikey_bob', 'audited/%');
SELECT * FROM regress_trail('regress_apikey_anna', 'audited/%');
-- after its drop a project's trail is its organization's owners', then nobody's; but what was
-- done to a key of their own
SET ROLE regress_apikey_paula;
SELECT apikey_project_drop('audited/one', 'audited/one');
RESET ROLE;
SELECT count(*) FROM regress_trail('regress_apikey_paula', 'audited/%');
SELECT count(*) FROM regress_trail('regress_apikey_olga', 'audited/%');
SET ROLE regress_apikey_olga;
SELECT apikey_organization_drop('audited', 'audited');
RESET ROLE;
SELECT count(*) FROM regress_trail('regress_apikey_olga', 'audited/%');
SELECT count(*) FROM apikey_events WHERE project LIKE 'audited/%';

-- Whose key it was counts while OID and name are of one role.
SELECT event FROM regress_trail('regress_apikey_anna', 'annas-2');
UPDATE apikey_event SET key_owner = 'regress_apikey_bob' WHERE key_name = 'annas-2';
SELECT event FROM regress_trail('regress_apikey_anna', 'annas-2');
SELECT event FROM regress_trail('regress_apikey_bob', 'annas-2');
-- with no name, as in a dump of 0.1.0, it is the key's own owner's
UPDATE apikey_event SET key_owner_name = NULL WHERE key_name = 'annas-2';
SELECT event FROM regress_trail('regress_apikey_anna', 'annas-2');
SELECT event FROM regress_trail('regress_apikey_bob', 'annas-2');
UPDATE apikey_event SET key_subject = 'user-2' WHERE key_name = 'annas-2';
SELECT event FROM regress_trail('regress_apikey_anna', 'annas-2');
DELETE FROM apikey_key WHERE name = 'annas-2';
SELECT event FROM regress_trail('regress_apikey_anna', 'annas-2');
-- a role's own trail from before it was renamed
SET ROLE regress_apikey_bob;
SELECT apikey_create('bobs') AS bobs \gset
RESET ROLE;
SELECT event FROM regress_trail('regress_apikey_bob', 'bobs');
ALTER ROLE regress_apikey_bob RENAME TO regress_apikey_bert;
SELECT event FROM regress_trail('regress_apikey_bert', 'bobs');
SET ROLE regress_apikey_bert;
SELECT apikey_disable(apikey_id(:'bobs'));
RESET ROLE;
SELECT event FROM regress_trail('regress_apikey_bert', 'bobs');

DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP FUNCTION regress_trail(name, text);
REVOKE EXECUTE ON FUNCTION apikey_organization_create FROM regress_apikey_olga;
DROP ROLE regress_apikey_anna, regress_apikey_bert, regress_apikey_olga, regress_apikey_paula;
