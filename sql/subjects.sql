-- Applications whose users are no roles: the subject.
CREATE ROLE regress_apikey_web;
CREATE ROLE regress_apikey_other;
-- fail: not for everybody to say, nor before the library is loaded
SET ROLE regress_apikey_web;
SET apikey.subject_setting = 'request.jwt.claim.sub';
SELECT apikey_check('x');
SET apikey.subject_setting = 'request.jwt.claim.sub';
SHOW apikey.subject_setting;
RESET ROLE;

-- While no setting is named, a subject is a label.
SET ROLE regress_apikey_web;
SELECT code, subject FROM apikey_verify(apikey_create('label', subject => 'user-9'));
SELECT code, subject FROM apikey_verify(apikey_create('label'));
SELECT name, subject FROM apikeys ORDER BY subject;
RESET ROLE;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;

-- As a setting of its own.
SET apikey.subject_setting = 'request.jwt.claim.sub';
SET ROLE regress_apikey_web;
SELECT code, subject FROM apikey_verify(apikey_create('nobodys'));
SET request.jwt.claim.sub = 'user-1';
SELECT apikey_create('ones') AS ones \gset
SELECT code, subject FROM apikey_verify(:'ones');
SELECT code, subject FROM apikey_verify(apikey_create('explicit', subject => 'user-1'));
-- fail: another's
SELECT apikey_create('forged', subject => 'user-2');
SELECT name, subject FROM apikeys ORDER BY name;
SET request.jwt.claim.sub = 'user-2';
SELECT name, subject FROM apikeys ORDER BY name;
-- the same name for another subject
SELECT apikey_create('ones') AS twos \gset
SELECT name, subject FROM apikeys ORDER BY name;
\set VERBOSITY sqlstate
SELECT apikey_revoke(apikey_id(:'ones'));
UPDATE apikeys SET description = 'x' WHERE id = apikey_id(:'ones');
SELECT apikey_revoke('00000000-0000-0000-0000-000000000000');
\set VERBOSITY default
-- what a key carries does not depend on who asks
SELECT code, subject FROM apikey_verify(:'ones');
-- no subject: matches what has none
SET request.jwt.claim.sub = '';
SELECT name, subject FROM apikeys ORDER BY name;
SELECT apikey_create('forged', subject => 'user-2');
RESET request.jwt.claim.sub;
SELECT name, subject FROM apikeys ORDER BY name;
-- the same subject of another role is another
SET ROLE regress_apikey_other;
SET request.jwt.claim.sub = 'user-1';
SELECT name, subject FROM apikeys ORDER BY name;
-- superusers match everything, and may create for others
RESET ROLE;
SELECT name, subject FROM apikeys ORDER BY name, subject;
SELECT subject FROM apikey_verify(apikey_create('for-three', subject => 'user-3'));
SELECT subject FROM apikey_verify(apikey_create('own'));
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;

-- As a member of a JSON object.
SET apikey.subject_setting = 'request.jwt.claims:sub';
CREATE FUNCTION regress_subject_of(claims text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	PERFORM set_config('request.jwt.claims', claims, true);
	SELECT coalesce(v.subject, '(none)') INTO result FROM apikey_verify(apikey_create('probe')) AS v;
	RAISE EXCEPTION USING MESSAGE = result;
EXCEPTION WHEN raise_exception THEN
	RETURN SQLERRM;
END $$;
SET ROLE regress_apikey_web;
SELECT what, regress_subject_of(claims) FROM (VALUES
		('a string', '{"role": "web", "sub": "user-1"}'),
		('escaped', '{"s\u0075b": "user\u002D1 \u00e9"}'),
		('a number', '{"sub": 42}'),
		('last of two', '{"sub": "user-1", "sub": "user-2"}'),
		('last of two, null', '{"sub": "user-1", "sub": null}'),
		('null', '{"sub": null}'),
		('empty', '{"sub": ""}'),
		('missing', '{"role": "web"}'),
		('deeper', '{"app": {"sub": "user-1"}}'),
		('an object', '{"sub": {"sub": "user-1"}}'),
		('an array', '{"sub": ["user-1"]}'),
		('no object', '["sub", "user-1"]'),
		('a scalar', '"user-1"'),
		('in a list', '[{"sub": "user-1"}]'),
		('broken', '{"sub": "user-1"'),
		('broken after', '{"sub": "user-1"} x'),
		('not JSON', 'user-1'),
		('nothing', ''),
		('blank', ' '),
		('null escape', '{"sub": "a\u0000b"}'),
		('deep', '{"sub": "user-1", "x": ' || repeat('[', 60) || repeat(']', 60) || '}'),
		('too deep', '{"sub": "user-1", "x": ' || repeat('[', 1000000) || repeat(']', 1000000) || '}'),
		('brackets in strings', '{"x": "\"' || repeat('[', 100) || '", "sub": "user-1"}')) AS c (what, claims)
	ORDER BY what;
-- a setting that is not there, or has no sensible name, is no subject
RESET ROLE;
SET apikey.subject_setting = 'no.such.setting';
SET ROLE regress_apikey_web;
SELECT subject FROM apikey_verify(apikey_create('one'));
RESET ROLE;
SET apikey.subject_setting = ':';
SET ROLE regress_apikey_web;
SELECT subject FROM apikey_verify(apikey_create('two'));
RESET ROLE;
SET apikey.subject_setting = 'a b c:sub';
SET ROLE regress_apikey_web;
SELECT subject FROM apikey_verify(apikey_create('three'));
-- fail: a subject that cannot be one
RESET ROLE;
SET apikey.subject_setting = 'request.jwt.claim.sub';
SET ROLE regress_apikey_web;
SELECT set_config('request.jwt.claim.sub', repeat('x', 256), false) <> '' AS set;
SELECT apikey_create('four');

-- In organizations and projects: a member with a subject, and one for all.
RESET ROLE;
GRANT EXECUTE ON FUNCTION apikey_organization_create TO regress_apikey_web;
SET ROLE regress_apikey_web;
SET request.jwt.claim.sub = 'olga';
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay') AS no_key;
SELECT apikey_member_add('acme/pay', 'regress_apikey_web', 'admin', 'anna');
SELECT apikey_member_add('acme/pay', 'regress_apikey_other', 'developer');
SELECT path, member, subject, role FROM apikey_members ORDER BY path, subject;
-- the same role with another subject is another member
SET request.jwt.claim.sub = 'mallory';
SELECT (SELECT count(*) FROM apikey_organizations) + (SELECT count(*) FROM apikey_projects) + (SELECT count(*) FROM apikey_members) AS seen;
SELECT apikey_create('spy', 'acme/pay');
SELECT apikey_member_add('acme', 'regress_apikey_web', 'owner', 'mallory');
RESET request.jwt.claim.sub;
SELECT (SELECT count(*) FROM apikey_organizations) + (SELECT count(*) FROM apikey_projects) AS seen;
SET request.jwt.claim.sub = 'anna';
SELECT path, role FROM apikey_projects;
SELECT apikey_create('annas', 'acme/pay') AS annas \gset
SELECT code, subject, role FROM apikey_verify(:'annas');
-- one without a subject covers all of its role
SET ROLE regress_apikey_other;
SET request.jwt.claim.sub = 'anybody';
SELECT path, role FROM apikey_projects;
RESET request.jwt.claim.sub;
SELECT path, role FROM apikey_projects;
-- an admin makes a key for another subject, whose standing then counts
SET ROLE regress_apikey_web;
SET request.jwt.claim.sub = 'olga';
SELECT apikey_create('for-anna', 'acme/pay', subject => 'anna') AS for_anna, apikey_create('for-ben', 'acme/pay', subject => 'ben') AS for_ben \gset
SELECT code, subject, role FROM apikey_verify(:'for_anna');
SELECT code, subject, role FROM apikey_verify(:'for_ben');
SELECT apikey_member_remove('acme/pay', 'regress_apikey_web'), apikey_member_remove('acme/pay', 'regress_apikey_web', 'anna');
SELECT code, subject, role FROM apikey_verify(:'annas');
SELECT apikey_transfer(apikey_id(:'annas'), 'regress_apikey_web');
SELECT apikey_transfer(apikey_id(:'annas'), 'regress_apikey_web', 'olga');
SELECT code, subject, role FROM apikey_verify(:'annas');
SELECT event, key_name, actor, actor_subject, detail FROM apikey_events WHERE project LIKE 'acme%' ORDER BY id;
-- while subjects are not in use only roles count
RESET ROLE;
RESET apikey.subject_setting;
SET ROLE regress_apikey_web;
SET request.jwt.claim.sub = 'mallory';
SELECT path, role FROM apikey_projects;
SELECT apikey_organization_drop('acme', 'acme');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION apikey_organization_create FROM regress_apikey_web;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP FUNCTION regress_subject_of;
DROP ROLE regress_apikey_web, regress_apikey_other;
