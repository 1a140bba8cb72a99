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

RESET ROLE;
RESET apikey.subject_setting;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP FUNCTION regress_subject_of;
DROP ROLE regress_apikey_web, regress_apikey_other;
