-- UPDATE of the view apikeys.
CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
CREATE ROLE regress_apikey_auditor BYPASSRLS;
SET ROLE regress_apikey_alice;
SELECT apikey_create('one', scopes => '{a}') AS one, apikey_create('two', subject => 'user-2') AS two \gset
UPDATE apikeys SET description = 'changed', scopes = '{b,c:*}', starts_at = '2020-01-01', expires_at = '2100-01-01',
	allowed_ips = '{10.0.0.0/8}', metadata = '{"plan": "pro"}' WHERE name = 'one';
SELECT name, description, scopes, starts_at IS NOT NULL AS starts, expires_at IS NOT NULL AS expires, allowed_ips, metadata
	FROM apikeys ORDER BY name;
-- verification follows at once
SELECT code FROM apikey_verify(:'one', scopes => '{c:1}', client_addr => '10.0.0.1');
SELECT code FROM apikey_verify(:'one', scopes => '{a}', client_addr => '10.0.0.1');
UPDATE apikeys SET description = NULL, starts_at = NULL, expires_at = NULL, allowed_ips = NULL, scopes = '{}', metadata = 'null'
	WHERE name = 'one' RETURNING name, description, starts_at, expires_at, allowed_ips, scopes, metadata;
-- several rows at once; what does not differ is not written
UPDATE apikeys SET description = 'both';
SELECT name, description FROM apikeys ORDER BY name;
RESET ROLE;
SELECT ctid AS before FROM apikey_key WHERE name = 'one' \gset
SET ROLE regress_apikey_alice;
UPDATE apikeys SET description = 'both', scopes = scopes WHERE name = 'one';
RESET ROLE;
SELECT ctid = :'before' AS untouched FROM apikey_key WHERE name = 'one';
SET ROLE regress_apikey_alice;

-- fail: the rules of apikey_create hold
UPDATE apikeys SET scopes = '{"a b"}';
UPDATE apikeys SET scopes = NULL;
UPDATE apikeys SET metadata = NULL;
UPDATE apikeys SET allowed_ips = '{}';
UPDATE apikeys SET description = repeat('x', 1001);
UPDATE apikeys SET starts_at = '2030-01-01', expires_at = '2029-01-01';
UPDATE apikeys SET role = 'owner';
UPDATE apikeys SET rate_window = '32 days';
-- fail: only where the library is preloaded
UPDATE apikeys SET rate_limit = 10;
-- fail: any other column, for superusers too
RESET ROLE;
CREATE FUNCTION regress_try_every_column() RETURNS TABLE (column_name text, result text) LANGUAGE plpgsql AS $$
DECLARE
	type text;
BEGIN
	FOR column_name, type IN
		SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = 'apikeys'::regclass AND attnum > 0 ORDER BY attnum
	LOOP
		BEGIN
			EXECUTE format('UPDATE apikeys SET %I = CASE WHEN %1$I IS NULL THEN %L::%s END', column_name,
				CASE type WHEN 'uuid' THEN '00000000-0000-0000-0000-000000000000' WHEN 'inet' THEN '::1'
					WHEN 'apikey_role' THEN 'owner' WHEN 'interval' THEN '1 day' WHEN 'cidr[]' THEN '{::/0}' WHEN 'text[]' THEN '{other}'
					WHEN 'timestamp with time zone' THEN CASE column_name WHEN 'starts_at' THEN '2020-01-01' ELSE '2099-01-01' END ELSE '1' END, type);
			result := 'updated';
		EXCEPTION WHEN OTHERS THEN
			result := SQLSTATE;
		END;
		RETURN NEXT;
	END LOOP;
END $$;
SET ROLE regress_apikey_alice;
CREATE TEMP TABLE tried AS SELECT * FROM regress_try_every_column();
RESET ROLE;
SELECT a.column_name, a.result AS owner, s.result AS superuser
	FROM tried a JOIN regress_try_every_column() s USING (column_name);
SELECT name, status FROM apikeys ORDER BY name;

-- fail: no rows are made or removed this way, by anybody
INSERT INTO apikeys (name) VALUES ('three');
DELETE FROM apikeys;
SET ROLE regress_apikey_alice;
INSERT INTO apikeys (name) VALUES ('three');
DELETE FROM apikeys;
-- another role sees nothing to update
SET ROLE regress_apikey_bob;
UPDATE apikeys SET description = 'mine';
-- fail: who sees all keys does not manage them
SET ROLE regress_apikey_auditor;
\set VERBOSITY sqlstate
SELECT name FROM apikeys ORDER BY name;
UPDATE apikeys SET description = 'mine' WHERE name = 'one';
SELECT apikey_revoke(id) FROM apikeys WHERE name = 'one';
SELECT apikey_delete(id, 'one') FROM apikeys WHERE name = 'one';
-- fail: a revoked key stays as it was
SET ROLE regress_apikey_alice;
SELECT apikey_revoke(id) FROM apikeys WHERE name = 'one';
UPDATE apikeys SET description = 'late' WHERE name = 'one';
-- fail: nor in a read-only transaction
BEGIN READ ONLY;
UPDATE apikeys SET description = 'late' WHERE name = 'two';
ROLLBACK;
\set VERBOSITY default
SELECT name, description FROM apikeys ORDER BY name;
-- an update that is rolled back never was
BEGIN;
UPDATE apikeys SET scopes = '{more}' WHERE name = 'two';
SELECT code FROM apikey_verify(:'two', scopes => '{more}');
ROLLBACK;
SELECT code FROM apikey_verify(:'two', scopes => '{more}');

-- Metadata is as long as its text, too, whatever that is stored in: what is
-- of each kind, and a number that makes it as long as may be, or one longer.
CREATE FUNCTION pg_temp.regress_with(metadata jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM apikey_create('of-metadata', metadata => metadata);
	RAISE SQLSTATE 'RB000';
EXCEPTION
	WHEN SQLSTATE 'RB000' THEN RETURN 'made';	-- rolled back
	WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
CREATE FUNCTION pg_temp.regress_long(base jsonb, bytes integer) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_array(base, ('1' || repeat('0', bytes - octet_length(base::text) - 5))::numeric)
$$;
SELECT left(base::text, 40) AS base, octet_length(pg_temp.regress_long(base, 65536)::text) AS bytes,
		pg_temp.regress_with(pg_temp.regress_long(base, 65536)) AS longest, pg_temp.regress_with(pg_temp.regress_long(base, 65537)) AS longer
	FROM unnest(ARRAY['1', '-1.50', '""', 'null', 'true', 'false', '[]', '{}', '[[], {}, [[]], {"a": {}}]', '{"a": 1, "b": [null, true], "c": {"d": "e"}}',
		'"a\"b\\c/d\b\f\n\r\te"', '"\u0001\u001f\u000b"', '{"\"k\"\n": "\u0010"}', '0.000001', '1e1000']::jsonb[]) base;
SELECT pg_temp.regress_with(to_jsonb(1e65535)) AS longest, pg_temp.regress_with(to_jsonb(1e65536)) AS longer;
SELECT pg_column_size(m) < 65536 AS short, pg_temp.regress_with(m)
	FROM (SELECT jsonb_agg(1e131071) FROM generate_series(1, 4000)) AS a (m);
UPDATE apikeys SET metadata = '{"a": 1e131071}' WHERE name = 'two';	-- fail
UPDATE apikeys SET metadata = '{"a": 1e60000}' WHERE name = 'two';
-- What an older key has stays, and its other columns can be written.
RESET ROLE;
UPDATE apikey_key SET metadata = '{"a": 1e131071}' WHERE name = 'two';
SET ROLE regress_apikey_alice;
UPDATE apikeys SET description = 'of old' WHERE name = 'two';
SELECT apikey_rotate(id) IS NOT NULL AS rotated FROM apikeys WHERE name = 'two';
SELECT name, octet_length(metadata::text) FROM apikeys WHERE name = 'two' AND status = 'active';

RESET ROLE;
DROP TABLE tried;
DROP FUNCTION regress_try_every_column, pg_temp.regress_with, pg_temp.regress_long;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP ROLE regress_apikey_alice, regress_apikey_bob, regress_apikey_auditor;
