-- The contract, section 4, by a program that knows only that: what verification
-- returns, in which order it refuses, and whose keys it takes.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
CREATE ROLE regress_apikey_vera;
CREATE ROLE regress_apikey_walt;
GRANT EXECUTE ON FUNCTION apikey_organization_create, apikey_import TO regress_apikey_vera;
CREATE FUNCTION regress_try(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	detail text;
BEGIN
	EXECUTE query INTO result;
	RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''));
END $$;
SET ROLE regress_apikey_vera;
SELECT apikey_organization_create('veri') IS NOT NULL AS created, apikey_project_create('veri/one'), apikey_project_create('veri/two');
SELECT apikey_member_add('veri/one', 'regress_apikey_walt', 'developer');
SELECT apikey_create('personal', scopes => '{read,write:*}', metadata => '{"plan": "pro"}', subject => 'u1') AS personal,
	apikey_create('project', 'veri/one', role => 'admin', scopes => '{*}') AS project,
	apikey_create('bound', allowed_ips => '{10.0.0.0/8,2001:db8::/32}') AS bound,
	apikey_create('credits', credits => 2) AS credits \gset

-- One row, whatever the text; of what is not matched nothing but the code is told
SELECT n, (SELECT count(*) FROM apikey_verify(key)) AS rows, v.valid, v.code,
		num_nulls(key_id, name, project, owner, subject, role, scopes, metadata, expires_at, credits, rate_remaining, rate_reset_at, detail) AS nulls
	FROM (VALUES
	(1, NULL),
	(2, ''),
	(3, 'x'),
	(4, repeat('x', 513)),
	(5, repeat('x', 100000)),
	(6, 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQl'),
	(7, 'ak_02wRkw0VOLV5IXCz2Z5e9vSSSSSSSSSSS3cr3tS3cr3tS3cr3tS3cr33rixQk')
	) AS t (n, key), apikey_verify(key) v ORDER BY n;
SELECT valid, code, key_id = apikey_id(:'personal') AS key_id, name, project, owner, subject, role, scopes, metadata, expires_at, credits,
		rate_remaining, rate_reset_at, detail FROM apikey_verify(:'personal') \gx
SELECT valid, code, name, project, owner, role FROM apikey_verify(:'project', project => 'veri/one', min_role => 'admin');
-- one evaluation a call in FROM
SELECT (v).code, (v).name, (v).credits FROM (SELECT v FROM apikey_verify(:'credits') v) s;
SELECT credits FROM apikeys WHERE name = 'credits';

-- Whose key
SELECT n, (SELECT code FROM apikey_verify(:'personal', project => project, owner => owner)) AS personal,
		(SELECT code FROM apikey_verify(:'project', project => project, owner => owner)) AS project,
		apikey_check(:'personal', NULL, project, owner) AS "check p", apikey_check(:'project', NULL, project, owner) AS "check j",
		(SELECT code FROM apikey_verify_digest(left(:'project', -39), sha256(:'project'), project => project, owner => owner)) AS digest,
		regress_try(format('SELECT apikey_authenticate(%L, project => %L, owner => %L) IS NOT NULL', :'project', project, owner)) AS authenticate
	FROM (VALUES (1, NULL, NULL::regrole), (2, 'veri/one', NULL), (3, 'veri', NULL), (4, 'veri/two', NULL), (5, 'none', NULL), (6, '', NULL),
		(7, NULL, 'regress_apikey_vera'), (8, NULL, 'regress_apikey_walt'), (9, 'veri/one', 'regress_apikey_vera'),
		(10, 'veri/one', 'regress_apikey_walt'), (11, NULL, '4294967294')) AS w (n, project, owner) ORDER BY n;
-- a superuser, and a role with all of its privileges, take no stranger's word
RESET ROLE;
SELECT code FROM apikey_verify(:'personal') UNION ALL SELECT code FROM apikey_verify(:'project');
GRANT regress_apikey_vera TO regress_apikey_walt;
SET ROLE regress_apikey_walt;
SELECT code FROM apikey_verify(:'personal') UNION ALL SELECT code FROM apikey_verify(:'project');
RESET ROLE;
REVOKE regress_apikey_vera FROM regress_apikey_walt;

-- The codes in their order: each key has this fault and all that come after it
SET ROLE regress_apikey_vera;
SELECT apikey_create('worst', 'veri/one', role => 'developer', scopes => '{a}', allowed_ips => '{10.0.0.0/8}', credits => 0) AS worst \gset
CREATE FUNCTION pg_temp.code(key text) RETURNS text LANGUAGE sql VOLATILE AS
	$$SELECT code FROM apikey_verify(key, '{b}', 'veri/two', 'owner', '192.168.0.1', 1, 'regress_apikey_walt')$$;
SELECT pg_temp.code(:'worst');
SELECT apikey_transfer(apikey_id(:'worst'), 'regress_apikey_walt');
SELECT apikey_member_remove('veri/one', 'regress_apikey_walt');
SELECT pg_temp.code(:'worst');
UPDATE apikeys SET expires_at = now() - interval '1 day' WHERE name = 'worst';
SELECT pg_temp.code(:'worst');
UPDATE apikeys SET expires_at = now() + interval '2 days', starts_at = now() + interval '1 day' WHERE name = 'worst';
SELECT pg_temp.code(:'worst');
SELECT apikey_disable(apikey_id(:'worst'));
SELECT pg_temp.code(:'worst');
SELECT apikey_revoke(apikey_id(:'worst'));
SELECT pg_temp.code(:'worst');
-- of a valid key, one demand after the other is met
SELECT apikey_member_add('veri/one', 'regress_apikey_walt', 'developer');
SELECT apikey_create('demands', 'veri/one', role => 'developer', scopes => '{a}', allowed_ips => '{10.0.0.0/8}', credits => 1) AS demands \gset
SELECT n, code, valid, detail, credits FROM (VALUES
	(1, 'veri/two', 'regress_apikey_walt'::regrole, '192.168.0.1'::inet, 'owner'::apikey_role, '{b}'::text[], 2),
	(2, 'veri/one', 'regress_apikey_walt', '192.168.0.1', 'owner', '{b}', 2),
	(3, 'veri/one', 'regress_apikey_vera', '192.168.0.1', 'owner', '{b}', 2),
	(4, 'veri/one', 'regress_apikey_vera', NULL, 'owner', '{b}', 2),
	(5, 'veri/one', 'regress_apikey_vera', '10.0.0.1', 'owner', '{b}', 2),
	(6, 'veri/one', 'regress_apikey_vera', '10.0.0.1', 'developer', '{b,a,c}', 2),
	(7, 'veri/one', 'regress_apikey_vera', '10.0.0.1', 'developer', '{a}', 2),
	(8, 'veri/one', 'regress_apikey_vera', '10.0.0.1', 'developer', '{a}', 1),
	(9, 'veri/one', 'regress_apikey_vera', '10.0.0.1', 'developer', '{a}', 0),
	(10, 'veri/one', 'regress_apikey_vera', '10.0.0.1', 'developer', '{a}', 1)
	) AS d (n, project, owner, addr, least, wanted, cost), apikey_verify(:'demands', wanted, project, least, addr, cost, owner) ORDER BY n;
-- a personal key has no role, and min_role refuses it
SELECT code FROM apikey_verify(:'personal', min_role => 'developer');
-- demote who stands behind it, and the key drops with it
SELECT apikey_member_add('veri/one', 'regress_apikey_walt', 'owner');
SET ROLE regress_apikey_walt;
SELECT apikey_create('walts', 'veri/one') AS walts \gset
SELECT role FROM apikey_verify(:'walts', project => 'veri/one');
SET ROLE regress_apikey_vera;
SELECT apikey_member_add('veri/one', 'regress_apikey_walt', 'developer');
SELECT code, role FROM apikey_verify(:'walts', project => 'veri/one');
SELECT code FROM apikey_verify(:'walts', project => 'veri/one', min_role => 'admin');

-- Scopes: bytewise; a:* what begins with a:; * everything; all of what is wanted
SELECT n, wanted::text, apikey_check(:'personal', wanted) AS personal, apikey_check(:'project', wanted, 'veri') AS everything FROM (VALUES
	(1, NULL::text[]), (2, '{}'), (3, '{read}'), (4, '{Read}'), (5, '{read,write:a}'), (6, '{write:}'), (7, '{write}'), (8, '{write:a:b}'),
	(9, '{write:*}'), (10, '{*}'), (11, '{read,NULL}'), (12, '{read,other}'), (13, '{{read},{write:a}}')) AS s (n, wanted) ORDER BY n;
SELECT code FROM apikey_verify(:'personal', array_fill('read'::text, ARRAY[1000]))
UNION ALL SELECT code FROM apikey_verify(:'personal', array_fill('read'::text, ARRAY[1001]))
UNION ALL SELECT code FROM apikey_verify(:'personal', ARRAY['write:' || repeat('a', 194)])
UNION ALL SELECT code FROM apikey_verify(:'personal', ARRAY['write:' || repeat('a', 195)]);
SELECT detail FROM apikey_verify(:'personal', '{read,nothing,write:x,more}');

-- Addresses
SELECT addr, code, detail FROM (VALUES (NULL::inet), ('10.1.2.3'), ('11.1.2.3'), ('2001:db8::1'), ('2001:db9::1'), ('::ffff:10.1.2.3'), ('10.0.0.0/8')) AS a (addr),
	apikey_verify(:'bound', client_addr => addr) ORDER BY addr NULLS FIRST;
SELECT apikey_check(:'bound', client_addr => '10.1.2.3'), apikey_check(:'bound');

-- A cost that is none is all that raises
SELECT regress_try(format('SELECT code FROM apikey_verify(%L, cost => -1)', key)) FROM (VALUES (:'personal'), ('x'), (NULL)) AS k (key);
SELECT regress_try(format('SELECT code FROM apikey_verify(%L, cost => NULL)', :'personal'));
SELECT regress_try(format('SELECT code FROM apikey_verify_digest(%L, %L, cost => -1)', 'x', ''));
SELECT regress_try(format('SELECT apikey_authenticate(%L, cost => -1)', 'x'));

-- By digest
SELECT n, code, name FROM (VALUES
	(1, left(:'personal', -39), sha256(:'personal'::bytea)),
	(2, left(:'personal', -39), sha256('another')),
	(3, left(:'personal', -39), ''),
	(4, left(:'personal', -39), NULL),
	(5, NULL, sha256(:'personal'::bytea)),
	(6, '', sha256(:'personal'::bytea)),
	(7, :'personal', sha256(:'personal'::bytea)),
	(8, left(:'personal', -38), sha256(:'personal'::bytea)),
	(9, 'ak_0000000000000000000001', sha256('x')),
	(10, repeat('x', 100000), sha256('x'))) AS d (n, handle, digest), apikey_verify_digest(handle, digest) ORDER BY n;

-- Authenticated: to the end of the transaction, a savepoint's rollback, a second success
SELECT num_nulls(apikey_current_key(), apikey_current_project(), apikey_current_owner(), apikey_current_subject(), apikey_current_role(),
	apikey_current_scopes(), apikey_current_metadata()) AS nobody, apikey_has_scope('read') AS has;
BEGIN;
SELECT apikey_authenticate(:'personal') = apikey_id(:'personal') AS authenticated;
SELECT apikey_current_key() = apikey_id(:'personal') AS key, apikey_current_project(), apikey_current_owner(), apikey_current_subject(),
	apikey_current_role(), apikey_current_scopes(), apikey_current_metadata();
SELECT apikey_has_scope('read') AS read, apikey_has_scope('write:x') AS write, apikey_has_scope('other') AS other, apikey_has_scope('read', 'veri/one') AS project, apikey_has_scope(NULL) AS none;
SAVEPOINT s;
SELECT apikey_authenticate_digest(left(:'project', -39), sha256(:'project'), project => 'veri') = apikey_id(:'project') AS authenticated;
SELECT apikey_current_project(), apikey_current_owner(), apikey_current_role(), apikey_has_scope('any', 'veri/one') AS project, apikey_has_scope('any', 'veri') AS organization,
	apikey_has_scope('any', 'veri/two') AS other;
ROLLBACK TO s;
SELECT apikey_current_owner();
SAVEPOINT s;
SELECT apikey_authenticate('nothing');
ROLLBACK TO s;
SELECT apikey_current_owner();
COMMIT;
SELECT apikey_current_owner();
SELECT regress_try(format('SELECT apikey_authenticate(%L, %L)', key, '{other}')) FROM (VALUES (1, :'personal'), (2, 'x'), (3, NULL)) AS k (n, key) ORDER BY n;

-- PostgREST: the header x-api-key, else a bearer in a key's shape; whose is set
RESET ROLE;
SET apikey.request_project = 'veri/one';
SELECT apikey_create('whose') AS another \gset
SET ROLE regress_apikey_vera;
CREATE FUNCTION pg_temp.request(headers text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	IF headers IS NOT NULL THEN
		PERFORM set_config('request.headers', headers, true);
	END IF;
	PERFORM apikey_pre_request();
	RETURN coalesce((SELECT name FROM apikeys WHERE id = apikey_current_key()), 'nobody');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, detail);
END $$;
SELECT pg_temp.request(NULL);
SELECT pg_temp.request('');
SELECT pg_temp.request('{}');
SELECT pg_temp.request('[]');
SELECT pg_temp.request('{"x-api-key": ""}');
SELECT pg_temp.request('not json');
SELECT pg_temp.request('{"authorization": "Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc"}');
SELECT pg_temp.request('{"authorization": "Basic abc"}');
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'project')::text);
SELECT pg_temp.request(jsonb_build_object('authorization', 'Bearer ' || :'project')::text);
SELECT pg_temp.request(jsonb_build_object('x-api-key', 'nothing')::text);
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'personal')::text);
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'bound')::text);
RESET ROLE;
SET apikey.request_project = '';
SET ROLE regress_apikey_vera;
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'project')::text);
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'personal')::text);
RESET ROLE;
SET apikey.request_owner = 'regress_apikey_vera';
SET ROLE regress_apikey_vera;
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'personal')::text);
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'project')::text);
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'another')::text);
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'bound')::text);
-- a lack of standing, and no more credits
SELECT apikey_create('spent', credits => 0) AS spent \gset
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'spent')::text);
RESET ROLE;
SET apikey.request_owner = '';
SET apikey.request_project = 'veri/one';
SET ROLE regress_apikey_vera;
SELECT apikey_member_remove('veri/one', 'regress_apikey_walt');
SELECT pg_temp.request(jsonb_build_object('x-api-key', :'walts')::text);
RESET ROLE;
RESET apikey.request_project;
RESET apikey.request_owner;

-- It sees what is committed, and what its own transaction has changed, at each level; in what only reads, too
SET ROLE regress_apikey_vera;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT apikey_disable(apikey_id(:'personal'));
SELECT code FROM apikey_verify(:'personal');
ROLLBACK;
SELECT code FROM apikey_verify(:'personal');
BEGIN READ ONLY;
SELECT code FROM apikey_verify(:'personal');
SELECT code FROM apikey_verify(:'spent');
SELECT apikey_authenticate(:'personal') IS NOT NULL AS authenticated;
COMMIT;
-- without the library at the server's start: no rate limits
SELECT regress_try($$SELECT apikey_create('limited', rate_limit => 5)$$);
-- a dropped role's key is revoked
RESET ROLE;
CREATE ROLE regress_apikey_gone;
SET ROLE regress_apikey_gone;
SELECT apikey_create('gone') AS gone \gset
RESET ROLE;
DROP ROLE regress_apikey_gone;
SELECT code, owner FROM apikey_verify(:'gone');
CREATE ROLE regress_apikey_gone;
SET ROLE regress_apikey_gone;
SELECT code FROM apikey_verify(:'gone');
SELECT count(*) FROM apikeys;
RESET ROLE;
DROP ROLE regress_apikey_gone;

SET ROLE regress_apikey_vera;
SELECT apikey_organization_drop('veri', 'veri');
RESET ROLE;
DO $$BEGIN PERFORM apikey_delete(id, name) FROM apikeys; END$$;
DELETE FROM apikey_revocation;
DELETE FROM apikey_event;
DROP FUNCTION pg_temp.code(text);
DROP FUNCTION pg_temp.request(text);
DROP FUNCTION regress_try(text);
REVOKE EXECUTE ON FUNCTION apikey_organization_create, apikey_import FROM regress_apikey_vera;
DROP ROLE regress_apikey_vera, regress_apikey_walt;
