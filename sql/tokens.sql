-- Tokens: what a key's holder makes of it, and what they are good for.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
\set pepper `umask 077; file=$(mktemp /tmp/apikey_regress_XXXXXX); printf 'a pepper of the regression tests, of 32 bytes at least\n' >"$file"; echo "$file"`

-- Refused with a code in the detail; the token otherwise.
CREATE FUNCTION pg_temp.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	detail text;
BEGIN
	EXECUTE statement INTO result;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN sqlstate || ' ' || detail;
END
$$;
GRANT EXECUTE ON FUNCTION pg_temp.refused(text) TO PUBLIC;

SET ROLE regress_apikey_alice;
SELECT apikey_create('unpeppered') AS unpeppered \gset
-- Without a pepper there is none, whatever else is wrong with the key.
SELECT apikey_token_create(:'unpeppered');
RESET ROLE;
SET apikey.pepper_file = '/nonexistent';
SELECT apikey_token_create(:'unpeppered');
SET apikey.pepper_file = :'pepper';
SET ROLE regress_apikey_alice;

SELECT apikey_create('main', scopes => '{a:*,b:read}', metadata => '{"of": "main"}') AS key \gset
SELECT apikey_id(:'key') AS id \gset
SELECT apikey_token_create(:'key') AS token \gset
SELECT :'token' ~ '^[a-z][a-z0-9_]{0,19}_t_[0-9A-Za-z_-]{40}[0-9A-Za-z_-]*$' AS shaped, octet_length(:'token') <= 512 AS short,
	starts_with(:'token', 'ak_t_') AS begun, :'token' <> apikey_token_create(:'key', '14 minutes') AS another;
SELECT valid, code, key_id = :'id' AS same, name, owner, scopes, metadata, expires_at, detail ? 'token_expires_at' AS told,
		(detail ->> 'token_expires_at')::timestamptz - now() BETWEEN '14 minutes' AND '16 minutes' AS in_time
	FROM apikey_verify(:'token');
-- The same from what is remembered.
SELECT code, key_id = :'id' AS same, scopes, detail ? 'token_expires_at' AS told FROM apikey_verify(:'token');
SELECT code, detail FROM apikey_verify(:'key');
SELECT apikey_check(:'token'), apikey_check(:'token', '{a:1,b:read}'), apikey_check(:'token', '{b:write}');
SELECT code FROM apikey_verify_digest(:'token', NULL);
SELECT code FROM apikey_verify_digest(:'token', sha256(:'token'::bytea));
SELECT code FROM apikey_verify_digest(:'token', '');
SELECT code FROM apikey_verify_digest(:'key', NULL);
BEGIN;
SELECT apikey_authenticate(:'token', '{a:x}') = :'id' AS same;
SELECT apikey_current_key() = :'id' AS same, apikey_current_scopes(), apikey_current_metadata(), apikey_has_scope('a:y');
COMMIT;
BEGIN;
SELECT apikey_authenticate_digest(:'token', NULL) = :'id' AS same;
COMMIT;
SELECT apikey_authenticate(:'token', '{c}');
-- Every code that asks for something of the caller is the key's.
SELECT code FROM apikey_verify(:'token', scopes => '{c}');
SELECT code FROM apikey_verify(:'token', project => 'acme');
SELECT code FROM apikey_verify(:'token', owner => 'regress_apikey_bob');
SELECT code FROM apikey_verify(:'token', min_role => 'developer');

-- What the text says, without a table.
SELECT apikey_id(:'token') = :'id' AS same, (apikey_parse(:'token')).prefix, (apikey_parse(:'token')).checksum_ok;
SELECT left(:'token', -1) || CASE right(:'token', 1) WHEN 'x' THEN 'y' ELSE 'x' END AS wrong,
	left(:'key', -1) || CASE right(:'key', 1) WHEN 'x' THEN 'y' ELSE 'x' END AS wrong_key \gset
SELECT apikey_id(:'wrong') = :'id' AS same, (apikey_parse(:'wrong')).checksum_ok;
SELECT apikey_parse(left(:'token', -1)), apikey_parse(:'token' || '0'), apikey_parse(translate(:'token', '_', '-'));

-- Cut, extended, changed in any place.
SELECT code, count(*) FROM generate_series(1, length(:'token') - 1) i, apikey_verify(left(:'token', i)) GROUP BY code ORDER BY code;
SELECT code, count(*) FROM (VALUES ('0'), ('_'), ('-'), (' '), ('='), (:'token')) v (more), apikey_verify(:'token' || more) GROUP BY code;
SELECT code, count(*) FROM (VALUES ('0'), ('_'), (' '), (:'token')) v (more), apikey_verify(more || :'token') GROUP BY code;
SELECT code, count(*)
	FROM generate_series(1, length(:'token')) i,
		LATERAL apikey_verify(overlay(:'token' placing CASE substr(:'token', i, 1) WHEN 'b' THEN 'c' ELSE 'b' END from i for 1))
	GROUP BY code;

-- How long it lasts: 1 second to 24 hours, and no longer than the key.
SELECT ttl, pg_temp.refused(format('SELECT apikey_token_create(%L, %L)', :'key', ttl))
	FROM (VALUES ('1 second'), ('24 hours'), ('1 day'), ('23:59:59.999'), ('2 days -24:00'), (NULL),
		('0.999'), ('0'), ('-1 second'), ('24:00:00.000001'), ('25 hours'), ('1 month'), ('-1 month 31 days'),
		('178000000 years'), ('100000000 days'), ('2147483647 days'), ('2562047788:00:54.775807'), ('-2562047788:00:54.775807')) v (ttl);
SELECT apikey_create('ending', expires_at => now() + '1 minute') AS ending \gset
SELECT (detail ->> 'token_expires_at')::timestamptz = expires_at AS capped
	FROM apikey_verify(apikey_token_create(:'ending'));
SELECT apikey_token_create(:'key', '1 second') AS second \gset
SELECT code FROM apikey_verify(:'second');
SELECT pg_sleep(1.1);
SELECT code, detail ? 'token_expires_at' AS told, key_id = :'id' AS same FROM apikey_verify(:'second');
SELECT code FROM apikey_verify(:'second', project => 'acme');
SELECT apikey_token_create(:'second');

-- Scopes: no more than those named, each granted by the key, now and at use.
SELECT scopes, pg_temp.refused(format('SELECT apikey_token_create(%L, scopes => %L)', :'key', scopes))
	FROM (VALUES ('{a:x}'), ('{a:*}'), ('{}'), ('{b:read,a:x}'), ('{c}'), ('{a:x,c}'), ('{*}'), ('{b:*}'),
		('{NULL}'), ('{""}'), ('{"a:x y"}'), ('{{a:x}}')) v (scopes);
SELECT pg_temp.refused(format('SELECT apikey_token_create(%L, scopes => %L)', :'key', ARRAY['a:' || repeat('x', n)]))
	FROM (VALUES (198), (199)) v (n);
SELECT pg_temp.refused(format('SELECT apikey_token_create(%L, scopes => %L)', :'key', ARRAY['a:' || repeat('x', 140), 'a:' || repeat('y', n)]))
	FROM (VALUES (148), (149), (160)) v (n);
SELECT length(apikey_token_create(:'key', scopes => ARRAY['a:' || repeat('x', 140), 'a:' || repeat('y', 148)])) AS length;
SELECT code, scopes[2] FROM apikey_verify(apikey_token_create(:'key', scopes => ARRAY['a:' || repeat('x', 140), 'a:z']));
SELECT apikey_token_create(:'key', scopes => '{a:*}') AS narrow \gset
SELECT apikey_token_create(:'key', scopes => '{}') AS none \gset
SELECT code, scopes FROM apikey_verify(:'narrow', '{a:1}');
SELECT code, detail -> 'missing_scopes' AS missing FROM apikey_verify(:'narrow', '{a:1,b:read}');
SELECT code, scopes FROM apikey_verify(:'none');
SELECT code FROM apikey_verify(:'none', '{a:1}');
UPDATE apikeys SET scopes = '{a:read,c}' WHERE id = :'id';
SELECT code, scopes FROM apikey_verify(:'narrow');
SELECT code, scopes FROM apikey_verify(:'narrow', '{a:read}');
SELECT code FROM apikey_verify(:'narrow', '{a:1}');
SELECT code FROM apikey_verify(:'narrow', '{c}');
SELECT code, scopes FROM apikey_verify(:'token', '{c}');
UPDATE apikeys SET scopes = '{a:*,b:read}' WHERE id = :'id';
SELECT code, scopes FROM apikey_verify(:'narrow', '{a:1}');

-- Made by whoever holds the key, without spending or counting; used as the key.
SELECT apikey_create('limited', credits => 2, allowed_ips => '{10.0.0.0/8}') AS limited \gset
RESET ROLE;
SET ROLE regress_apikey_bob;
SELECT apikey_token_create(:'limited') AS limited_token \gset
SELECT code FROM apikey_verify(:'limited_token');
SELECT code FROM apikey_verify(:'limited_token', owner => 'regress_apikey_alice');
SELECT code, credits FROM apikey_verify(:'limited_token', owner => 'regress_apikey_alice', client_addr => '10.1.1.1');
RESET ROLE;
SET ROLE regress_apikey_alice;
SELECT credits, denied_count FROM apikeys WHERE name = 'limited';
SELECT code, credits FROM apikey_verify(:'limited', client_addr => '10.1.1.1');
SELECT code FROM apikey_verify(:'limited_token', client_addr => '10.1.1.1');
SELECT apikey_token_create(:'limited') IS NOT NULL AS made;
SELECT count(*) FROM apikey_events WHERE key_id = apikey_id(:'limited');

-- No token makes another, nor revokes its key.
SELECT apikey_token_create(:'token');
SELECT apikey_token_create(NULL);
SELECT apikey_token_create('');
SELECT apikey_token_create('nonsense');
SELECT apikey_token_create(:'wrong_key');
SELECT apikey_self_revoke(:'token'), apikey_self_revoke(:'wrong');
SELECT apikey_token_create(:'key', scopes => '{"bad scope"}');

-- In a transaction that writes nothing.
BEGIN READ ONLY;
SELECT apikey_check(apikey_token_create(:'key'));
ROLLBACK;

-- What ends, disables or rotates the key ends its tokens.
SELECT apikey_disable(:'id');
SELECT code FROM apikey_verify(:'token');
SELECT apikey_token_create(:'key');
SELECT apikey_enable(:'id');
SELECT code FROM apikey_verify(:'token');
UPDATE apikeys SET starts_at = now() + '1 hour' WHERE id = :'id';
SELECT code FROM apikey_verify(:'token');
SELECT apikey_token_create(:'key');
UPDATE apikeys SET starts_at = NULL, expires_at = now() - interval '1 second' WHERE id = :'id';
SELECT code FROM apikey_verify(:'token');
UPDATE apikeys SET expires_at = NULL WHERE id = :'id';
SELECT code FROM apikey_verify(:'token');
-- Taken back, it holds again.
BEGIN;
SELECT apikey_revoke(:'id');
SELECT code FROM apikey_verify(:'token');
ROLLBACK;
SELECT code FROM apikey_verify(:'token');
SELECT apikey_rotate(:'id', '1 hour') AS successor \gset
SELECT code, detail - 'token_expires_at' - 'stops_at' = jsonb_build_object('rotated_to', apikey_id(:'successor')) AS grace
	FROM apikey_verify(:'token');
SELECT apikey_token_create(:'successor') AS token \gset
SELECT code FROM apikey_verify(:'token');
SELECT apikey_rotate(apikey_id(:'successor')) AS last \gset
SELECT code FROM apikey_verify(:'token');
SELECT apikey_token_create(:'last') AS token \gset
SELECT code FROM apikey_verify(:'token');
SELECT apikey_revoke(apikey_id(:'last'));
SELECT code FROM apikey_verify(:'token');
SELECT apikey_token_create(:'last');
SELECT apikey_delete(apikey_id(:'last'), 'main');
SELECT code FROM apikey_verify(:'token');

-- A project's: demoted with who owns the key.
RESET ROLE;
SELECT apikey_organization_create('acme') IS NOT NULL AS created, apikey_project_create('acme/pay');
SELECT apikey_member_add('acme', 'regress_apikey_alice', 'owner');
SET ROLE regress_apikey_alice;
SELECT apikey_create('of-project', 'acme/pay') AS of_project \gset
SELECT apikey_token_create(:'of_project') AS token \gset
SELECT code, role, project FROM apikey_verify(:'token', project => 'acme', min_role => 'admin');
SELECT code FROM apikey_verify(:'token');
RESET ROLE;
SELECT apikey_member_add('acme', 'regress_apikey_alice', 'developer');
SELECT code, role FROM apikey_verify(:'token', project => 'acme', min_role => 'admin');
SELECT code, role FROM apikey_verify(:'token', project => 'acme');
SELECT apikey_member_remove('acme', 'regress_apikey_alice');
SELECT code FROM apikey_verify(:'token', project => 'acme');

-- A key that was made before there was a pepper; it is not what is stored alone
-- that makes a token.
SET ROLE regress_apikey_alice;
SELECT apikey_token_create(:'unpeppered') AS token \gset
SELECT code FROM apikey_verify(:'token');
RESET ROLE;
SET apikey.pepper_file = '';
SET ROLE regress_apikey_alice;
SELECT code FROM apikey_verify(:'token');
SELECT code FROM apikey_verify(:'unpeppered');
RESET ROLE;
SET apikey.pepper_file = '/nonexistent';
SET ROLE regress_apikey_alice;
SELECT code FROM apikey_verify(:'token');
RESET ROLE;
SET apikey.pepper_file = :'pepper';
SET ROLE regress_apikey_alice;
SELECT code FROM apikey_verify(:'token');

-- In an HTTP request.
RESET ROLE;
SET apikey.request_owner = 'regress_apikey_alice';
SELECT set_config('request.headers', json_build_object('x-api-key', :'token')::text, false) IS NOT NULL AS set \gset
BEGIN;
SELECT apikey_pre_request();
SELECT apikey_current_key() = apikey_id(:'unpeppered') AS same;
COMMIT;
SELECT set_config('request.headers', json_build_object('authorization', 'Bearer ' || :'token')::text, false) IS NOT NULL AS set \gset
BEGIN;
SELECT apikey_pre_request();
SELECT apikey_current_key() = apikey_id(:'unpeppered') AS same;
COMMIT;
SELECT set_config('request.headers', json_build_object('authorization', 'Bearer ' || :'wrong')::text, false) IS NOT NULL AS set \gset
\set VERBOSITY sqlstate
SELECT apikey_pre_request();
\set VERBOSITY default
RESET apikey.request_owner;
RESET request.headers;

-- Prefixes that tokens could be mistaken by.
SELECT prefix, pg_temp.refused(format('SELECT apikey_create(%L, prefix => %L)', 'p' || n, prefix)) AS created,
		pg_temp.refused(format('SELECT apikey_import(%L, %L, %L, prefix => %L)', 'i' || n, 'sha256', encode(sha256(prefix::bytea), 'hex'), prefix)) AS imported,
		pg_temp.refused(format('SELECT set_config(%L, %L, true)', 'apikey.prefix', prefix)) AS set
	FROM (VALUES (1, 'x_t'), (2, '_t'), (3, 't'), (4, 'a_t_b'), (5, 'a_t1'), (6, 'at_b'), (7, 't_t'), (8, 't_a'), (9, 'a_tt_b')) v (n, prefix);

-- An imported key, whose first use changes what is stored.
SELECT apikey_import('imported', 'sha256', encode(sha256('another-systems-key'), 'hex')) AS imported \gset
SELECT apikey_token_create('another-systems-key') AS token \gset
SELECT code, key_id = :'imported' AS same, apikey_id(:'token') = :'imported' AS its FROM apikey_verify(:'token');
SELECT code FROM apikey_verify(:'token');
SELECT code FROM apikey_verify('another-systems-key');
SELECT code FROM apikey_verify(:'token');
SELECT apikey_token_create('another-systems-key') AS token \gset
SELECT code FROM apikey_verify(:'token');
SELECT apikey_delete(:'imported', 'imported');
SELECT code FROM apikey_verify(:'token');

RESET apikey.pepper_file;
\setenv PEPPER :pepper
\! rm "$PEPPER"
SELECT apikey_organization_drop('acme', 'acme');
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_import;
DELETE FROM apikey_usage;
DELETE FROM apikey_credit;
DELETE FROM apikey_event;
DELETE FROM apikey_revocation;
DROP ROLE regress_apikey_alice, regress_apikey_bob;
