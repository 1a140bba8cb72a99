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
	WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
-- What jsonb reads is read, and so is every member of it that is a string or number.
CREATE FUNCTION regress_subject_by_jsonb(claims text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF claims = '' THEN
		RETURN '(none)';
	END IF;
	IF jsonb_typeof(claims::jsonb) <> 'object' OR jsonb_typeof(claims::jsonb -> 'sub') NOT IN ('string', 'number', 'null') THEN
		RETURN '22023';
	END IF;
	RETURN coalesce(nullif(claims::jsonb ->> 'sub', ''), '(none)');
EXCEPTION WHEN OTHERS THEN
	RETURN '22023';
END $$;
CREATE FUNCTION regress_seen_by(claims text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('request.jwt.claims', claims, true);
	RETURN (SELECT count(*) FROM apikeys) || '/' || (SELECT count(*) FROM apikey_events) || '/' ||
		(SELECT count(*) FROM apikey_projects) || '/' || (SELECT count(*) FROM apikey_members) || '/' || (SELECT count(*) FROM apikey_organizations);
END $$;
SELECT apikey_create('unseen') IS NOT NULL AS made;
SET ROLE regress_apikey_web;
SELECT apikey_create('seen') IS NOT NULL AS made;
SELECT what, regress_subject_of(claims), regress_subject_of(claims) = regress_subject_by_jsonb(claims) AS as_jsonb, regress_seen_by(claims) AS seen FROM (VALUES
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
		('true', '{"sub": true}'),
		('a long number', '{"sub": 1.50e3}'),
		('many digits', '{"sub": 123456789012345678901234567890.10}'),
		('too many digits', '{"sub": 1e200000}'),
		('a surrogate pair', '{"sub": "\ud83d\ude00"}'),
		('half a pair', '{"sub": "\ud83d"}'),
		('no scheme of ours', '{"sub": "user-1", "iat": 1e999999}'),
		('twice, first an object', '{"sub": {}, "sub": "user-1"}'),
		('twice, last an object', '{"sub": "user-1", "sub": {}}'),
		('blanks around', E' \n\t{ "sub" : "user-1" }\r\n '),
		('byte order mark', E'\uFEFF{"sub": "user-1"}'),
		('a comment', '{"sub": "user-1" /* x */}'),
		('a trailing comma', '{"sub": "user-1",}'),
		('single quotes', '{''sub'': ''user-1''}'),
		('no zero first', '{"sub": .5}'),
		('NaN', '{"sub": NaN}'),
		('a tab in a string', E'{"sub": "user\t1"}'),
		('another case', '{"Sub": "user-1"}'),
		('deep', '{"sub": "user-1", "x": ' || repeat('[', 60) || repeat(']', 60) || '}'),
		('too deep', '{"sub": "user-1", "x": ' || repeat('[', 1000000) || repeat(']', 1000000) || '}'),
		('brackets in strings', '{"x": "\"' || repeat('[', 100) || '", "sub": "user-1"}')) AS c (what, claims)
	ORDER BY what;
-- fail: each function that asks who is calling
SET request.jwt.claims = '{"sub": "user-1"';
SELECT apikey_create('unreadable');
SELECT apikey_revoke('00000000-0000-0000-0000-000000000000');
SELECT apikey_purge('1 day');
-- and whatever it names, there or not, but for limits, of which test/t/limits_rules.pl asks
RESET ROLE;
RESET request.jwt.claims;
SELECT apikey_organization_create('real') IS NOT NULL AS made, apikey_project_create('real/pay');
SELECT apikey_id(apikey_create('real-key', 'real/pay')) AS real_key \gset
CREATE FUNCTION regress_told(query text, name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE replace(query, '$1', quote_literal(name));
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE TABLE regress_asked (query text, there text, missing text);
GRANT SELECT ON regress_asked TO PUBLIC;
INSERT INTO regress_asked SELECT query, 'real', 'none' FROM (VALUES
		('SELECT apikey_organization_create($1)'),
		('SELECT apikey_organization_drop($1, $1)'),
		('SELECT apikey_organization_drop($1 || ''/pay'', $1)'),
		('SELECT apikey_project_create($1 || ''/new'')'),
		('SELECT apikey_project_create($1 || ''/new'', true)'),
		('SELECT apikey_project_drop($1 || ''/pay'', $1 || ''/pay'')'),
		('SELECT apikey_project_drop($1, $1)'),
		('SELECT apikey_project_apply($1 || ''/pay'')'),
		('SELECT apikey_member_add($1, ''regress_apikey_web'', ''owner'')'),
		('SELECT apikey_member_add($1 || ''/pay'', ''regress_apikey_web'', ''owner'')'),
		('SELECT apikey_member_remove($1, ''regress_apikey_web'')'),
		('SELECT apikey_member_remove($1 || ''/pay'', ''regress_apikey_web'')'),
		('SELECT apikey_create(''spy'', $1 || ''/pay'')'),
		('SELECT apikey_create(''spy'', $1 || ''/pay'', subject => ''user-1'')'),
		('SELECT apikey_import(''spy'', ''md5'', repeat(''a'', 32), project => $1 || ''/pay'')')) AS q (query);
INSERT INTO regress_asked SELECT query, :'real_key', '00000000-0000-0000-0000-000000000000' FROM (VALUES
		('SELECT apikey_rename($1, ''other'')'),
		('SELECT apikey_disable($1)'),
		('SELECT apikey_enable($1)'),
		('SELECT apikey_revoke($1)'),
		('SELECT apikey_delete($1, ''real-key'')'),
		('SELECT apikey_rotate($1)'),
		('SELECT apikey_transfer($1, ''regress_apikey_web'')'),
		('SELECT apikey_reveal($1)'),
		('SELECT apikey_credits_add($1, 1)')) AS q (query);
SET ROLE regress_apikey_web;
SELECT apikey_create('scanned') AS scanned \gset
RESET ROLE;
INSERT INTO regress_asked VALUES ('SELECT * FROM apikey_scan($1)', :'scanned', 'nothing');
GRANT EXECUTE ON FUNCTION apikey_organization_create, apikey_import TO regress_apikey_web;
SET request.jwt.claims = '[]';
SET ROLE regress_apikey_web;
SELECT query, regress_told(query, there) AS there, regress_told(query, missing) AS missing FROM regress_asked ORDER BY query COLLATE "C";
-- nor is a superuser let through
RESET ROLE;
SELECT regress_told(query, there) AS there, regress_told(query, missing) AS missing, count(*) FROM regress_asked GROUP BY 1, 2;
RESET request.jwt.claims;
SELECT apikey_organization_drop('real', 'real'), apikey_delete(apikey_id(:'scanned'), 'scanned');
REVOKE EXECUTE ON FUNCTION apikey_organization_create, apikey_import FROM regress_apikey_web;
DROP TABLE regress_asked;
DROP FUNCTION regress_told;
SET request.jwt.claims = '{"sub": "user-1"';
SET ROLE regress_apikey_web;
-- but verification raises nothing, and what a superuser sees hangs on no subject
SELECT code FROM apikey_verify('x');
SELECT count(*) FROM apikeys;
UPDATE apikeys SET description = 'x';
RESET ROLE;
SELECT count(*) FROM apikeys;
SELECT apikey_create('unreadable');
SELECT apikey_revoke(id) FROM apikeys WHERE name = 'unseen';
RESET request.jwt.claims;
SET ROLE regress_apikey_web;
-- a setting that is not there is no subject
RESET ROLE;
SET apikey.subject_setting = 'no.such.setting';
SET ROLE regress_apikey_web;
SELECT subject FROM apikey_verify(apikey_create('one'));
RESET ROLE;
-- fail: what can name none
CREATE FUNCTION regress_set(value text) RETURNS TABLE (set text, of_role text) LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		set := set_config('apikey.subject_setting', value, true);
	EXCEPTION WHEN OTHERS THEN set := SQLSTATE;
	END;
	BEGIN
		EXECUTE format('ALTER ROLE regress_apikey_other SET apikey.subject_setting = %L', value);
		of_role := 'done';
	EXCEPTION WHEN OTHERS THEN of_role := SQLSTATE;
	END;
	RETURN NEXT;
END $$;
SELECT value, s.* FROM unnest('{app,:,:sub,app.u:,app.u:a:b,"app.u: ",.u,app.,app..u,a b c:sub,a b.c,1.u,app.1,app.u1$,application_name,""}'::text[]) value,
	regress_set(value) s;
ALTER ROLE regress_apikey_other RESET ALL;
DROP FUNCTION regress_set;
SET apikey.subject_setting = 'app';
-- but what was there before the library was loaded stays, and leads to nobody
\c -
SET apikey.subject_setting = 'app';
SELECT apikey_check('x');
SHOW apikey.subject_setting;
SET ROLE regress_apikey_web;
SELECT subject FROM apikey_verify(apikey_create('two'));
SELECT name FROM apikeys ORDER BY name;
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
SELECT code, subject, role FROM apikey_verify(:'annas', project => 'acme/pay');
-- one without a subject covers all of its role
SET ROLE regress_apikey_other;
SET request.jwt.claim.sub = 'anybody';
SELECT path, role FROM apikey_projects;
RESET request.jwt.claim.sub;
SELECT path, role FROM apikey_projects;
-- an admin makes a key for another subject, whose standing then counts
SET ROLE regress_apikey_web;
SET request.jwt.claim.sub = 'olga';
SELECT apikey_create('for-anna', 'acme/pay', subject => 'anna') AS for_anna \gset
SELECT code, subject, role FROM apikey_verify(:'for_anna', project => 'acme/pay');
-- fail: one of a subject that is no member would be forbidden from birth
SELECT apikey_create('for-ben', 'acme/pay', subject => 'ben');
SELECT apikey_member_remove('acme/pay', 'regress_apikey_web'), apikey_member_remove('acme/pay', 'regress_apikey_web', 'anna');
SELECT code, subject, role FROM apikey_verify(:'annas', project => 'acme/pay');
SELECT apikey_transfer(apikey_id(:'annas'), 'regress_apikey_web');
SELECT apikey_transfer(apikey_id(:'annas'), 'regress_apikey_web', 'olga');
SELECT code, subject, role FROM apikey_verify(:'annas', project => 'acme/pay');
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
DROP FUNCTION regress_subject_of, regress_subject_by_jsonb, regress_seen_by;
DROP ROLE regress_apikey_web, regress_apikey_other;
