CREATE ROLE regress_apikey_alice;
CREATE ROLE regress_apikey_bob;
SET ROLE regress_apikey_alice;
SELECT apikey_create('main', scopes => '{read,orders:*,a:b}', subject => 'user-1',
	metadata => '{"plan": "pro"}', expires_at => '2100-01-01 00:00+00') AS key \gset
SET ROLE regress_apikey_bob;
SET timezone = 'UTC';

-- All that a verification tells; anybody who has the key may ask, naming whose
-- it is.
\x
SELECT valid, code, key_id = apikey_id(:'key') AS id, name, project, owner, subject, role, scopes,
	metadata, expires_at, credits, rate_remaining, rate_reset_at, detail FROM apikey_verify(:'key', owner => 'regress_apikey_alice');
-- Nothing is told while the secret has not matched.
SELECT * FROM apikey_verify(overlay(:'key' placing 'x' from 4), owner => 'regress_apikey_alice');
\x

-- In a select list it returns its row, too.
SELECT (v).valid, (v).code, (v).name
	FROM (SELECT apikey_verify(t, owner => 'regress_apikey_alice') AS v FROM unnest(ARRAY[:'key', :'key', :'key', 'x', NULL]) t) verified;

-- No text makes it raise: whatever is no key is malformed, or missing.
SELECT what, code, valid, num_nulls(key_id, name, project, owner, subject, role, scopes, metadata,
		expires_at, credits, rate_remaining, rate_reset_at, detail) AS nulls, apikey_check(t, owner => 'regress_apikey_alice') AS checked
	FROM (VALUES
		('null', NULL),
		('empty', ''),
		('blank', '   '),
		('100 kB', repeat('x', 100000)),
		('100 kB of keys', repeat(:'key', 1500)),
		('512 bytes', repeat('x', 512)),
		('space before', ' ' || :'key'),
		('space after', :'key' || ' '),
		('newline after', :'key' || E'\n'),
		('null escape', '\0' || :'key'),
		('other script', 'ключ_' || right(:'key', 61)),
		('full width', translate(:'key', '0', '０') || '０'),
		('bearer', 'Bearer ' || :'key'),
		('twice', :'key' || :'key'),
		('upper case', upper(:'key')),
		('JSON', '{"key": "' || :'key' || '"}'),
		('quote', E'\'; DROP TABLE apikey_key; --')) AS texts (what, t), apikey_verify(t, owner => 'regress_apikey_alice')
	ORDER BY what COLLATE "C";

-- A right shape and checksum with an unknown id, or another secret, is
-- not_found: the checksum is no secret.
RESET ROLE;
CREATE FUNCTION regress_resign(key text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	body text := left(key, -6);
	crc bigint := 4294967295;
	digits text := '';
BEGIN
	FOR i IN 1 .. length(body) LOOP
		crc := crc # ascii(substr(body, i, 1));
		FOR j IN 1 .. 8 LOOP
			crc := CASE WHEN crc & 1 = 1 THEN (crc >> 1) # 3988292384 ELSE crc >> 1 END;
		END LOOP;
	END LOOP;
	crc := crc # 4294967295;
	FOR i IN 1 .. 6 LOOP
		digits := substr('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz',
			(crc % 62)::int + 1, 1) || digits;
		crc := crc / 62;
	END LOOP;
	RETURN body || digits;
END $$;
SET ROLE regress_apikey_bob;
SELECT regress_resign(:'key') = :'key' AS same;
SELECT what, apikey_parse(t) = (split_part(t, '_', 1), apikey_id(t), true) AS well_formed, code, valid,
	   num_nulls(key_id, name, project, owner, subject, role, scopes, metadata,
		expires_at, credits, rate_remaining, rate_reset_at, detail) AS nulls
	FROM (VALUES
		('the key', :'key'),
		('unknown id', regress_resign(overlay(:'key' placing '0000' from 6))),
		('wrong secret', regress_resign(overlay(:'key' placing CASE substr(:'key', 30, 1) WHEN 'x' THEN 'y' ELSE 'x' END from 30))),
		('another prefix', regress_resign('bk' || substr(:'key', 3))),
		('shorter prefix', regress_resign(substr(:'key', 2))),
		('longer prefix', regress_resign('a' || :'key')),
		('wrong checksum', overlay(:'key' placing CASE substr(:'key', 30, 1) WHEN 'x' THEN 'y' ELSE 'x' END from 30)),
		('no digit', regress_resign(overlay(:'key' placing '-' from 30))),
		('no digits at the end', left(:'key', -1) || '-'),
		('the key again', :'key')) AS texts (what, t), apikey_verify(t, owner => 'regress_apikey_alice');

-- Scopes: all of what is asked for, bytewise.
SELECT wanted, v.code, v.detail
	FROM (VALUES (NULL), ('{}'), ('{read}'), ('{read,read}'), ('{write}'), ('{read,write,delete}'),
		('{orders:}'), ('{orders:list}'), ('{orders:list:all}'), ('{orders:*}'), ('{orders}'), ('{Read}'),
		('{*}'), ('{""}'), ('{NULL}'), ('{read,NULL}'), ('{{read,orders:x},{a:b,a:b}}'), ('{a:b}'), ('{a:bc}'), ('{a:*}'),
		('{"say \"no\"","é"}')) AS w (wanted),
	apikey_verify(:'key', scopes => wanted::text[], owner => 'regress_apikey_alice') AS v;
SET ROLE regress_apikey_alice;
SELECT apikey_create('all', scopes => '{*}') AS all_scopes \gset
SET ROLE regress_apikey_bob;
SELECT wanted, code FROM (VALUES ('{}'), ('{anything,*}'), ('{""}'), ('{NULL}')) AS w (wanted),
	apikey_verify(:'all_scopes', scopes => wanted::text[], owner => 'regress_apikey_alice');

-- Whose key is accepted: the file whose has it all.
SELECT code FROM apikey_verify(:'key');
SELECT code FROM apikey_verify(:'key', project => 'acme');
SELECT code FROM apikey_verify(:'key', project => '');
SELECT code FROM apikey_verify(:'key', owner => 'regress_apikey_alice');
SELECT code, owner FROM apikey_verify(:'key', owner => 'regress_apikey_bob');
SELECT code FROM apikey_verify(:'key', owner => '0');
SELECT code FROM apikey_verify(:'key', min_role => 'developer', owner => 'regress_apikey_alice');
SELECT apikey_check(:'key'), apikey_check(:'key', owner => 'regress_apikey_alice'), apikey_check(:'key', '{read}', owner => 'regress_apikey_alice'),
	apikey_check(:'key', '{write}', owner => 'regress_apikey_alice'), apikey_check(:'key', project => 'acme'),
	apikey_check(:'key', owner => 'regress_apikey_bob');

-- Addresses fail closed, and the detail tells which: none given, or another.
SET ROLE regress_apikey_alice;
SELECT apikey_create('office', allowed_ips => '{10.1.0.0/16,192.0.2.7,2001:db8::/32,::ffff:203.0.113.0/120}') AS office \gset
SET ROLE regress_apikey_bob;
SELECT addr, code, detail FROM (VALUES (NULL), ('10.1.2.3'), ('10.2.0.1'), ('192.0.2.7'), ('192.0.2.8'), ('10.1.0.0/16'),
		('10.0.0.0/8'), ('10.1.2.3/8'), ('2001:db8::1'), ('2001:db9::1'), ('::ffff:10.1.2.3'), ('::ffff:10.2.0.1'),
		('203.0.113.9'), ('::ffff:203.0.113.9'), ('::10.1.2.3'), ('::'), ('0.0.0.0/0')) AS a (addr),
	apikey_verify(:'office', client_addr => addr::inet, owner => 'regress_apikey_alice');
SELECT code FROM apikey_verify(:'key', client_addr => '10.2.0.1', owner => 'regress_apikey_alice');
SELECT apikey_check(:'office', owner => 'regress_apikey_alice'), apikey_check(:'office', NULL, NULL, 'regress_apikey_alice', '10.1.2.3') AS inside,
	apikey_check(:'office', client_addr => '10.2.0.1', owner => 'regress_apikey_alice') AS outside;

-- The clock decides, within the transaction too.
SET ROLE regress_apikey_alice;
SELECT apikey_create('past') AS past,
	   apikey_create('future', starts_at => now() + interval '1 hour') AS future,
	   apikey_create('forever', starts_at => '0001-01-01', expires_at => '9999-12-31 UTC') AS forever \gset
UPDATE apikeys SET expires_at = now() - interval '1 second' WHERE name = 'past';
SELECT (SELECT code FROM apikey_verify(:'past')) AS past, (SELECT code FROM apikey_verify(:'future')) AS future,
	(SELECT code FROM apikey_verify(:'forever')) AS forever;
SELECT name, status FROM apikeys WHERE name IN ('past', 'future', 'forever') ORDER BY name;
BEGIN;
SELECT apikey_create('soon', expires_at => clock_timestamp() + interval '1 second') AS soon \gset
SELECT code FROM apikey_verify(:'soon');
SELECT pg_sleep(1.1);
SELECT code FROM apikey_verify(:'soon');
SELECT status FROM apikeys WHERE name = 'soon';
ROLLBACK;

-- The first code that applies is told.
SELECT apikey_create('order', allowed_ips => '{10.0.0.0/8}', starts_at => now() + interval '1 hour') AS ordered \gset
SELECT apikey_id(:'ordered') AS order_id \gset
PREPARE everything_wrong AS
	SELECT code FROM apikey_verify(:'ordered', scopes => '{none}', project => 'acme', min_role => 'owner',
		owner => 'regress_apikey_bob');
EXECUTE everything_wrong;
UPDATE apikeys SET starts_at = now() - interval '1 hour', expires_at = now() - interval '1 minute' WHERE id = :'order_id';
EXECUTE everything_wrong;
SELECT apikey_disable(:'order_id');
EXECUTE everything_wrong;
SELECT apikey_revoke(:'order_id');
EXECUTE everything_wrong;
SELECT apikey_create('order', allowed_ips => '{10.0.0.0/8}') AS ordered \gset
SELECT code FROM apikey_verify(:'ordered', scopes => '{none}', project => 'acme', min_role => 'owner', owner => 'regress_apikey_bob');
SELECT code FROM apikey_verify(:'ordered', scopes => '{none}', min_role => 'owner', owner => 'regress_apikey_bob');
SELECT code FROM apikey_verify(:'ordered', scopes => '{none}', min_role => 'owner');
SELECT code FROM apikey_verify(:'ordered', scopes => '{none}', min_role => 'owner', client_addr => '10.0.0.1');
SELECT code FROM apikey_verify(:'ordered', scopes => '{none}', client_addr => '10.0.0.1');
SELECT code FROM apikey_verify(:'ordered', client_addr => '10.0.0.1');

-- Without the plaintext: its handle and its SHA-256.
SELECT left(:'key', -39) AS handle, sha256(:'key'::bytea) AS digest \gset
SELECT code, name FROM apikey_verify_digest(:'handle', :'digest');
SELECT code, detail FROM apikey_verify_digest(:'handle', :'digest', scopes => '{write}');
SELECT code, name FROM apikey_verify(:'key');
SELECT code, name FROM apikey_verify_digest(:'handle', :'digest');
SELECT code FROM apikey_verify_digest(:'handle', :'digest', owner => 'regress_apikey_bob');
SELECT code FROM apikey_verify_digest(:'handle', sha256('another'));
SELECT code, name FROM apikey_verify_digest('bk' || substr(:'handle', 3), :'digest');
SELECT code FROM apikey_verify_digest(overlay(:'handle' placing '0000' from 6), :'digest');
SELECT what, code FROM (VALUES
		('no handle', NULL, :'digest'), ('no digest', :'handle', NULL), ('neither', NULL, NULL),
		('whole key', :'key', :'digest'), ('empty', '', '\x'), ('short digest', :'handle', '\x00'),
		('long handle', repeat('x', 100000), :'digest'), ('long digest', :'handle', '\x' || repeat('00', 100000)),
		('space', :'handle' || ' ', :'digest')) AS t (what, handle, digest),
	apikey_verify_digest(handle, digest::bytea) ORDER BY what COLLATE "C";

-- A cost that asks for nothing is fine, one that gives back is not.
SELECT code FROM apikey_verify(:'key', cost => 0);
SELECT code FROM apikey_verify(:'key', cost => 1000000);
SELECT code FROM apikey_verify(:'key', cost => -1);
SELECT code FROM apikey_verify('x', cost => NULL);
-- Arguments that are their defaults are left out of the plan, and no others.
EXPLAIN (COSTS OFF, VERBOSE) SELECT 1 FROM apikey_verify('x', NULL, project => NULL, cost => 1);
EXPLAIN (COSTS OFF, VERBOSE) SELECT 1 FROM apikey_verify('x', cost => NULL);
EXPLAIN (COSTS OFF, VERBOSE) SELECT 1 FROM apikey_verify_digest('x', NULL, '{a}');
SELECT d.code, v.code FROM apikey_verify_digest(:'handle', NULL) d, apikey_verify(:'key', '{nothing}', NULL, NULL, NULL, 1, NULL) v;

-- One evaluation a call, wherever the call stands.
SELECT (apikey_verify(:'key')).*  \gdesc
EXPLAIN (COSTS OFF) SELECT (apikey_verify('x')).*;
SELECT count(*), count(*) FILTER (WHERE valid) AS valid
	FROM (SELECT CASE WHEN i % 2 = 0 THEN :'key' END AS k FROM generate_series(1, 1000) i) AS ks, apikey_verify(k);
SELECT name, (SELECT code FROM apikey_verify(:'key')) FROM apikeys WHERE name = 'main';
-- Works where nothing can be written.
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT code FROM apikey_verify(:'key');
SELECT apikey_check(:'key');
COMMIT;

RESET ROLE;
DELETE FROM apikey_key;
DELETE FROM apikey_digest;
DELETE FROM apikey_event;
DROP FUNCTION regress_resign;
DROP ROLE regress_apikey_alice, regress_apikey_bob;
